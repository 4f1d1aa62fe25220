"""What somebody who only listens knows of a daemon: its last words, what was lost on the way, whether it is silent."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from inspectd.client import Message
from inspectd.reading import one_line
from inspectd.wire.messages import DaemonMessage, StateMessage, VerdictMessage

GONE_S = 3.0
"""WIRE: no `daemon/` for so long means that the daemon is gone."""
COLOURS = {"ok": "green", "ng": "yellow", "fault": "bold red"}
TITLES = ("camera", "state", "verdict", "score / threshold", "seq", "ok", "ng", "fault", "fps", "p99 ms", "lost", "")
LEFT = frozenset({"camera", "state", "verdict", ""})


@dataclass(slots=True)
class _Camera:
    """What is known of one camera."""

    state: StateMessage | None = None
    verdict: VerdictMessage | None = None
    epoch: str = ""
    seq: int = 0
    lost: int = 0


@dataclass(slots=True)
class Seen:
    """What a watcher knows of a daemon."""

    address: str
    daemon: DaemonMessage | None = None
    heard_s: float = field(default_factory=time.monotonic)
    """When the daemon was last heard of."""
    cameras: dict[str, _Camera] = field(default_factory=dict)
    is_gone: bool = False

    def take(self, message: Message | None) -> None:
        """Note a message."""
        now_s = time.monotonic()
        if message is not None:
            self.heard_s = now_s
            self.daemon = message.daemon or self.daemon
            if (state := message.state) is not None:
                self._come_to(state.camera, state.epoch, state.last_seq)
                self.cameras[state.camera].state = state
            if (verdict := message.verdict) is not None:
                self._come_to(verdict.camera, verdict.epoch, verdict.seq - 1)
                camera = self.cameras[verdict.camera]
                camera.verdict, camera.seq = verdict, verdict.seq
        self.is_gone = now_s - self.heard_s > GONE_S

    def lines(self, message: Message | None) -> list[str]:
        """Note a message, and return what there is to say of it."""
        was_gone = self.is_gone
        lost = {name: camera.lost for name, camera in self.cameras.items()}
        states = {name: camera.state for name, camera in self.cameras.items()}
        self.take(message)
        said = []
        if self.is_gone and not was_gone:
            said.append(f"{self.address} is silent for {GONE_S:g} s: the daemon is gone. Stop the line.")
        for name, camera in self.cameras.items():
            if camera.lost > lost.get(name, 0):
                said.append(f"{name}: {camera.lost - lost.get(name, 0)} verdicts were lost on the way")
            before, now = states.get(name), camera.state
            if now is not None and (before is None or (before.state, before.detail) != (now.state, now.detail)):
                said.append(one_line(f"{name}: {now.state}{f', {now.detail}' if now.detail else ''}"))
        verdict = message.verdict if message is not None else None
        if verdict is not None:
            said.append(_plain(verdict))
        return said

    def table(self, now_s: float) -> Any:
        """Return what is shown."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in (
            *["camera", "state", "verdict"],
            "score / threshold",
            *["seq", "ok", "ng", "fault", "fps"],
            "p99 ms",
        ):
            table.add_column(title, justify="left" if title in LEFT else "right")
        table.add_column("lost", justify="right")
        table.add_column("")
        for name, camera in sorted(self.cameras.items()):
            table.add_row(name, *self._cells(camera))
        silent_s = now_s - self.heard_s
        if self.is_gone:
            head = Text(
                f"{self.address} is silent for {silent_s:.0f} s: the daemon is gone. Stop the line.", "bold red"
            )
        elif self.daemon is None:
            head = Text(f"{self.address}: waiting for the daemon …")
        else:
            daemon = self.daemon
            head = Text(
                f"{self.address}: inspectd {daemon.version}, up {daemon.uptime_s / 3600:.1f} h, {daemon.device}"
            )
            if not daemon.journal.ok:
                head.append(f"\n{daemon.journal.detail}", "bold red")
        return Group(head, table)

    def _cells(self, camera: _Camera) -> list[Any]:
        state, verdict = camera.state, camera.verdict
        counts = state.counts if state is not None else None
        is_well = state is not None and state.inspecting and not self.is_gone
        scores = [] if verdict is None else [one for one in (verdict.score, verdict.threshold) if one is not None]
        score = " / ".join(f"{one:.3g}" for one in scores)
        what = "" if verdict is None else verdict.verdict
        details = (one.detail for one in (state, verdict) if one is not None and one.detail)
        return [
            Text("" if state is None else state.state, "green" if is_well else "bold red"),
            Text(what, "dim" if self.is_gone else COLOURS.get(what, "")),
            score,
            str(camera.seq),
            *(["", "", ""] if counts is None else [str(counts.ok), str(counts.ng), str(counts.fault)]),
            "" if state is None or state.fps is None else f"{state.fps:.1f}",
            "" if state is None or state.p99_ms is None else f"{state.p99_ms:.0f}",
            Text(str(camera.lost), "bold red" if camera.lost else ""),
            Text(one_line(next(details, ""))),
        ]

    def _come_to(self, name: str, epoch: str, seq: int) -> None:
        """Count what should have come before now."""
        camera = self.cameras.setdefault(name, _Camera(epoch=epoch, seq=seq))
        if camera.epoch != epoch:
            camera.epoch, camera.seq = epoch, 0
        if camera.seq < seq:
            camera.lost += seq - camera.seq
            camera.seq = seq


def _plain(verdict: VerdictMessage) -> str:
    score = "" if verdict.score is None else f" score {verdict.score:.4g}"
    threshold = "" if verdict.threshold is None else f" threshold {verdict.threshold:.4g}"
    why = "" if verdict.reason is None else f" {verdict.reason}: {verdict.detail}"
    part = "" if verdict.part is None else f" {verdict.part}"
    at = verdict.at or "-"
    return one_line(f"{at} {verdict.camera} {verdict.seq}{part} {verdict.verdict}{score}{threshold}{why}")
