"""How an old picture is told from a new one."""

from __future__ import annotations

from collections import deque

import numpy as np

from inspectd.cameras.grabbers.base import Nothing
from inspectd.records import Picture


class Freshness:
    """Tells a new picture from an old one that is handed out again.

    A picture whose time stands still and whose pixels are those of a recent one is *stale*: the driver gave out a
    buffer once more. The same pixels under a new time are a *repeat*: a sensor's noise never repeats, and JPEG keeps
    it. A ring of buffers that a reopening did not refill goes round once before it is noticed. Only streams that may
    leave out what has not changed (H.264, H.265) repeat legitimately, as long as their own clock goes on.
    """

    STRIDE = 8  # every 8th row decides whether two pictures are the same
    RING = 4  # a stuck driver may hand out so many buffers in turn

    def __init__(self, may_repeat: bool, refuse_repeats: bool) -> None:
        self._may_repeat = may_repeat
        self._refuse_repeats = refuse_repeats
        self._recent: deque[Picture] = deque(maxlen=self.RING)
        self._time_ms = 0.0

    def look(self, picture: Picture, time_ms: float) -> Nothing | None:
        """Return None for a new picture, else what to report instead. `time_ms` 0: there is none."""
        rows = picture[:: self.STRIDE].copy()
        is_same = any(_are_equal(rows, recent) for recent in self._recent)
        has_advanced = time_ms > self._time_ms
        self._time_ms = time_ms
        self._recent.append(rows)
        if not is_same:
            return None
        if time_ms > 0 and not has_advanced:
            return Nothing()
        if not self._refuse_repeats or (self._may_repeat and has_advanced):
            return None
        return Nothing(is_repeat=True)


def _are_equal(one: Picture, other: Picture) -> bool:
    """Whether two pictures are the same; of different ones the first row mostly shows it."""
    return np.array_equal(one[0], other[0]) and np.array_equal(one, other)
