"""When a live camera sends so many pictures that something must be wrong with it."""

from __future__ import annotations


class Flood:
    """Notices a live camera that sends far more pictures than it says, or than anybody expects."""

    USUAL_FPS = 60.0

    def __init__(self, fps: float, stall_s: float) -> None:
        """`fps`: as configured, or as the camera says; 0: nobody has said.

        `stall_s`: what piled up in a stall so long may come at once.
        """
        self._limit_fps = 2 * max(fps, self.USUAL_FPS)
        self._room = self._most = stall_s * self._limit_fps
        self._last_s = 0.0

    @property
    def why(self) -> str:
        """What is wrong, and what to do about it."""
        return (
            f"it sends more than {self._limit_fps:.0f} pictures a second; lower its frame rate, or, if it is meant to "
            "be so fast, set `fps`"
        )

    def is_full(self, now_s: float) -> bool:
        """Count a picture; return whether it was one too many."""
        self._room = min(self._most, self._room + (now_s - self._last_s) * self._limit_fps) - 1
        self._last_s = now_s
        return self._room < 0
