"""Inspection, with engines that stall, fail and talk nonsense."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import numpy as np
import pytest
from conftest import small_artefact

from inspectd.engine.backend import Floats, Request, Score, Scorer
from inspectd.line.batcher import Batcher, Job
from inspectd.line.inspection import Inspection, conclude
from inspectd.line.judge import Criterion
from inspectd.line.ledger import Ledger
from inspectd.line.recipe import Area, Recipe
from inspectd.line.sinks import Sinks
from inspectd.model.geometry import Geometry
from inspectd.records import Frame, Outcome, Picture, Reason, Stamp, Verdict


class FakeEngine:
    """Scores what it is asked for by a function."""

    max_batch = 8

    def __init__(self, answer: Callable[[Request], Floats], depth: int = 1) -> None:
        self.answer = answer
        self.depth = depth

    def seat(self) -> AbstractContextManager[Score]:
        return nullcontext(self.score)

    def score(self, requests: Sequence[Request]) -> list[Floats]:
        return [self.answer(request) for request in requests]


class Keeper:
    """A sink that wants everything."""

    def __init__(self) -> None:
        self.kept: list[tuple[int, Outcome | None, Reason | None, int]] = []

    def wants(self, _stamp: Stamp, _verdict: Verdict | None) -> bool:
        return True

    def take(self, stamp: Stamp, picture: Picture, verdict: Verdict | None) -> None:
        finding = verdict.finding if verdict else None
        outcome, reason = (finding.outcome, finding.reason) if finding else (None, None)
        self.kept.append((stamp.frame, outcome, reason, int(picture[0, 0, 0])))


class Hall:
    """An engine between a batcher and a ledger; waits for verdicts without sleeping."""

    def __init__(self, engine: Scorer, deadline_ms: float | None = None, max_batch: int = 8) -> None:
        self.said: list[Verdict] = []
        self.heard = threading.Condition()
        self.released: list[int] = []
        self.lost: list[str] = []
        self.ledger = Ledger(self._hear)
        self.ledger.add_camera("top", deadline_ms)
        self.batcher = Batcher(max_batch, 0)
        self.batcher.add_camera("top", "every", 8)
        self.sink = Keeper()
        self.engine = Inspection(engine, self.batcher, self.ledger, Sinks([self.sink]), on_lost=self._lose)

    def show(self, number: int, recipe: Recipe) -> None:
        entry = self.ledger.open_frame(Stamp("top", number, time.monotonic_ns()))
        assert entry is not None
        picture = np.full((48, 64, 3), number, np.uint8)
        frame = Frame(Stamp("top", number, 0), picture, lambda: self.released.append(number))
        assert self.batcher.put(Job(frame, entry, recipe)) is None

    def wait_for(self, verdicts: int) -> None:
        with self.heard:
            assert self.heard.wait_for(lambda: len(self.said) >= verdicts, 30)

    def stop(self) -> None:
        self.engine.stop()
        assert self.engine.join(30)

    def _hear(self, verdict: Verdict) -> None:
        with self.heard:
            self.said.append(verdict)
            self.heard.notify_all()

    def _lose(self, why: str) -> None:
        with self.heard:
            self.lost.append(why)
            self.heard.notify_all()


def recipe_of(*thresholds: float | None) -> Recipe:
    """One area for each threshold."""
    model = small_artefact()
    criteria = [None if t is None else Criterion(t, [0.0, 0.5], f"m{i}") for i, t in enumerate(thresholds)]
    return Recipe(tuple(Area(model, model.geometry, criterion) for criterion in criteria))


@pytest.fixture
def recipe() -> Recipe:
    return recipe_of(1.0)


@pytest.fixture
def halls() -> Iterator[list[Hall]]:
    built: list[Hall] = []
    yield built
    for hall in built:
        hall.engine.stop()
        hall.engine.join(30)


def grid(value: float) -> Floats:
    return np.full((4, 4), value, np.float32)


def test_each_picture_of_a_batch_gets_its_own_verdict_and_its_slot_goes_back(recipe: Recipe, halls: list[Hall]) -> None:
    hall = Hall(FakeEngine(lambda request: grid(float(request.picture[0, 0, 0]) - 1)))
    halls.append(hall)
    for number in (1, 2, 3):
        hall.show(number, recipe)
    hall.engine.start()
    hall.wait_for(3)
    assert [(v.stamp.frame if v.stamp else None, v.finding.outcome) for v in hall.said] == [
        (1, Outcome.OK),
        (2, Outcome.OK),
        (3, Outcome.NG),
    ]
    assert hall.released == [1, 2, 3]
    assert all(v.finding.started_ns and v.finding.scored_ns for v in hall.said)


def test_an_engine_that_hangs_breaks_no_promise_and_its_late_scores_only_count(
    recipe: Recipe, halls: list[Hall]
) -> None:
    is_in, may_go = threading.Event(), threading.Event()

    def stall(_: Request) -> Floats:
        is_in.set()
        assert may_go.wait(30)
        return grid(0)

    hall = Hall(FakeEngine(stall), deadline_ms=1)
    halls.append(hall)
    hall.show(1, recipe)
    hall.engine.start()
    assert is_in.wait(30)
    hall.show(2, recipe)  # waits behind the hung batch
    while hall.ledger.expire() is not None:
        pass
    assert [v.finding.reason for v in hall.said] == [Reason.DEADLINE] * 2
    may_go.set()
    hall.stop()
    counts = hall.ledger.counts("top")
    assert len(hall.said) == 2
    assert counts.late == 1, "the second one was not even scored"
    assert counts.broken_law() is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_are_no_numbers_are_never_ok(recipe: Recipe, halls: list[Hall], value: float) -> None:
    hall = Hall(FakeEngine(lambda _: grid(value)))
    halls.append(hall)
    hall.show(1, recipe)
    hall.engine.start()
    hall.wait_for(1)
    assert (hall.said[0].finding.outcome, hall.said[0].finding.reason) == (Outcome.FAULT, Reason.ENGINE)
    assert hall.lost == []


def test_a_backend_that_raises_is_a_lost_engine(
    recipe: Recipe, halls: list[Hall], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Request) -> Floats:
        raise RuntimeError("the device went away")

    hall = Hall(FakeEngine(fail))
    halls.append(hall)
    hall.show(1, recipe)
    hall.engine.start()
    with hall.heard:
        assert hall.heard.wait_for(lambda: bool(hall.lost), 30)
    assert "the device went away" in hall.lost[0]
    assert hall.released == [1]
    assert hall.said == []
    assert hall.ledger.in_flight() == 1, "the shutdown will say fault: shutdown"
    assert "the engine failed" in caplog.text


def test_a_model_without_a_threshold_scores_but_is_never_ok(halls: list[Hall]) -> None:
    hall = Hall(FakeEngine(lambda _: grid(-5)))
    halls.append(hall)
    hall.show(1, recipe_of(None))
    hall.engine.start()
    hall.wait_for(1)
    finding = hall.said[0].finding
    assert (finding.reason, finding.score) == (Reason.NO_THRESHOLD, -5)


def test_a_second_batch_is_begun_while_the_first_is_under_way_and_verdicts_keep_the_order_of_frames(
    recipe: Recipe, halls: list[Hall]
) -> None:
    is_second_done = threading.Event()

    def answer(request: Request) -> Floats:
        if request.picture[0, 0, 0] == 1:
            assert is_second_done.wait(30), "the second was not begun while the first was under way"
        else:
            is_second_done.set()
        return grid(0)

    hall = Hall(FakeEngine(answer, depth=2), max_batch=1)
    halls.append(hall)
    hall.show(1, recipe)
    hall.show(2, recipe)
    hall.engine.start()
    hall.wait_for(2)
    hall.stop()
    assert [v.stamp.frame for v in hall.said if v.stamp] == [1, 2]
    assert hall.released == [1, 2]


def test_a_sink_is_offered_each_picture_beside_its_verdict_even_if_that_was_the_deadlines(
    recipe: Recipe, halls: list[Hall]
) -> None:
    hall = Hall(FakeEngine(lambda request: grid(float(request.picture[0, 0, 0]) - 1)))
    halls.append(hall)
    for number in (1, 3):
        hall.show(number, recipe)
    late = Hall(FakeEngine(lambda _: grid(0)), deadline_ms=0.001)
    halls.append(late)
    late.show(7, recipe)
    while late.ledger.expire() is not None:
        pass
    for one, count in ((hall, 2), (late, 1)):
        one.engine.start()
        one.wait_for(count)
        while len(one.sink.kept) < count:
            time.sleep(0.001)
    assert hall.sink.kept == [(1, Outcome.OK, None, 1), (3, Outcome.NG, None, 3)]
    assert late.sink.kept == [(7, Outcome.FAULT, Reason.DEADLINE, 7)]


@pytest.mark.parametrize(
    ("scores", "outcome", "score", "regions"),
    [
        ((0.0, 0.0), Outcome.OK, 0.0, 0),
        ((0.0, 12.0), Outcome.NG, 12.0, 1),
        ((2.0, 12.0), Outcome.NG, 2.0, 2),  # the first is further above its threshold, in its own spans
        ((float("nan"), 0.0), Outcome.FAULT, None, 0),
        ((float("nan"), 12.0), Outcome.NG, 12.0, 1),
    ],
)
def test_the_worst_area_is_the_parts_verdict(
    scores: tuple[float, float], outcome: Outcome, score: float | None, regions: int
) -> None:
    found = conclude(recipe_of(1.0, 10.0), (64, 48), [grid(one) for one in scores])
    assert (found.outcome, found.score, len(found.regions)) == (outcome, score, regions)


def test_an_area_that_cannot_be_judged_is_never_ok_whatever_the_others_say() -> None:
    found = conclude(recipe_of(1.0, None), (64, 48), [grid(0), grid(0)])
    assert (found.outcome, found.reason) == (Outcome.FAULT, Reason.NO_THRESHOLD)


def test_all_areas_of_a_batch_are_one_call_and_each_gets_its_own_scores(halls: list[Hall]) -> None:
    calls: list[int] = []

    class Counting(FakeEngine):
        def score(self, requests: Sequence[Request]) -> list[Floats]:
            calls.append(len(requests))
            return [grid(float(request.geometry.roi is not None) * 2) for request in requests]

    model = small_artefact()
    inspected = Geometry(64, 64, (8, 8, 16, 16))
    criterion = Criterion(1.0, [0.0, 0.5], "m")
    areas = (Area(model, model.geometry, criterion), Area(model, inspected, replace(criterion, model="corner")))
    hall = Hall(Counting(lambda _: grid(0)))
    halls.append(hall)
    hall.show(1, Recipe(areas))
    hall.show(2, Recipe(areas[:1]))
    hall.engine.start()
    hall.wait_for(2)
    assert calls == [3]
    first, second = (v.finding for v in hall.said)
    assert (first.outcome, first.model, first.roi) == (Outcome.NG, "corner", (8, 8, 16, 16))
    assert second.outcome is Outcome.OK


def test_slots_of_all_batches_under_way_go_back_when_the_device_fails(
    recipe: Recipe, halls: list[Hall], caplog: pytest.LogCaptureFixture
) -> None:
    all_in = threading.Barrier(3)

    def fail(_: Request) -> Floats:
        all_in.wait(30)
        raise RuntimeError("the device went away")

    hall = Hall(FakeEngine(fail, depth=3), max_batch=1)
    halls.append(hall)
    for number in (1, 2, 3):
        hall.show(number, recipe)
    hall.engine.start()
    with hall.heard:
        assert hall.heard.wait_for(lambda: bool(hall.lost), 30)
    hall.stop()
    assert sorted(hall.released) == [1, 2, 3]
    assert "the engine failed" in caplog.text
