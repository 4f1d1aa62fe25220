"""The simulated line as a source, well or badly behaved."""

from __future__ import annotations

import time

from inspectd.cameras.grabbers.base import Grabbed, Nothing
from inspectd.cameras.protocol import CaptureSettings
from inspectd.cameras.sources import simulation_numbers
from inspectd.errors import CameraError, UsageError
from inspectd.records import Picture
from inspectd.sim.line import Line


class SimulatedGrabber:
    """`sim://line?seed=1&fps=10&parts=100&defects=0.3&width=640&height=480`, one part in every frame.

    Without `fps` it is read like a folder: nothing is ever lost. `hang=N`, `unplug=N` and `freeze=N` make
    the camera misbehave once, at part N: never answer again, go away, repeat its picture. `ahead=N` renders N
    parts before the first one is due and shows them again and again, so that a fast camera costs nothing.
    """

    format = ""
    total = 0
    caveat = ""
    has_driver_time = True

    def __init__(self, settings: CaptureSettings) -> None:
        try:
            numbers = simulation_numbers(settings.source)
        except UsageError as error:
            raise CameraError(str(error)) from None
        self.fps = settings.fps or numbers.get("fps", 0.0)
        self.is_live = self.fps > 0
        self.width, self.height = (int(numbers.get(key, n)) for key, n in (("width", 640), ("height", 480)))
        try:
            self._line = Line(
                int(numbers.get("seed", 0)),
                width=self.width,
                height=self.height,
                defects=numbers.get("defects", 0.0),
            )
        except ValueError as error:
            raise CameraError(f"{settings.source}: {error}") from None
        self.slot_bytes = self.width * self.height * 3
        self._end = int(numbers["parts"]) if "parts" in numbers else None
        self._first = self._number = settings.first
        self._misbehave_at: dict[str, int] = {
            what: int(numbers[what]) for what in ("hang", "unplug", "freeze") if what in numbers
        }
        self._ahead = [self._line.render(i) for i in range(int(numbers.get("ahead", 0)))]
        self._due_s = time.monotonic()

    def grab(self, into: Picture | None) -> Grabbed | Nothing | None:
        """Return the next part's picture when it is due."""
        if self._end is not None and self._number >= self._end:
            return None
        self._wait_until_due()
        if self._is_now("hang"):
            while True:
                time.sleep(3600)
        if self._is_now("unplug"):
            raise CameraError("the simulated camera was unplugged")
        if self._is_now("freeze"):
            return Nothing(is_repeat=True)
        number = self._number
        picture = self._ahead[number % len(self._ahead)] if self._ahead else self._line.render(number)
        self._number += 1
        return Grabbed(picture, time.monotonic_ns(), f"part-{self._number - 1:06d}")

    def _is_now(self, what: str) -> bool:
        at = self._misbehave_at.get(what)
        return at is not None and self._first < at <= self._number

    def _wait_until_due(self) -> None:
        if self.is_live:
            self._due_s = max(self._due_s + 1 / self.fps, time.monotonic() - 1)
            time.sleep(max(0.0, self._due_s - time.monotonic()))
