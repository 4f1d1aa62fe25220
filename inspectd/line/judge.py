"""The judge: patch scores and a threshold in, verdict and defect regions out. Pure.

This is the only place where a score is compared with a threshold; reports ask `exceeds`.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inspectd.records import Finding, Mask, Outcome, Reason, Rect, Region, fault

MASK_LEVEL = 128
MAX_REGIONS = 32
SMALLEST_SPAN = 1e-6  # keeps threshold − median good score above nothing, in units of the score


@dataclass(frozen=True, slots=True)
class Criterion:
    """The threshold of one model, and the good scores that it was set on."""

    threshold: float
    held_out: Sequence[float]
    """Scores of the calibration's held-out good parts, ascending; may be empty."""
    model: str
    """Run name and digest, as it is published."""

    @property
    def typical(self) -> float:
        """The median held-out good score: where the mask's bytes begin."""
        if not self.held_out:
            return self.threshold - 1.0
        count = len(self.held_out)  # in order, so that the middle is at hand for every picture
        return (self.held_out[(count - 1) // 2] + self.held_out[count // 2]) / 2

    @property
    def span(self) -> float:
        """How far the threshold lies above the median good score: what the mask's first 128 levels are."""
        return max(self.threshold - self.typical, SMALLEST_SPAN)

    def excess(self, score: float) -> float:
        """Return how far a score lies above the threshold, in spans: comparable between models."""
        return (score - self.threshold) / self.span

    def share_at_least(self, score: float) -> float | None:
        """Return the share of held-out good parts that scored at least `score`."""
        if not self.held_out:
            return None
        return 1 - bisect_left(self.held_out, score) / len(self.held_out)


def exceeds(score: float, threshold: float) -> bool:
    """Whether a part with this score is `ng`."""
    return score > threshold


def judge(
    patch_scores: NDArray[np.float32],
    criterion: Criterion,
    picture: tuple[int, int],
    area: Rect,
    seen: NDArray[np.bool_] | None = None,
) -> Finding:
    """Return `ok` or `ng` for raw patch scores [h, w] that cover `area` of a picture of (w, h) pixels.

    `seen`: bool [h, w], the patches that are inspected, at least one; None: all.
    Scores that are not finite are `fault: engine`: NaN compares false with every threshold.
    """
    if not np.isfinite(patch_scores).all():
        return fault(
            Reason.ENGINE,
            "the network returned a score that is not a finite number; the picture was not inspected",
            model=criterion.model,
            picture=picture,
            roi=area,
        )
    if not math.isfinite(criterion.threshold):
        why = f"the threshold is {criterion.threshold}, which no score can be held against"
        return fault(Reason.NO_THRESHOLD, why, model=criterion.model, picture=picture, roi=area)
    if seen is not None:
        if not seen.any():
            why = "no patch is left of what is inspected: all of it is ignored"
            return fault(Reason.NO_MODEL, why, model=criterion.model, picture=picture, roi=area)
        patch_scores = np.where(seen, patch_scores, np.float32(-np.inf))
    score = float(patch_scores.max())
    is_defective = exceeds(score, criterion.threshold)
    return Finding(
        Outcome.NG if is_defective else Outcome.OK,
        score=score,
        threshold=criterion.threshold,
        p=criterion.share_at_least(score),
        excess=criterion.excess(score),
        regions=find_regions(patch_scores, criterion.threshold, area) if is_defective else (),
        model=criterion.model,
        picture=picture,
        roi=area,
        mask=Mask(mask_bytes(patch_scores, criterion), area, MASK_LEVEL),
    )


def mask_bytes(patch_scores: NDArray[np.float32], criterion: Criterion) -> NDArray[np.uint8]:
    """Return WIRE's mask: 0 at the median good score, 128 at the threshold, linear, clipped to a byte.

    What is ignored has a score of minus infinity, and a 0.
    """
    scaled = MASK_LEVEL + MASK_LEVEL * (patch_scores.astype(np.float64) - criterion.threshold) / criterion.span
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def find_regions(patch_scores: NDArray[np.float32], threshold: float, area: Rect) -> tuple[Region, ...]:
    """Return the connected groups of patches above `threshold`, worst first, at most `MAX_REGIONS`."""
    # In float64: rounding the threshold to the scores' float32 could leave an ng without a region.
    above = (patch_scores.astype(np.float64) > threshold).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    peaks = np.full(count, -np.inf, np.float32)
    np.maximum.at(peaks, np.asarray(labels, np.intp), patch_scores)
    regions = [_region(stats[label], float(peaks[label]), above.shape, area) for label in range(1, count)]
    return tuple(sorted(regions, key=lambda r: (-r.score, r.y, r.x))[:MAX_REGIONS])


def _region(stats: NDArray[np.int32], score: float, grid: tuple[int, ...], area: Rect) -> Region:
    left, top, across, down, cells = (int(v) for v in stats)
    cell_w, cell_h = area[2] / grid[1], area[3] / grid[0]
    x0 = area[0] + min(round(left * cell_w), area[2] - 1)
    y0 = area[1] + min(round(top * cell_h), area[3] - 1)
    w = max(1, area[0] + round((left + across) * cell_w) - x0)
    h = max(1, area[1] + round((top + down) * cell_h) - y0)
    return Region(x0, y0, w, h, min(w * h, max(1, round(cells * cell_w * cell_h))), score)
