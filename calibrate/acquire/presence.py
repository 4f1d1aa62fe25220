"""Learning what a part is: from small pictures of a place where parts pass, or are put down and taken away.

The empty place is what is seen again and again between parts, and looks the same each time: a belt that stops with a
part on it looks the same for long, but not again and again. How it was told apart is drawn for the report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from inspectd.errors import UsageError
from inspectd.model.presence import (
    Box,
    Presence,
    Side,
    Small,
    area_of,
    differs,
    middle_of,
    outlines,
    touched,
)
from inspectd.records import Rect

FEWEST_EMPTY = 5
MOST_COMPARED = 600
"""Small pictures that the empty place is looked for among."""
ALIKE = 0.15
"""Two pictures show the same place if they are no further apart than this share of what most pairs are."""
OTHER = 0.45
"""… and another one if they are further apart than this."""
FEWEST_TIMES = 2
"""The empty place is seen again at least so often, with something else between."""
CLEAN = 2.0
"""What of it differs by more than this, in units of what the emptiest differs by, shows something already."""
NOISE = 1.5
"""What an empty place differed by at most, times this, is allowed."""
OF_CONTRAST = (0.1, 0.15, 0.22, 0.3, 0.4)
"""Of what parts differ by from the empty place: what is allowed besides, whichever tells parts apart best."""
LASTS = 8
"""Pictures in which a part is whole, about: what is whole more briefly are pieces of parts."""
LEAST_LEVEL = 6
"""Grey levels that are always allowed."""
MOST_TRIED = 1200
"""Pictures on which that is tried."""
APART = 2.0
"""Parts must differ from the empty place so many times as much as that does from itself."""
SPECK = 0.003
"""Of the place: what is smaller is no part."""
NEAR_USUAL = 0.4
"""What is larger or smaller than the usual part by this share is none."""
SPREAD, RARE = 0.1, 0.01
"""Of the usual area: parts may be so much smaller or larger than all but a rare picture of one shows them."""
QUICK = 0.1
"""Of the times that one was whole, so many were over sooner than is reckoned with: the belt was quick, or ran back."""
MARGIN = 0.04
"""Of a part's size: what is cut out around it, on each side."""
ONE_SIZE = 1.8
"""The largest of what is taken for parts has no more than so many times the area of the smallest."""
STEADY = 0.06
"""Between two pictures a part's area changes by no more."""
MOVED = 0.1
"""Of its own size: what a part moves by, at least, while it is whole in the picture, if it passes."""
MOSTLY = 0.7
"""Of what moves comes from one side, where belts run back now and then."""
FEWEST_PARTS = 3


@dataclass(slots=True)
class Spell:
    """A thing that was whole in the picture, for a while: a part, perhaps."""

    frames: list[int] = field(default_factory=list)
    areas: list[float] = field(default_factory=list)
    boxes: list[Rect] = field(default_factory=list)
    middles: list[tuple[float, float]] = field(default_factory=list)

    @property
    def area(self) -> float:
        """In the middle of the while."""
        return float(np.median(self.areas))

    @property
    def way(self) -> tuple[float, float]:
        """How far it moved across and down, in its own sizes."""
        (x0, y0), (x1, y1) = self.middles[0], self.middles[-1]
        return (x1 - x0) / self.boxes[0][2], (y1 - y0) / self.boxes[0][3]


@dataclass(frozen=True, slots=True)
class Learnt:
    """What a part is, and what that was learned from."""

    presence: Presence
    parts: list[Spell]
    others: list[Spell]
    """What was whole in the picture, and is no part."""
    empty: Small
    empties: int
    """Pictures of the empty place."""


def learn_presence(
    smalls: Sequence[Small],
    picture: tuple[int, int],
    window: Rect,
    step: int,
    empties: Sequence[Small] = (),
    fps: float = 0.0,
) -> Learnt:
    """Return what a part is, from small pictures in the order of time; UsageError: it cannot be told.

    `picture`, `window`, `step`: how the small ones came about. `empties`: small pictures of the empty place; none: it
    is found among the others. `fps`: pictures a second; 0: nobody knows.
    """
    given = bool(empties)
    seen = np.stack(list(smalls))
    known = np.stack(list(empties)) if given else seen[find_empty(seen)]
    empty = np.asarray(np.median(known, axis=0), np.uint8)
    if not given:  # at the edge of one or another something comes already
        most = np.array([float(_distance(one, empty).max()) for one in known])
        known = known[most <= CLEAN * float(most.min())]
        empty = np.asarray(np.median(known, axis=0), np.uint8)
    noise = np.max([_distance(one, empty) for one in known], axis=0)
    allowed, parts, others = _best_told_apart(seen, empty, noise)
    if not given:
        _check_is_emptier(seen, empty, allowed, parts)
    areas = np.array([area for spell in parts for area in spell.areas])
    usual = float(np.median(areas))
    presence = Presence(
        picture=picture,
        window=window,
        step=step,
        empty=empty.tobytes(),
        allowed=allowed.tobytes(),
        area=usual,
        least=float(np.quantile(areas, RARE)) / usual - SPREAD,
        most=float(np.quantile(areas, 1 - RARE)) / usual + SPREAD,
        size=_size(parts, window, step),
        comes_from=_comes_from(parts),
        pictures=max(2, int(np.quantile([len(spell.frames) for spell in parts], QUICK))),
        fps=fps,
        covers=_most_covered(seen, empty, allowed),
        times=len(parts),
    )
    return Learnt(presence, parts, others, empty, len(known))


def find_empty(seen: NDArray[np.uint8]) -> list[int]:
    """Return which of small pictures [n, h, w, …] show the empty place; UsageError: none is seen again and again."""
    chosen = np.unique(np.linspace(0, len(seen) - 1, min(len(seen), MOST_COMPARED)).astype(int))
    looks = np.stack([_look(seen[i]) for i in chosen])
    apart = _apart(looks)
    most = float(np.quantile(apart, 0.9))
    alike, other = apart <= ALIKE * most, apart > OTHER * most
    times, unlike = _seen_again(apart, alike, other)
    unlike[(times < FEWEST_TIMES) | (alike.sum(axis=1) < FEWEST_EMPTY)] = np.inf
    best = int(np.argmin(unlike))  # parts that come to the same place differ from each other; an empty one does not
    found = np.flatnonzero(alike[best])
    if not np.isfinite(unlike[best]):
        raise UsageError(
            "No empty place was seen again and again between the parts, so that it is not clear what a part is. Let "
            "it be empty for some seconds between parts, or show it with --empty PICTURE."
        )
    return [int(chosen[i]) for i in found]


def _seen_again(
    apart: NDArray[np.float32], alike: NDArray[np.bool_], other: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return how often each picture is seen again after something else, and how unlike it is then, on average."""
    count = len(apart)
    times, total = np.zeros(count, np.int64), np.zeros(count)
    was_other, nearest = np.ones(count, bool), np.full(count, np.inf)
    for number in range(count + 1):
        is_over = was_other & alike[:, number] if number < count else np.ones(count, bool)
        counted = is_over & np.isfinite(nearest) & (nearest > 0)  # 0: the while of the picture itself
        times += counted
        total[counted] += nearest[counted]
        nearest[is_over] = np.inf
        if number < count:
            nearest = np.where(alike[:, number], np.minimum(nearest, apart[:, number]), nearest)
            was_other = (was_other & ~alike[:, number]) | other[:, number]
    return times, total / np.maximum(times, 1)


def _apart(looks: NDArray[np.float32]) -> NDArray[np.float32]:
    flat = looks.reshape(len(looks), -1)
    squares = (flat**2).sum(axis=1)
    distances = np.maximum(0, squares[:, None] + squares[None] - 2 * flat @ flat.T) / flat.shape[1]
    found = np.asarray(np.sqrt(distances), np.float32)
    np.fill_diagonal(found, 0)
    return found


def _look(small: Small) -> NDArray[np.float32]:
    """Return a small picture as it looks from afar."""
    return np.asarray(cv2.resize(small, (20, 15), interpolation=cv2.INTER_AREA), np.float32).reshape(-1)


def _distance(small: Small, empty: Small) -> NDArray[np.float32]:
    apart = np.abs(small.astype(np.float32) - empty)
    return np.asarray(apart if apart.ndim == 2 else apart.max(axis=2), np.float32)


def _widened(noise: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.dilate(noise, np.ones((3, 3), np.uint8)), np.float32)


def _best_told_apart(
    seen: NDArray[np.uint8], empty: Small, noise: NDArray[np.float32]
) -> tuple[Small, list[Spell], list[Spell]]:
    """Return what an empty place may differ by, and the parts and others that this tells apart most steadily."""
    contrast = _contrast(seen, empty, noise)
    few = seen[: min(len(seen), MOST_TRIED)]
    found: list[tuple[float, Small]] = []
    for share in OF_CONTRAST:
        allowed = np.clip(np.rint(_widened(noise) * NOISE + max(LEAST_LEVEL, share * contrast)), 0, 255)
        spells = _spells(few, empty, allowed.astype(np.uint8))
        parts, others = _told_apart(spells)
        whole = sum(len(spell.frames) for spell in parts) - sum(len(spell.frames) for spell in others)
        found.append((whole - LASTS * len(spells), allowed.astype(np.uint8)))
    best = max(score for score, _ in found)
    good = [allowed for score, allowed in found if score >= best - 0.02 * abs(best)]
    allowed = good[len(good) // 2]
    parts, others = _told_apart(_spells(seen, empty, allowed))
    areas = np.array([area for spell in parts for area in spell.areas] or [0.0])
    is_one_size = float(np.quantile(areas, 1 - RARE)) <= ONE_SIZE * float(np.quantile(areas, RARE))
    if len(parts) < max(FEWEST_PARTS, len(others)) or not is_one_size:
        raise UsageError(
            f"It is not clear what a part is: {len(parts)} that look alike were whole in two pictures, one after the "
            f"other, and {len(others)} other things. Parts must lie wholly in the picture, with some empty place "
            "around them, and move by less than their length from picture to picture; move the camera away, take more "
            "pictures a second, or show the empty place with --empty PICTURE."
        )
    return allowed, parts, others


def _contrast(seen: NDArray[np.uint8], empty: Small, noise: NDArray[np.float32]) -> float:
    """Return by how many grey levels parts differ from the empty place; UsageError: by too few."""
    own = float(np.quantile(noise, 0.99))
    most = [float(np.quantile(_distance(one, empty), 0.95)) for one in seen[:: max(1, len(seen) // 300)]]
    contrast = float(np.quantile(most, 0.9))
    if contrast < APART * max(own, 1.0):
        raise UsageError(
            f"Parts cannot be told from the empty place: they differ from it by {contrast:.0f} grey levels, and it "
            f"differs from itself by {own:.0f}. Change the light or the ground that parts lie on."
        )
    return contrast


def _spells(seen: NDArray[np.uint8], empty: Small, allowed: Small) -> list[Spell]:
    """Return all that was whole in the picture, each with the while that it was."""
    height, width = empty.shape[:2]
    ended: list[Spell] = []
    going: list[Spell] = []
    for number, small in enumerate(seen):
        goes_on: list[Spell] = []
        for outline in outlines(differs(small, empty, allowed)[0]):
            area = area_of(outline)
            box = _bounds(outline)
            if area < SPECK * width * height or touched(box, (width, height)):
                continue
            spell = next((one for one in going if one not in goes_on and _is_same(one, area, box)), None) or Spell()
            spell.frames.append(number)
            spell.areas.append(area)
            spell.boxes.append(box)
            spell.middles.append(middle_of(outline))
            goes_on.append(spell)
        ended += [one for one in going if one not in goes_on]
        going = goes_on
    return [spell for spell in (*ended, *going) if len(spell.frames) >= 2]


def _bounds(outline: NDArray[np.int32]) -> Rect:
    x, y, w, h = cv2.boundingRect(outline)
    return x, y, w, h


def _is_same(spell: Spell, area: float, box: Box) -> bool:
    """Whether a thing is the one that was there a picture before."""
    x, y, w, h = spell.boxes[-1]
    overlaps = x < box[0] + box[2] and box[0] < x + w and y < box[1] + box[3] and box[1] < y + h
    return overlaps and abs(area - spell.areas[-1]) <= STEADY * spell.areas[-1]


def _told_apart(spells: Sequence[Spell]) -> tuple[list[Spell], list[Spell]]:
    """Return parts and others: parts are of the size that most have."""
    if not spells:
        return [], []
    areas = np.array([spell.area for spell in spells])
    lasted = np.array([len(spell.frames) for spell in spells])
    near = [np.abs(areas - area) <= NEAR_USUAL * area for area in areas]
    usual = float(np.median(areas[max(near, key=lambda one: int(lasted[one].sum()))]))
    is_part = np.abs(areas - usual) <= NEAR_USUAL * usual
    return [spell for spell, it in zip(spells, is_part, strict=True) if it], [
        spell for spell, it in zip(spells, is_part, strict=True) if not it
    ]


def _check_is_emptier(seen: NDArray[np.uint8], empty: Small, allowed: Small, parts: Sequence[Spell]) -> None:
    """Refuse an empty place that shows more where parts lie than pictures with parts do (UsageError)."""
    more = []
    for spell in parts:
        number = spell.frames[len(spell.frames) // 2]
        where, _ = differs(seen[number], empty, allowed)
        more.append(_structure(seen[number])[where].mean() > _structure(empty)[where].mean())
    if sum(more) < len(more) / 2:
        raise UsageError(
            "It is not clear which pictures show the empty place: those that were taken for it show more than the "
            "others do. Let it be empty for some seconds between parts, or show it with --empty PICTURE."
        )


def _structure(small: Small) -> NDArray[np.float32]:
    grey = small if small.ndim == 2 else cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
    return np.asarray(cv2.magnitude(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)), np.float32)


def _most_covered(seen: NDArray[np.uint8], empty: Small, allowed: Small) -> float:
    """Return the share of the place that things cover in all but a rare picture."""
    some = seen[:: max(1, len(seen) // 500)]
    return float(np.quantile([differs(one, empty, allowed)[0].mean() for one in some], 1 - RARE))


def _size(parts: Sequence[Spell], window: Rect, step: int) -> tuple[int, int]:
    """Return the width and height that any part fits into, around its middle."""
    across, down = [], []
    for spell in parts:
        for (x, y, w, h), (middle_x, middle_y) in zip(spell.boxes, spell.middles, strict=True):
            across.append(max(middle_x - x, x + w - middle_x))
            down.append(max(middle_y - y, y + h - middle_y))
    wide, high = (2 * float(np.quantile(halves, 0.98)) * step * (1 + 2 * MARGIN) for halves in (across, down))
    return min(window[2], round(wide)), min(window[3], round(high))


def _comes_from(parts: Sequence[Spell]) -> Side | None:
    """Return the side that most parts come from; None: they do not pass."""
    sides: list[Side] = []
    for x, y in (spell.way for spell in parts):
        if max(abs(x), abs(y)) < MOVED:
            continue
        if abs(x) > abs(y):
            sides.append("left" if x > 0 else "right")
        else:
            sides.append("top" if y > 0 else "bottom")
    if len(sides) < len(parts) / 2:
        return None
    most = max(set(sides), key=sides.count)
    return most if sides.count(most) >= MOSTLY * len(sides) else None
