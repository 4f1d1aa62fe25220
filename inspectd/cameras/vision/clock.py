"""A camera's own clock, on this machine's monotonic one. Pure."""

from __future__ import annotations

from collections import deque

DRIFT = 2e-4
"""By so much of a while two clocks drift apart."""
LATENCY_S, JUMP_S = 10.0, 5.0
"""So long the quickest buffer is remembered; a camera's clock that is off by more has been set anew."""


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


class Succession:
    """Tells an older picture from the one that a camera was told to take: how long after the last one it was taken."""

    def __init__(self, varies_ns: int) -> None:
        """`varies_ns`: by how much the time varies that a camera takes to begin with a picture."""
        self._varies_ns = varies_ns
        self._last: tuple[int, int] | None = None

    def is_older(self, camera_ns: int, told_ns: int) -> bool:
        """Whether a picture was taken before the camera was told to take it; of the first one that is not known.

        `camera_ns`: when it was taken, by the camera's clock. `told_ns`: when the camera was told, by ours.
        """
        last, self._last = self._last, (camera_ns, told_ns)
        if last is None:
            return False
        apart_ns = told_ns - last[1]
        return camera_ns - last[0] < apart_ns * (1 - DRIFT) - self._varies_ns
