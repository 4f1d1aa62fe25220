"""What other thresholds would do: a table from scores of parts that are known to be good or defective. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inspectd.line.judge import exceeds

EACH_SIDE = 6
"""Rows of the table on either side of the threshold."""


@dataclass(frozen=True, slots=True)
class Known:
    """Parts of which it is known what they are, and their scores."""

    name: str
    scores: Sequence[float]
    is_good: bool

    def wrong(self, threshold: float) -> int:
        """Return how many of them a threshold would get wrong: good ones rejected, defects missed."""
        return sum(exceeds(score, threshold) == self.is_good for score in self.scores)

    @property
    def title(self) -> str:
        """What is counted."""
        return f"{self.name} {'rejected' if self.is_good else 'missed'}"


def table_of(threshold: float, kinds: Sequence[Known]) -> list[list[str]]:
    """Return rows of text, their head first: what some thresholds around this one get wrong, of those that change it.

    Lower ones are told as far as they would reject a few more good parts; higher ones up to the highest score.
    """
    kinds = [kind for kind in kinds if kind.scores]
    good = [score for kind in kinds if kind.is_good for score in kind.scores]
    every = sorted({score for kind in kinds for score in kind.scores})
    rejected = sum(exceeds(score, threshold) for score in good)
    lower = [s for s in every if s < threshold and sum(exceeds(one, s) for one in good) <= rejected + EACH_SIDE]
    higher = [s for s in every if s > threshold]
    others = {float(f"{value:.4g}") for value in (*_spread(lower), *_spread(higher))}  # counted as they are printed
    rows = [["threshold", *(kind.title for kind in kinds)]]
    for value in sorted({*others, threshold}):
        said = f"{value:.4g}" + (" (chosen)" if value == threshold else "")
        rows.append([said, *(f"{kind.wrong(value)} of {len(kind.scores)}" for kind in kinds)])
    return rows


def _spread(ascending: Sequence[float]) -> list[float]:
    """Return some of the values, from the first to the last."""
    last = len(ascending) - 1
    return [ascending[round(i * last / (EACH_SIDE - 1))] for i in range(EACH_SIDE)] if last >= 0 else []
