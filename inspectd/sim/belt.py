"""The simulated belt: the line's gears as they pass by themselves, with gaps, pairs, stops, reversals and other speeds.

Where the belt is, and what lies on it, are pure functions of seed and time: a capture child that is started again goes
on with the same belt, and whoever knows the seed knows which parts were in front of the camera at any moment. Parts
come from the left. Lengths are in radii of the gear, times in seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inspectd.sim.line import SHINE, WEAR, WEAVE_PX, Layers, Line, Picture, Plane, drawn, gloss, woven

PLACE = 5.0
"""Of the belt: what lies on it is drawn for one such length after the other."""
TURN_S = 12.0
"""Of time: how the belt moves is drawn for one such while after the other; it gets equally far in each of them."""
STEPS = 8
"""Changes of speed in a turn."""
STOP, REVERSAL = 0.15, 0.12
"""Share of the steps in which the belt stands still, or runs back."""
GAP, PAIR, TOUCHING = 0.2, 0.2, 0.1
"""Share of the places with nothing on them, with two parts close together, and with two that touch."""
CLOSE = 2.25
"""From middle to middle, of a pair; a gear is 2 across."""
TOUCH = 1.97
HAIR = 0.04
WIDTHS_A_SECOND = 0.5
LIGHT = 0
"""The part in whose light all are seen: a belt's lamp does not change from part to part."""


@dataclass(frozen=True, slots=True)
class Lying:
    """A part on the belt."""

    number: int
    at: float
    """Its middle, from where the belt begins."""
    touches: bool
    """Another part."""


class Belt:
    """A camera above a belt; `defects` is the share of parts, 0 … 1, that have a defect."""

    def __init__(
        self,
        seed: int = 0,
        *,
        width: int = 640,
        height: int = 480,
        defects: float = 0.0,
        speed: float = WIDTHS_A_SECOND,
        unrest: float = 1.0,
    ) -> None:
        """`speed`: of the belt, in widths of the picture a second.

        `unrest`: 0 for a belt that runs evenly with single parts, 1 for one with all that belts do.
        """
        if not 0 < speed < 10:
            raise ValueError(f"A belt's speed is more than 0 and less than 10 widths a second; it is {speed:g}.")
        if not 0 <= unrest <= 1:
            raise ValueError(f"A belt's unrest lies between 0 and 1; it is {unrest:g}.")
        self.line = Line(seed, width=width, height=height, defects=defects)
        self._seed, self._unrest, self._size = seed, unrest, (width, height)
        self.width = width / self.line.radius_px
        self._speed = speed * self.width
        self._light = self.line.light(LIGHT)
        self._even = np.ones((height, width), np.float32)
        self._gear = lru_cache(maxsize=8)(self._polished)
        y, x = np.ogrid[: height + 2 * WEAVE_PX, : 4 * width + 2 * WEAVE_PX]
        self._weave = woven(x, y)
        wear = drawn(np.random.default_rng([seed, 2]), (9, 48), WEAR)
        self._wear = np.hstack([cv2.resize(wear, (4 * width, height), interpolation=cv2.INTER_CUBIC)] * 2)

    def position(self, at_s: float) -> float:
        """Return how far the belt has come."""
        turn, into = divmod(at_s, TURN_S)
        ways = self._ways(int(turn))
        step = into / (TURN_S / STEPS)
        whole = int(step)
        return self._speed * TURN_S * (turn + float(ways[:whole].sum() + ways[min(whole, STEPS - 1)] * (step - whole)))

    def seen(self, at_s: float) -> list[Lying]:
        """Return the parts of which something is in the picture, from right to left."""
        right = self.position(at_s)
        return list(self.lying(right - self.width - 1, right + 1))

    def lying(self, start: float, end: float) -> Iterator[Lying]:
        """Yield the parts whose middles lie between two places of the belt, in reverse."""
        for place in range(int(end // PLACE), int(start // PLACE) - 1, -1):
            for part in reversed(self._placed(place)):
                if start <= part.at < end:
                    yield part

    def is_whole(self, part: Lying, at_s: float) -> bool:
        """Whether a part lies wholly in the picture, but for a hair."""
        return 1 - HAIR <= self.middle(part, at_s) <= self.width - 1 + HAIR

    def middle(self, part: Lying, at_s: float) -> float:
        """Return how far a part's middle is from the picture's left side."""
        return self.position(at_s) - part.at

    def render(self, at_s: float) -> Picture:
        """Return what the camera sees, uint8 [H, W, 3], BGR, a fresh array."""
        radius_px = self.line.radius_px
        gears: Layers = np.zeros((self._size[1], self._size[0], 4), np.uint8)
        ground = self._ground(at_s)
        for part in self.seen(at_s):
            moved = complex(self.middle(part, at_s) - self.width / 2, 0)
            cv2.max(gears, self.line.placed(self._gear(part.number), part.number, moved), dst=gears)
            ground = self.line.shaded(ground, part.number, moved)
        grain = int(at_s * radius_px * 1000)
        return self.line.developed(gears, ground, self._even, self._light, grain)

    def _polished(self, number: int) -> Layers:
        """Return a gear that shines by itself, wherever in the picture it lies."""
        layers = self.line.gear(number)
        y, x = np.ogrid[-1 : 1 : len(layers) * 1j, -1 : 1 : len(layers) * 1j]
        shine = cv2.multiply(layers[..., SHINE], gloss(x, y), dtype=cv2.CV_8U)
        cv2.insertChannel(shine, layers, SHINE)
        return layers

    def _ground(self, at_s: float) -> Plane:
        width, height = self._size
        moved_px = round(self.position(at_s) * self.line.radius_px)
        wear_at = -moved_px % (4 * width)
        weave_at = -moved_px % (2 * WEAVE_PX)
        return cv2.add(self._wear[:, wear_at : wear_at + width], self._weave[:height, weave_at : weave_at + width])

    def _ways(self, turn: int) -> NDArray[Any]:
        """Return how far the belt gets in each step of a turn, as shares of the turn's whole way."""
        rng = np.random.default_rng([self._seed, 3, turn])
        paces, kinds = 1 + 0.5 * self._unrest * rng.uniform(-1, 1, STEPS), rng.random(STEPS)
        paces[kinds < STOP * self._unrest] = 0
        back = (kinds >= STOP * self._unrest) & (kinds < (STOP + REVERSAL) * self._unrest)
        paces[back] *= -0.7
        if paces.sum() < STEPS / 4:
            paces = np.ones(STEPS)
        return np.asarray(paces / paces.sum())

    def _placed(self, place: int) -> list[Lying]:
        """Return what lies on one place of the belt, from its beginning."""
        rng = np.random.default_rng([self._seed, 4, place % 2**32])
        kind, middle = rng.random(), place * PLACE + PLACE / 2 + rng.uniform(-0.5, 0.5)
        numbers = (2 * (place % 2**31), 2 * (place % 2**31) + 1)
        if kind < GAP * self._unrest:
            return []
        if kind < (GAP + PAIR + TOUCHING) * self._unrest:
            touches = kind >= (GAP + PAIR) * self._unrest
            apart = TOUCH if touches else CLOSE + rng.uniform(0, 1)
            at = (middle - apart / 2, middle + apart / 2)
            return [Lying(number, where, touches) for number, where in zip(numbers, at, strict=True)]
        return [Lying(numbers[0], middle, touches=False)]
