"""What the daemon knows about itself, put into the words of the protocol. Reads, never changes anything."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from inspectd.cameras.supervisor import Supervisor
from inspectd.line.ledger import Ledger
from inspectd.records import Counts, Verdict
from inspectd.version import VERSION
from inspectd.wire.messages import PROTOCOL, CameraState, DaemonMessage, ModelMessage, StateMessage, counts_message

LATENCIES = 1000  # the newest ones that p99_ms is taken from


@dataclass(frozen=True, slots=True)
class Running:
    """What does not change while the daemon runs."""

    epoch: str
    device: str
    precision: str
    started_s: float
    models: Mapping[str, str | None]
    """By camera: run name and digest."""
    sources: Mapping[str, str]
    """By camera: what its configuration names."""
    forms: Mapping[str, ModelMessage]
    """By model: run name and digest."""


class Status:
    """The publisher's `StateSource`; also what systemd and the log are told."""

    def __init__(self, running: Running, ledger: Ledger, supervisors: Mapping[str, Supervisor]) -> None:
        self._running = running
        self._ledger = ledger
        self._supervisors = supervisors
        self._latencies_ms: dict[str, deque[float]] = {name: deque(maxlen=LATENCIES) for name in running.models}
        self._scored_ms: dict[str, deque[float]] = {name: deque(maxlen=LATENCIES) for name in running.models}

    def on_published(self, verdict: Verdict, published_ns: int) -> None:
        """Note how long a verdict took from capture (or trigger) to publication."""
        began_ns = verdict.trigger_ns or (verdict.stamp.captured_ns if verdict.stamp else None)
        if began_ns is not None:
            latency_ms = (published_ns - began_ns) / 1e6
            self._latencies_ms[verdict.camera].append(latency_ms)
            if verdict.finding.scored_ns is not None:
                self._scored_ms[verdict.camera].append(latency_ms)

    def counts(self, name: str) -> Counts:
        """Return one camera's bookkeeping."""
        return self._ledger.counts(name)

    def latencies_ms(self, name: str) -> tuple[float, float] | None:
        """Return median and 99th percentile from capture to verdict of what was scored; None: nothing was."""
        scored = sorted(self._scored_ms[name])
        return (scored[len(scored) // 2], scored[int(0.99 * (len(scored) - 1))]) if scored else None

    def cameras(self) -> Iterable[str]:
        """Names of all configured cameras, disabled ones included."""
        return self._running.models

    def camera(self, name: str) -> StateMessage:
        """Return one camera's `state/`."""
        health = self._supervisors[name].health if name in self._supervisors else None
        counts = self._ledger.counts(name)
        latencies = sorted(self._latencies_ms[name])
        last_ns = health.last_frame_ns if health else None
        return StateMessage(
            v=PROTOCOL,
            epoch=self._running.epoch,
            camera=name,
            state=self.state(name),
            inspecting=self.is_inspecting(name),
            detail=health.detail if health else "disabled in the configuration",
            fps=health.fps if health else None,
            last_seq=counts.last_seq,
            last_frame_age_ms=None if last_ns is None else (time.monotonic_ns() - last_ns) / 1e6,
            model=self._running.models[name],
            overrides={},
            counts=counts_message(counts),
            p99_ms=latencies[int(0.99 * (len(latencies) - 1))] if latencies else None,
        )

    def daemon(self) -> DaemonMessage:
        """Return `daemon/`."""
        return DaemonMessage(
            v=PROTOCOL,
            epoch=self._running.epoch,
            version=VERSION,
            uptime_s=round(time.monotonic() - self._running.started_s, 3),
            inspecting=any(self.is_inspecting(name) for name in self._supervisors),
            device=self._running.device,
            precision=self._running.precision,
            cameras={name: self.state(name) for name in self.cameras()},
            models=dict(self._running.forms),
        )

    def report(self) -> dict[str, Any]:
        """Return `daemon/` with all `state/`, each with its source: what the control socket's `status` says."""
        cameras = {
            name: {**msgspec.to_builtins(self.camera(name)), "source": self._running.sources.get(name)}
            for name in self.cameras()
        }
        return {**msgspec.to_builtins(self.daemon()), "cameras": cameras}

    def state(self, name: str) -> CameraState:
        """Return a camera's state in the protocol's words."""
        supervisor = self._supervisors.get(name)
        return "stopped" if supervisor is None else supervisor.health.state.value

    def is_inspecting(self, name: str) -> bool:
        """Whether a part that passes this camera now would be inspected."""
        return self.state(name) == "running" and self._running.models[name] is not None

    def health(self) -> tuple[bool, str]:
        """Return whether every camera is inspected, and how things are."""
        names = list(self._supervisors)
        return bool(names) and all(map(self.is_inspecting, names)), self.sentence()

    def is_settled(self, name: str) -> bool:
        """Whether a camera judges, or is known not to: what READY waits for."""
        return self._ledger.counts(name).last_seq > 0 or self.state(name) in ("lost", "frozen", "stopped")

    def sentence(self) -> str:
        """Say in one line how things are, for `systemctl status`."""
        parts = []
        for name in self._supervisors:
            counts = counts_message(self._ledger.counts(name))
            parts.append(f"{name} {self.state(name)}: {counts.ok} ok, {counts.ng} ng, {counts.fault} fault")
        return "; ".join(parts)
