"""What the daemon knows about itself, put into the words of the protocol. Reads, never changes anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import msgspec

from inspectd.cameras.image_files import shown
from inspectd.cameras.sources import public_address
from inspectd.cameras.supervisor import Health
from inspectd.config import CameraConfig, Config
from inspectd.daemon.alarms import Alarms
from inspectd.daemon.challenging import message_of
from inspectd.daemon.changes import Changes
from inspectd.daemon.raising import Raised
from inspectd.history.archive import Archive
from inspectd.history.journal import Journal
from inspectd.line.camera import Camera
from inspectd.line.challenges import Challenges
from inspectd.line.drift import Drift
from inspectd.line.ledger import Ledger
from inspectd.line.recipe import NoRecipe, Recipe
from inspectd.line.shadow import Shadows
from inspectd.records import Counts, Outcome, Verdict
from inspectd.version import VERSION
from inspectd.wire.messages import (
    PROTOCOL,
    AlarmMessage,
    ArchiveMessage,
    CameraState,
    DaemonMessage,
    JournalMessage,
    ModelMessage,
    ShadowMessage,
    StateMessage,
    counts_message,
    rfc3339,
)

DISABLED, GONE = "disabled in the configuration", "not in the configuration any more"


@dataclass(frozen=True, slots=True)
class Running:
    """What does not change while the daemon runs, and whom to ask for what does."""

    epoch: str
    device: str
    precision: str
    started_s: float
    config_digest: str
    refused: Callable[[], int]
    """Counts connections that were not let in."""
    connections: Callable[[], dict[str, int]]
    """Counts those that there are now, by socket."""
    free_memory: Callable[[], int]
    """Bytes of the device."""


class Status:
    """The publisher's `StateSource`; also what systemd and the log report."""

    def __init__(
        self,
        running: Running,
        cameras: Mapping[str, Camera],
        configured: Iterable[CameraConfig],
        changes: Changes,
        journal: Journal,
        archive: Archive,
        shadows: Shadows,
        alarms: Alarms,
        ledger: Ledger,
    ) -> None:
        """`configured`: all cameras of the configuration; those that are disabled have no `Camera`."""
        self._ledger = ledger
        self._running = running
        self._changes = changes
        self._journal = journal
        self._archive = archive
        self._shadows = shadows
        self._alarms = alarms
        self._cameras = cameras
        self._configured = {config.name: config for config in configured}
        self._gone: frozenset[str] = frozenset()

    def configure(self, config: Config) -> None:
        """Tell of another configuration from now on; of cameras that it has no more, that they are stopped."""
        now = {camera.name: camera for camera in config.cameras}
        before = self._configured
        self._gone = frozenset(before) - frozenset(now)
        self._configured = {
            **{name: msgspec.structs.replace(before[name], enabled=False) for name in self._gone},
            **now,
        }
        self._running = replace(self._running, config_digest=config.digest)

    def on_published(self, verdict: Verdict, published_ns: int) -> None:
        """Hand a verdict's time to its camera."""
        camera = self._cameras.get(verdict.camera)
        if camera is not None:  # else it was the last of one that is gone
            camera.on_published(verdict, published_ns)

    def cameras(self) -> Iterable[str]:
        """Names of all configured cameras, disabled ones included."""
        return self._configured

    def counts(self, name: str) -> Counts:
        """Return one camera's bookkeeping."""
        return self._ledger.counts(name) if name in self._ledger.cameras else Counts()

    def camera(self, name: str) -> StateMessage:
        """Return one camera's `state/`."""
        camera = self._cameras.get(name)
        health = camera.health if camera is not None else None
        counts = self.counts(name)
        age_s = health.last_frame_age_s if health else None
        return StateMessage(
            v=PROTOCOL,
            epoch=self._running.epoch,
            camera=name,
            state=self.state(name),
            inspecting=self.is_inspecting(name),
            detail=self._detail(name, health) if health else GONE if name in self._gone else DISABLED,
            fps=health.fps if health else None,
            last_seq=counts.last_seq,
            last_frame_age_ms=None if age_s is None else age_s * 1000,
            model=camera.recipe.label if camera is not None and isinstance(camera.recipe, Recipe) else None,
            overrides=msgspec.to_builtins(self._changes.overrides(name)),
            counts=counts_message(counts),
            p99_ms=camera.latencies.p99_ms if camera is not None else None,
            shadow=self.shadow(name),
            recipe=camera.products.chosen if camera is not None else None,
            caveat="; ".join(camera.caveats) or None if camera is not None else None,
            alarms=_messages(self._alarms.of_camera(name)),
            challenge=message_of(camera.challenges) if camera is not None else None,
        )

    def daemon(self) -> DaemonMessage:
        """Return `daemon/`."""
        return DaemonMessage(
            v=PROTOCOL,
            epoch=self._running.epoch,
            version=VERSION,
            uptime_s=round(time.monotonic() - self._running.started_s, 3),
            inspecting=any(map(self.is_inspecting, self._cameras)),
            device=self._running.device,
            precision=self._running.precision,
            cameras={name: self.state(name) for name in self.cameras()},
            models=self._models(),
            journal=self.journal(),
            archive=self.archive(),
            alarms=_messages(self._alarms.of_daemon),
        )

    def journal(self) -> JournalMessage:
        """Return how the journal is."""
        health = self._journal.health
        return JournalMessage(health.detail is None, health.detail, health.written, health.waiting, health.lost)

    def shadow(self, name: str) -> ShadowMessage | None:
        """Return how often a camera's second model agrees; None: it has none."""
        agreement = self._shadows.agreement(name)
        if agreement is None:
            return None
        recipe, counts = agreement.recipe, agreement.counts
        return ShadowMessage(
            model=recipe.label if isinstance(recipe, Recipe) else None,
            detail=recipe.why if isinstance(recipe, NoRecipe) else None,
            compared=sum(counts.values()),
            agreed=sum(count for (said, then), count in counts.items() if said is then),
            rejected=counts.get((Outcome.OK, Outcome.NG), 0),
            passed=counts.get((Outcome.NG, Outcome.OK), 0),
            faults=sum(count for (_, then), count in counts.items() if then is Outcome.FAULT),
        )

    def archive(self) -> ArchiveMessage | None:
        """Return how the archive is; None: there is none."""
        if not self._archive.is_on:
            return None
        health = self._archive.health
        return ArchiveMessage(
            health.detail is None, health.detail, health.kept, health.waiting, health.lost, health.bytes_
        )

    def alarms(self, name: str | None) -> tuple[Raised, ...]:
        """Return what is raised at a camera, or (None) of the daemon itself."""
        return self._alarms.of_daemon if name is None else self._alarms.of_camera(name)

    def _detail(self, name: str, health: Health) -> str | None:
        """Return what is wrong: with the camera, its verdicts, or what is kept of them."""
        if health.detail is not None:
            return health.detail
        worst = next(iter(self._alarms.of_camera(name)), None)
        if worst is not None:
            return worst.sentence
        return self._journal.health.detail or (self._archive.health.detail if self._archive.is_on else None)

    def report(self) -> dict[str, Any]:
        """Return `daemon/` with all `state/`, each with its source: what the control socket's `status` says."""
        cameras = {
            name: {**msgspec.to_builtins(self.camera(name)), "source": self._source(config), "enabled": config.enabled}
            for name, config in self._configured.items()
        }
        return {**msgspec.to_builtins(self.daemon()), "cameras": cameras}

    def state(self, name: str) -> CameraState:
        """Return a camera's state in the protocol's words."""
        camera = self._cameras.get(name)
        if camera is None:
            return "stopped"
        return "bypass" if camera.is_paused else camera.health.state.value

    def is_inspecting(self, name: str) -> bool:
        """Whether a part that passes this camera now would be inspected."""
        camera = self._cameras.get(name)
        return camera is not None and camera.is_inspecting

    def camera_health(self, name: str) -> Health | None:
        """Return what is known of a camera; None: it is disabled."""
        camera = self._cameras.get(name)
        return camera.health if camera is not None else None

    def drift(self, name: str) -> Drift | None:
        """Return how far a camera is from its calibration; None: it is disabled."""
        camera = self._cameras.get(name)
        return camera.drift if camera is not None else None

    def recipes(self, name: str) -> list[Recipe]:
        """Return what judges at a camera, by product."""
        camera = self._cameras.get(name)
        return [one for one in camera.products.all if isinstance(one, Recipe)] if camera is not None else []

    def challenges(self, name: str) -> Challenges | None:
        """Return how a camera did with known parts; None: it is disabled."""
        camera = self._cameras.get(name)
        return camera.challenges if camera is not None else None

    def refused_clients(self) -> int:
        """Return how many connections were not let in."""
        return self._running.refused()

    def connections(self) -> dict[str, int]:
        """Return how many clients each socket has now."""
        return self._running.connections()

    def free_memory(self) -> int | None:
        """Return how many bytes of the device's memory the engine may still take; None: the device does not say."""
        try:
            return self._running.free_memory()
        except Exception:  # noqa: BLE001 - one that has failed says nothing, and all else is wanted all the more
            return None

    @property
    def config_digest(self) -> str:
        """Of the configuration in force, however it was written down."""
        return self._running.config_digest

    def health(self) -> tuple[bool, str]:
        """Return whether every camera is inspected, and how things are."""
        return bool(self._cameras) and all(map(self.is_inspecting, self._cameras)), self.sentence()

    @property
    def is_settled(self) -> bool:
        """Whether every camera judges, or is known not to: what READY waits for."""
        return all(camera.is_settled for camera in self._cameras.values())

    def verdicts(self) -> dict[str, int]:
        """Return by camera how many verdicts there were."""
        return {name: self.counts(name).last_seq for name in self._cameras}

    def sentence(self) -> str:
        """Say in one line how things are, for `systemctl status`."""
        parts = []
        for name in self._cameras:
            counts = counts_message(self.counts(name))
            parts.append(f"{name} {self.state(name)}: {counts.ok} ok, {counts.ng} ng, {counts.fault} fault")
        return "; ".join(parts)

    def _source(self, config: CameraConfig) -> str:
        return shown(public_address(str(config.source)))

    def _models(self) -> dict[str, ModelMessage]:
        """Return by model what the parity gate found."""
        recipes = (recipe for camera in self._cameras.values() for recipe in camera.products.all)
        areas = [area for recipe in recipes if isinstance(recipe, Recipe) for area in recipe.areas]
        return {
            area.model.label: ModelMessage(parity.variant.device, parity.variant.precision, parity.band)
            for area in areas
            if (parity := area.parity) is not None
        }


def _messages(raised: Iterable[Raised]) -> list[AlarmMessage]:
    now_s, wall_ns = time.monotonic(), time.time_ns()
    return [
        AlarmMessage(
            one.alarm.name,
            cast("Any", one.alarm.priority.value),
            rfc3339(wall_ns - round((now_s - one.since_s) * 1e9)),
            one.sentence,
            one.alarm.action,
        )
        for one in raised
    ]
