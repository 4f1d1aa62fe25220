"""Parts that pass a camera by themselves, on the simulated belt: each is told once, whatever the belt does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from belts import FPS, SIZE, START_S, WINDOW, belt, known

from calibrate.acquire.presence import find_empty, learn_presence
from inspectd.errors import UsageError
from inspectd.line.passing import Look, Missed, Passing
from inspectd.line.placing import Placing
from inspectd.model.presence import Side, shrink, step_of
from inspectd.records import Picture
from inspectd.sim.belt import Belt


class Told:
    """What the tracker says of a belt, beside what was on it."""

    def __init__(self, one: Belt, seconds: float, fps: float = FPS) -> None:
        self.numbers: dict[int, list[int]] = defaultdict(list)
        """By the simulator's number of a part, those that it was given."""
        self.missed: list[Missed] = []
        self.passed: list[int] = []
        """Parts of which something was in the picture, and is not any more, in their order."""
        passing, seen = Passing(known()), dict[int, bool]()
        for i in range(int(seconds * fps)):
            at_s = START_S + i / fps
            there = {part.number: part for part in one.seen(at_s)}
            seen |= {number: part.touches for number, part in there.items()}
            for event in passing.look(known().sight(one.render(at_s)), int(at_s * 1e9)):
                if isinstance(event, Missed):
                    self.missed.append(event)
                    continue
                x = event.thing.middle[0] / one.line.radius_px
                near = min(there.values(), key=lambda part: abs(one.middle(part, at_s) - x))
                assert abs(one.middle(near, at_s) - x) < 0.3, "a look shows a part where there is one"
                assert one.is_whole(near, at_s)
                if event.part not in self.numbers[near.number]:
                    self.numbers[near.number].append(event.part)
        self.touching = {number for number, touches in seen.items() if touches}
        self.at_the_end = set(there)
        self.all = set(seen)
        self.count = passing.last


def test_what_a_part_is_is_learned_from_pictures_of_a_belt_that_stops_and_runs_back() -> None:
    presence = known()
    assert presence.comes_from == "left"
    assert 0.8 < presence.least < 1 < presence.most < 1.2, "the gears are all of one size"
    width = 2 * belt(3).line.radius_px
    assert width < presence.size[0] < 1.25 * width
    assert presence.problem() is None


@pytest.mark.parametrize("seed", [1, 4])
def test_each_part_is_told_once_with_gaps_pairs_stops_reversals_and_other_speeds(seed: int) -> None:
    told = Told(belt(seed), 60)
    assert len(told.all) > 15
    assert {part: numbers for part, numbers in told.numbers.items() if len(numbers) > 1} == {}, "none is told twice"
    every = [number for numbers in told.numbers.values() for number in numbers]
    assert len(every) == len(set(every)), "no two parts have one number"
    assert not told.touching & told.numbers.keys(), "two that touch are not a part"
    free = told.all - told.touching - told.at_the_end
    unseen = free - told.numbers.keys()
    assert told.count == len(every) + len(told.missed)
    assert abs(told.count - len(told.all)) <= len(told.at_the_end) + 1, "every part is told, one way or another"
    assert len(unseen) <= 3, f"pairs too close for one picture each, and who was leaving at the start: {unseen}"


def test_parts_too_fast_for_the_camera_are_missed_and_not_passed_over() -> None:
    told = Told(belt(5, speed=0.8), 60, fps=8)
    assert told.missed
    assert abs(told.count - len(told.all)) <= len(told.at_the_end) + 2


def test_an_empty_belt_is_nothing_whatever_it_does() -> None:
    bare = Bare(7)
    passing = Passing(known())
    for i in range(20 * FPS):
        sight = known().sight(bare.render(START_S + i / FPS))
        assert sight.things == []
        assert passing.look(sight, i) == []


class Bare(Belt):
    """A belt that nothing lies on."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, width=SIZE[0], height=SIZE[1])

    def lying(self, start: float, end: float) -> Iterator[object]:  # type: ignore[override]
        return iter(())


def turned(picture: Picture, side: Side) -> Picture:
    """Return a picture as if parts came from another side than the left."""
    return np.ascontiguousarray(np.rot90(picture, {"left": 0, "bottom": 1, "right": 2, "top": 3}[side]))


@pytest.mark.parametrize("side", ["right", "top"])
def test_parts_may_come_from_any_side(side: Side) -> None:
    one = belt(3)
    first = turned(one.render(50), side)
    size = (first.shape[1], first.shape[0])
    window = (0, 0, *size)
    watched = [shrink(turned(one.render(50 + i / 15), side), window, step_of(window)) for i in range(60 * 15)]
    presence = learn_presence(watched, size, window, step_of(window)).presence
    assert presence.comes_from == side
    passing, straight = Passing(presence), Passing(known())
    for i in range(20 * FPS):
        picture, now_ns = one.render(START_S + i / FPS), int(i / FPS * 1e9)
        passing.look(presence.sight(turned(picture, side)), now_ns)
        straight.look(known().sight(picture), now_ns)
    assert passing.last == straight.last > 4


def test_what_was_in_front_of_the_camera_is_taken_for_new_after_it_was_gone() -> None:
    one, passing = belt(1, unrest=0), Passing(known())
    number = 0
    for i in range(30 * FPS):
        at_s = START_S + i / FPS
        looks = [e for e in passing.look(known().sight(one.render(at_s)), int(at_s * 1e9)) if isinstance(e, Look)]
        if looks and number == 0:
            number = looks[0].part
            passing.forget()
        elif looks:
            assert looks[0].part == number + 1
            return
    pytest.fail("no part came")


@pytest.mark.realdata
def test_bottles_that_are_put_down_and_taken_away_are_told_once_each(shared: Path) -> None:
    """By hand, to some ten pictures: when a bottle stood whole and untouched on the left, in the middle, on the right.

    Hands come between. The empty place is put together from three moments, since it is never seen as a whole.
    """
    truth = {0: [(0, 195), (400, 480), (870, 1189)], 1: [(0, 480), (735, 1189)], 2: [(0, 930), (1095, 1189)]}
    capture = cv2.VideoCapture(str(shared / "data/video/bottle-detection.mp4"))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    height, width = frames[0].shape[:2]
    window = (0, 0, width, height)
    step = step_of(window)
    smalls = [shrink(frame, window, step) for frame in frames]
    empty = smalls[600].copy()
    empty[:, empty.shape[1] * 2 // 3 :] = smalls[1000][:, empty.shape[1] * 2 // 3 :]
    presence = learn_presence(smalls, (width, height), window, step, [empty]).presence
    assert presence.comes_from is None
    placing, first = Placing(presence), dict[int, tuple[int, int]]()
    for number, small in enumerate(smalls):
        for event in placing.look(presence.sight_of(small), number):
            assert isinstance(event, Look)
            first.setdefault(event.part, (number, int(event.thing.middle[0] // (width / 3))))
    told = sorted((place, number) for number, place in first.values())
    expected = sorted((place, start) for place, spells in truth.items() for start, _ in spells)
    assert [place for place, _ in told] == [place for place, _ in expected], "one verdict per part, none for a hand"
    assert all(abs(seen - stood) <= 30 for (_, seen), (_, stood) in zip(told, expected, strict=True))


def test_a_place_that_was_never_empty_is_refused_with_what_to_do() -> None:
    rng = np.random.default_rng(0)
    never = [np.asarray(rng.integers(0, 255, (120, 160, 3)), np.uint8) for _ in range(60)]
    with pytest.raises(UsageError, match="--empty PICTURE"):
        find_empty(np.stack(never))


def test_parts_that_look_like_the_place_are_refused() -> None:
    rng = np.random.default_rng(0)
    grey = [np.asarray(np.clip(rng.normal(90, 4, (120, 160, 3)), 0, 255), np.uint8) for _ in range(80)]
    with pytest.raises(UsageError):
        learn_presence(grey, SIZE, WINDOW, 1)
