"""Good pictures, painted with defects that nobody saw, and varied as a line varies: what a recipe may learn from.

Pictures are float32 [H, W, 3] RGB, 0 … 255, at the network's size; all draws come from one generator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from calibrate.data.disturbance import Picture, blurred, compressed, lit, moved, noisier

SMALLEST_PX = 5.0
"""Across a painted defect; the largest covers a quarter of the picture."""
PLACES = 8
"""That a piece could be missing from; it is where most is to be seen."""


def paint(picture: Picture, other: Picture, draws: np.random.Generator) -> Picture:
    """Return the picture with three to seven defects; pieces of `other`, another good part, are among them."""
    painted = picture
    largest = max(SMALLEST_PX, min(picture.shape[:2]) / 2)
    for _ in range(int(draws.integers(3, 8))):
        painted = paint_one(painted, other, (SMALLEST_PX, largest), draws)
    return painted


def paint_one(picture: Picture, other: Picture, sizes: tuple[float, float], draws: np.random.Generator) -> Picture:
    """Return the picture with one defect; it is between `sizes` pixels across, evenly on a logarithmic scale."""
    size = math.exp(draws.uniform(math.log(sizes[0]), math.log(sizes[1])))
    defect = _DEFECTS[int(draws.integers(len(_DEFECTS)))]
    return np.clip(defect(picture, other, size, draws), 0, 255)


@dataclass(frozen=True, slots=True)
class Variation:
    """By how much a line may vary the picture of the same part, at most."""

    light: float = 0.12
    """Share by which it is darker or brighter."""
    contrast: float = 0.08
    """Share by which it is flatter or steeper."""
    shift: float = 0.012
    """Share of the sides."""
    turn: float = 1.5
    """Degrees."""
    zoom: float = 0.0
    """Share by which it is smaller or larger."""
    focus: float = 0.9
    """Sigma of the blur, in pixels of the network's input."""
    noise: float = 3.0
    """Grey levels."""
    quality: int = 70
    """The worst of a JPEG."""


ALLOWED = {
    "light": (0.0, 0.9),
    "contrast": (0.0, 0.9),
    "shift": (0.0, 0.5),
    "turn": (0.0, 180.0),
    "zoom": (0.0, 0.5),
    "focus": (0.0, 20.0),
    "noise": (0.0, 128.0),
    "quality": (1.0, 95.0),
}
"""The least and the most that each may be."""
OFTEN = 0.4
"""Share of the varied pictures that are out of focus, and of those that are compressed."""


def vary(picture: Picture, draws: np.random.Generator, by: Variation) -> Picture:
    """Return what the line may make of the same part: moved, turned, darker, blurred, noisier, compressed."""
    height, width = picture.shape[:2]
    shift = draws.uniform(-by.shift, by.shift, 2)
    turn = draws.uniform(-by.turn, by.turn)
    zoom = 1 + draws.uniform(-by.zoom, by.zoom) if by.zoom else 1.0
    varied = moved(picture, (shift[0] * width, shift[1] * height), turn, zoom)
    mean = varied.mean()
    varied = lit(
        (varied - mean) * draws.uniform(1 - by.contrast, 1 + by.contrast) + mean,
        draws.uniform(1 - by.light, 1 + by.light),
    )
    if draws.random() < OFTEN:
        varied = blurred(varied, draws.uniform(by.focus / 3, by.focus))
    varied = noisier(varied, draws.uniform(0, by.noise), draws)
    if draws.random() < OFTEN:  # a JPEG is made of BGR
        varied = compressed(varied[..., ::-1], int(draws.integers(by.quality, 96)))[..., ::-1]
    return np.ascontiguousarray(np.clip(varied, 0, 255))


def _patched(picture: Picture, other: Picture, size: float, draws: np.random.Generator) -> Picture:
    """A piece of another good part, turned and scaled."""
    height, width = picture.shape[:2]
    angle, scale, shift = draws.uniform(0, 360), draws.uniform(0.7, 1.4), draws.uniform(-0.25, 0.25, 2)
    source = moved(other, (shift[0] * width, shift[1] * height), angle, scale, cv2.BORDER_REFLECT)
    return picture + _blob(height, width, size, draws)[..., None] * (source - picture)


def _stained(picture: Picture, _: Picture, size: float, draws: np.random.Generator) -> Picture:
    height, width = picture.shape[:2]
    return picture + _blob(height, width, size, draws)[..., None] * _level(draws)


def _scratched(picture: Picture, _: Picture, size: float, draws: np.random.Generator) -> Picture:
    height, width = picture.shape[:2]
    return picture + _scratch(height, width, max(8.0, size), draws)[..., None] * _level(draws)


def _rough(picture: Picture, _: Picture, size: float, draws: np.random.Generator) -> Picture:
    """Texture of one band of frequencies."""
    height, width = picture.shape[:2]
    sigma = draws.uniform(0.6, 4)
    noise = draws.standard_normal((height, width)).astype(np.float32)
    band = cv2.GaussianBlur(noise, (0, 0), sigma) - cv2.GaussianBlur(noise, (0, 0), 2 * sigma)
    strength = _blob(height, width, size, draws) * band / band.std() * draws.uniform(10, 50)
    return np.asarray(picture + strength[..., None], np.float32)


def _warped(picture: Picture, _: Picture, size: float, draws: np.random.Generator) -> Picture:
    size = max(size, 2 * SMALLEST_PX)
    height, width = picture.shape[:2]
    by, angle = size * draws.uniform(0.15, 0.4), draws.uniform(0, 2 * math.pi)
    blob = _blob(height, width, size, draws) * np.float32(by)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    across, down = x + blob * np.float32(math.cos(angle)), y + blob * np.float32(math.sin(angle))
    warped = cv2.remap(picture, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(warped, np.float32)


def _missing(picture: Picture, _: Picture, size: float, draws: np.random.Generator) -> Picture:
    """Something that the part has is not there: what lies around it goes on in its place."""
    height, width = picture.shape[:2]
    blob = _blob(height, width, size, draws, _busiest(picture, size, draws))
    step = max(1, round(size / 8))
    few = (max(1, width // step), max(1, height // step))
    kept = cv2.resize(1 - blob, few, interpolation=cv2.INTER_AREA)
    shown = cv2.resize(picture * (1 - blob)[..., None], few, interpolation=cv2.INTER_AREA)
    weight = cv2.GaussianBlur(kept, (0, 0), 4) + np.float32(1e-3)
    around = cv2.resize(cv2.GaussianBlur(shown, (0, 0), 4) / weight[..., None], (width, height))
    return np.asarray(picture + blob[..., None] * (around - picture), np.float32)


def _busiest(picture: Picture, size: float, draws: np.random.Generator) -> tuple[int, int]:
    """Return where, of some places, most is to be seen within `size` pixels: there is something to miss."""
    height, width = picture.shape[:2]
    places = draws.integers(0, (height, width), size=(PLACES, 2))
    reach = max(1, int(size / 2))

    def contrast(y: int, x: int) -> float:
        return float(picture[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1].std())

    return max(((int(y), int(x)) for y, x in places), key=lambda place: contrast(*place))


_DEFECTS = (_patched, _stained, _scratched, _rough, _warped, _missing)


def _level(draws: np.random.Generator) -> Picture:
    """How much darker or brighter each channel becomes, float32 [3]."""
    tint = 1 + draws.normal(0, 0.15, 3) if draws.random() < 0.5 else np.ones(3)
    level = draws.uniform(14, 120) * draws.choice([-1, 1]) * tint
    return np.asarray(level, np.float32)


def _blob(
    height: int, width: int, size: float, draws: np.random.Generator, at: tuple[int, int] | None = None
) -> Picture:
    """Return a soft-edged blob there, or anywhere, about `size` pixels across: float32 [H, W], 0 … 1."""
    side = max(3, int(size * 1.6))
    noise = draws.standard_normal((side, side)).astype(np.float32)
    edge = np.asarray(cv2.GaussianBlur(noise, (0, 0), max(0.7, size / 6)), np.float32)
    edge = edge / (edge.std() + np.float32(1e-6))
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j].astype(np.float32)
    narrow, angle = draws.uniform(0.4, 1.0), draws.uniform(0, math.pi)
    c, s = math.cos(angle), math.sin(angle)
    radius = np.sqrt((x * c + y * s) ** 2 + ((y * c - x * s) / narrow) ** 2)
    blob = np.clip((0.62 - radius + 0.06 * edge) / draws.uniform(0.03, 0.15), 0, 1)
    middle = at or (int(draws.integers(height)), int(draws.integers(width)))
    top, left = middle[0] - side // 2, middle[1] - side // 2
    whole = np.zeros((height, width), np.float32)
    y0, x0, y1, x1 = max(0, top), max(0, left), min(height, top + side), min(width, left + side)
    whole[y0:y1, x0:x1] = blob[y0 - top : y1 - top, x0 - left : x1 - left]
    return whole


def _scratch(height: int, width: int, length: float, draws: np.random.Generator) -> Picture:
    """Return a wandering line, float32 [H, W], 0 … 1."""
    at, angle = np.array([draws.uniform(0, width), draws.uniform(0, height)]), draws.uniform(0, 2 * math.pi)
    points = [at]
    for _ in range(8):
        angle += draws.normal(0, 0.35)
        at = at + length / 8 * np.array([math.cos(angle), math.sin(angle)])
        points.append(at)
    whole = np.zeros((height, width), np.float32)
    in_eighths = np.round(np.array(points) * 8).astype(np.int32)
    cv2.polylines(
        whole,
        [in_eighths],
        isClosed=False,
        color=1.0,
        thickness=int(draws.integers(1, 4)),
        lineType=cv2.LINE_AA,
        shift=3,
    )
    return np.asarray(cv2.GaussianBlur(whole, (0, 0), draws.uniform(0.4, 1.0)), np.float32)
