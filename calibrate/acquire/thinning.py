"""A long video is thinned by novelty: of pictures that look like the one before, one is enough.

Bounded: never more than MOST pictures are kept, however long it is; what goes is what differs least from its
predecessor in time, so that everything that happened once is still there.
"""

from __future__ import annotations

import numpy as np

from calibrate.data.training_set import Pictures

MOST = 600
"""Pictures that are kept; of so many, calibration takes some minutes, and more of the same parts prove no more."""


class Thinning:
    """Keeps `pictures` from growing beyond a number."""

    def __init__(self, pictures: Pictures, most: float = MOST) -> None:
        self.dropped = 0
        self._pictures = pictures
        self._most = most
        self._novelty: list[float] = []
        """Of each kept picture: how much it differs from the one before it."""

    def after_adding(self) -> None:
        """Take note of the picture that was added last, and drop the least new one if there are too many."""
        last = len(self._pictures.taken) - 1
        self._novelty.append(self._difference(last))
        if len(self._pictures.taken) <= self._most:
            return
        least = int(np.argmin(self._novelty))
        self._pictures.drop(least)
        del self._novelty[least]
        self.dropped += 1
        if least < len(self._novelty):
            self._novelty[least] = self._difference(least)

    def notes(self) -> list[str]:
        """Return a sentence about what was left out."""
        if not self.dropped:
            return []
        kept = len(self._pictures.taken)
        return [
            f"Of {kept + self.dropped} frames the {kept} were kept that differ most from the one before; --parts says "
            "how many to take from the beginning instead."
        ]

    def _difference(self, position: int) -> float:
        """Return in grey levels how much a picture differs from its predecessor; the first is always new."""
        if position == 0:
            return float("inf")
        smalls = self._pictures.smalls
        return float(np.abs(smalls[position] - smalls[position - 1]).mean())
