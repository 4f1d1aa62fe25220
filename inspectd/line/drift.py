"""How far a camera's pictures, and the scores of accepted parts, have moved away from the calibration's.

A lamp that ages, a lens that gets dirty, a tool that wears: each moves all parts a little, long before one is rejected.
Of pictures those numbers are followed that a part or a defect hardly moves (`model.optics`), while they are such that a
picture may be judged; of scores only those of parts that were accepted, so that defects are told apart from drift.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

from inspectd.model.optics import Limits

FEWEST = 100
"""Pictures, or accepted parts, before anything is said."""
WEIGHT = 0.02
"""Of the newest picture in the mean: the last hundred or so make it."""
LEAST_MOVE = 0.03
"""Of what was usual: with less nobody could do anything about it."""
NEWEST = 300
"""Accepted parts whose scores are looked at."""
FAR = 0.35
"""Of the way from the calibration's median good score to the threshold: parts of another day lie nearer."""
RETURNS = 0.25
"""Of a good pictures' range: so far the mean must be inside again, or of FAR below it."""
MOST = 256
"""Numbers that are followed: a camera has a few for each of its areas and models."""


class Moved(NamedTuple):
    """One number of pictures."""

    area: str
    """Empty: the only one."""
    what: str
    """`light`, `noise`, `sharpness` or `edges`."""
    ratio: float
    """Of the mean to what was usual at calibration."""
    is_beyond: bool
    """The mean of many lies where not one picture of the calibration did."""


class MovedScores(NamedTuple):
    """The accepted parts' scores in one area, by one model and threshold."""

    area: str
    moved: float
    """0 lies at the calibration's median good score, 1 at the threshold."""
    is_far: bool


@dataclass(slots=True)
class _Mean:
    allowed: Limits
    value: float = 0.0
    count: int = 0
    is_beyond: bool = False

    @property
    def usual(self) -> float:
        return (self.allowed.lowest + self.allowed.highest) / 2

    def add(self, value: float) -> None:
        self.count += 1
        self.value += max(WEIGHT, 1 / self.count) * (value - self.value)
        span = self.allowed.highest - self.allowed.lowest
        margin = RETURNS * span if self.is_beyond else -LEAST_MOVE * self.usual
        inside = self.allowed.lowest + margin <= self.value <= self.allowed.highest - margin
        self.is_beyond = self.count >= FEWEST and not inside


@dataclass(slots=True)
class _Scores:
    excess: deque[float] = field(default_factory=lambda: deque(maxlen=NEWEST))
    is_far: bool = False


class Drift:
    """One camera's, from when it is judged by what judges now. Noted by one thread each (`saw`, `accepted`), asked by
    any; `scores` by one."""

    def __init__(self) -> None:
        self._means: dict[tuple[str, str, str], _Mean] = {}
        self._scores: dict[tuple[str, str | None, float | None], _Scores] = {}

    def saw(self, area: str, model: str, what: str, value: float, allowed: Limits) -> None:
        """Take note of a number of a picture. `model`: by whose calibration."""
        mean = self._means.get((area, model, what))
        if mean is None:
            if len(self._means) >= MOST:
                return
            mean = self._means[area, model, what] = _Mean(allowed)
        mean.add(value)

    def accepted(self, area: str, model: str | None, threshold: float | None, excess: float) -> None:
        """Take note of an accepted part's score in an area; see `Finding.excess`."""
        scores = self._scores.get((area, model, threshold))
        if scores is None:
            if len(self._scores) >= MOST:
                return
            scores = self._scores[area, model, threshold] = _Scores()
        scores.excess.append(excess)

    @property
    def pictures(self) -> list[Moved]:
        """What has been seen of pictures, as far as enough have."""
        return [
            Moved(area, what, mean.value / mean.usual, mean.is_beyond)
            for (area, _, what), mean in tuple(self._means.items())
            if mean.count >= FEWEST and mean.usual > 0
        ]

    @property
    def scores(self) -> list[MovedScores]:
        """How far accepted parts have moved, as far as there were enough."""
        return [
            MovedScores(area, moved, _is_far(scores, moved))
            for (area, _, _), scores in tuple(self._scores.items())
            if (moved := _moved(scores)) is not None
        ]


def _moved(scores: _Scores) -> float | None:
    found = tuple(scores.excess)
    return 1 + median(found) if len(found) >= FEWEST else None


def _is_far(scores: _Scores, moved: float) -> bool:
    scores.is_far = moved > (FAR * (1 - RETURNS) if scores.is_far else FAR)
    return scores.is_far
