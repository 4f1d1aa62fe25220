"""Fingerprints of a camera: does a picture still show the scene that the model was calibrated on, in its colours?

Small grey pictures are correlated with the median of the good ones, over the places that do not vary from part
to part. Whether that can tell a bumped camera at all is found out at calibration: the good pictures are held
against themselves shifted, turned and zoomed. Where parts lie anywhere, or a texture fills the frame, the two
cannot be told apart, and there is no fingerprint rather than one that guesses. Colours are told apart in the same
way: the good pictures are held against themselves with red and blue exchanged, and in grey.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import product

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from inspectd.model.glance import SIDE, Glance, Small
from inspectd.records import Picture

SHIFT, ZOOM, TURN_DEGREES = 0.1, 1.15, 10.0
"""How far a camera must have moved for certain to be noticed: share of the frame, factor, degrees."""
FEWEST_PICTURES = 8
APART = 0.08
"""By how much the least similar good picture must lie above the most similar moved one."""
NEARNESS = 0.35
"""Where the limit lies between moved (0) and good pictures (1): nearer to the moved ones, so that a missing or
badly broken part is judged by the model and not taken for another scene."""

TINT_SIDE = 8
"""Places across and down whose colours are compared."""
TINT_SHARE = 0.75
"""Of the places, those that differ least: a coloured stain is the model's to judge."""
COLOURLESS = 0.01
"""Less colour than this, as a share of the brightness, is none."""
COLOURS_APART = 0.004
"""By how much good pictures must be nearer to their own colours than with red and blue exchanged, or in grey."""


class Framing(msgspec.Struct, frozen=True, dict=True):
    """What good pictures have in common; all values rounded, so that it is the same wherever it is read."""

    template: tuple[int, ...]
    """Median grey level of each place, row by row, 0 … 255."""
    weights: tuple[int, ...]
    """0 … 100: how much each place counts; what varies from part to part counts nothing."""
    limit: float
    """A picture less similar than this does not show the scene."""

    def similarity(self, picture: Picture) -> float:
        """Return −1 … 1, whatever the brightness and contrast of the picture [H, W] or [H, W, 3]."""
        return self.similarity_at(Glance(picture))

    def similarity_at(self, glance: Glance) -> float:
        """Return the same of what is seen at a glance."""
        return _correlation(glance.grey.reshape(-1), self._template, self._weights)

    def shows(self, picture: Picture) -> bool:
        """Whether a picture shows the scene that the model was calibrated on."""
        return self.similarity(picture) >= self.limit

    @cached_property
    def _template(self) -> Small:
        return np.asarray(self.template, np.float32)

    @cached_property
    def _weights(self) -> Small:
        return np.asarray(self.weights, np.float32)


def shrink(picture: Picture) -> Small:
    """Return the picture in grey, float32 [SIDE · SIDE]; of a 16-bit one only the proportions count."""
    return Glance(picture).grey.reshape(-1)


def find_framing(small: Sequence[Small]) -> Framing | None:
    """Learn from good pictures as `shrink` gives them; None when a moved camera could not be told from them."""
    if len(small) < FEWEST_PICTURES:
        return None
    levels = np.stack([_levelled(one) for one in small])  # [N, S·S]
    template = np.median(levels, axis=0)
    varies = np.median(np.abs(levels - template), axis=0)
    quiet = np.clip(1 - varies / max(1e-6, 0.5 * float(template.std())), 0, 1)
    low, high = float(template.min()), float(template.max())
    if high - low < 1e-6 or quiet.mean() < 0.1:
        return None
    framing = Framing(
        tuple(int(v) for v in np.rint(255 * (template - low) / (high - low))),
        tuple(int(v) for v in np.rint(100 * quiet)),
        0.0,
    )
    of = np.asarray(framing.template, np.float32)
    good = min(_correlation(one, of, framing._weights) for one in small)
    most_similar = [
        max(_correlation(_warped(one, by), of, framing._weights) for one in small) for by in (*_shifts(), *_turns())
    ]
    most_similar += [max(_correlation(flip(one), of, framing._weights) for one in small) for flip in _FLIPS]
    shifted, turned = most_similar[: len(_shifts())], most_similar[len(_shifts()) :]
    if good - max(shifted) < APART:
        return None
    moved = max([*shifted, *(one for one in turned if good - one >= APART)])  # a round part may turn unseen
    return msgspec.structs.replace(framing, limit=round(moved + NEARNESS * (good - moved), 4))


class Tint(msgspec.Struct, frozen=True, dict=True):
    """The colours that good pictures have in common, place by place, whatever their brightness."""

    template: tuple[int, ...]
    """Blue less red, then green less their mean, in thousandths of the picture's brightness, place by place."""
    limit: float
    """A picture further away than this has other colours."""

    def distance(self, picture: Picture) -> float:
        """Return how far the colours of a picture [H, W] or [H, W, 3] are from the good ones, 0 …"""
        return self.distance_at(Glance(picture))

    def distance_at(self, glance: Glance) -> float:
        """Return the same of what is seen at a glance."""
        return _distance(_tint(glance), self._template)

    @cached_property
    def _template(self) -> Small:
        return _thousandths(self.template)


def tint(picture: Picture) -> Small:
    """Return the colours of a picture, float32 [2 · TINT_SIDE · TINT_SIDE]; a grey one has none."""
    return _tint(Glance(picture))


def _tint(glance: Glance) -> Small:
    places = glance.colours(TINT_SIDE)
    if places is None:
        return np.zeros(2 * TINT_SIDE * TINT_SIDE, np.float32)
    blue, green, red = np.moveaxis(places, 2, 0)
    brightness = float(places.mean()) + 1e-6
    colours = np.concatenate([(blue - red).ravel(), (green - (blue + red) / 2).ravel()])
    return np.asarray(colours / brightness, np.float32)


def find_tint(tints: Sequence[Small]) -> Tint | None:
    """Learn from good pictures as `tint` gives them; None when other colours could not be told from them."""
    if len(tints) < FEWEST_PICTURES:
        return None
    stacked = np.stack(tints)
    template = tuple(int(v) for v in np.rint(np.median(stacked, axis=0) * 1000))
    of = _thousandths(template)
    good = max(_distance(one, of) for one in tints)
    if float(np.sqrt((of * of).mean())) < COLOURLESS:  # a grey camera: any colours are others
        limit = max(2 * COLOURLESS, 3 * good)
        return Tint(template, round(limit, 4)) if good < COLOURLESS else None
    half = len(of) // 2
    exchange = np.concatenate([-np.ones(half), np.ones(half)]).astype(np.float32)
    other = min(min(_distance(one * change, of) for one in tints) for change in (exchange, np.float32(0)))
    if other - good < COLOURS_APART or other < 1.5 * good:
        return None
    return Tint(template, round(other - NEARNESS * (other - good), 4))


def _thousandths(values: Sequence[int]) -> Small:
    return np.asarray(np.asarray(values, np.float32) / 1000, np.float32)


def _distance(a: Small, b: Small) -> float:
    squares = ((a - b) ** 2).reshape(2, -1).sum(axis=0)
    return float(np.sqrt(np.sort(squares)[: int(TINT_SHARE * len(squares))].mean()))


def _flipped(*axes: int) -> Callable[[Small], Small]:
    def flip(small: Small) -> Small:
        return np.ascontiguousarray(np.flip(small.reshape(SIDE, SIDE), axes)).reshape(-1)

    return flip


_FLIPS = (_flipped(1), _flipped(0), _flipped(0, 1))
"""Mirrored, upside down, and turned by half."""


def _levelled(small: Small) -> Small:
    return np.asarray((small - small.mean()) / (small.std() + 1e-6), np.float32)


def _correlation(small: Small, template: Small, weights: Small) -> float:
    total = weights.sum()
    a, b = (one - weights @ one / total for one in (small, template))
    weighted = weights * a
    scale = math.sqrt(float(weighted @ a) * float((weights * b) @ b))
    return float(weighted @ b) / scale if scale > 0 else 0.0


def _shifts() -> list[NDArray[np.float64]]:
    """What a camera's shift does to the small picture, in eight directions."""
    by = SHIFT * SIDE
    return [np.array([[1, 0, x * by], [0, 1, y * by]], np.float64) for x, y in product((-1, 0, 1), repeat=2) if x or y]


def _turns() -> list[NDArray[np.float64]]:
    """What turning and zooming do."""
    centre = ((SIDE - 1) / 2, (SIDE - 1) / 2)
    changes = ((-TURN_DEGREES, 1.0), (TURN_DEGREES, 1.0), (0.0, ZOOM), (0.0, 1 / ZOOM))
    return [np.asarray(cv2.getRotationMatrix2D(centre, angle, factor)) for angle, factor in changes]


def _warped(small: Small, by: NDArray[np.float64]) -> Small:
    picture = small.reshape(SIDE, SIDE)
    warped = cv2.warpAffine(picture, by, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, np.float32).reshape(-1)
