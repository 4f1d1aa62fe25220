"""When a picture was taken, on this machine's monotonic clock, in nanoseconds. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

LATENCY_S, JUMP_S = 10.0, 5.0
"""So long the quickest buffer is remembered; a camera's clock that is off by more has been set anew."""
DRIFT = 1e-3
"""By so much of a while two clocks drift apart at most: quartz by a tenth of it, and a time server may turn ours."""
EARLY_NS = 30_000_000
"""What came by so much sooner than any picture before was not taken when it was told."""
OFF_NS = 10_000_000
"""So far a camera's clock may be off."""


class CameraClock:
    """Brings the clock of a camera that runs by itself to this machine's."""

    def __init__(self) -> None:
        self._apart_ns: deque[tuple[int, int]] = deque()
        """When, and how far this machine's clock was ahead then; of a while, the least of them last."""

    def taken_ns(self, camera_ns: int, now_ns: int) -> int:
        """Return when a picture was taken that arrived now: never later than now."""
        apart = now_ns - camera_ns
        if self._apart_ns and abs(apart - self._apart_ns[0][1]) > JUMP_S * 1e9:
            self._apart_ns.clear()  # it was set anew
        while self._apart_ns and self._apart_ns[-1][1] >= apart:
            self._apart_ns.pop()
        self._apart_ns.append((now_ns, apart))
        while self._apart_ns[0][0] < now_ns - LATENCY_S * 1e9:
            self._apart_ns.popleft()
        return camera_ns + self._apart_ns[0][1]


@dataclass(frozen=True, slots=True)
class Taken:
    """When a picture was taken: not before the one, and not after the other."""

    from_ns: int
    until_ns: int


@dataclass(frozen=True, slots=True)
class _Mark:
    """A picture by which the camera's clock is read."""

    told_ns: int
    ahead_ns: int
    """How far the camera's clock was ahead of ours, if it was taken when it was told."""
    slack_ns: int
    """How much later it may have been taken."""
    is_believed: bool
    """The clock agreed with ours between two pictures."""

    def lateness(self, camera_ns: int, told_ns: int) -> tuple[int, int]:
        """Return how late another picture was taken, at least and at most, by the camera's clock."""
        drift_ns = int(DRIFT * (told_ns - self.told_ns))
        apart_ns = camera_ns - told_ns - self.ahead_ns
        return apart_ns - drift_ns, apart_ns + drift_ns + self.slack_ns


class Promptness:
    """Tells when a camera took each picture that it was told to take.

    To expose a picture, read it out and send it takes about as long each time: what came soonest after its telling was
    taken at once. What came later was taken later by that at most; how much of it was the way, a camera's clock says.
    That may be of any measure, and may be set: it is believed once it agrees with ours, and until it does not.
    """

    def __init__(self) -> None:
        self._usual_ns: int | None = None
        """How long it takes from telling to arrival, at least."""
        self._mark: _Mark | None = None

    def look(self, camera_ns: int, told_ns: int, came_ns: int) -> Taken | None:
        """Return when a picture was taken; None: it is none that was taken after it was told.

        `camera_ns`: when it was taken, by the camera's clock; 0: it does not say. `told_ns`, `came_ns`: when the camera
        was told, and when the picture was here.
        """
        took_ns = came_ns - told_ns
        usual_ns = took_ns if self._usual_ns is None else self._usual_ns
        excess_ns, sooner_ns = max(0, took_ns - usual_ns), max(0, usual_ns - took_ns)
        is_soon = sooner_ns > EARLY_NS  # sooner than the way allows, unless that has become shorter
        if self._mark is not None and not is_soon:  # it was later than the soonest one by so much itself
            self._mark = replace(self._mark, slack_ns=self._mark.slack_ns + sooner_ns)
        by_clock = None if self._mark is None or camera_ns <= 0 else self._mark.lateness(camera_ns, told_ns)
        most_ns = took_ns if is_soon else excess_ns
        agrees = by_clock is not None and by_clock[0] <= most_ns + OFF_NS and by_clock[1] >= -OFF_NS
        is_believed = agrees and self._mark is not None and self._mark.is_believed
        if is_soon and (not is_believed or by_clock is None or by_clock[0] < -EARLY_NS):
            return None
        self._usual_ns = min(usual_ns, took_ns)
        if camera_ns > 0:
            self._read(camera_ns, told_ns, excess_ns, agrees=agrees)
        if not is_believed or by_clock is None:
            return Taken(told_ns, told_ns + most_ns)
        until_ns = max(0, min(by_clock[1], most_ns))
        return Taken(told_ns + min(max(0, by_clock[0]), until_ns), told_ns + until_ns)

    def _read(self, camera_ns: int, told_ns: int, excess_ns: int, *, agrees: bool) -> None:
        """Read the camera's clock by a picture, where that is better than by the one before."""
        mark = self._mark
        is_better = mark is None or excess_ns <= mark.slack_ns + DRIFT * (told_ns - mark.told_ns)
        if mark is None or is_better or not agrees:
            self._mark = _Mark(told_ns, camera_ns - told_ns, excess_ns, is_believed=agrees)
        else:
            self._mark = replace(mark, is_believed=True)
