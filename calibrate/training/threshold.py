"""The threshold, from held-out good parts, with a distribution-free bound on false rejects.

If the threshold is the (k+1)-th largest of n exchangeable good scores, the share of future good parts above
it follows Beta(k + 1, n − k), whatever the scores' distribution (Wilks 1941). The bound is that
distribution's quantile at the wanted confidence.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from scipy.special import betaincinv

from inspectd.model.calibration import ThresholdRecord

Scores = np.ndarray[tuple[int], np.dtype[np.float64]]
"""Ascending."""


KEPT = 0.95
"""Of the painted defects that the lowest threshold finds, the share that a higher one must still find."""
FEWEST_FOUND = 20
"""So many painted defects must be found before they say anything about room: of fewer, one lucky one would decide."""


def choose_threshold(
    scores: Sequence[float],
    rate: float,
    confidence: float,
    rejected: Sequence[bool] = (),
    painted: Sequence[float] = (),
) -> ThresholdRecord:
    """Choose from held-out good scores; ValueError when there is none or a rate makes no sense.

    `rejected` marks parts that count as false rejects whatever they score: those that look unlike the rest and
    that nobody has confirmed. Leaving them out instead would void the bound.

    With enough parts: the smallest held-out score that is proven to reject at most `rate`. With too few, no
    score is: then the largest one, raised to where a normal tail through the scores' median and maximum
    would leave `rate`. That raise is an estimate; it can only lower the false rejects, so the bound stands.

    `painted`: scores of good parts that a defect was painted into; they say how much room there is. With too few parts
    the lowest threshold is then the smallest score that at most `rate` of the parts exceed; it is raised to the middle
    between what the parts need, by that estimate, and what would lose a twentieth of the painted defects, and never
    beyond the latter. Where hardly any is found it is not raised.
    """
    if not len(scores) or not all(map(math.isfinite, scores)):
        raise ValueError("a threshold needs at least one held-out score, all finite")
    if rejected and len(rejected) != len(scores):
        raise ValueError(f"{len(rejected)} marks for {len(scores)} held-out scores")
    if not (0 < rate < 1 and 0 < confidence < 1):
        raise ValueError(f"rate {rate} and confidence {confidence} must lie between 0 and 1")
    count, marked = len(scores), sum(rejected)
    counted = scores if marked in (0, count) else [s for s, out in zip(scores, rejected, strict=True) if not out]
    ascending = np.sort(np.asarray(counted, np.float64))
    above = min(allowed_above(count, marked, rate, confidence, by_share=bool(painted)), marked + len(ascending) - 1)
    is_proven = proven_rate(count, above, confidence) <= rate
    lowest = float(ascending[len(ascending) - 1 - (above - marked)])
    value = lowest if is_proven else float(ascending[-1]) + _normal_margin(ascending, rate)
    found = [score for score in painted if score > lowest]
    if painted:
        highest = float(np.quantile(found, 1 - KEPT)) if len(found) >= FEWEST_FOUND else lowest
        value = (value + highest) / 2 if value <= highest else max(lowest, highest)
    return ThresholdRecord(
        value,
        rate,
        confidence,
        proven_rate(count, above, confidence),
        parts_needed(rate, confidence),
        value - lowest,
        len(painted),
        sum(score > value for score in painted),
        len(found),
    )


def allowed_above(count: int, marked: int, rate: float, confidence: float, *, by_share: bool) -> int:
    """Return how many of `count` held-out parts, `marked` ones included, may score above the lowest threshold.

    As many as still prove `rate`; where none does, the marked ones, or with `by_share` this share of the parts.
    """
    above = marked
    if proven_rate(count, above, confidence) <= rate:
        while above + 1 < count and proven_rate(count, above + 1, confidence) <= rate:
            above += 1
    elif by_share:
        above = max(marked, math.floor(rate * count))
    return above


def proven_rate(count: int, above: int, confidence: float) -> float:
    """Return the bound when `above` of `count` held-out good parts score above the threshold."""
    return 1.0 if above >= count else float(betaincinv(above + 1, count - above, confidence))


def parts_needed(rate: float, confidence: float) -> int:
    """Return how many held-out good parts prove `rate` when none of them is above the threshold."""
    return math.ceil(math.log1p(-confidence) / math.log1p(-rate))


def _normal_margin(ascending: Scores, rate: float) -> float:
    count = len(ascending)
    reach = NormalDist().inv_cdf((count - 0.375) / (count + 0.25))  # Blom: where the largest of n lies
    wanted = NormalDist().inv_cdf(1 - rate)
    span = float(ascending[-1] - np.median(ascending))
    return span * max(0.0, wanted / reach - 1) if reach > 0 else span


def held_out_positions(count: int, share: float = 0.25, blocks: int = 2) -> list[int]:
    """Return which of `count` pictures, in order of time, are held out: contiguous blocks.

    Neighbouring frames are near-copies; scattered ones would only repeat what was learned. Each of `blocks`
    equal stretches of time gives its last part; at least one picture each.
    """
    edges = [round(count * i / blocks) for i in range(blocks + 1)]
    held: list[int] = []
    for start, end in itertools.pairwise(edges):
        size = max(1, round((end - start) * share))
        held += range(max(start, end - size), end)
    return held
