"""Is a part there, and is all of it there? What is learned of an empty place, and of what lies in it.

A small picture is compared with that of the empty place, place by place and colour by colour; what differs by more than
empty places do among themselves is a *thing*. A thing is a part if it lies wholly in the picture and is as large as
parts are: an empty belt has none, half a part touches the edge, two that touch are too large. Where parts come from is
known where they all come from one side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, cast

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from inspectd.errors import UsageError
from inspectd.records import Picture, Rect

SIDE = 120
"""Pixels of the shorter side of what is compared, at least, where the camera has as many."""
SMALLEST = 0.04
"""Of a part's area: what is smaller is dirt."""
SPECK = 0.005
"""Of a part's area: what is larger, and lies beside a part, must not be in its picture."""
LARGEST_GAIN = 1.25
"""By so much the light may change without the empty place looking like something."""
MOST_THINGS = 20
"""In one picture."""
EDGE = 2
"""Pixels of the small picture: what is as near to its edge may go on beyond it."""
JOINS = np.ones((7, 7), np.uint8)
CLEANS = np.ones((3, 3), np.uint8)

Side = Literal["left", "right", "top", "bottom"]
OPPOSITE: dict[Side, Side] = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}
NO_PROFILE = np.zeros(0, np.float32)
Small = NDArray[np.uint8]  # [h, w, 3] or [h, w]
Box = tuple[float, float, float, float]  # x, y, w, h


@dataclass(frozen=True, slots=True)
class Thing:
    """Something that is not the empty place. Lengths in pixels of the camera's picture."""

    box: Box
    middle: tuple[float, float]
    """The centroid of its outline, holes filled."""
    share: float
    """Its area, holes filled, as a share of the usual part's."""
    touches: frozenset[Side]
    """The edges of the place that it reaches: it may go on beyond them."""
    is_part: bool
    """All of it is there, it is as large as parts are, and there is nothing else beside it."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What there is in one picture."""

    things: Sequence[Thing]
    """The largest first."""
    profile: NDArray[np.float32]
    """How much each place along the belt differs from the empty one, from where parts come from."""
    covered: float
    """Share of the place that is not empty."""
    brightness: float
    """How many times as bright what looks empty is as the empty place."""
    is_crowded: bool
    """There are more things than can be told apart."""


class Presence(msgspec.Struct, frozen=True, dict=True):
    """What is known of parts that pass, or are put down, in front of a camera."""

    picture: tuple[int, int]
    """Width and height of the camera's picture."""
    window: tuple[int, int, int, int]
    """Where parts are looked for: x, y, w, h."""
    step: int
    """Pixels of the camera, across and down, to one that is compared."""
    empty: bytes
    """The empty place: grey levels, row by row, of [h, w, 3] BGR or [h, w]."""
    allowed: bytes
    """Grey levels by which an empty place may differ from that, of [h, w]."""
    area: float
    """Of the usual part, holes filled, in pixels of the small picture."""
    least: float
    """Share of the usual area that a part has at least …"""
    most: float
    """… and at most."""
    size: tuple[int, int]
    """Width and height of what is cut out around a part, in pixels of the picture."""
    comes_from: Side | None
    """Where parts come from; None: they are put down and taken away."""
    pictures: int
    """In how many pictures a part was seen whole, mostly at least."""
    fps: float
    """Pictures a second that this was learned from; 0: nobody knows."""
    covers: float
    """Share of the place that things ever covered."""
    times: int
    """How often a part was seen whole until it was not any more: what this was learned from."""

    def sight(self, picture: Picture, white_level: int = 65535) -> Sight:
        """Return what there is in a picture [H, W] or [H, W, 3] of the camera's size."""
        return self.sight_of(shrink(picture, self.window, self.step, white_level))

    def sight_of(self, small: Small) -> Sight:
        """Return what there is in a small picture."""
        found, brightness = differs(small, self._empty, self._allowed)
        things = things_in(found, self)
        covered = cv2.countNonZero(found.view(np.uint8)) / found.size
        facts = (covered, brightness, len(things) > MOST_THINGS)
        things = things[:MOST_THINGS]
        if self.comes_from is None or small.shape != self._empty.shape:
            return Sight(things, NO_PROFILE, *facts)
        across = 1 if self.comes_from in ("top", "bottom") else 0
        profile = _distance(small, self._empty).mean(axis=across, dtype=np.float32)
        return Sight(things, profile if self.comes_from in ("left", "top") else profile[::-1], *facts)

    def around(self, thing: Thing) -> Rect:
        """Return what is cut out around a part: it always lies in the window."""
        (x0, y0, width, height), (w, h) = self.window, self.size
        x = min(max(x0, round(thing.middle[0] - w / 2)), x0 + width - w)
        y = min(max(y0, round(thing.middle[1] - h / 2)), y0 + height - h)
        return x, y, w, h

    def place_of(self, picture: Picture, white_level: int = 65535) -> Rect:
        """Return where the only part is in a picture: one of the camera's, or one that was cut out of it.

        UsageError: it has another size, or shows no part, or several.
        """
        size = (picture.shape[1], picture.shape[0])
        if size == self.size:
            return (0, 0, *size)
        if size != self.picture:
            sizes = f"{self.picture[0]}x{self.picture[1]} (the camera's), or {self.size[0]}x{self.size[1]} (a part's)"
            raise UsageError(f"The picture has {size[0]}x{size[1]}; expected {sizes}.")
        parts = [thing for thing in self.sight(picture, white_level).things if thing.is_part]
        if len(parts) != 1:
            raise UsageError(f"The picture shows {len(parts)} whole parts; expected one, with nothing beside it.")
        return self.around(parts[0])

    @property
    def grid(self) -> tuple[int, int]:
        """Width and height of the small picture."""
        return self.window[2] // self.step, self.window[3] // self.step

    @cached_property
    def _empty(self) -> Small:
        flat = np.frombuffer(self.empty, np.uint8)
        width, height = self.grid
        return flat.reshape((height, width) if flat.size == width * height else (height, width, 3))

    @cached_property
    def _allowed(self) -> Small:
        width, height = self.grid
        return np.frombuffer(self.allowed, np.uint8).reshape(height, width)

    def problem(self) -> str | None:
        """Return why this cannot be what was learned, as a part of a sentence; None: it can."""
        x, y, w, h = self.window
        fits = 0 <= x < x + w <= self.picture[0] and 0 <= y < y + h <= self.picture[1] and 0 < self.step <= min(w, h)
        is_cut = 0 < self.size[0] <= w and 0 < self.size[1] <= h
        cells = (w // self.step) * (h // self.step) if fits else 0
        is_sized = 0 < self.least <= 1 <= self.most < math.inf and 0 < self.area <= cells
        fits_cut = self.area * self.step**2 <= 2 * self.size[0] * self.size[1]
        is_whole = len(self.allowed) == cells > 0 and len(self.empty) in (cells, 3 * cells) and min(self.allowed) < 255
        is_counted = 0 < self.pictures < 1_000_000 and 0 <= self.fps < math.inf and 0 <= self.covers <= 1
        if fits and is_cut and is_sized and fits_cut and is_whole and is_counted:
            return None
        return "what it says of parts that pass does not fit together"


def step_of(window: Rect) -> int:
    """Return how many pixels across and down one of the small picture stands for."""
    return max(1, min(window[2:]) // SIDE)


def shrink(picture: Picture, window: Rect, step: int, white_level: int = 65535) -> Small:
    """Return a window of a picture as it is compared, uint8 [h, w] or [h, w, 3]."""
    x, y, w, h = window
    size = (w // step, h // step)
    seen = picture[y : y + size[1] * step, x : x + size[0] * step]
    small = cv2.resize(seen, size, interpolation=cv2.INTER_AREA) if step > 1 else seen
    if small.dtype == np.uint16:
        small = np.clip(small.astype(np.float32) * (255 / white_level), 0, 255)
    return np.asarray(small, np.uint8)


def differs(small: Small, empty: Small, allowed: Small) -> tuple[NDArray[np.bool_], float]:
    """Return where a small picture differs from the empty place by more than is allowed, and how bright the rest is.

    A change of brightness that a lamp may have is allowed for.
    """
    if small.ndim != empty.ndim:
        small, empty = grey(small), grey(empty)
    found = _distance(small, empty) > allowed
    same = (~found).view(np.uint8)
    gain = (sum(cv2.mean(small, same)) + 1) / (sum(cv2.mean(empty, same)) + 1)
    if abs(gain - 1) < 0.01 or not 1 / LARGEST_GAIN <= gain <= LARGEST_GAIN:
        return found, gain
    return _distance(small, np.asarray(cv2.convertScaleAbs(empty, alpha=gain), np.uint8)) > allowed, gain


def grey(small: Small) -> Small:
    """Return a small picture without its colours."""
    return small if small.ndim == 2 else np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), np.uint8)


def _distance(small: Small, empty: Small) -> Small:
    apart = cv2.absdiff(small, empty)
    if apart.ndim == 3:
        blue, green, red = cv2.split(apart)
        apart = cv2.max(cv2.max(blue, green), red)
    return np.asarray(apart, np.uint8)


def outlines(found: NDArray[np.bool_]) -> list[NDArray[np.int32]]:
    """Return the hulls of connected places, without specks: what a part has in common with the ground is inside."""
    mask = cv2.morphologyEx(found.view(np.uint8), cv2.MORPH_OPEN, CLEANS)
    rim = len(JOINS)  # what lies near the edge is not joined with it
    mask = cv2.copyMakeBorder(mask, rim, rim, rim, rim, cv2.BORDER_CONSTANT, value=0)
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, JOINS)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE, offset=(-rim, -rim))
    return [cast("NDArray[np.int32]", cv2.convexHull(contour)) for contour in contours]


def area_of(outline: NDArray[np.int32]) -> float:
    """Return the pixels inside an outline, those on it included."""
    return float(cv2.contourArea(outline)) + float(cv2.arcLength(outline, closed=True)) / 2 + 1


def things_in(found: NDArray[np.bool_], known: Presence) -> list[Thing]:
    """Return the things of a small picture of what differs; the largest first."""
    things = []
    step, (x0, y0, *_) = known.step, known.window
    seen = outlines(found)
    for outline in seen:
        share = area_of(outline) / known.area
        if share < SMALLEST:
            continue
        x, y, w, h = cv2.boundingRect(outline)
        touches = touched((x, y, w, h), known.grid)
        middle = middle_of(outline)
        thing = Thing(
            box=(x0 + x * step, y0 + y * step, w * step, h * step),
            middle=(x0 + (middle[0] + 0.5) * step, y0 + (middle[1] + 0.5) * step),
            share=share,
            touches=touches,
            is_part=not touches and known.least <= share <= known.most,
        )
        if thing.is_part and not _is_alone(known.around(thing), outline, seen, known):
            thing = replace(thing, is_part=False)
        things.append(thing)
    return sorted(things, key=lambda thing: -thing.share)


def _is_alone(around: Rect, outline: NDArray[np.int32], seen: Sequence[NDArray[np.int32]], known: Presence) -> bool:
    """Whether nothing else is in what is cut out around a part, be it ever so little of it."""
    x, y, w, h = ((one - zero) // known.step for one, zero in zip(around, (*known.window[:2], 0, 0), strict=True))
    for other in seen:
        if other is not outline:
            ox, oy, ow, oh = cv2.boundingRect(other)
            if ox < x + w and x < ox + ow and oy < y + h and y < oy + oh and area_of(other) > SPECK * known.area:
                return False
    return True


def touched(box: Sequence[int], size: tuple[int, int]) -> frozenset[Side]:
    """Return the edges of a small picture of this width and height that a box in it reaches."""
    x, y, w, h = box
    reached: dict[Side, bool] = {
        "left": x <= EDGE,
        "top": y <= EDGE,
        "right": x + w >= size[0] - EDGE,
        "bottom": y + h >= size[1] - EDGE,
    }
    return frozenset(side for side, is_reached in reached.items() if is_reached)


def middle_of(outline: NDArray[np.int32]) -> tuple[float, float]:
    """Return the centroid of what an outline encloses."""
    moments = cv2.moments(outline)
    if moments["m00"] > 0:
        return moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]
    x, y = outline.reshape(-1, 2).mean(axis=0)
    return float(x), float(y)
