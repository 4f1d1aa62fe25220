"""How old a picture of a stream is: its own clock against ours."""

from __future__ import annotations

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
