"""How far a camera's pictures, and the scores of accepted parts, have moved away from the calibration's.

A lamp that ages, a lens that gets dirty, a tool that wears: each moves all parts a little, long before one is rejected.
Of pictures those numbers are followed that a part or a defect hardly moves (`model.optics`); of scores only those of
parts that were accepted, so that defects are told apart from drift.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from inspectd.model.optics import Limits

FEWEST = 100
"""Pictures, or accepted parts, before anything is said."""
WEIGHT = 0.02
"""Of the newest picture in the mean: the last hundred or so make it."""
NEWEST = 300
"""Accepted parts whose scores are looked at."""
FAR = 0.35
"""Of the way from the calibration's median good score to the threshold: parts of another day lie nearer."""
RETURNS = 0.25
"""Of a good pictures' range: so far the mean must be inside again, or of FAR below it."""


class Moved(NamedTuple):
    """One number of pictures."""

    what: str
    """`light`, `noise`, `sharpness` or `edges`."""
    ratio: float
    """Of the mean to what was usual at calibration."""
    is_beyond: bool
    """The mean of many lies where not one picture of the calibration did."""


@dataclass(slots=True)
class _Mean:
    value: float
    count: int
    allowed: Limits
    is_beyond: bool = False

    def add(self, value: float) -> None:
        self.count += 1
        self.value += max(WEIGHT, 1 / self.count) * (value - self.value)
        margin = RETURNS * (self.allowed.highest - self.allowed.lowest) if self.is_beyond else 0.0
        inside = self.allowed.lowest + margin <= self.value <= self.allowed.highest - margin
        self.is_beyond = self.count >= FEWEST and not inside


class Drift:
    """One camera's. Noted by one thread each (`saw`, `accepted`), asked by any."""

    def __init__(self) -> None:
        self._means: dict[str, _Mean] = {}
        self._model = ""
        self._excess: deque[float] = deque(maxlen=NEWEST)
        self._basis: tuple[str | None, float | None] = (None, None)
        self._is_far = False

    def saw(self, model: str, what: str, value: float, allowed: Limits) -> None:
        """Take note of a number of a picture. `model`: by whose calibration; another one begins anew."""
        if model != self._model:
            self._model, self._means = model, {}
        mean = self._means.get(what)
        if mean is None:
            self._means[what] = _Mean(value, 1, allowed)
        else:
            mean.add(value)

    def accepted(self, model: str | None, threshold: float | None, excess: float) -> None:
        """Take note of an accepted part's score; see `Finding.excess`. Another model or threshold begins anew."""
        if (model, threshold) != self._basis:
            self._basis, self._excess, self._is_far = (model, threshold), deque(maxlen=NEWEST), False
        self._excess.append(excess)

    @property
    def pictures(self) -> list[Moved]:
        """What has been seen of pictures, as far as enough have."""
        return list(self._moved())

    @property
    def scores(self) -> float | None:
        """How far accepted parts have moved: 0 lies at the calibration's median good score, 1 at the threshold.

        None: there were too few.
        """
        found = tuple(self._excess)
        return 1 + median(found) if len(found) >= FEWEST else None

    def far(self) -> float | None:
        """Return `scores` while that is far from 0; None: it is not. For one thread, which looks again and again."""
        moved = self.scores
        limit = FAR * (1 - RETURNS) if self._is_far else FAR
        self._is_far = moved is not None and moved > limit
        return moved if self._is_far else None

    def _moved(self) -> Iterator[Moved]:
        for what, mean in tuple(self._means.items()):
            usual = (mean.allowed.lowest + mean.allowed.highest) / 2
            if mean.count >= FEWEST and usual > 0:
                yield Moved(what, mean.value / usual, mean.is_beyond)
