"""Proof of progress: each vital thread beats when it has done something, and the watchdog asks for it.

A watchdog fed by a timer proves that a timer runs. Cameras do not beat: a dead one harms nobody.
"""

from __future__ import annotations

import time
from collections.abc import Callable

STALL_S = 20.0
"""How long a vital thread may work on one thing (a large batch on a slow CPU) before it counts as hung."""


class Heartbeat:
    """Last beats of the vital threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._beats: dict[str, float] = {}

    def beat(self, name: str) -> Callable[[], None]:
        """Register a thread; it calls what is returned whenever it gets on."""

        def beat() -> None:
            self._beats[name] = self._clock()

        beat()
        return beat

    def stalled(self, limit_s: float) -> list[str]:
        """Return the threads that have not beaten for `limit_s`."""
        now_s = self._clock()
        return [name for name, last_s in tuple(self._beats.items()) if now_s - last_s > limit_s]
