"""Telling one part from the next where no sensor does: what lies in one picture is found again in the following one.

Parts on a belt keep their order and move together: a shift is looked for that brings what was seen before to what is
seen now. Who leaves at the far end unseen has been missed, and that is said; who leaves at the near end (the belt ran
back) comes again, and is not another part.

Pure: pictures' things in, what becomes of parts out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from inspectd.model.presence import NO_PROFILE, OPPOSITE, Box, Presence, Side, Sight, Thing

STEADY = 0.06
"""A part's area changes by no more between two pictures in which all of it is seen."""
OVERLAP = 0.2
"""Of the smaller box: what covers so much of what was seen before may be the same."""
BRIEF = 3
"""Pictures for which something may not be seen where it must be, and still be there."""
AWAY_S = 60.0
"""So long a part that left at an end may come back there."""
FURTHER = 2.0
"""How much worse a shift fits for each length of the place that it differs from what the last pace would bring."""
MOST_FITTED = 8
"""Things, the largest first: what is small says little of how the belt has moved, and each takes its time."""
LIKELY = 4
"""Shifts that bring what differs to where it differs now are tried as well: so many of the likeliest."""
LOOKS = 5.0
"""How much what a shift looks like counts, against where things begin and end."""
SLIDES = 0.75
"""Of the place: it moves by no more from picture to picture."""
LARGE = 0.3
"""Of a part's area: what is as large, and vanishes between the ends, was a part that nobody has seen whole."""
PIECE = 0.7
"""Of a part's length: what is shorter is a piece of one."""
IN_VAIN = 4
"""So often something may come to the near end and leave again."""
GONE = 0.75
"""Of a thing: if so much of it has left the place, it is gone."""


@dataclass(slots=True, eq=False)
class _Part:
    """Something that is a part, or may become one."""

    at: tuple[float, float]
    """Where its middle was last, or would be by how all things have moved since."""
    number: int | None = None
    """Given with the first look, or when it is missed."""
    left_ns: int = 0
    returned: int = 0
    """How often it has come from the near end."""


@dataclass(slots=True, eq=False)
class _Held:
    """A thing that is in the picture, and the parts that it is, or is made of."""

    thing: Thing
    parts: list[_Part]
    was_part: bool = False
    """In the picture before, too."""
    beyond: float = 0.0
    """How much of it has left the place, at the far end."""
    length: float = 0.0
    """As much of it as was ever known, along the belt."""
    unseen_for: int = 0


@dataclass(frozen=True, slots=True)
class Look:
    """A part that can be inspected: all of it is there, as steady as parts are."""

    part: int
    """Numbers begin at 1; a part keeps its own."""
    thing: Thing


@dataclass(frozen=True, slots=True)
class Missed:
    """A part that went by and could not be inspected."""

    part: int
    why: str


@dataclass(slots=True)
class Passing:
    """What is in front of one camera. Called from one thread, with one picture after the other."""

    known: Presence
    last: int = 0
    """The highest number that a part has."""
    _held: list[_Held] = field(default_factory=list)
    _back: list[_Part] = field(default_factory=list)
    """Left where parts come from; the last to leave comes back first."""
    _gone: list[_Part] = field(default_factory=list)
    """Left at the far end."""
    _taken_ns: int = 0
    """When the picture before was."""
    _pace: float = 0.0
    """Of the belt: pixels in a nanosecond, towards the far end."""
    _shift: float = 0.0
    """Since the picture before."""
    _profile: NDArray[np.float32] = field(default_factory=lambda: NO_PROFILE)
    """Of the picture before."""

    def look(self, sight: Sight, taken_ns: int) -> list[Look | Missed]:
        """Return what can be said of parts after one more picture, in the order in which they passed."""
        self._forget(taken_ns)
        since_ns, self._taken_ns = max(1, taken_ns - self._taken_ns), taken_ns
        self._shift = self._best_shift(sight, self._pace * since_ns)
        self._pace, self._profile = self._shift / since_ns, sight.profile
        self._move_all(self._shift)
        found: list[Look | Missed] = []
        held: list[_Held] = []
        for before, now in self._linked(sight.things):
            if not now:
                found += self._end(before, held, taken_ns)
            elif not before:
                held += [self._appeared(thing) for thing in now]
            else:
                held += self._gone_on(before, now)
        self._held = held
        return found + [self._seen(one) for one in self._in_order(held) if self._can_be_seen(one)]

    @property
    def present(self) -> set[int]:
        """Numbers of the parts that are in the picture."""
        return {part.number for one in self._held for part in one.parts if part.number is not None}

    def take_over(self, other: Passing) -> None:
        """Go on with what another one knows, of another product in front of the same camera."""
        self.last, self._held, self._back, self._gone = other.last, other._held, other._back, other._gone
        self._taken_ns, self._pace = other._taken_ns, other._pace

    def forget(self) -> None:
        """Begin anew: nobody knows what happened since the last picture."""
        self._held, self._back, self._gone, self._pace, self._profile = [], [], [], 0.0, NO_PROFILE

    # Along the belt

    @property
    def _axis(self) -> int:
        return 1 if self._near in ("top", "bottom") else 0

    @property
    def _sign(self) -> int:
        """Which way parts move, in pixels along the axis."""
        return 1 if self._near in ("left", "top") else -1

    @property
    def _near(self) -> Side:
        """The end that parts come from."""
        return self.known.comes_from or "left"

    @property
    def _far(self) -> Side:
        return OPPOSITE[self._near]

    def _span(self, box: Box) -> tuple[float, float]:
        """Return where a box begins and ends along the belt, from where parts come from, in pixels of the place."""
        start = box[self._axis] - self.known.window[self._axis]
        end = start + box[self._axis + 2]
        return (start, end) if self._sign > 0 else (self._length - end, self._length - start)

    def _whole_span(self, thing: Thing) -> tuple[float, float]:
        """Return where a thing begins and ends, with what of a part may lie beyond the ends of the place."""
        start, end = self._span(thing.box)
        hidden = self._part_length - (end - start)
        hidden = hidden if hidden >= 0 else self._part_length  # of several that touch, as many may follow
        return (
            start - hidden if self._near in thing.touches else start,
            end + hidden if self._far in thing.touches else end,
        )

    @property
    def _length(self) -> float:
        """Of the place, along the belt."""
        return self.known.window[self._axis + 2]

    @property
    def _part_length(self) -> float:
        return self.known.size[self._axis]

    def _in_order(self, held: Sequence[_Held]) -> list[_Held]:
        """Return things as they came: the furthest one first."""
        return sorted(held, key=lambda one: -self._span(one.thing.box)[1])

    def _best_shift(self, sight: Sight, expected: float) -> float:
        """Return how far everything has moved, towards the far end."""
        if not sight.things or not self._held:
            return expected
        new = [self._whole_span(thing) for thing in sight.things][:MOST_FITTED]
        old = [self._whole_span(one.thing) for one in self._held][:MOST_FITTED]
        unlike, step = unlikeness(self._profile, sight.profile), self.known.step
        shifts = {expected, 0.0}
        shifts |= {a[side] - b[side] for a in new for b in old for side in (0, 1)}
        shifts |= {float(by * step) for by in sorted(unlike, key=unlike.__getitem__)[:LIKELY]}

        def fits(shift: float) -> tuple[float, float]:
            unlikely = unlike.get(round(shift / step), 1.0)
            further = abs(shift - expected) / self._length
            return self._fits(shift, old, new) - LOOKS * unlikely - FURTHER * further, -abs(shift)

        return max(shifts, key=fits)

    def _fits(self, shift: float, old: Sequence[tuple[float, float]], new: Sequence[tuple[float, float]]) -> float:
        """Return how well a shift explains what is seen: what must be there is, and what is there must be."""
        moved = [_within((start + shift, end + shift), self._length) for start, end in old]
        came = [_within((start - shift, end - shift), self._length) for start, end in new]
        there = [_within(span, self._length) for span in new]
        score = 0.0
        for was in moved:
            best = max((_common(was, now) / max(_size(was), _size(now)) for now in there), default=0.0)
            score += _size(was) / self._part_length * (2 * best - 1) if _size(was) > 0 else 0
        for before in came:
            if not any(_common(before, _within(was, self._length)) > OVERLAP * _size(before) for was in old):
                score -= _size(before) / self._part_length
        return score

    def _move_all(self, shift: float) -> None:
        for one in self._held:
            if self._far in one.thing.touches:
                one.beyond += shift
            for part in one.parts:
                part.at = self._moved(part.at, shift)

    def _moved(self, at: tuple[float, float], shift: float) -> tuple[float, float]:
        by = shift * self._sign
        return (at[0], at[1] + by) if self._axis else (at[0] + by, at[1])

    # From one picture to the next

    def _linked(self, things: Sequence[Thing]) -> Iterator[tuple[list[_Held], list[Thing]]]:
        """Yield what belongs together: things that were seen, and things that are."""
        left = list(things)
        groups: list[tuple[list[_Held], list[Thing]]] = []
        for one in self._in_order(self._held):
            box = self._expected(one)
            mine = [thing for thing in things if _overlap(box, thing.box) >= OVERLAP]
            joined = [group for group in groups if any(thing in group[1] for thing in mine)]
            before = [held for group in joined for held in group[0]] + [one]
            now = list(dict.fromkeys([thing for group in joined for thing in group[1]] + mine))
            groups = [group for group in groups if group not in joined] + [(before, now)]
            left = [thing for thing in left if thing not in mine]
        for before, now in groups:
            yield before, self._joined(now) if len(before) == 1 else now
        yield from (([], [thing]) for thing in left)

    def _joined(self, pieces: list[Thing]) -> list[Thing]:
        """Return pieces of what was one thing as that thing, unless they are too far apart to be one part."""
        if len(pieces) < 2:
            return pieces
        boxes = [piece.box for piece in pieces]
        left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
        right, bottom = max(box[0] + box[2] for box in boxes), max(box[1] + box[3] for box in boxes)
        if right - left > self.known.size[0] or bottom - top > self.known.size[1]:
            return pieces
        touches = frozenset(side for piece in pieces for side in piece.touches)
        share = sum(piece.share for piece in pieces)
        middle = ((left + right) / 2, (top + bottom) / 2)
        return [Thing((left, top, right - left, bottom - top), middle, share, touches, is_part=False)]

    def _moved_box(self, box: Box) -> Box:
        return *self._moved(box[:2], self._shift), *box[2:]

    def _expected(self, one: _Held) -> Box:
        x, y, w, h = self._moved_box(one.thing.box)
        wx, wy, ww, wh = self.known.window
        left, top, right, bottom = max(x, wx), max(y, wy), min(x + w, wx + ww), min(y + h, wy + wh)
        return left, top, max(0.0, right - left), max(0.0, bottom - top)

    def _appeared(self, thing: Thing) -> _Held:
        comes = self._near in thing.touches
        returns = self._far in thing.touches
        stack = [] if comes == returns else self._back if comes else self._gone
        part = stack.pop() if stack else _Part(thing.middle)
        part.at, part.returned = thing.middle, part.returned + bool(comes and not returns)
        return self._measured(_Held(thing, [part]))

    def _gone_on(self, before: Sequence[_Held], now: Sequence[Thing]) -> list[_Held]:
        """Return the things that others have become: one goes on, some touch, one comes apart."""
        parts = [part for one in self._in_order(before) for part in one.parts]
        shared = _shared(parts, now) if len(now) > 1 else [parts]
        after = []
        for thing, its_parts in zip(now, shared, strict=True):
            is_alone = len(before) == 1 and len(now) == 1
            one = _Held(
                thing,
                its_parts or [_Part(thing.middle)],
                is_alone and before[0].thing.is_part and is_steady(before[0].thing, thing),
                max(held.beyond for held in before) if self._far in thing.touches else 0.0,
                max(held.length for held in before) if len(now) == 1 else before[0].beyond,
            )
            if len(one.parts) == 1:
                one.parts[0].at = thing.middle
            after.append(self._measured(one))
        return after

    def _measured(self, one: _Held) -> _Held:
        start, end = self._span(one.thing.box)
        if self._near in one.thing.touches or self._far not in one.thing.touches or one.length < end - start:
            one.length = max(one.length, end - start + one.beyond)
        else:  # all of it has come
            one.beyond = one.length - (end - start)
        return one

    def _end(self, before: Sequence[_Held], held: list[_Held], now_ns: int) -> Iterator[Missed]:
        """Decide what has become of what is not seen any more; what may still be there stays in `held`."""
        for one in before:
            side = self._left_at(one)
            if side is None and one.unseen_for < BRIEF:
                one.unseen_for += 1
                one.was_part = False
                one.thing = replace(one.thing, box=self._moved_box(one.thing.box))
                held.append(one)
                continue
            is_lost = side is None and one.thing.share >= LARGE  # taken away, or too fast for the camera
            is_in_vain = side == self._near and self._comes_in_vain(one)
            if side == self._far or is_lost or is_in_vain:
                yield from self._missed(one)
            if side is not None and not is_in_vain:
                for part in one.parts:
                    part.left_ns = now_ns
                (self._gone if side == self._far else self._back).extend(one.parts)

    def _comes_in_vain(self, one: _Held) -> bool:
        """Whether something has come to the near end again and again and was never seen whole."""
        return any(part.number is None and part.returned >= IN_VAIN for part in one.parts)

    def _left_at(self, one: _Held) -> Side | None:
        """Return the end at which a thing has left the place; None: at none of them."""
        start, end = self._span(one.thing.box)
        stays = _size(_within((start + self._shift, end + self._shift), self._length))
        ends = one.thing.touches & {self._near, self._far}
        if len(ends) == 1 or stays > (1 - GONE) * (end - start):
            return next(iter(ends)) if len(ends) == 1 else None
        return self._far if self._shift >= 0 else self._near

    def _missed(self, one: _Held) -> Iterator[Missed]:
        """Say of each part that a thing was, and that was not inspected, that it went by."""
        seen = [part for part in one.parts if part.number is not None]
        unseen = [part for part in one.parts if part.number is None]
        several = max(1, round(one.length / self._part_length))
        unseen += [_Part(one.thing.middle) for _ in range(several - len(one.parts))]
        unseen = unseen[: max(0, several - len(seen))]
        one.parts = [*seen, *unseen]
        for part in unseen:
            self.last += 1
            part.number = self.last
            yield Missed(part.number, self._why_missed(one, several))

    def _why_missed(self, one: _Held, several: int) -> str:
        if several > 1:
            return f"{several} parts that touch went by as one; none of them could be inspected by itself"
        if one.length < self._part_length * PIECE:
            return "something went by that is smaller than a part; a broken one, perhaps"
        return (
            "a part went by, or was taken away, and was never seen whole and by itself; is the belt too fast for the "
            "camera, or something in the way?"
        )

    # Whole parts

    def _can_be_seen(self, one: _Held) -> bool:
        return one.thing.is_part and one.was_part and one.unseen_for == 0

    def _seen(self, one: _Held) -> Look:
        part = self._which(one)
        one.parts = [part]
        part.at = one.thing.middle
        if part.number is None:
            self.last += 1
            part.number = self.last
        return Look(part.number, one.thing)

    def _which(self, one: _Held) -> _Part:
        """Return the part that a thing is: of several that it was, one that was there, and rather one with a number."""
        if len(one.parts) == 1:
            return one.parts[0]
        apart = [(math.dist(part.at, one.thing.middle), part) for part in one.parts]
        near = [part for far, part in apart if far <= self._part_length / 2]
        unknown = [part for part in one.parts if part.number is None]
        numbered = [part for part in near if part.number is not None]
        return next(iter((*numbered, *near, *unknown)), None) or _Part(one.thing.middle)

    def _forget(self, now_ns: int) -> None:
        before_ns = now_ns - int(AWAY_S * 1e9)
        self._back = [part for part in self._back if part.left_ns > before_ns]
        self._gone = [part for part in self._gone if part.left_ns > before_ns]


def unlikeness(before: NDArray[np.float32], now: NDArray[np.float32]) -> dict[int, float]:
    """Return how unlike two profiles are, 0 … 1 or more, where one is shifted, by how many places."""
    length = len(before)
    found = {}
    for by in range(-int(length * SLIDES), int(length * SLIDES) + 1) if length == len(now) else ():
        was, is_now = before[max(0, -by) : length - max(0, by)], now[max(0, by) : length - max(0, -by)]
        energy = float(np.vdot(was, was) + np.vdot(is_now, is_now)) / 2
        apart = was - is_now
        found[by] = float(np.vdot(apart, apart)) / max(energy, 1e-6)
    return found


def _shared(parts: Sequence[_Part], things: Sequence[Thing]) -> list[list[_Part]]:
    """Return which parts each of several things is made of that were one before: each goes to the nearest."""
    found: list[list[_Part]] = [[] for _ in things]
    for part in sorted(parts, key=lambda one: one.number is None):
        free = [i for i, its in enumerate(found) if not its] or range(len(things))
        found[min(free, key=lambda i: math.dist(part.at, things[i].middle))].append(part)
    return found


def is_steady(before: Thing, now: Thing) -> bool:
    """Whether a part that was seen whole twice is as large as before."""
    return abs(now.share - before.share) <= STEADY * before.share


def _within(span: tuple[float, float], length: float) -> tuple[float, float]:
    return min(max(span[0], 0.0), length), min(max(span[1], 0.0), length)


def _size(span: tuple[float, float]) -> float:
    return span[1] - span[0]


def _common(one: tuple[float, float], other: tuple[float, float]) -> float:
    return max(0.0, min(one[1], other[1]) - max(one[0], other[0]))


def _overlap(one: Box, other: Box) -> float:
    """Return how much of the smaller of two boxes lies in the other."""
    across = _common((one[0], one[0] + one[2]), (other[0], other[0] + other[2]))
    down = _common((one[1], one[1] + one[3]), (other[1], other[1] + other[3]))
    smaller = min(one[2] * one[3], other[2] * other[3])
    return across * down / smaller if smaller > 0 else 0.0
