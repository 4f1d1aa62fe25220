"""The threshold, from held-out good parts, with a distribution-free bound on false rejects.

If the threshold is the (k+1)-th largest of n exchangeable good scores, the share of future good parts above
it follows Beta(k + 1, n − k), whatever the scores' distribution (Wilks 1941). The bound is that
distribution's quantile at the wanted confidence. The same quantile bounds the share above a threshold that did not
come from the largest scores, when k of n lie above it (Clopper and Pearson 1934).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from scipy.special import bdtr, betaincinv, stdtr, stdtrit

from inspectd.model.calibration import ThresholdRecord

Scores = np.ndarray[tuple[int], np.dtype[np.float64]]
"""Ascending."""


FEWEST_FOUND = 20
"""So many painted defects must be found before they say anything about room: of fewer, one lucky one would decide."""
FEWEST_INDEPENDENT = 10
"""Of fewer independent parts than this, among more pictures, not even their number is known well: nothing is proven."""
HIGH = 0.9
"""Share of the good scores that lie below where their spread is read: what a few odd parts score does not count."""
WORTH = 0.4
"""Of a score for the spread that is read there: so much of a sample that is measured as well as can be."""
HEAVY = 4.0
"""Degrees of freedom of the tail that good scores are expected to have at worst."""
CERTAIN = 0.999
"""So sure it must be that a threshold rejects more than was asked for before odd good parts raise it unasked."""
WORTH_PROVING = 0.8
"""Share of the painted defects that the expected threshold finds: so many must be left at the lowest proven one."""
CAREFUL = 5.0
"""So many times more seldom the bound may fail where a proven threshold was not taken: a choice fails where either
does, at worst in so much more than the one that was promised."""
PRICE = 5.0
"""Painted defects that may be missed for a good part that is no more rejected, share for share."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """How much held-out good parts prove: so many scores, worth so many independent parts."""

    count: int
    independent: float
    confidence: float

    @property
    def parts(self) -> int:
        """Independent parts, rounded down."""
        return max(1, math.floor(min(self.count, self.independent)))

    def bound(self, above: int) -> float:
        """Return the share of good parts that is at most rejected when so many scores lie above a threshold."""
        if self.parts < min(self.count, FEWEST_INDEPENDENT):
            return 1.0
        return proven_rate(self.parts, math.ceil(above * self.parts / self.count), self.confidence)

    def careful(self) -> Evidence:
        """Return the same for a bound of a threshold that was chosen in place of a proven one."""
        return replace(self, confidence=1 - (1 - self.confidence) / CAREFUL)

    def at_most(self, rate: float) -> int:
        """Return how many scores may lie above a threshold that `rate` of all parts exceed: with more it is another."""
        above = 0
        while bdtr(above, self.parts, rate) < CERTAIN:
            above += 1
        return above * self.count // self.parts

    def allowed(self, rate: float, marked: int) -> int:
        """Return how many scores, `marked` ones included, may lie above a threshold that still proves `rate`.

        Where none does: the marked ones.
        """
        above = marked
        if self.bound(above) <= rate:
            while above + 1 < self.count and self.bound(above + 1) <= rate:
                above += 1
        return above


def choose_threshold(
    scores: Sequence[float],
    rate: float,
    confidence: float,
    rejected: Sequence[bool] = (),
    painted: Sequence[float] = (),
    confirmed: Sequence[bool] = (),
    independent: float = math.inf,
) -> ThresholdRecord:
    """Choose from held-out good scores; ValueError when there is none or a rate makes no sense.

    `rejected` marks parts that count as false rejects whatever they score: those that look unlike the rest and
    that nobody has confirmed. Leaving them out instead would void the bound. `independent`: so many independent parts
    the scores amount to.

    With enough parts: the smallest held-out score that is proven to reject at most `rate`. With too few, no
    score is: then the largest one, raised to where a normal tail through the scores' median and maximum
    would leave `rate`. That raise is an estimate; it can only lower the false rejects, so the bound stands.

    `painted`: scores of good parts that a defect was painted into; they say how much room there is. The lowest
    threshold is then where a tail through the scores' median and upper tenth leaves `rate`: some odd parts may lie
    above it (as long as `rate` can explain them), count as rejected, and are for a person to look at. Of `confirmed`
    ones no more than that share does. With enough parts it is the proven one, unless too few are found there of the
    painted defects that the other finds. Above the lowest threshold, found defects are given up for fewer rejects at a
    price; where hardly any is found, none is.
    """
    if not len(scores) or not all(map(math.isfinite, scores)):
        raise ValueError("a threshold needs at least one held-out score, all finite")
    for marks in (rejected, confirmed):
        if marks and len(marks) != len(scores):
            raise ValueError(f"{len(marks)} marks for {len(scores)} held-out scores")
    if not (0 < rate < 1 and 0 < confidence < 1):
        raise ValueError(f"rate {rate} and confidence {confidence} must lie between 0 and 1")
    count, marked = len(scores), sum(rejected)
    evidence = Evidence(count, independent, confidence)
    counted = scores if marked in (0, count) else [s for s, out in zip(scores, rejected, strict=True) if not out]
    ascending = np.sort(np.asarray(counted, np.float64))
    above = min(evidence.allowed(rate, marked), marked + len(ascending) - 1)
    is_proven = evidence.bound(above) <= rate
    lowest = proven = float(ascending[len(ascending) - 1 - (above - marked)])
    if painted:
        sure = [s for s, is_sure in zip(scores, confirmed, strict=True) if is_sure] if confirmed else []
        expected = max(
            _expected(ascending, rate, evidence.parts),
            _allowing(ascending.tolist(), max(0, evidence.at_most(rate) - marked)),
            _allowing(sure, math.floor(rate * count)),
        )
        if not is_proven or not is_worth_proving(lowest, expected, painted):
            lowest = expected
    found = [score for score in painted if score > lowest]
    if painted:
        value = _worth_it(lowest, ascending, found)
    else:
        value = lowest if is_proven else float(ascending[-1]) + _normal_margin(ascending, rate)
    if not is_proven or value < proven:
        above = min(count, marked + int((ascending > value).sum()))
        evidence = evidence.careful() if is_proven else evidence
    return ThresholdRecord(
        value,
        rate,
        confidence,
        evidence.bound(above),
        parts_needed(rate, confidence),
        value - lowest,
        len(painted),
        sum(score > value for score in painted),
        len(found),
        None if math.isinf(independent) else evidence.parts,
    )


def proven_rate(count: int, above: int, confidence: float) -> float:
    """Return the bound when `above` of `count` held-out good parts score above the threshold."""
    return 1.0 if above >= count else float(betaincinv(above + 1, count - above, confidence))


def parts_needed(rate: float, confidence: float) -> int:
    """Return how many held-out good parts prove `rate` when none of them is above the threshold."""
    return math.ceil(math.log1p(-confidence) / math.log1p(-rate))


def _expected(ascending: Scores, rate: float, parts: int) -> float:
    """Return where a normal tail through the scores' median and upper tenth leaves `rate`, unsure of its spread.

    Few parts know their spread badly; a t-distribution of as many degrees of freedom as they are worth says how badly.
    """
    median, upper = np.quantile(ascending, [0.5, HIGH])
    spread = float(upper - median) / NormalDist().inv_cdf(HIGH)
    reach = float(stdtrit(max(1.0, WORTH * parts), 1 - rate)) * math.sqrt(1 + 1 / parts)
    return float(median) + spread * reach


def _allowing(scores: Sequence[float], above: int) -> float:
    """Return the lowest threshold that no more than so many of these scores exceed."""
    return sorted(scores)[-1 - above] if len(scores) > above else -math.inf


def is_worth_proving(proven: float, expected: float, painted: Sequence[float]) -> bool:
    """Whether enough of the painted defects that an expected threshold finds are found at the proven one."""
    there, here = (sum(score > threshold for score in painted) for threshold in (proven, expected))
    return there >= WORTH_PROVING * here or here < FEWEST_FOUND


def _worth_it(lowest: float, ascending: Scores, found: Sequence[float]) -> float:
    """Return the threshold from `lowest` on at which what is given up is worth what is saved.

    Of the `found` painted defects a share is missed; of good parts a share is no more rejected, by a heavy tail.
    """
    if len(found) < FEWEST_FOUND:
        return lowest
    median, upper = np.quantile(ascending, [0.5, HIGH])
    freedom = min(HEAVY, max(1.0, WORTH * len(ascending)))
    spread = float(upper - median) / float(stdtrit(freedom, HIGH))
    if spread <= 0:
        return lowest
    edges = np.array([lowest, *sorted(found)])
    values = np.array([lowest, *((edges[:-1] + edges[1:]) / 2)])  # the middle of a gap is as far from either side
    missed = np.array([0, *range(len(found))]) / len(found)
    costs = PRICE * (1 - stdtr(freedom, (values - median) / spread)) + missed
    return float(values[int(costs.argmin())])


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
