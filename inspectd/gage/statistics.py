"""What a study says of an inspection: rates, agreement and repeatability, each with its interval. Pure.

Terms and limits are those of attribute agreement analysis (AIAG, Measurement Systems Analysis, 4th edition, chapter
III C): effectiveness, miss rate, false alarm rate. Trials of one part are not independent, and how little they are
cannot be told from a few wrong decisions: the intervals are Clopper and Pearson's (1934) of as many decisions as there
are parts, and more trials of the same part make none of them narrower.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, chi2

from inspectd.gage.study import Trial
from inspectd.records import Known

CONFIDENCE = 0.95
RESAMPLES = 2000
LEAST_EFFECTIVENESS, MOST_MISSES, MOST_FALSE_ALARMS, LEAST_KAPPA = 0.90, 0.02, 0.05, 0.90
FEWEST_REPEATS = 2
OF_KIND = {Known.GOOD: "false alarm rate", Known.BAD: "miss rate"}
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure, and between what it lies with 95 %."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of decisions."""

    interval: Interval
    count: int
    of: int
    parts: int
    """Of which these are."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """A figure beside its limit."""

    name: str
    meaning: str
    interval: Interval
    limit: float
    is_least: bool
    """The limit is the least that is accepted; else the most."""
    basis: str

    @property
    def is_met(self) -> bool:
        """Whether the figure is on the right side of its limit."""
        value = self.interval.value
        return value >= self.limit if self.is_least else value <= self.limit

    @property
    def is_proven(self) -> bool:
        """Whether its whole interval is."""
        return self.interval.low >= self.limit if self.is_least else self.interval.high <= self.limit


@dataclass(frozen=True, slots=True)
class Spread:
    """How much the score of a part varies from showing to showing: standard deviation within parts."""

    interval: Interval
    parts: int
    trials: int


@dataclass(frozen=True, slots=True)
class Analysis:
    """What a study says."""

    trials: int
    parts: dict[Known, int]
    unjudged: int
    """Trials without a decision (faults); they count nowhere else."""
    unsettled: list[str]
    """Parts of which the last trial was one."""
    criteria: list[Criterion]
    same: Rate | None
    """Parts that got the same decision each time; None: none was shown twice."""
    spread: dict[Known, Spread]
    grey: tuple[float, float] | None
    """Scores between which a good part may be decided either way: the threshold and 1.96 standard deviations."""
    flips: Interval | None
    """Share of production that would be decided otherwise if it were shown again; None: nothing is known of it."""
    labels: list[Labelled]
    wrong: list[Trial]
    models: list[str]
    thresholds: list[float]

    @property
    def is_accepted(self) -> bool:
        """Whether it is whole, and every figure is on the right side of its limit."""
        return not self.lacks and all(one.is_met for one in self.criteria)

    @property
    def lacks(self) -> list[str]:
        """What a study must have to say anything of an inspection, and this one has not, in sentences."""
        found = [
            f"There are no decisions on {known} parts: nothing is said of {what}."
            for known, what in ((Known.GOOD, "false alarms"), (Known.BAD, "misses"))
            if not any(one.name == OF_KIND[known] for one in self.criteria)
        ]
        if self.unsettled:
            names = ", ".join(self.unsettled)
            found.append(
                f"There was no decision when these parts were shown last: {names}. Mend why, and show them again."
            )
        return found


@dataclass(frozen=True, slots=True)
class Labelled:
    """The trials of one label: a shift, perhaps."""

    label: str
    trials: int
    right: int
    shift: float | None
    """By how much its good parts score higher than the same parts do on the whole; None: nothing to compare with."""


def analyse(trials: Sequence[Trial], production: Sequence[float] = ()) -> Analysis:
    """Return what a study says. `production`: scores of parts of the production, judged by the same model."""
    judged = [one for one in trials if one.is_judged]
    of = {known: [one for one in judged if one.known is known] for known in Known}
    thresholds = sorted({one.threshold for one in judged if one.threshold is not None})
    spread = {known: found for known in Known if (found := _spread(of[known])) is not None}
    threshold = thresholds[0] if len(thresholds) == 1 else None
    grey = None
    if threshold is not None and Known.GOOD in spread:
        half = 1.96 * spread[Known.GOOD].interval.value
        grey = (threshold - half, threshold + half)
    return Analysis(
        trials=len(trials),
        parts={known: len({one.part for one in of[known]}) for known in Known},
        unjudged=len(trials) - len(judged),
        unsettled=sorted(part for part, some in _by_part(trials).items() if not some[-1].is_judged),
        criteria=_criteria(judged, of),
        same=_same(judged),
        spread=spread,
        grey=grey,
        flips=_flips(of[Known.GOOD], production, threshold),
        labels=_labels(judged),
        wrong=[one for one in judged if not one.is_right],
        models=sorted({one.model for one in judged if one.model}),
        thresholds=thresholds,
    )


def _criteria(judged: Sequence[Trial], of: dict[Known, list[Trial]]) -> list[Criterion]:
    found = []
    if judged:
        right = rate(judged, lambda one: one.is_right)
        found.append(
            Criterion("effectiveness", "right decisions", right.interval, LEAST_EFFECTIVENESS, True, _basis(right))
        )
    if of[Known.BAD]:
        misses = rate(of[Known.BAD], lambda one: one.is_passed)
        found.append(
            Criterion("miss rate", "bad parts that passed", misses.interval, MOST_MISSES, False, _basis(misses))
        )
    if of[Known.GOOD]:
        alarms = rate(of[Known.GOOD], lambda one: not one.is_passed)
        found.append(
            Criterion(
                "false alarm rate", "good parts that were rejected", alarms.interval, MOST_FALSE_ALARMS, False,
                _basis(alarms)
            )
        )  # fmt: skip
    if of[Known.GOOD] and of[Known.BAD]:
        meaning = "agreement with what is known, beyond chance (Cohen)"
        basis = f"{len(judged)} decisions"
        found.append(Criterion("kappa", meaning, _kappa_with_interval(judged), LEAST_KAPPA, True, basis))
    return found


def _basis(rate_: Rate) -> str:
    return f"{rate_.count} of {rate_.of} decisions on {rate_.parts} parts"


def rate(trials: Sequence[Trial], is_counted: Callable[[Trial], bool]) -> Rate:
    """Return the share of trials that count, with its interval."""
    by_part = _by_part(trials)
    count = sum(map(is_counted, trials))
    share = count / len(trials)
    return Rate(Interval(share, *_clopper_pearson(share, len(by_part))), count, len(trials), len(by_part))


def _clopper_pearson(share: float, parts: int) -> tuple[float, float]:
    """Return the interval of a share, as if each part had been decided once."""
    x, tail = share * parts, (1 - CONFIDENCE) / 2
    low = float(beta.ppf(tail, x, parts - x + 1)) if share > 0 else 0.0
    high = float(beta.ppf(1 - tail, x + 1, parts - x)) if share < 1 else 1.0
    return low, high


def kappa(table: Floats) -> float:
    """Return Cohen's kappa of counts [known, decision]; 1 where only one thing was ever said, and rightly."""
    total = float(table.sum())
    agreed = float(np.trace(table)) / total
    by_chance = float((table.sum(axis=0) @ table.sum(axis=1)) / total**2)
    return 1.0 if by_chance == 1 else (agreed - by_chance) / (1 - by_chance)


def _kappa_with_interval(judged: Sequence[Trial]) -> Interval:
    """Return kappa, resampled by part within good and bad ones.

    Where all agree, resampling knows no doubt: then it is no better than the least effectiveness allows.
    """
    tables = {known: _tables([one for one in judged if one.known is known]) for known in Known}
    whole = sum(table.sum(axis=0) for table in tables.values())
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(RESAMPLES):
        some = [table[rng.integers(0, len(table), len(table))].sum(axis=0) for table in tables.values()]
        drawn.append(kappa(some[0] + some[1]))
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    least = rate(judged, lambda one: one.is_right).interval.low
    known_share = whole.sum(axis=1) / whole.sum()
    by_chance = float((known_share**2).sum())
    lowest = max(-1.0, (least - by_chance) / (1 - by_chance))
    return Interval(kappa(whole), min(float(low), lowest), float(high))


def _tables(trials: Sequence[Trial]) -> Floats:
    """Return counts [part, known, decision] of each part; good and passed come first."""
    found = []
    for some in _by_part(trials).values():
        table = np.zeros((2, 2))
        for one in some:
            table[int(one.known is Known.BAD), int(not one.is_passed)] += 1
        found.append(table)
    return np.stack(found)


def _same(judged: Sequence[Trial]) -> Rate | None:
    repeated = [some for some in _by_part(judged).values() if len(some) >= FEWEST_REPEATS]
    if not repeated:
        return None
    same = sum(len({one.verdict for one in some}) == 1 for some in repeated)
    share = same / len(repeated)
    return Rate(Interval(share, *_clopper_pearson(share, len(repeated))), same, len(repeated), len(repeated))


def _scores(trials: Sequence[Trial]) -> list[Floats]:
    """Return the scores of each part that has several."""
    found = [np.array([one.score for one in some if one.score is not None]) for some in _by_part(trials).values()]
    return [scores for scores in found if len(scores) >= FEWEST_REPEATS]


def _spread(trials: Sequence[Trial]) -> Spread | None:
    """Return the pooled standard deviation within parts, with chi-squared's interval."""
    scores = _scores(trials)
    freedom = sum(len(one) - 1 for one in scores)
    if freedom < 1:
        return None
    value = math.sqrt(sum(float(((one - one.mean()) ** 2).sum()) for one in scores) / freedom)
    low, high = (value * math.sqrt(freedom / float(chi2.ppf(tail, freedom))) for tail in (0.975, 0.025))
    return Spread(Interval(value, low, high), len(scores), sum(map(len, scores)))


def _flips(good: Sequence[Trial], production: Sequence[float], threshold: float | None) -> Interval | None:
    """Return the share of production that would be decided otherwise if it were shown again.

    What a score does from one showing to the next is taken from the good parts: all differences between two showings
    of the same part.
    """
    scores = _scores(good)
    if not scores or not len(production) or threshold is None:
        return None
    differences = [_differences(one) for one in scores]
    made = np.sort(np.asarray(production, np.float64))
    rng = np.random.default_rng(0)

    def share(some: Sequence[Floats]) -> float:
        moves = np.concatenate(some)
        below = np.searchsorted(made, threshold - moves, side="right") / len(made)  # that would lie at or below it
        passed = np.searchsorted(made, threshold, side="right") / len(made)
        return float(np.abs(below - passed).mean())

    drawn = [share([differences[i] for i in rng.integers(0, len(scores), len(scores))]) for _ in range(RESAMPLES)]
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(share(differences), float(low), float(high))


def _differences(scores: Floats) -> Floats:
    """Return all differences between two showings, in both directions."""
    return np.asarray((scores[:, None] - scores[None, :])[~np.eye(len(scores), dtype=bool)])


def _labels(judged: Sequence[Trial]) -> list[Labelled]:
    labels = list(dict.fromkeys(one.label for one in judged))
    if len(labels) < 2:
        return []
    usual = {
        part: float(np.mean([one.score for one in some if one.score is not None]))
        for part, some in _by_part([one for one in judged if one.known is Known.GOOD]).items()
        if any(one.score is not None for one in some)
    }
    found = []
    for label in labels:
        mine = [one for one in judged if one.label == label]
        moves = [one.score - usual[one.part] for one in mine if one.part in usual and one.score is not None]
        shift = float(np.mean(moves)) if moves else None
        found.append(Labelled(label, len(mine), sum(one.is_right for one in mine), shift))
    return found


def _by_part(trials: Sequence[Trial]) -> dict[str, list[Trial]]:
    found: dict[str, list[Trial]] = defaultdict(list)
    for one in trials:
        found[one.part].append(one)
    return found


def parts_to_prove(most: float) -> int:
    """Return how many parts without a wrong decision prove that a rate is at most this, as `is_proven` has it."""
    return math.ceil(math.log((1 - CONFIDENCE) / 2) / math.log(1 - most))
