"""Parts instead of pictures, where parts pass freely: first it is watched what a part is, then each is cut out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from calibrate.acquire.capture import Unreadable
from calibrate.acquire.capture_session import CaptureSession
from calibrate.acquire.parts_sheet import draw_parts
from calibrate.acquire.presence import Learnt, learn_presence
from calibrate.progress import Watcher
from inspectd.cameras.image_files import read_picture, size_of, survey
from inspectd.config import LooksConfig
from inspectd.errors import StartError, UsageError
from inspectd.line.parts import UNPACED_NS
from inspectd.line.passing import Missed, Passing
from inspectd.line.placing import Placing
from inspectd.model.presence import Presence, Small, shrink, step_of
from inspectd.records import Frame, Picture, Rect

Item = Frame | Unreadable
MOST_WATCHED = 3600
"""Pictures that are watched, at most: two minutes of a quick camera."""
TRY_EVERY = 300
"""Pictures of a live camera after which it is tried again whether it is clear what a part is."""
ENOUGH = 10
"""Parts that must have passed a live camera until it is."""
ABOUT = 0.05
"""By so much the size that is cut out may differ from calibration to calibration."""
PRESENCE, SHEET = "presence.json", "parts.png"


def check_are_parts(paths: Iterable[Path], known: Presence | None) -> None:
    """Refuse pictures that are not cut out around a part, as the ones that are learned from are (UsageError)."""
    for path in paths if known is not None else ():
        size = size_of(path)
        if known is not None and size is not None and not all(map(_is_about, size, known.size)):
            raise UsageError(
                f"{path} has {size[0]}x{size[1]}, and what is cut out around a part {known.size[0]}x{known.size[1]}; "
                "expected pictures of single parts, as the daemon's archive keeps them."
            )


def _rate(taken_ns: Sequence[int]) -> float:
    """Return how many pictures a second there were, as far as that is known."""
    if len(taken_ns) < 2:
        return 0.0
    return 1e9 / max(1.0, float(np.median(np.diff(taken_ns[-300:]))))


def _is_about(one: int, other: int) -> bool:
    return abs(one - other) <= ABOUT * other


@dataclass(slots=True)
class Passed:
    """What is known of the parts of a capture."""

    looks: LooksConfig
    window: Rect | None
    """Where they are looked for; None: everywhere."""
    empty: Path | None = None
    """Pictures of the empty place."""
    learnt: Learnt | None = None
    watched: list[Small] = field(default_factory=list)
    """What it was learned from."""
    missed: int = 0
    fps: float = 0.0
    """Pictures a second, of a live camera."""
    _empties: Sequence[Small] = ()
    sheet: NDArray[np.uint8] | None = None
    """How they were told apart, drawn."""

    @property
    def presence(self) -> Presence | None:
        """What a part is; None: nothing was watched yet."""
        return self.learnt.presence if self.learnt is not None else None

    def watch(self, items: Iterator[Item], white_level: int, watcher: Watcher, *, is_live: bool) -> None:
        """Learn what a part is from pictures as they come; UsageError: it does not become clear.

        A live camera is watched until enough parts have passed; the rest of it can go on to be used.
        """
        size: tuple[int, int] | None = None
        taken_ns: list[int] = []
        for item in items:
            if isinstance(item, Unreadable):
                continue
            try:
                if size is None:
                    size = self._begin(item.picture, white_level)
                taken_ns.append(item.stamp.captured_ns)
                if (item.picture.shape[1], item.picture.shape[0]) == size:
                    self.watched.append(self._shrunk(item.picture, white_level))
            finally:
                item.release()
            watcher.step()
            count = len(self.watched)
            is_due = is_live and count % TRY_EVERY == 0
            self.fps = _rate(taken_ns) if is_due else self.fps
            if is_due and self._is_clear(size):
                self._draw()
                return
            if count >= MOST_WATCHED:
                break
        if size is None or len(self.watched) < 2:
            raise UsageError("Nothing was seen of parts that pass: there are no pictures.")
        self.fps = _rate(taken_ns) if is_live else 0.0
        self._learn(size)
        self._draw()

    def each(self, items: Iterator[Item], white_level: int, *, is_live: bool) -> Iterator[Item]:
        """Yield the looks at each part, cut out; what cannot be read is passed on."""
        assert self.presence is not None
        known = self.presence
        tracker = Placing(known) if known.comes_from is None else Passing(known)
        taken: dict[int, int] = {}
        for item in items:
            if isinstance(item, Unreadable):
                yield item
                continue
            try:
                size = (item.picture.shape[1], item.picture.shape[0])
                if size != known.picture:
                    was, now = ("x".join(map(str, one)) for one in (known.picture, size))
                    raise StartError(
                        f"What a part is was learned from pictures of {was}, and the camera gives {now} now; set it to "
                        "that size, or begin anew without --resume."
                    )
                at_ns = item.stamp.captured_ns if is_live else item.stamp.frame * UNPACED_NS
                for event in tracker.look(known.sight(item.picture, white_level), at_ns):
                    if isinstance(event, Missed):
                        self.missed += 1
                        continue
                    look = taken[event.part] = taken.get(event.part, 0) + 1
                    if look <= self.looks.best_of:
                        name = f"part {event.part}" + (f" look {look}" if look > 1 else "")
                        cut = item.cut(known.around(event.thing))
                        cut.stamp = replace(item.stamp, part=name)
                        yield cut
            finally:
                item.release()

    def notes(self) -> list[str]:
        """Return sentences about how parts were told apart."""
        if self.learnt is None:
            return []
        known, others = self.learnt.presence, len(self.learnt.others)
        comes = f"they come from the {known.comes_from}" if known.comes_from else "they are put down and taken away"
        seen = f" in {len(self.watched)} pictures, of which {self.learnt.empties} showed the empty place"
        told = (
            f"What a part is was learned from {known.times} times that one was whole{seen if self.watched else ''}, "
            f"mostly in {known.pictures} or more; {comes}."
        )
        found = [told]
        if others:
            found.append(f"{others} other things were whole in the picture, and were not taken for parts.")
        if self.missed:
            found.append(f"{self.missed} parts passed and could not be used: they touched, or were never seen whole.")
        return found

    def keep(self, session: CaptureSession) -> None:
        """Keep what was learned beside the pictures of a capture, for when it is resumed."""
        assert self.presence is not None
        assert self.sheet is not None
        session.keep(PRESENCE, msgspec.json.encode(self.presence))
        session.keep(SHEET, cv2.imencode(".png", self.sheet)[1].tobytes())

    def recall(self, session: CaptureSession) -> bool:
        """Go on with what an earlier capture has learned; False: it had not come so far."""
        known, sheet = session.kept(PRESENCE), session.kept(SHEET)
        if known is None or sheet is None:
            return False
        presence = msgspec.json.decode(known, type=Presence)
        self.window = presence.window
        self.learnt = Learnt(presence, [], [], np.zeros((1, 1), np.uint8), 0)
        self.sheet = np.asarray(cv2.imdecode(np.frombuffer(sheet, np.uint8), cv2.IMREAD_COLOR), np.uint8)
        return True

    def _draw(self) -> None:
        assert self.learnt is not None
        self.sheet = draw_parts(self.learnt, self.watched)

    def _begin(self, first: Picture, white_level: int) -> tuple[int, int]:
        size = (first.shape[1], first.shape[0])
        x, y, w, h = self.window = self.window or (0, 0, *size)
        if not (0 <= x < x + w <= size[0] and 0 <= y < y + h <= size[1]):
            raise UsageError(f"--roi is {[x, y, w, h]}; expected x y w h inside the picture of {size[0]}x{size[1]}.")
        if self.empty is not None:
            self._empties = self._shown_empty(first, white_level)
        return size

    def _shrunk(self, picture: Picture, white_level: int) -> Small:
        assert self.window is not None
        return shrink(picture, self.window, step_of(self.window), white_level)

    def _is_clear(self, size: tuple[int, int]) -> bool:
        try:
            self._learn(size)
        except UsageError:
            return False
        return self.learnt is not None and len(self.learnt.parts) >= ENOUGH

    def _learn(self, size: tuple[int, int]) -> None:
        assert self.window is not None
        step = step_of(self.window)
        self.learnt = learn_presence(self.watched, size, self.window, step, self._empties, self.fps)

    def _shown_empty(self, first: Picture, white_level: int) -> Sequence[Small]:
        """Return the pictures of the empty place that were given; UsageError: they are not as the camera's are."""
        assert self.empty is not None
        size = (first.shape[1], first.shape[0])
        found = []
        for path in survey(self.empty).pictures:
            picture = read_picture(path)
            if picture.ndim == 2 < first.ndim:
                raise UsageError(f"--empty {path} is grey; expected a picture in the camera's colours.")
            if picture.ndim == 3 > first.ndim:
                picture = cast("Picture", cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY))
            if (picture.shape[1], picture.shape[0]) != size:
                raise UsageError(
                    f"--empty {path} has {picture.shape[1]}x{picture.shape[0]}; expected one of the camera's size, "
                    f"{size[0]}x{size[1]}."
                )
            found.append(self._shrunk(picture, white_level))
        return found
