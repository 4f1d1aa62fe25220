"""A fingerprint of a camera's framing: does a picture still show the scene that the model was calibrated on?

Small grey pictures are correlated with the median of the good ones, over the places that do not vary from part
to part. Whether that can tell a bumped camera at all is found out at calibration: the good pictures are held
against themselves shifted, turned and zoomed. Where parts lie anywhere, or a texture fills the frame, the two
cannot be told apart, and there is no fingerprint rather than one that guesses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from inspectd.records import Picture

SIDE = 32
"""Pixels across and down of what is compared."""
SHIFT, ZOOM, TURN_DEGREES = 0.1, 1.15, 10.0
"""How far a camera must have moved for certain to be noticed: share of the frame, factor, degrees."""
FEWEST_PICTURES = 8
APART = 0.08
"""By how much the least similar good picture must lie above the most similar moved one."""
NEARNESS = 0.35
"""Where the limit lies between moved (0) and good pictures (1): nearer to the moved ones, so that a missing or
badly broken part is judged by the model and not taken for another scene."""

Small = NDArray[np.float32]


class Framing(msgspec.Struct, frozen=True):
    """What good pictures have in common; all values rounded, so that it is the same wherever it is read."""

    template: tuple[int, ...]
    """Median grey level of each place, row by row, 0 … 255."""
    weights: tuple[int, ...]
    """0 … 100: how much each place counts; what varies from part to part counts nothing."""
    limit: float
    """A picture less similar than this does not show the scene."""

    def similarity(self, picture: Picture) -> float:
        """Return −1 … 1, whatever the brightness and contrast of the picture [H, W] or [H, W, 3]."""
        return _correlation(shrink(picture), np.asarray(self.template, np.float32), self._weights)

    def shows(self, picture: Picture) -> bool:
        """Whether a picture shows the scene that the model was calibrated on."""
        return self.similarity(picture) >= self.limit

    @property
    def _weights(self) -> Small:
        return np.asarray(self.weights, np.float32)


def shrink(picture: Picture) -> Small:
    """Return the picture in grey, float32 [SIDE · SIDE]; of a 16-bit one only the proportions count."""
    step = max(1, min(picture.shape[:2]) // (4 * SIDE))  # neighbours say the same; a whole large picture takes 8 ms
    small = cv2.resize(picture[::step, ::step], (SIDE * 2, SIDE * 2), interpolation=cv2.INTER_AREA)
    grey = small.mean(axis=2) if small.ndim == 3 else small
    resized = cv2.resize(grey.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, np.float32).reshape(-1)


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
    shifted, turned = most_similar[: len(_shifts())], most_similar[len(_shifts()) :]
    if good - max(shifted) < APART:
        return None
    moved = max([*shifted, *(one for one in turned if good - one >= APART)])  # a round part may turn unseen
    return msgspec.structs.replace(framing, limit=round(moved + NEARNESS * (good - moved), 4))


def _levelled(small: Small) -> Small:
    return np.asarray((small - small.mean()) / (small.std() + 1e-6), np.float32)


def _correlation(small: Small, template: Small, weights: Small) -> float:
    total = float(weights.sum())
    a = small - float((weights * small).sum()) / total
    b = template - float((weights * template).sum()) / total
    scale = math.sqrt(float((weights * a * a).sum()) * float((weights * b * b).sum()))
    return float((weights * a * b).sum()) / scale if scale > 0 else 0.0


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
