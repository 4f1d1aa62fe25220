"""Pictures are not parts: how many independent ones do the scores of neighbouring pictures amount to?

Frames of a video, or of a camera that is faster than the line, show the same part again and again: their scores follow
each other, and prove as little as a few parts would. The variance of a mean tells how many: of n scores with
autocorrelations r it is that of n / (1 + 2 Σ r) independent ones. Ranks are used, so that no single score decides, and
the sum ends at the first lag that chance explains.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

CHANCE = 2.0
"""Standard errors of an autocorrelation that chance explains."""


def independent_parts(scores: Sequence[float], heads: Sequence[int] = ()) -> float:
    """Return how many independent parts scores in order of time amount to: 1 to as many as there are.

    `heads`: by which head each was scored; what only heads differ in is taken out before.
    """
    values = np.asarray(scores, np.float64)
    for head in set(heads):
        own = np.asarray(heads) == head
        values[own] -= np.median(values[own])
    count = len(values)
    _, order, times = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(times) - times / 2)[order] - count / 2  # equal ones share theirs
    variance = float((ranks * ranks).mean()) if count else 0.0
    if variance == 0.0:
        return float(min(count, 1))
    together = 0.0
    for lag in range(1, count // 2):
        correlation = float((ranks[lag:] * ranks[:-lag]).sum()) / count / variance
        if correlation < CHANCE / math.sqrt(count):
            break
        together += correlation
    return max(1.0, count / (1 + 2 * together))
