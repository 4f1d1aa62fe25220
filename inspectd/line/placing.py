"""Telling parts apart that are put down and taken away, by a hand or a robot: a part is where it was put.

While something covers its place it is there, whatever a hand or its shadow does around it; when the place looks
empty it is gone. A part that was moved is taken for another one, since nobody saw that it is not.

Pure: pictures' things in, what becomes of parts out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from inspectd.line.passing import BRIEF, LARGE, Look, Missed, is_steady
from inspectd.model.presence import Presence, Sight, Thing

LIES_NS = 2_000_000_000
"""What lies still for so long is no hand."""
WRONG = "something lies there that is no part by itself: half of one, two that touch, or another thing"
STILL = 0.02
"""Of its size: so far a part that lies still may seem to move from picture to picture."""
NEAR = 0.1
"""Of its size: a part that is further away than this from where one lay is another one."""


@dataclass(slots=True)
class _Placed:
    number: int
    at: tuple[float, float]
    """Where its middle was last."""
    unseen_for: int = 0
    """Pictures."""


@dataclass(slots=True)
class _Odd:
    thing: Thing
    since_ns: int
    """It has lain still since then."""
    is_told: bool = False


@dataclass(slots=True)
class Placing:
    """What lies in front of one camera. Called from one thread, with one picture after the other."""

    known: Presence
    last: int = 0
    """The highest number that a part has."""
    _there: list[_Placed] = field(default_factory=list)
    _before: Sequence[Thing] = ()
    _odd: list[_Odd] = field(default_factory=list)
    """What lies there and is no part."""

    def look(self, sight: Sight, taken_ns: int) -> list[Look | Missed]:
        """Return which parts can be inspected in one more picture, from left to right; and what lies there and is none.

        A hand does not lie still; half a part, or two that touch, do.
        """
        things, before, self._before = sight.things, self._before, sight.things
        for part in self._there:
            part.unseen_for = 0 if any(_covers(thing, part.at) for thing in things) else part.unseen_for + 1
        self._there = [part for part in self._there if part.unseen_for <= BRIEF]
        still = [thing for thing in things if thing.is_part and self._lies_still(thing, before)]
        looks = [self._seen(thing) for thing in sorted(still, key=lambda thing: thing.box[0])]
        return [*self._wrong(things, taken_ns), *looks]

    @property
    def present(self) -> set[int]:
        """Numbers of the parts that are there."""
        return {part.number for part in self._there}

    def take_over(self, other: Placing) -> None:
        """Go on with what another one knows, of another product in front of the same camera."""
        self.last, self._there, self._before, self._odd = other.last, other._there, other._before, other._odd

    def forget(self) -> None:
        """Begin anew: nobody knows what happened since the last picture."""
        self._there, self._before, self._odd = [], (), []

    def _wrong(self, things: Sequence[Thing], now_ns: int) -> list[Missed]:
        """Return what has lain there for long and is no part, once for each place."""
        odd = []
        found = []
        for thing in things:
            if thing.is_part or thing.share < LARGE or any(_covers(thing, part.at) for part in self._there):
                continue  # a part that something is at
            same = next((one for one in self._odd if is_steady(one.thing, thing) and self._is_near(one, thing)), None)
            one = same or _Odd(thing, now_ns)
            one.thing = thing
            odd.append(one)
            if not one.is_told and now_ns - one.since_ns >= LIES_NS:
                one.is_told = True
                self.last += 1
                found.append(Missed(self.last, WRONG))
        self._odd = odd
        return found

    def _is_near(self, one: _Odd, thing: Thing) -> bool:
        return self._apart(one.thing.middle, thing.middle) <= STILL

    def _lies_still(self, thing: Thing, before: Sequence[Thing]) -> bool:
        return any(
            one.is_part and is_steady(one, thing) and self._apart(one.middle, thing.middle) <= STILL for one in before
        )

    def _seen(self, thing: Thing) -> Look:
        near = min(self._there, key=lambda part: self._apart(part.at, thing.middle), default=None)
        if near is None or self._apart(near.at, thing.middle) > NEAR:
            self.last += 1
            near = _Placed(self.last, thing.middle)
            self._there.append(near)
        near.at = thing.middle
        return Look(near.number, thing)

    def _apart(self, one: tuple[float, float], other: tuple[float, float]) -> float:
        """Return how far two places are from each other, in sizes of a part."""
        return math.dist(one, other) / max(self.known.size)


def _covers(thing: Thing, at: tuple[float, float]) -> bool:
    x, y, w, h = thing.box
    return x <= at[0] <= x + w and y <= at[1] <= y + h
