"""The simulated line as a source, well or badly behaved."""

from __future__ import annotations

import time
from math import inf

import numpy as np
from numpy.typing import NDArray

from inspectd.cameras.grabbers.base import Broken, Grabbed, Grabber, Nothing
from inspectd.cameras.grabbers.belt import BeltGrabber
from inspectd.cameras.grabbers.freshness import Freshness
from inspectd.cameras.protocol import CaptureSettings
from inspectd.cameras.sources import simulation_numbers
from inspectd.errors import CameraError, UsageError
from inspectd.records import Picture
from inspectd.sim.faults import EVERY_S, LONGEST_S, Lamp, Script, Trouble, spoil
from inspectd.sim.line import Line

FOR_EVER_S = 3600.0
AGES_S = 600.0
BELT = "sim://belt"


class SimulatedGrabber(Grabber):
    """`sim://line?seed=1&fps=10&parts=100&defects=0.3&width=640&height=480`, one part in every frame.

    Without `fps` it is read like a folder: nothing is ever lost. `hang=N`, `unplug=N` and `freeze=N` make
    the camera misbehave once, at part N: never answer again, go away, repeat its picture. `ahead=N` renders N
    parts before the first one is due and shows them again and again, so that a fast camera costs nothing.
    `faults=SEED` makes it misbehave again and again, on the script of that seed (`inspectd.sim.faults`): every `every`
    seconds for `longest` at most. `lamp=SHARE` lets its lamp age: within `ages` seconds from its opening it gets that
    share of its brightness, and stays there. `wear` is that of the tool which made the parts. `renewed=SECONDS`: so
    long after its opening, lamp and tool are new ones.
    """

    def __init__(self, settings: CaptureSettings) -> None:
        try:
            numbers = simulation_numbers(settings.source)
        except UsageError as error:
            raise CameraError(str(error)) from None
        self.fps = settings.fps or numbers.get("fps", 0.0)
        self.is_live = self.fps > 0
        self.width, self.height = (int(numbers.get(key, n)) for key, n in (("width", 640), ("height", 480)))
        try:
            self._script = _script(numbers)
            self._line = Line(
                int(numbers.get("seed", 0)),
                width=self.width,
                height=self.height,
                defects=numbers.get("defects", 0.0),
                wear=numbers.get("wear", 0.0),
            )
            opened_s = time.monotonic()
            self._renewed_s = opened_s + numbers.get("renewed", inf)  # lamp and tool
            self._lamp = Lamp(numbers.get("lamp", 1.0), numbers.get("ages", AGES_S), opened_s, self._renewed_s)
        except ValueError as error:
            raise CameraError(f"{settings.source}: {error}") from None
        self._end = int(numbers["parts"]) if "parts" in numbers else None
        self._first = self._number = settings.first
        self._misbehave_at: dict[str, int] = {
            what: int(numbers[what]) for what in ("hang", "unplug", "freeze") if what in numbers
        }
        self._ahead = self._rendered(int(numbers.get("ahead", 0)))
        self._freshness = Freshness(False, settings.refuse_repeats)
        self._last: tuple[Picture, float] = (self._line.render(self._number), time.monotonic() * 1000)
        """The driver's last buffer and its time. As with a real camera, the first one only shows what later ones must
        differ from."""
        self._freshness.look(*self._last)
        if (trouble := self._stops_here(time.monotonic_ns(), is_opening=True)) is Trouble.RESIZED:
            self.height, self.width = spoil(self._line.render(self._number), trouble).shape[:2]
        self.slot_bytes = self.width * self.height * 3
        self._due_s = time.monotonic()

    def grab(self, into: Picture | None) -> Grabbed | Nothing | Broken | None:
        """Return the next part's picture when it is due."""
        if self._end is not None and self._number >= self._end:
            return None
        self._wait_until_due()
        if self._is_now("hang"):
            _hang()
        if self._is_now("unplug"):
            raise CameraError("the simulated camera was unplugged")
        if self._is_now("freeze"):
            return Nothing(is_repeat=True)
        now_ns = time.monotonic_ns()
        trouble = self._stops_here(now_ns)
        if now_ns / 1e9 >= self._renewed_s:
            self._renew()
        number = self._number
        self._number += 1
        part = f"part-{number:06d}"
        if trouble is Trouble.TORN:
            return Broken(part, "the picture came damaged: its second half is missing", now_ns)
        picture = self._ahead[number % len(self._ahead)] if self._ahead else self._line.render(number)
        picture = self._lamp.light(picture, now_ns / 1e9)
        if trouble is None and self._script is None:
            return Grabbed(picture, now_ns, part)
        return self._as_the_driver_gives_it(picture, trouble) or Grabbed(self._show(picture, trouble), now_ns, part)

    def _stops_here(self, now_ns: int, *, is_opening: bool = False) -> Trouble | None:
        """Return what is wrong now, unless nothing more comes because of it; CameraError when the camera is gone."""
        episode = self._script.now(now_ns) if self._script is not None else None
        if episode is None:
            return None
        if episode.trouble is Trouble.UNPLUGGED:
            raise CameraError("the simulated camera was unplugged")
        if episode.trouble is Trouble.HANGS and not is_opening:
            _hang()
        if episode.trouble is Trouble.HANGS:  # it answers when it is well again
            time.sleep(max(0, episode.end_ns - now_ns) / 1e9)
            return None
        return episode.trouble

    def _as_the_driver_gives_it(self, picture: Picture, trouble: Trouble | None) -> Nothing | None:
        """Return what shows that a picture is an old one."""
        now_ms = time.monotonic() * 1000
        if trouble not in (Trouble.FROZEN, Trouble.STALE):
            self._last = (picture, now_ms)
        elif trouble is Trouble.FROZEN:
            self._last = (self._last[0], now_ms)
        nothing = self._freshness.look(*self._last)
        return nothing if trouble in (Trouble.FROZEN, Trouble.STALE) else None

    def _show(self, picture: NDArray[np.uint8], trouble: Trouble | None) -> Picture:
        shown = spoil(picture, trouble) if trouble is not None else picture
        if shown.shape[:2] != (self.height, self.width):
            height, width = shown.shape[:2]
            raise CameraError(
                f"the simulated camera changed its picture from {self.width}x{self.height} to {width}x{height}"
            )
        return shown

    def _renew(self) -> None:
        self._renewed_s, self._line = inf, self._line.with_a_new_tool()
        self._ahead = self._rendered(len(self._ahead))

    def _rendered(self, count: int) -> list[NDArray[np.uint8]]:
        return [self._line.render(number) for number in range(count)]

    def _is_now(self, what: str) -> bool:
        at = self._misbehave_at.get(what)
        return at is not None and self._first < at <= self._number

    def _wait_until_due(self) -> None:
        if self.is_live:
            self._due_s = max(self._due_s + 1 / self.fps, time.monotonic() - 1)
            time.sleep(max(0.0, self._due_s - time.monotonic()))


def open_simulation(settings: CaptureSettings) -> Grabber:
    """Open the simulated line, or the simulated belt."""
    return BeltGrabber(settings) if settings.source.startswith(BELT) else SimulatedGrabber(settings)


def _script(numbers: dict[str, float]) -> Script[Trouble] | None:
    if "faults" not in numbers:
        return None
    return Script(
        int(numbers["faults"]), tuple(Trouble), numbers.get("every", EVERY_S), numbers.get("longest", LONGEST_S)
    )


def _hang() -> None:
    while True:
        time.sleep(FOR_EVER_S)
