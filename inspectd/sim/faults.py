"""What a camera can do to you, on a script that follows from a seed and the time alone.

Whoever knows the seed knows what was wrong at any moment: a capture child that was killed and started again goes on in
the same script, and a test can tell afterwards what should have been said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import Generic, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
SECOND = 1_000_000_000
SHORTEST = 0.1
"""Of the longest."""
EVERY_S, LONGEST_S = 8.0, 3.0
"""Of a simulated camera that misbehaves."""
LATEST_END = 0.9
"""Of its turn: then there is peace, so that it can be seen what comes back, and how fast."""


@dataclass(frozen=True, slots=True)
class Episode(Generic[T]):
    """Something that is wrong for a while; times of the monotonic clock."""

    trouble: T
    start_ns: int
    end_ns: int

    def covers(self, now_ns: int) -> bool:
        """Whether it is wrong at this moment."""
        return self.start_ns <= now_ns < self.end_ns


class Script(Generic[T]):
    """One episode after the other, in turns of equal length, as far as anybody looks; every kind in as many turns."""

    def __init__(self, seed: int, troubles: Sequence[T], every_s: float, longest_s: float) -> None:
        """Every `every_s` one of `troubles` comes, for `longest_s` at most; ValueError: that does not fit."""
        if not 0 < longest_s <= LATEST_END * every_s:
            raise ValueError(
                f"Episodes of up to {longest_s:g} s every {every_s:g} s leave no peace between them; expected at most "
                f"{LATEST_END * every_s:g} s."
            )
        self._seed = seed
        self._troubles = tuple(troubles)
        self._every_ns = int(every_s * SECOND)
        self._longest_ns = int(longest_s * SECOND)
        self._last: tuple[int, Episode[T]] | None = None
        """The turn that was looked at last: it is looked at again and again."""

    def episode(self, turn: int) -> Episode[T]:
        """Return what comes in a turn, from 0."""
        if self._last is not None and self._last[0] == turn:
            return self._last[1]
        rng = np.random.default_rng([self._seed, turn])
        round_, place = divmod(turn, len(self._troubles))
        order = np.random.default_rng([self._seed, round_]).permutation(len(self._troubles))
        trouble = self._troubles[int(order[place])]
        length_ns = int(self._longest_ns * rng.uniform(SHORTEST, 1))
        start_ns = int(rng.uniform(0, LATEST_END * self._every_ns - length_ns))
        begin_ns = turn * self._every_ns + start_ns
        found = Episode(trouble, begin_ns, begin_ns + length_ns)
        self._last = (turn, found)
        return found

    def now(self, now_ns: int) -> Episode[T] | None:
        """Return what is wrong at a moment; None: nothing."""
        found = self.episode(now_ns // self._every_ns)
        return found if found.covers(now_ns) else None

    def between(self, start_ns: int, end_ns: int) -> Iterator[Episode[T]]:
        """Yield what is wrong at some moment of a while, in its order."""
        for turn in range(start_ns // self._every_ns, end_ns // self._every_ns + 1):
            found = self.episode(turn)
            if found.end_ns > start_ns and found.start_ns < end_ns:
                yield found


@dataclass(frozen=True, slots=True)
class Lamp:
    """One that ages: evenly, from its full brightness to a share of it, until it is renewed; times of the monotonic
    clock."""

    share: float
    ages_s: float
    began_s: float
    renewed_s: float = inf

    def light(self, picture: NDArray[np.uint8], now_s: float) -> NDArray[np.uint8]:
        """Return a picture as it is in this lamp's light; itself where the lamp does not age."""
        if self.share == 1 or now_s >= self.renewed_s:
            return picture
        gone = min(1.0, max(0.0, now_s - self.began_s) / self.ages_s) if self.ages_s > 0 else 1.0
        return np.asarray(cv2.convertScaleAbs(picture, alpha=1 + gone * (self.share - 1)), np.uint8)


class Trouble(StrEnum):
    """What a camera does, by the words of the field."""

    UNPLUGGED = "unplugged"
    """It says that it is gone, and cannot be opened."""
    HANGS = "hangs"
    """A read does not return."""
    FROZEN = "frozen"
    """Pictures come that do not change by a bit, as if they were new."""
    STALE = "stale"
    """The driver hands out an old buffer, with its old time."""
    TORN = "torn"
    """Pictures arrive damaged, and the decoder says so."""
    DARK = "dark"
    """The lamp has failed."""
    BLURRED = "blurred"
    """The lens is out of focus."""
    BUMPED = "bumped"
    """The camera looks somewhere else."""
    SWAPPED = "swapped"
    """Red and blue are exchanged."""
    RESIZED = "resized"
    """The pictures have another size."""


BY_GRABBING = (Trouble.UNPLUGGED, Trouble.HANGS, Trouble.FROZEN, Trouble.STALE, Trouble.TORN)
"""What happens to the picture's way; all others happen to the picture."""


def spoil(picture: NDArray[np.uint8], trouble: Trouble) -> NDArray[np.uint8]:
    """Return what a picture [H, W, 3] looks like when something is wrong; itself where that does not show in it."""
    height, width = picture.shape[:2]
    match trouble:
        case Trouble.DARK:
            return np.asarray(picture // 8, np.uint8)
        case Trouble.BLURRED:
            return np.asarray(cv2.GaussianBlur(picture, (0, 0), min(height, width) / 60), np.uint8)
        case Trouble.BUMPED:
            move = np.array([[1, 0, width / 5], [0, 1, height / 8]], np.float32)
            return np.asarray(cv2.warpAffine(picture, move, (width, height), borderMode=cv2.BORDER_REFLECT), np.uint8)
        case Trouble.SWAPPED:
            return np.ascontiguousarray(picture[:, :, ::-1])
        case Trouble.RESIZED:
            return np.asarray(cv2.resize(picture, (width * 3 // 4, height * 3 // 4)), np.uint8)
        case _:
            return picture
