"""Whether a capture child takes more and more memory: each fresh page costs a processor that the others need."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

LOOK_EVERY_S = 1.0
SETTLE_S = 5.0
"""So long after it was opened a source has its buffers."""
GROWN_BYTES = 256 << 20
"""More than pictures and decoders vary by: a driver leaks."""


class Growth:
    """Tells once that this process has grown since its source was opened."""

    def __init__(self, now_s: float, own_bytes: Callable[[], int] | None = None) -> None:
        """`own_bytes`: how much memory it has for itself."""
        self._own_bytes = own_bytes or _own_bytes
        self._next_s = now_s + SETTLE_S
        self._at_first: int | None = None
        self._is_told = False

    def is_new(self, now_s: float) -> bool:
        """Whether it has grown, and that was not told yet."""
        if self._is_told or now_s < self._next_s:
            return False
        self._next_s = now_s + LOOK_EVERY_S
        own = self._own_bytes()
        if self._at_first is None:
            self._at_first = own
        self._is_told = own - self._at_first > GROWN_BYTES
        return self._is_told


def _own_bytes() -> int:
    """Return what this process holds that no other does: the ring is shared."""
    try:
        _, resident, shared, *_ = Path("/proc/self/statm").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")
