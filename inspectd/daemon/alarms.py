"""What is counted and should worry somebody, said in the log: at once, and then once a minute while it lasts."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from inspectd.line.camera import Camera
from inspectd.records import Counts, Reason

LOG = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
TELL_EVERY_S = 60.0
"""A line a second and camera would bury everything else within a day."""
SUSPECT = (Reason.DEADLINE, Reason.OVERLOAD, Reason.PICTURE, Reason.IDENTITY, Reason.NO_THRESHOLD, Reason.NO_MODEL)
"""Reasons that repeat from frame to frame. A lost or frozen camera, and a lost engine, are told when they are."""


@dataclass(slots=True)
class _Told:
    """What one camera's counts were when they were last told of."""

    since_s: float
    next_s: float = 0.0
    captured: int = 0
    displaced: int = 0
    faults: dict[Reason, int] = field(default_factory=dict)


class Alarms:
    """Reads the ledger's counts. `look` is called from the daemon's main loop, as often as it likes."""

    def __init__(self, cameras: Mapping[str, Camera]) -> None:
        self._cameras = cameras
        self._told: dict[str, _Told] = {}
        self._next_look_s = 0.0

    def look(self, now_s: float) -> None:
        """Tell of what has come since it was last told."""
        if now_s < self._next_look_s:
            return
        self._next_look_s = now_s + LOOK_EVERY_S
        for name, camera in self._cameras.items():
            self._look_at(name, camera.counts, now_s)

    def _look_at(self, name: str, counts: Counts, now_s: float) -> None:
        told = self._told.setdefault(name, _Told(now_s))
        if now_s < told.next_s:
            return
        faults = {reason: counts.faults.get(reason, 0) - told.faults.get(reason, 0) for reason in SUSPECT}
        faults = {reason: count for reason, count in faults.items() if count > 0}
        displaced = counts.displaced - told.displaced
        frames, seconds = counts.captured - told.captured, now_s - told.since_s
        self._told[name] = _Told(now_s, told.next_s, counts.captured, counts.displaced, dict(counts.faults))
        if not faults and displaced <= 0:
            return
        self._told[name].next_s = now_s + TELL_EVERY_S
        what = [f"{count} fault: {reason}" for reason, count in faults.items()]
        what += [f"{displaced} displaced by newer frames"] if displaced > 0 else []
        LOG.log(
            logging.WARNING if faults else logging.INFO,
            "camera %s: of %d frames in %.0f s %s%s",
            name,
            frames,
            seconds,
            ", ".join(what),
            self._what_it_takes(name) if faults.keys() & {Reason.DEADLINE, Reason.OVERLOAD} else "",
        )

    def _what_it_takes(self, name: str) -> str:
        camera = self._cameras[name]
        allowed_ms, latencies_ms = camera.config.deadline_ms, camera.latencies.scored_ms
        if latencies_ms is None:
            return f". No frame was scored; deadline_ms allows {allowed_ms:g} ms"
        return (
            f". From capture to verdict those that were scored took {latencies_ms[0]:.0f} ms (median) and "
            f"{latencies_ms[1]:.0f} ms (p99); deadline_ms allows {allowed_ms:g} ms. Raise it, lower the camera's frame "
            "rate or the model's input size, or use a faster device (`inspectd bench`)"
        )
