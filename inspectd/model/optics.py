"""Light and lens of a camera: is a picture lit, and as sharp and free of noise, as the good ones were at calibration?

Four numbers, each chosen so that a part or a defect hardly moves it and a line's wear does:

- *light*: how many times as bright as the usual good picture, in the middle of many places: what lies in a few of them
  does not count;
- *noise*: grey levels of sensor noise, from the quieter half of the picture (Immerkær 1996, whose mean edges would
  raise);
- *sharpness*: the steepest steps from one pixel to the next over those across four, both without what noise adds to
  them: 1 for a perfect edge, 0.25 for a wide ramp, whatever the contrast;
- *edges*: the steps across four pixels themselves, noise and all: where blur has left none, there is no sharpness.

How far each may go was found at calibration, by good pictures that were made darker, noisier, blurred until the model
would have rejected them (`calibrate.training.withstood`); edges may fall to half of the good pictures' fewest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, cast

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from inspectd.model.glance import Glance, averaged, grey_of, thinned
from inspectd.records import Picture, Rect

PLACES = 16
"""Across and down: where brightness is compared."""
PER_PLACE = 8
"""Pixels across and down that are looked at in each of them: neighbours say the same."""
DARKEST = 8.0
"""Grey levels added to both sides of a comparison, so that black says little."""
BANDS, ROWS = 8, 16
"""Bands of rows that noise and sharpness are measured in, at the camera's own resolution …"""
PIXELS, FEWEST_ROWS = 80_000, 5
"""… of fewer rows in a wide picture: this takes its time for every part."""
PIXELS_OF_WIDE, FEWEST_BANDS = 40_000, 4
"""And of fewer bands where they have the fewest rows."""
STEEPEST = 0.01
"""Share of a picture's steps that its sharpness is measured by."""
STEEPEST_OF_NOISE = 2.89 * math.sqrt(2)
"""Mean of that share of the largest steps under Gaussian noise of 1 alone."""
CLEAR = 4.0
"""Steps across four pixels must be so many times as large as those of noise, or it decides what is left without it."""
OF_ROUNDING = 1 / math.sqrt(12)
"""Noise that whole grey levels make."""
FEWEST_PIXELS = 40
"""Across and down: in a smaller picture neither noise nor sharpness can be measured."""
LEVELS = np.arange(256, dtype=np.float64)
SECOND = np.array([1, -2, 1], np.float32)
"""Second difference; along both directions it is Immerkær's filter."""
QUIETER_HALF = 6 * 0.325
"""Mean of the smaller half of |Laplacian| under Gaussian noise of 1: 6 is the filter's gain, 0.325 that half's mean."""

Places = NDArray[np.float32]
Levels = NDArray[np.uint8]


class Lens(NamedTuple):
    """What the lens and the sensor do to a picture."""

    noise: float
    sharpness: float | None
    """None: no edge stands out from the noise."""
    edges: float
    """Grey levels of the steepest steps across four pixels."""


class Limits(msgspec.Struct, frozen=True):
    """The range of one number among the good pictures, and how far it may go; None: no limit is known."""

    lowest: float
    highest: float
    least: float | None = None
    most: float | None = None


class Optics(msgspec.Struct, frozen=True, dict=True):
    """Light and lens as they were at calibration."""

    template: tuple[int, ...]
    """Median grey level of each place of what is inspected, row by row, in tenths."""
    light: Limits
    noise: Limits
    sharpness: Limits
    edges: Limits = Limits(0.0, 0.0)

    @cached_property
    def usual(self) -> Places:
        """Grey level of each place."""
        return np.asarray(self.template, np.float32) / np.float32(10)

    def brightness(self, picture: Picture, area: Rect, white_level: int) -> float:
        """Return how many times as bright as the usual good picture what is inspected of this one is."""
        return brighter(places(picture, area, white_level), self.usual)

    def brightness_at(self, glance: Glance, white_level: int) -> float:
        """Return the same where the whole picture is inspected."""
        return brighter(_scaled(glance.grey, glance.few.dtype, white_level), self.usual)


def places(picture: Picture, area: Rect, white_level: int) -> Places:
    """Return the grey level 0 … 255 of each place of what is inspected, float32 [PLACES · PLACES]."""
    x, y, w, h = area
    sparse = thinned(picture[y : y + h, x : x + w], PER_PLACE * PLACES)
    return _scaled(grey_of(sparse), picture.dtype, white_level)


def _scaled(grey: NDArray[np.float32], dtype: np.dtype[Any], white_level: int) -> Places:
    scale = np.float32(255 / white_level if dtype == np.uint16 else 1)
    return averaged(grey, PLACES, PLACES).reshape(-1) * scale


def end_spread(picture: Picture) -> float:
    """Return how much the pixels of the last row differ, in the picture's levels: 0 if it was never transferred."""
    _, spread = cv2.meanStdDev(cast("cv2.typing.MatLike", picture[-1:]))
    return float(spread.max())


def brighter(seen: Places, usual: Places) -> float:
    """Return how many times as bright one picture's places are as another's, in the middle of them."""
    ratios, half = (seen + DARKEST) / (usual + DARKEST), len(seen) // 2
    middle = np.partition(ratios, (half - 1, half))  # np.median takes four times as long
    return float(middle[half - 1] + middle[half]) / 2


def look_through(picture: Picture, area: Rect, white_level: int) -> Lens | None:
    """Measure noise and sharpness of what is inspected; None where it is too small to."""
    x, y, w, h = area
    if w < FEWEST_PIXELS or h < FEWEST_PIXELS:
        return None
    rows, starts = _bands(w, h)
    count = len(starts)
    bands = [picture[y + start : y + start + rows, x : x + w] for start in starts]
    green = np.concatenate([band[..., 1] if band.ndim == 3 else band for band in bands])
    scale = 255 / white_level if picture.dtype == np.uint16 else 1.0
    flat = np.asarray(green if scale == 1 else np.clip(green.astype(np.float32) * scale, 0, 255), np.uint8)
    inner = cv2.sepFilter2D(flat, cv2.CV_16S, SECOND, SECOND).reshape(count, rows, w)[:, 1:-1, 1:-1]
    bends = np.asarray(cv2.convertScaleAbs(np.ascontiguousarray(inner.reshape(-1, w - 2))), np.uint8)
    noise = _mean_of(_histogram(bends), 0.5)
    noise /= QUIETER_HALF
    of_noise = STEEPEST_OF_NOISE * noise
    of_rounding = STEEPEST_OF_NOISE * OF_ROUNDING
    near, far = (_steps(flat.reshape(count, rows, w), by) for by in (1, 4))
    if far < CLEAR * max(of_noise, of_rounding):
        return Lens(noise, None, far)
    return Lens(noise, math.sqrt(max(0.0, near**2 - of_noise**2) / (far**2 - of_noise**2)), far)


@lru_cache(maxsize=64)
def _bands(width: int, height: int) -> tuple[int, Sequence[int]]:
    """Return how many rows each band of an area has, and where they start."""
    rows = min(max(FEWEST_ROWS, min(ROWS, PIXELS // (BANDS * width))), height // BANDS)
    count = BANDS if rows > FEWEST_ROWS else max(FEWEST_BANDS, min(BANDS, PIXELS_OF_WIDE // (rows * width)))
    return rows, [i * (height - rows) // (count - 1) for i in range(count)]


def limits_of(good: Sequence[float], least: float | None, most: float | None) -> Limits:
    """Return the range of some numbers with its limits, rounded so that it is the same wherever it is read."""
    lower, upper = (None if limit is None else round(limit, 4) for limit in (least, most))
    return Limits(round(min(good), 4), round(max(good), 4), lower, upper)


def _steps(bands: Levels, by: int) -> float:
    """Return the mean of the steepest steps from a pixel to the one `by` places across or down; bands [n, h, w]."""
    across = cv2.absdiff(bands[:, :, by:], bands[:, :, :-by]).reshape(-1, bands.shape[2] - by)
    down = cv2.absdiff(bands[:, by:], bands[:, :-by]).reshape(-1, bands.shape[2])
    counts = _histogram(across, down)
    return _mean_of(counts[::-1], STEEPEST, LEVELS[::-1])


def _histogram(*levels: cv2.typing.MatLike) -> NDArray[np.float64]:
    counts = np.zeros((256, 1), np.float32)
    for one in levels:
        cv2.calcHist([one], [0], None, [256], [0, 256], counts, accumulate=True)
    return counts.astype(np.float64).reshape(-1)


def _mean_of(histogram: NDArray[np.float64], share: float, levels: NDArray[np.float64] = LEVELS) -> float:
    """Return the mean of the first `share` of the values that a histogram counts, in its order."""
    up_to = np.cumsum(histogram)
    wanted = up_to[-1] * share
    last = int(np.searchsorted(up_to, wanted))  # whose values are wanted in part
    before = up_to[last - 1] if last else 0.0
    return float((histogram[:last] @ levels[:last] + (wanted - before) * levels[last]) / wanted)
