"""How well a model tells defects from good parts: AUROC of pictures and of pixels, and per-region overlap.

Scores and maps are raw, higher is worse. A metric that a test set cannot have (nothing good, or nothing
defective in it) is None, never a number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Maps = NDArray[np.float32]
"""Anomaly maps [N, H, W], all finite."""
Truths = NDArray[np.bool_]
"""Where the defects are, [N, H, W]."""

DILATION = 5
"""Side of the square that widens what a map marks before the overlap is taken, in pixels, as published."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """What is known of one class, each 0 … 1; None: its test set does not tell."""

    image_auroc: float | None
    pixel_auroc: float | None
    pro: float | None


def mean(metrics: Sequence[Metrics]) -> Metrics:
    """Average each metric over the classes that have it; None where none has."""
    return Metrics(
        _mean([each.image_auroc for each in metrics]),
        _mean([each.pixel_auroc for each in metrics]),
        _mean([each.pro for each in metrics]),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def image_auroc(scores: Sequence[float], is_defective: Sequence[bool]) -> float | None:
    """Return the chance that a defective part scores above a good one, a tie counting half.

    None without a part of either kind; ValueError when the lengths differ or a score is not finite.
    """
    if len(scores) != len(is_defective):
        raise ValueError(f"there are {len(scores)} scores for {len(is_defective)} parts; expected one for each")
    if not all(map(math.isfinite, scores)):
        raise ValueError("AUROC needs scores that are all finite numbers")
    if all(is_defective) or not any(is_defective):
        return None
    from sklearn.metrics import roc_auc_score  # takes seconds to load, and only test pictures need it

    return float(roc_auc_score(is_defective, scores))


def pixel_auroc(maps: Maps, truths: Truths) -> float | None:
    """Return the same chance for pixels: exact over all pixels of all maps, a tie counting half.

    None without a pixel of either kind; ValueError as `pro`.
    """
    _check(maps, truths)
    good, defective = np.sort(maps[~truths]), np.sort(maps[truths])
    if not len(good) or not len(defective):
        return None
    below = int(np.searchsorted(good, defective, side="left").sum())
    not_above = int(np.searchsorted(good, defective, side="right").sum())
    return (below + not_above) / (2 * len(good) * len(defective))


def pro(maps: Maps, truths: Truths, *, limit: float = 0.3, thresholds: int = 200) -> float | None:
    """Return the per-region overlap up to a false-positive rate of `limit`, as the published code defines it.

    At each of `thresholds` even steps from the smallest value of all maps (included) to the largest, pixels
    above it are marked. The overlap is the mean over all regions (8-connected) of the share of the region
    that is marked after the marks were dilated by a 5 × 5 square; the false-positive rate is the share of
    defect-free pixels that are marked, not dilated. Points whose rate is below `limit` are kept, their rates
    divided by the largest of them, and the area under them taken by the trapezoidal rule.

    Where the published code gives no number: if only points without any false positive are kept, it is the
    largest overlap among them (0 for maps that are constant); if no point is kept, 0.

    None without a region or without a defect-free pixel; ValueError when maps and truths are not [N, H, W]
    of one shape, float32 and bool, or a map is not finite.
    """
    _check(maps, truths)
    if truths.all() or not truths.any():
        return None
    levels = _levels(maps, thresholds)
    overlaps = np.concatenate([_overlaps(*each, levels) for each in zip(maps, truths, strict=True)])  # [R, L]
    return _area(_shares_above(maps[~truths], levels)[0], overlaps.mean(axis=0), limit)


def _levels(maps: Maps, count: int) -> NDArray[np.float64]:
    low, high = float(maps.min()), float(maps.max())
    return np.arange(low, high, (high - low) / count) if high > low else np.array([low])


def _overlaps(map_: NDArray[np.float32], truth: NDArray[np.bool_], levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of each region of one truth [H, W] that is marked at each level, [regions, L].

    Dilating the marks at every level is the same as marking the map's largest value within the square once.
    """
    count, labels = cv2.connectedComponents(truth.astype(np.uint8), connectivity=8)  # 0 is what is not truth
    largest = np.asarray(cv2.dilate(map_, np.ones((DILATION, DILATION), np.uint8)), np.float32)
    return _shares_above(largest[truth], levels, labels[truth].astype(np.int64) - 1, count - 1)


def _shares_above(
    values: NDArray[np.float32], levels: NDArray[np.float64], group: NDArray[np.int64] | int = 0, groups: int = 1
) -> NDArray[np.float64]:
    """Return for each group of `values` [n] the share that is above each ascending level, [groups, L].

    `group` says which one each value belongs to; no group is empty.
    """
    bins = len(levels) + 1
    reached = np.searchsorted(levels, values)  # how many levels each value is above
    counts = np.bincount(group * bins + reached, minlength=groups * bins).reshape(groups, bins)
    total = counts.sum(axis=1, keepdims=True)
    shares: NDArray[np.float64] = (total - counts.cumsum(axis=1)[:, :-1]) / total
    return shares


def _area(rates: NDArray[np.float64], overlaps: NDArray[np.float64], limit: float) -> float:
    kept = rates < limit
    if not kept.any():
        return 0.0
    x, y = rates[kept][::-1], overlaps[kept][::-1]
    if x[-1] == 0:
        return float(y.max())
    return float((np.diff(x / x[-1]) * (y[1:] + y[:-1]) / 2).sum())


def _check(maps: Maps, truths: Truths) -> None:
    if maps.ndim != 3 or maps.shape != truths.shape:
        raise ValueError(f"maps are {maps.shape} and truths {truths.shape}; expected [N, H, W] for both")
    if maps.dtype != np.float32 or truths.dtype != np.bool_:
        raise ValueError(f"maps are {maps.dtype} and truths {truths.dtype}; expected float32 and bool")
    if not np.isfinite(maps).all():
        raise ValueError("the maps hold values that are not finite; every pixel must be inspected to be evaluated")
