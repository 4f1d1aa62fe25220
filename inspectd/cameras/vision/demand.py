"""When to tell a camera to take a picture that takes one only when it is told. Pure."""

from __future__ import annotations

from heapq import heappop, heappush


class Demand:
    """Times in nanoseconds of the monotonic clock.

    One picture is under way at a time: a camera that is told again before it has given one may leave one out, and
    nobody knew which. What is due when the camera is told is answered by that picture, all of it.
    """

    def __init__(self, every_ns: int | None = None, rests_ns: int = 0) -> None:
        """`every_ns`: pictures are wanted so often, from now on; None: when `want` says so.

        `rests_ns`: so long after it was told the camera leaves out what it is told.
        """
        self._every_ns = every_ns
        self.rests_ns = rests_ns
        self._wanted: list[int] = [] if every_ns is None else [0]
        self._rested_ns = 0
        self.told_ns: int | None = None
        """When the camera was told to take the picture that is under way; None: none is."""

    def want(self, at_ns: int) -> None:
        """Have a picture taken after this time."""
        heappush(self._wanted, at_ns)

    def due_in_ns(self, now_ns: int) -> int | None:
        """Return in how long the camera is to be told, 0: now; None: nothing is wanted yet, or one is under way."""
        if self.told_ns is not None or not self._wanted:
            return None
        return max(0, self._wanted[0] + 1 - now_ns, self._rested_ns - now_ns)

    def told(self, now_ns: int) -> None:
        """Note that the camera is told now to take a picture: it answers all that is due."""
        while self._wanted and self._wanted[0] < now_ns:
            heappop(self._wanted)
        self.told_ns, self._rested_ns = now_ns, now_ns + self.rests_ns

    def came(self) -> int:
        """Return when the camera was told to take the picture that has come; ValueError: nobody told it to."""
        told_ns = self.silent()
        if self._every_ns is not None:
            self.want(told_ns + self._every_ns)
        return told_ns

    def silent(self) -> int:
        """Wait no longer for the picture that is under way; return and raise as `came`."""
        told_ns, self.told_ns = self.told_ns, None
        if told_ns is None:
            raise ValueError("no picture was under way")
        return told_ns
