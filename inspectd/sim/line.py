"""The simulated line: one gear, the same at every seed, and never the same picture twice.

Every answer is a pure function of the line's arguments and the part's number. The gear is drawn once, in its own
frame, as layers of bytes. A picture takes a copy, spoils it where the part is defective, turns it into place,
lights it above a belt, and adds the sensor's noise. Lengths are in units of the gear's radius unless they end in
`_px`, turns are in degrees, and points are complex numbers: x to the right, y down.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from statistics import NormalDist
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Plane = NDArray[Any]  # [H, W]: bytes, or float32
Picture = NDArray[np.uint8]  # [H, W, 3], BGR
Layers = NDArray[np.uint8]  # [S, S, 4]: height, shine, warmth, cover; all of them 0 where there is no metal
Outline = NDArray[np.complex128]  # [N]

KINDS = ("scratch", "stain", "chip", "missing")
SIZES = ("gross", "clear", "small", "subtle")
EXTENTS = {  # a scratch's length, the others' radius
    "scratch": (0.80, 0.45, 0.22, 0.10),
    "stain": (0.22, 0.12, 0.06, 0.04),
    "chip": (0.16, 0.09, 0.04, 0.02),
}
STRENGTHS = {
    "scratch": (1.0, 0.8, 0.55, 0.14),
    "stain": (0.85, 0.6, 0.4, 0.06),
    "chip": (1.0, 1.0, 0.9, 0.18),
    "missing": (1.0, 1.0, 1.0, 0.4),  # a bolt, a pin, a mark, the foot of a mark
}
EFFECTS = {  # what the layers become, and how far each of them goes there
    "scratch": ((0, 255, 0, 255), (0.5, 1, 1, 0)),
    "stain": ((0, 32, 128, 255), (0, 1, 1, 0)),
    "chip": ((0, 0, 0, 0), (1, 1, 1, 1)),
}
SMALLEST_PX = 64
MOST_WEAR = 4
SHARE_OF_PICTURE = 0.42  # the gear's radius over the picture's shorter side
TURN, SHIFT = 6.0, 0.02  # how far a part may lie from its place, either way
SHADOW, SHADOW_FALLS, SHADOW_BLUR = 0.75, 0.05 + 0.06j, 0.05
WEAVE_PX = 7
TEETH, BOLTS, PINS, POCKETS = 40, range(0, 360, 60), range(30, 360, 120), range(90, 360, 120)
MARKS = range(-120, 121, 10)  # the rest of the rim carries the type's name

HEIGHT, SHINE, WARMTH, COVER = range(4)
MATERIALS = np.array(  # columns: belt, steel, and what brass or rust adds to steel; rows: blue, green, red
    [[0.26, 1.02, -0.60], [0.25, 1.00, -0.26], [0.24, 0.97, 0.01]], np.float32
)
LAMP = np.array([[2, 2, 0], [2, 0, -2], [0, -2, -2]], np.float32) * -0.08  # it stands at the upper left
GAUSS = np.array([NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)], np.float32)
GRAIN = np.rint(2.0 * GAUSS).astype(np.int8)  # grey levels
WEAR = np.rint(30 + 8 * GAUSS).astype(np.uint8)  # quarters of a grey level: the belt is dark

Stream = IntEnum("Stream", "POSE LIGHT METAL BELT SENSOR DEFECT")  # a defect changes nothing else about a part


@dataclass(frozen=True, slots=True)
class Defect:
    """What is wrong with a part, and where."""

    kind: str
    """One of `KINDS`."""
    size: str
    """One of `SIZES`; `subtle` is meant to be too subtle to find."""
    box: tuple[int, int, int, int]
    """x, y, w, h in pixels of the picture; the truth mask lies inside."""


@dataclass(frozen=True, slots=True)
class Part:
    """The truth about one part."""

    number: int
    defect: Defect | None


class Flaw(NamedTuple):
    """A defect in the gear's own frame."""

    kind: str
    grade: int
    shape: Plane  # [S, S], 0..1


class Line:
    """A camera above a belt that carries gears; `defects` is the share of parts, 0..1, that have a defect.

    `wear`: of the tool that made them; with 1 its marks are twice as strong as a new one's.
    """

    def __init__(
        self, seed: int = 0, *, width: int = 640, height: int = 480, defects: float = 0.0, wear: float = 0.0
    ) -> None:
        if seed < 0:
            raise ValueError(f"A line's seed is a whole number from 0; it is {seed}.")
        if min(width, height) < SMALLEST_PX:
            raise ValueError(
                f"A line's pictures are at least {SMALLEST_PX} pixels each way; {width} × {height} is not."
            )
        if not 0 <= defects <= 1:
            raise ValueError(f"The share of parts with a defect lies between 0 and 1; it is {defects}.")
        if not 0 <= wear <= MOST_WEAR:
            raise ValueError(f"A tool's wear lies between 0 and {MOST_WEAR}; it is {wear}.")
        self._seed, self._size, self._defects, self._wear = seed, (width, height), defects, wear
        self.radius_px = SHARE_OF_PICTURE * min(width, height)
        self._bare, self._gear = draw_gear(self.radius_px)
        self._round = _polar_maps(len(self._gear))
        blurred = cv2.GaussianBlur(self._gear[..., COVER], (0, 0), SHADOW_BLUR * self.radius_px)
        self._shade = cv2.convertScaleAbs(blurred, alpha=-SHADOW, beta=255)
        y, x = np.ogrid[: height + 2 * WEAVE_PX, : width + 2 * WEAVE_PX]
        self._weave = woven(x, y)
        y, x = np.ogrid[-0.5 : 0.5 : height * 1j, -0.5 : 0.5 : width * 1j]
        self._x, self._y, self._vignette = _f32(x), _f32(y), _f32(1 - 0.35 * (x * x + y * y))
        self._gloss = gloss(x * width, y * height)

    def with_a_new_tool(self) -> Line:
        """Return this line with parts that are not worn."""
        renewed = copy.copy(self)
        renewed._wear = 0.0
        return renewed

    def part(self, number: int) -> Part:
        """Return the truth about part `number`."""
        flaw = self._flaw(number)
        if flaw is None:
            return Part(number, None)
        x, y, w, h = cv2.boundingRect(self._outlined(flaw, number))
        return Part(number, Defect(flaw.kind, SIZES[flaw.grade], (x, y, w, h)))

    def truth_mask(self, number: int) -> NDArray[np.uint8]:
        """Return uint8 [H, W]: 255 where the defect is, 0 elsewhere."""
        flaw = self._flaw(number)
        return np.zeros(self._size[::-1], np.uint8) if flaw is None else self._outlined(flaw, number)

    def render(self, number: int) -> NDArray[np.uint8]:
        """Return the picture of part `number`, uint8 [H, W, 3], BGR, a fresh array."""
        gear = self.placed(self.gear(number), number)
        return self.developed(gear, self._ground(number), self._gloss, self.light(number), number)

    def gear(self, number: int) -> Layers:
        """Return the gear of a part in its own frame, with its defect, if it has one."""
        layers, flaw = self._machined(number), self._flaw(number)
        if flaw is not None:
            self._spoil(layers, flaw)
        return layers

    def developed(self, gear: Layers, ground: Plane, gloss: Plane, light: Plane, grain: int) -> Picture:
        """Return the picture [H, W, 3], BGR, of layers in their places above a belt.

        `ground`: the belt with the shadows on it, in quarters of a grey level; `gloss`: how metal shines, place by
        place; `grain`: number of the picture, for its noise.
        """
        height, shine, warmth, cover = cv2.split(gear)
        metal: Plane = cv2.multiply(shine, gloss, dtype=cv2.CV_32F)
        metal += cv2.filter2D(height, cv2.CV_32F, LAMP)
        steel = cv2.multiply(metal, light, dtype=cv2.CV_8U)
        brass = cv2.multiply(steel, warmth, scale=1 / 255)
        around = cv2.multiply(ground, 255 - cover, scale=1 / 255)
        belt = cv2.multiply(around, light, dtype=cv2.CV_8U)
        picture = cv2.transform(cv2.merge([belt, steel, brass]), MATERIALS)
        noise = drawn(self._rng(grain, Stream.SENSOR), picture.shape, GRAIN)
        return np.asarray(cv2.add(picture, noise, dtype=cv2.CV_8U), np.uint8)

    def _rng(self, number: int, stream: Stream) -> Generator:
        if number < 0:
            raise ValueError(f"Parts are numbered from 0; {number} is not a part.")
        return np.random.default_rng([self._seed, number, stream])

    def placed(self, plane: Plane, number: int, moved: complex = 0, outside: int = 0) -> Plane:
        """Return a plane of the gear's frame as it lies in the picture, on request moved aside, in radii."""
        rng = self._rng(number, Stream.POSE)
        middle = (len(plane) - 1) / 2
        affine: Plane = cv2.getRotationMatrix2D((middle, middle), rng.uniform(-TURN, TURN), 1.0)
        place = rng.uniform(-SHIFT, SHIFT, 2) + np.array([moved.real, moved.imag])
        affine[:, 2] += (np.array(self._size) - 1) / 2 + place * self.radius_px - middle
        return cv2.warpAffine(plane, affine, self._size, borderValue=outside)

    def light(self, number: int) -> Plane:
        """Return the light, place by place, as it is at part `number`."""
        level, along, across = self._rng(number, Stream.LIGHT).uniform(-1, 1, 3).astype(np.float32)
        light = (1 + level / 20 + along / 12 * self._x) + across / 12 * self._y
        return _f32(light * self._vignette)

    def _machined(self, number: int) -> Layers:
        """Return a copy of the gear with this part's own tool marks, which run round it."""
        marks = drawn(self._rng(number, Stream.METAL), (180, len(self._gear)), GAUSS)
        marks = 1 + 0.22 * (1 + self._wear) * cv2.blur(marks, (1, 25))
        layers = self._gear.copy()
        shine = cv2.remap(marks, *self._round, cv2.INTER_LINEAR)
        cv2.insertChannel(cv2.multiply(layers[..., SHINE], shine, dtype=cv2.CV_8U), layers, SHINE)
        return layers

    def _ground(self, number: int) -> Plane:
        """Return the belt with the gear's shadow on it, in quarters of a grey level."""
        rng = self._rng(number, Stream.BELT)
        (width, height), (x, y) = self._size, rng.integers(0, 2 * WEAVE_PX, 2)
        wear = cv2.resize(drawn(rng, (9, 12), WEAR), self._size, interpolation=cv2.INTER_CUBIC)
        belt = cv2.add(wear, self._weave[y : y + height, x : x + width])
        return self.shaded(belt, number)

    def shaded(self, belt: Plane, number: int, moved: complex = 0) -> Plane:
        """Return a belt with the shadow of a gear on it."""
        shade = self.placed(self._shade, number, moved + SHADOW_FALLS, outside=255)
        return cv2.multiply(belt, shade, scale=1 / 255)

    def _flaw(self, number: int) -> Flaw | None:
        rng = self._rng(number, Stream.DEFECT)
        if rng.random() >= self._defects:
            return None
        kind, grade = str(rng.choice(KINDS)), int(rng.integers(len(SIZES)))
        shape = _coverage(self.radius_px, [_outline(kind, grade, rng)])
        if kind == "stain":
            soft = 2 * int(0.35 * EXTENTS[kind][grade] * self.radius_px) + 1
            shape = cv2.stackBlur(shape, (soft, soft))
        return Flaw(kind, grade, shape)

    def _spoil(self, layers: Layers, flaw: Flaw) -> None:
        x, y, w, h = cv2.boundingRect((flaw.shape > 0).astype(np.uint8))
        window = np.s_[y : y + h, x : x + w]
        metal = layers[window].astype(np.float32)
        if flaw.kind == "missing":
            change = self._bare[window] - metal
        else:
            target, weight = np.array(EFFECTS[flaw.kind], np.float32)
            change = weight * (target * (metal[..., COVER:] / 255) - metal)
        strength = STRENGTHS[flaw.kind][flaw.grade]
        layers[window] = np.rint(metal + strength * flaw.shape[window][..., None] * change)

    def _outlined(self, flaw: Flaw, number: int) -> NDArray[np.uint8]:
        shape = self.placed(flaw.shape * self._gear[..., COVER], number)
        faintest = 0.1 if flaw.kind == "stain" else 0.004  # a stain fades; a chip may graze the next tooth
        return np.where(shape > faintest * shape.max(), 255, 0).astype(np.uint8)


def _outline(kind: str, grade: int, rng: Generator) -> Outline:
    if kind == "missing":
        return (
            _disc(0.09, _polar(0.57, rng.choice(BOLTS))),
            _disc(0.05, _polar(0.57, rng.choice(PINS))),
            _tick(rng.choice(MARKS), 0.785, 0.875, 0.016),
            _tick(rng.choice(MARKS), 0.785, 0.82, 0.016),
        )[grade]
    extent = EXTENTS[kind][grade]
    if kind == "chip":
        return _blob(extent, 0.35, rng) + _polar(1.0, rng.integers(TEETH) * 360 / TEETH)
    somewhere = _polar(rng.uniform(0.3, 0.85), rng.uniform(0, 360))
    return somewhere + (_scratch(extent, rng) if kind == "scratch" else _blob(extent, 0.2, rng))


def _scratch(length: float, rng: Generator) -> Outline:
    """Return a thin line that wanders, and thins out at both ends."""
    along = np.linspace(-0.5, 0.5, 40)
    drift = np.cumsum(np.cumsum(rng.normal(0, 0.002, along.size)) + rng.normal(0, 0.003, along.size))
    half = 0.003 + 0.007 * length * (1 - 4 * along**2) * rng.uniform(0.4, 1, along.size)
    spine = length * (along + 1j * drift)
    return np.concatenate([spine - 1j * half, (spine + 1j * half)[::-1]]) * _polar(1, rng.uniform(0, 360))


def _blob(radius: float, roughness: float, rng: Generator) -> Outline:
    turns, waves = np.arange(0, 360, 9), np.array([[2], [3], [5], [7]])
    ripples = np.cos(np.radians(waves * turns + rng.uniform(0, 360, waves.shape))) / waves
    ripple = (ripples * rng.normal(size=waves.shape)).sum(0)
    return _polar(radius * np.clip(1 + roughness * ripple, 0.4, 1.6), turns)


def draw_gear(radius_px: float) -> tuple[Layers, Layers]:
    """Return the gear as it leaves the machine, and the same gear with its bolts, pins and marks."""
    layers = np.zeros((_side(radius_px), _side(radius_px), 4), np.float32)
    fine = max(1, min(4, 2400 // len(layers)))

    def paint(outlines: list[Outline], height: int, shine: int, warmth: int = 0, cover: int = 255) -> None:
        share = _coverage(radius_px, outlines, fine)[..., None]
        layers[...] += share * (np.array([height, shine, warmth, cover], np.float32) - layers)

    turns = np.add.outer(np.arange(TEETH), [-0.32, -0.16, 0.16, 0.32]).ravel() * 360 / TEETH
    paint([_polar(np.tile([0.915, 1, 1, 0.915], TEETH), turns)], 200, 152)
    for radius, height, shine in (
        *((0.765, 120, 90), (0.75, 200, 160)),  # a groove in the rim
        *((0.72, 80, 112), (0.42, 240, 168), (0.30, 160, 140)),  # web, hub, counterbore
    ):
        paint([_disc(radius)], height, shine)
    paint([_disc(0.20), _tick(90, 0.15, 0.255, 0.05)], 0, 0, 0, 0)  # bore and keyway
    paint(_discs(0.10, POCKETS), 40, 144)
    paint(_discs(0.088, POCKETS), 0, 68)
    paint(_discs(0.045, BOLTS), 0, 0, 0, 0)
    paint(_discs(0.035, PINS), 0, 20)
    layers -= _name(len(layers))[..., None] * np.array([60, 90, 0, 0], np.float32)
    bare = cv2.convertScaleAbs(layers)
    paint(_discs(0.085, BOLTS), 200, 34)
    paint(_discs(0.070, BOLTS), 240, 48)
    paint(_discs(0.040, BOLTS, corners=6), 120, 8)
    paint(_discs(0.040, PINS), 180, 160, 255)
    paint([_tick(turn, 0.79, 0.87, 0.008) for turn in MARKS], 120, 50)
    return np.asarray(bare, np.uint8), np.asarray(cv2.convertScaleAbs(layers), np.uint8)


def _name(side: int) -> Plane:
    """Return the coverage, 0..1, of the type's name, which runs along the rim."""
    strip = np.zeros((500, 2500), np.uint8)  # columns go round the gear, rows come in from the frame's edge
    cv2.putText(strip, "INSPECTD   Z40", (1045, 115), cv2.FONT_HERSHEY_SIMPLEX, 1.35, 255, 5, cv2.LINE_AA)
    middle, upright = (side - 1) / 2, cv2.rotate(strip, cv2.ROTATE_90_CLOCKWISE)
    flags = cv2.WARP_INVERSE_MAP | cv2.WARP_FILL_OUTLIERS
    return _f32(cv2.warpPolar(upright, (side, side), (middle, middle), side / 2, flags)) / 255


def _polar(radius: float | NDArray[Any], turn: float | NDArray[Any]) -> Outline:
    return np.asarray(radius * np.exp(1j * np.radians(turn)), np.complex128)


def _disc(radius: float, middle: complex | Outline = 0, corners: int = 120) -> Outline:
    return middle + _polar(radius, np.arange(corners) * 360 / corners)


def _discs(radius: float, turns: range, corners: int = 120) -> list[Outline]:
    return [_disc(radius, _polar(0.57, turn), corners) for turn in turns]


def _tick(turn: float, start: float, end: float, half: float) -> Outline:
    """Return a straight mark that points at the middle."""
    corners = [start - 1j * half, end - 1j * half, end + 1j * half, start + 1j * half]
    return np.array(corners, np.complex128) * _polar(1, turn)


def _side(radius_px: float) -> int:
    """Return the side of the gear's square frame, in pixels."""
    return 2 * math.ceil(1.05 * radius_px) + 1


def _coverage(radius_px: float, outlines: list[Outline], fine: int = 1) -> Plane:
    """Return how much of each pixel of the gear's frame lies inside the outlines, 0..1."""
    side = _side(radius_px)
    canvas = np.zeros((side * fine, side * fine), np.uint8)
    for outline in outlines:
        points = np.stack([outline.real, outline.imag], 1) * radius_px + side / 2
        cv2.fillPoly(canvas, [np.rint(points * fine * 16 - 8).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    return _f32(cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA)) / 255


def _polar_maps(side: int) -> tuple[Plane, Plane]:
    """Return the maps for `cv2.remap` that bend a plane [180, side] round the gear's middle.

    Half a turn is drawn and mirrored, so that the ends meet without a seam.
    """
    y, x = np.mgrid[:side, :side].astype(np.float32) - np.float32((side - 1) / 2)
    half_turn = _f32(np.abs(np.degrees(np.arctan2(y, x))))
    return cv2.convertMaps(np.hypot(x, y), np.minimum(half_turn, 179), cv2.CV_16SC2)


def drawn(rng: Generator, shape: Sequence[int], table: NDArray[Any]) -> Plane:
    """Return noise by way of a table of 256 equally likely values: much faster than `standard_normal`."""
    return cv2.LUT(np.frombuffer(rng.bytes(math.prod(shape)), np.uint8).reshape(shape), table)


def woven(x: NDArray[Any], y: NDArray[Any]) -> Plane:
    """Return the belt's weave, in quarters of a grey level; it repeats every two `WEAVE_PX`."""
    weave = np.sin((x + y) * 2 * np.pi / WEAVE_PX) * np.sin((x - y) * np.pi / WEAVE_PX)
    return np.asarray(np.rint(122 + 12 * weave), np.uint8)


def gloss(x: NDArray[Any], y: NDArray[Any]) -> Plane:
    """Return how turned metal shines, in two fans, at places as seen from its middle."""
    return _f32(0.59 + 0.54 * np.cos(np.arctan2(y, x) - np.radians(235)) ** 6)


def _f32(plane: object) -> Plane:
    return np.asarray(plane, np.float32)
