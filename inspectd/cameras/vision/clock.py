"""A camera's own clock: on this machine's monotonic one, and against when the camera was told to take a picture. Pure.

Two quartz clocks drift apart; neither is ever taken to run by more than `DRIFT` too fast or too slow.
"""

from __future__ import annotations

from collections import deque

DRIFT = 2e-4
"""By so much of a while two clocks drift apart."""
LATENCY_S, JUMP_S = 10.0, 5.0
"""So long the quickest buffer is remembered; a camera's clock that is off by more has been set anew."""
LONGEST_APART_NS = 1_000_000_000


class CameraClock:
    """Brings a camera's clock to this machine's monotonic one, in nanoseconds."""

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


class Promptness:
    """Tells how long after it was told to a camera took each picture, by its own clock, in nanoseconds.

    No camera takes a picture before it is told. So the picture that came soonest after says how far the camera's clock
    is ahead, at most; and each other one was taken by as much later as its time is beyond that.
    """

    def __init__(self, varies_ns: int) -> None:
        """`varies_ns`: by how much the time may vary that it takes to begin with a picture."""
        self._varies_ns = varies_ns
        self._soonest: tuple[int, int] | None = None
        """When the camera was told to take that one, and how far its clock was ahead."""

    def late_ns(self, camera_ns: int, told_ns: int) -> int:
        """Return how much later a picture was taken than the soonest; less than 0: it is from before it was told.

        `camera_ns`: when it was taken, by the camera's clock. `told_ns`: when the camera was told, by ours. Of the
        first one nothing is known: 0.
        """
        ahead_ns = camera_ns - told_ns
        if self._soonest is None:
            self._soonest = told_ns, ahead_ns
            return 0
        drift_ns = int(DRIFT * (told_ns - self._soonest[0]))
        late_ns = ahead_ns - self._soonest[1]
        if late_ns > drift_ns:
            return late_ns - drift_ns
        if late_ns < -drift_ns - self._varies_ns:
            return late_ns + drift_ns
        self._soonest = told_ns, ahead_ns
        return 0


class Proof:
    """Finds out whether a camera's clock tells when it took what it was told to take. Times as in `Promptness`."""

    def __init__(self, varies_ns: int) -> None:
        self._varies_ns = varies_ns
        self._last: tuple[int, int] | None = None
        self.has_picture = False
        """It has given one that it was told to take."""

    @property
    def apart_ns(self) -> int:
        """How far apart its pictures are to be: a clock of another measure shows by then."""
        return min(2 * self._varies_ns, LONGEST_APART_NS)

    def add(self, camera_ns: int, told_ns: int) -> Promptness | None:
        """Note a picture; return what tells from now on, once two in succession are as far apart by both clocks."""
        self.has_picture = True
        last, self._last = self._last, (camera_ns, told_ns)
        if camera_ns <= 0 or last is None or last[0] <= 0:
            return None
        if abs((camera_ns - last[0]) - (told_ns - last[1])) > self._varies_ns:
            return None
        found = Promptness(self._varies_ns)
        found.late_ns(*last)
        found.late_ns(camera_ns, told_ns)
        return found

    @property
    def flaw(self) -> str:
        """What is wrong with its clock, if it does not tell."""
        has_time = self._last is not None and self._last[0] > 0
        return "times of its own that do not fit this PC's clock" if has_time else "no time of their own"
