"""The simulated belt as a source."""

from __future__ import annotations

import time

from inspectd.cameras.grabbers.base import Grabbed, Grabber
from inspectd.cameras.protocol import CaptureSettings
from inspectd.cameras.sources import simulation_numbers
from inspectd.errors import CameraError, UsageError
from inspectd.records import Picture
from inspectd.sim.belt import WIDTHS_A_SECOND, Belt

RATE = 30.0
"""Pictures a second of the belt's own time, where it is read like a video."""
SECOND = 1_000_000_000


class BeltGrabber(Grabber):
    """`sim://belt?seed=1&fps=30&defects=0.3&width=640&height=480&speed=0.5&unrest=1`: parts that pass by themselves.

    With `fps` the belt runs by the machine's monotonic clock, so that whoever knows the seed knows what was in front of
    the camera when. Without it the belt is read like a video, 30 pictures for each of its seconds, `pictures` at most.
    """

    def __init__(self, settings: CaptureSettings) -> None:
        try:
            numbers = simulation_numbers(settings.source)
            self.width, self.height = (int(numbers.get(key, n)) for key, n in (("width", 640), ("height", 480)))
            self._belt = Belt(
                int(numbers.get("seed", 0)),
                width=self.width,
                height=self.height,
                defects=numbers.get("defects", 0.0),
                speed=numbers.get("speed", WIDTHS_A_SECOND),
                unrest=numbers.get("unrest", 1.0),
            )
        except (UsageError, ValueError) as error:
            raise CameraError(f"{settings.source}: {error}") from None
        self.is_live = "fps" in numbers
        self.fps = (settings.fps or numbers["fps"]) if self.is_live else RATE
        self.total = int(numbers.get("pictures", 0))
        self.slot_bytes = self.width * self.height * 3
        self._number = settings.first
        self._due_s = time.monotonic()

    def grab(self, into: Picture | None) -> Grabbed | None:
        """Return the belt as it is now, or as it is in the next picture."""
        if self.total and self._number >= self.total:
            return None
        number = self._number
        self._number += 1
        if not self.is_live:
            return Grabbed(self._belt.render(number / RATE), time.monotonic_ns(), f"picture-{number:06d}")
        self._due_s = max(self._due_s + 1 / self.fps, time.monotonic() - 1)
        time.sleep(max(0.0, self._due_s - time.monotonic()))
        now_ns = time.monotonic_ns()
        return Grabbed(self._belt.render(now_ns / SECOND), now_ns)
