"""When a live camera sends so many pictures that something must be wrong with it."""

from __future__ import annotations


class Flood:
    """Notices a live camera that sends far more pictures than it says, or than anybody expects."""

    USUAL_FPS = 60.0

    def __init__(self, fps: float, stall_s: float, *, opening_s: float = 0.25) -> None:
        """`fps`: as configured, or as the camera says; 0: nobody has said.

        `stall_s`: what piled up in a stall so long may come at once, from a camera that has been well for so long;
        `opening_s`: at the beginning only what piled up in this.
        """
        self._limit_fps = 2 * max(fps, self.USUAL_FPS)
        self._most, self._room = stall_s * self._limit_fps, opening_s * self._limit_fps
        self._last_s: float | None = None

    @property
    def why(self) -> str:
        """What is wrong, and what to do about it."""
        return (
            f"it sends more than {self._limit_fps:.0f} pictures a second; lower its frame rate, or, if it is meant to "
            "be so fast, set `fps`"
        )

    def is_full(self, now_s: float) -> bool:
        """Count a picture; return whether it was one too many."""
        since_s = now_s - self._last_s if self._last_s is not None else 0.0
        self._room = min(self._most, self._room + since_s * self._limit_fps) - 1
        self._last_s = now_s
        return self._room < 0
