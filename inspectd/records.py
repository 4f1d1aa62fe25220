"""What travels through the pipeline: a frame, what was found on it, and the verdict that was closed.

Times end in `_ns`: nanoseconds of the monotonic clock of this machine. Identity is stamped by the camera's
process and carried untouched; every later stage adds its own time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8] | NDArray[np.uint16]
"""A camera's picture: uint8 or uint16, [H, W] grey or [H, W, 3] BGR."""

Rect = tuple[int, int, int, int]
"""x, y, w, h in pixels of the camera's picture."""


class Outcome(StrEnum):
    """The three verdicts. Anything but `ok` means: do not pass this part."""

    OK = "ok"
    NG = "ng"
    FAULT = "fault"


class Reason(StrEnum):
    """Why a verdict is a fault (WIRE: the verdict header's `reason`)."""

    CAMERA_LOST = "camera_lost"
    CAMERA_FROZEN = "camera_frozen"
    DEADLINE = "deadline"
    OVERLOAD = "overload"
    IDENTITY = "identity"
    PICTURE = "picture"
    NO_MODEL = "no_model"
    NO_THRESHOLD = "no_threshold"
    ENGINE = "engine"
    BYPASS = "bypass"
    SHUTDOWN = "shutdown"


class Known(StrEnum):
    """What a person knows of a part that is shown to try an inspection."""

    GOOD = "good"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Challenge:
    """A known part that is shown to a camera."""

    known: Known
    part: str | None = None
    """Which one; None: it has no name."""
    is_study: bool = False
    """It is shown for a study: nothing follows from what is said of it."""

    def __str__(self) -> str:
        return f"known {self.known} part" if self.part is None else f"known {self.known} part {self.part}"


@dataclass(frozen=True, slots=True)
class Stamp:
    """Identity of a frame, given once where it was captured."""

    camera: str
    frame: int
    """Capture number, unique for this camera in this epoch, from 1."""
    captured_ns: int
    part: str | None = None
    """The file's name, or the frame's number in a video; None for a live camera."""
    is_arrival_time: bool = False
    """Nobody but us looked at the clock: it may be older than that."""


class ReleasedError(RuntimeError):
    """A frame was used after its last holder had released it: by then the slot may hold another part's picture."""


class Frame:
    """A captured picture in its ring slot, for as long as somebody holds it.

    Whoever is given a frame holds it. Each further holder calls `hold`, each holder calls `release` once, from any
    thread. The last release gives the slot back to the camera; from then on the frame refuses everything
    (ReleasedError), so that one part's picture can never pass for another's.
    """

    __slots__ = ("_give_back", "_holders", "_lock", "_picture", "_whole", "place", "stamp")

    def __init__(
        self,
        stamp: Stamp,
        picture: Picture,
        give_back: Callable[[], None],
        *,
        whole: Picture | None = None,
        place: Rect | None = None,
    ) -> None:
        """`give_back`: called once, with the last release. `whole`, `place`: see `cut`."""
        self.stamp = stamp
        self.place = place
        """Where in the camera's picture this one was cut out; None: it is the camera's."""
        self._picture: Picture | None = picture
        self._whole = whole
        self._give_back = give_back
        self._holders = 1
        self._lock = threading.Lock()

    @property
    def picture(self) -> Picture:
        """The picture, in the ring's own memory; ReleasedError after the last release."""
        picture = self._picture
        if picture is None:
            raise self._error("looked at")
        return picture

    @property
    def whole(self) -> Picture:
        """The camera's picture, of which `picture` may be a part; ReleasedError after the last release."""
        picture, whole = self.picture, self._whole
        return picture if whole is None else whole

    def cut(self, place: Rect) -> Frame:
        """Return a part of the picture as a frame of its own, held once; it holds this one as long as it is held."""
        self.hold()
        x, y, w, h = place
        whole = self.picture
        return Frame(self.stamp, whole[y : y + h, x : x + w], self.release, whole=whole, place=place)

    def detached(self) -> Frame:
        """Return a copy, held once, that holds no slot."""
        whole = None if self._whole is None else self._whole.copy()
        return Frame(self.stamp, self.picture.copy(), lambda: None, whole=whole, place=self.place)

    def hold(self) -> None:
        """Keep the picture for one holder more; ReleasedError after the last release."""
        with self._lock:
            if self._holders == 0:
                raise self._error("held")
            self._holders += 1

    def release(self) -> None:
        """Give the picture up for one holder; ReleasedError where nobody held it any more."""
        with self._lock:
            if self._holders == 0:
                raise self._error("released")
            self._holders -= 1
            if self._holders > 0:
                return
            self._picture = self._whole = None
        self._give_back()

    def _error(self, what: str) -> ReleasedError:
        return ReleasedError(
            f"frame {self.stamp.frame} of camera {self.stamp.camera} was {what} after its last holder had released it"
        )


@dataclass(frozen=True, slots=True)
class Region:
    """A connected group of patches above the threshold, in pixels of the camera's picture."""

    x: int
    y: int
    w: int
    h: int
    area: int
    """Pixels of the picture covered by the group's patches."""
    score: float
    """The group's largest patch score."""


@dataclass(frozen=True, slots=True)
class Mask:
    """The patch grid as bytes, and the rectangle of the picture that it covers."""

    bytes_: NDArray[np.uint8]  # [h, w]
    area: Rect
    level: int = 128
    """Bytes above this are above the threshold."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one inspection says: made by the judge, or by whoever has to declare a fault."""

    outcome: Outcome
    reason: Reason | None = None
    detail: str | None = None
    score: float | None = None
    threshold: float | None = None
    p: float | None = None
    regions: tuple[Region, ...] = ()
    model: str | None = None
    picture: tuple[int, int] | None = None
    """Width and height of the camera's picture."""
    roi: Rect | None = None
    mask: Mask | None = None
    started_ns: int | None = None
    scored_ns: int | None = None
    form: str | None = None
    """Device and precision that the score came about with."""
    excess: float | None = None
    """How far the score lies above the threshold, in spans from the calibration's median good score to it: -1 is that
    score, 0 the threshold."""
    areas: tuple[AreaFinding, ...] = ()
    """Where a recipe has several areas, what was found in each, the worst first; the rest of this finding is that of
    the worst, with the regions of all."""

    def moved(self, x: int, y: int, picture: tuple[int, int]) -> Finding:
        """Return the finding as it is of a larger picture of (w, h) pixels, in which its own begins at (x, y)."""
        roi, mask = self.roi, self.mask
        return replace(
            self,
            picture=picture,
            regions=tuple(replace(one, x=one.x + x, y=one.y + y) for one in self.regions),
            roi=None if roi is None else (roi[0] + x, roi[1] + y, roi[2], roi[3]),
            mask=None
            if mask is None
            else replace(mask, area=(mask.area[0] + x, mask.area[1] + y, mask.area[2], mask.area[3])),
        )


@dataclass(frozen=True, slots=True)
class AreaFinding:
    """What was found in one of several areas."""

    name: str
    finding: Finding


def fault(reason: Reason, detail: str, **facts: Any) -> Finding:
    """Return a fault; `detail` is one sentence for people."""
    return Finding(Outcome.FAULT, reason, detail, **facts)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A closed ledger entry: exactly one for every inspected frame or trigger."""

    camera: str
    seq: int
    finding: Finding
    displaced: int
    stamp: Stamp | None = None
    trigger: str | None = None
    part: str | None = None
    trigger_ns: int | None = None
    queued_ns: int | None = None
    recipe: str | None = None
    """The product that it was judged as; None: the camera has but one."""
    challenge: Challenge | None = None
    """The part was a known one, shown to try the inspection."""

    def latency_ns(self, published_ns: int) -> int | None:
        """Return how long it took from trigger or capture; None: neither a trigger nor a frame belongs to it."""
        began_ns = self.trigger_ns or (self.stamp.captured_ns if self.stamp else None)
        return None if began_ns is None else published_ns - began_ns


@dataclass(slots=True)
class Counts:
    """One camera's bookkeeping. The laws that hold at any moment are in `broken_law`."""

    captured: int = 0
    judged: int = 0
    displaced: int = 0
    unmatched: int = 0
    in_flight: int = 0
    triggers: int = 0
    triggers_closed: int = 0
    triggers_pending: int = 0
    triggers_overtaken: int = 0
    """Triggers for which the camera gave no picture before the next part was there."""
    triggers_repeated: int = 0
    """Triggers for a part that had been triggered shortly before."""
    late: int = 0
    last_seq: int = 0
    outcomes: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))
    faults: dict[Reason, int] = field(default_factory=dict)

    def copy(self) -> Counts:
        """Return a copy that stays as it is."""
        return replace(self, outcomes=dict(self.outcomes), faults=dict(self.faults))

    def broken_law(self) -> str | None:
        """Return the law that does not hold, or None."""
        if self.captured != self.judged + self.displaced + self.unmatched + self.in_flight:
            return "captured = judged + displaced + unmatched + in flight"
        if self.triggers != self.triggers_closed + self.triggers_pending:
            return "triggers = closed + pending"
        if self.last_seq != sum(self.outcomes.values()):
            return "verdicts = ok + ng + fault, seq gapless"
        if self.outcomes[Outcome.FAULT] != sum(self.faults.values()):
            return "faults = sum over their reasons"
        return None
