"""How old a picture of a stream is: its own clock against ours."""

from __future__ import annotations

import time
from collections import deque

from inspectd.errors import CameraError

WINDOW_NS = 15_000_000_000
"""Half of how long the quickest arrival counts: long against a network's moods, short against two clocks' drift."""
BREAK_NS = 1_000_000_000
"""A stream's clock that goes back by more than this has been started anew."""


class StreamClock:
    """Brings a stream's times to our monotonic clock.

    Nobody knows how long the quickest picture was under way; every other one is older than it by as much as it came
    later. What waited in a buffer therefore has its true age.
    """

    def __init__(self) -> None:
        self._offset_ns = self._next_offset_ns = 0
        self._window_until_ns: int | None = None
        self._last_ns = 0

    def captured_ns(self, time_s: float | None, arrived_ns: int) -> int:
        """Return when a picture of stream time `time_s` was taken; None: the stream has no clock."""
        if time_s is None:
            return arrived_ns
        time_ns = int(time_s * 1e9)
        offset_ns = arrived_ns - time_ns
        if self._window_until_ns is None or time_ns < self._last_ns - BREAK_NS:
            self._offset_ns = self._next_offset_ns = offset_ns
            self._window_until_ns = arrived_ns + WINDOW_NS
        elif arrived_ns > self._window_until_ns:
            self._offset_ns, self._next_offset_ns = self._next_offset_ns, offset_ns
            self._window_until_ns = arrived_ns + WINDOW_NS
        self._last_ns = time_ns
        self._offset_ns = min(self._offset_ns, offset_ns)
        self._next_offset_ns = min(self._next_offset_ns, offset_ns)
        return time_ns + self._offset_ns


class WallClock:
    """A camera's wall clock, of which somebody has said that it is kept together with this machine's (NTP, PTP).

    RTCP sender reports tell its time for a time of the stream. Then a picture's age includes what nobody else can know:
    how long the camera encoded, and how long the quickest picture was under way.
    """

    AHEAD_NS = 50_000_000
    """By so much two clocks that are kept together may differ."""
    BEHIND_NS = 1_000_000_000
    """Longer than this no camera takes for its quickest picture: its clock is another one. By less than this it may be
    behind and nobody can tell: then pictures are taken to be older than they are, never newer."""

    REPORTS = 5
    """So many are remembered; a picture is as old as the one says that makes it oldest."""
    TRUSTED = 2
    """So many must have come: the first one of GStreamer's server is of the next picture."""

    def __init__(self) -> None:
        self._offsets_ns: deque[int] = deque(maxlen=self.REPORTS)

    def tell(self, time_s: float, wall_us: int) -> None:
        """Note a sender report: what the camera's clock said at a time of the stream."""
        self._offsets_ns.append(wall_us * 1000 - int(time_s * 1e9))

    def captured_ns(self, time_s: float, latest_ns: int) -> int | None:
        """Return when a picture was taken, on the monotonic clock; None: the camera has not said often enough.

        `latest_ns`: when it was taken if the quickest picture was under way for no time at all. CameraError: the
        clocks are not kept together.
        """
        if len(self._offsets_ns) < self.TRUSTED:
            return None
        captured_ns = int(time_s * 1e9) + min(self._offsets_ns) - (time.time_ns() - time.monotonic_ns())
        late_ns = latest_ns - captured_ns
        if not -self.AHEAD_NS <= late_ns <= self.BEHIND_NS:
            side = "behind" if late_ns > 0 else "ahead of"
            raise CameraError(
                f"its clock is {abs(late_ns) / 1e9:.1f} s {side} this machine's; have both follow one time server, or "
                "take back synchronized: true"
            )
        return min(captured_ns, latest_ns)
