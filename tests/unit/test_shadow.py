"""Second models: what they are asked, when, and what is said of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import small_calibration, small_params

from inspectd.engine.backend import Floats, Request, Score
from inspectd.line.judge import Criterion
from inspectd.line.recipe import Area, NoRecipe, Recipe
from inspectd.line.shadow import Shadows
from inspectd.model.artefact import Artefact
from inspectd.records import Finding, Outcome, Reason, Stamp, Verdict, fault

PICTURE = np.zeros((48, 64, 3), np.uint8)
OK, NG = Finding(Outcome.OK, score=0.5), Finding(Outcome.NG, score=9.0)


class Engine:
    """Scores every patch with the same number."""

    max_batch = depth = 1

    def __init__(self) -> None:
        self.score = 0.5
        self.asked = 0
        self.gate = threading.Event()
        self.gate.set()

    @contextmanager
    def seat(self) -> Iterator[Score]:
        yield self._score

    def _score(self, requests: Sequence[Request]) -> list[Floats]:
        assert self.gate.wait(10)
        self.asked += 1
        return [np.full((6, 8), self.score, np.float32) for _ in requests]


@pytest.fixture
def engine() -> Engine:
    return Engine()


class Watched:
    """Second models, and what they disagreed on."""

    def __init__(self, engine: Engine, recipe: Recipe | NoRecipe, is_idle: Callable[[], bool] = lambda: True) -> None:
        self.disagreed: list[tuple[int, Finding]] = []
        self.problem: Finding | None = None
        self.shadows = Shadows(
            engine,
            {"top": recipe},
            is_idle,
            lambda _camera, _recipe, _picture: self.problem,
            lambda _stamp, _picture, verdict, finding: self.disagreed.append((verdict.seq, finding)),
        )
        self.shadows.start()
        self.seq = 0

    def offer(self, said: Finding, camera: str = "top") -> bool:
        self.seq += 1
        stamp = Stamp(camera, self.seq, time.monotonic_ns())
        verdict = Verdict(camera, self.seq, said, 0, stamp)
        if not self.shadows.wants(stamp, verdict):
            return False
        self.shadows.take(stamp, PICTURE, verdict)
        return True

    def counted(self, count: int) -> dict[tuple[str, str], int]:
        """Wait until so many were compared."""
        give_up_s = time.monotonic() + 10
        while True:
            agreement = self.shadows.agreement("top")
            assert agreement is not None
            if sum(agreement.counts.values()) >= count or time.monotonic() > give_up_s:
                return {(said.value, then.value): n for (said, then), n in agreement.counts.items()}
            time.sleep(0.005)


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    model = Artefact(params=small_params(), calibration=small_calibration(1.0), name="next", digest="0" * 64)
    return Recipe((Area(model, model.geometry, Criterion(1.0, [0.1, 0.2], model.label)),))


def test_what_it_says_is_counted_and_what_it_says_otherwise_is_told(engine: Engine, recipe: Recipe) -> None:
    watched = Watched(engine, recipe)
    for number, (score, said) in enumerate([(0.5, OK), (5.0, OK), (0.5, NG), (5.0, NG)], 1):
        engine.score = score
        assert watched.offer(said)
        watched.counted(number)
    assert watched.counted(4) == {("ok", "ok"): 1, ("ok", "ng"): 1, ("ng", "ok"): 1, ("ng", "ng"): 1}
    assert [(seq, finding.outcome, finding.model) for seq, finding in watched.disagreed] == [
        (2, Outcome.NG, recipe.label),
        (3, Outcome.OK, recipe.label),
    ]
    watched.shadows.stop()


def test_agreement_with_what_judges_no_more_does_not_count(engine: Engine, recipe: Recipe) -> None:
    watched = Watched(engine, recipe)
    assert watched.offer(OK)
    assert watched.counted(1) == {("ok", "ok"): 1}
    engine.score = 5.0
    assert watched.offer(Finding(Outcome.OK, score=5.0, threshold=6.0))
    give_up_s = time.monotonic() + 10
    while watched.counted(1) != {("ok", "ng"): 1}:
        assert time.monotonic() < give_up_s
    watched.shadows.stop()


def test_what_was_not_judged_is_not_compared_nor_other_cameras(engine: Engine, recipe: Recipe) -> None:
    watched = Watched(engine, recipe)
    assert not watched.offer(fault(Reason.PICTURE, "dark"))
    assert not watched.offer(OK, camera="side")
    assert watched.shadows.agreement("side") is None
    watched.shadows.stop()


def test_a_picture_that_it_may_not_judge_agrees_with_nothing_and_is_no_disagreement(
    engine: Engine, recipe: Recipe
) -> None:
    watched = Watched(engine, recipe)
    watched.problem = fault(Reason.IDENTITY, "another size")
    assert watched.offer(OK)
    assert watched.counted(1) == {("ok", "fault"): 1}
    assert watched.disagreed == []
    assert engine.asked == 0
    watched.shadows.stop()


def test_one_picture_at_a_time_is_taken_and_none_is_scored_while_frames_wait(engine: Engine, recipe: Recipe) -> None:
    is_idle = threading.Event()
    watched = Watched(engine, recipe, is_idle.is_set)
    assert watched.offer(OK)
    assert not any(watched.offer(OK) for _ in range(20)), "one waits already"
    time.sleep(0.1)
    assert engine.asked == 0
    is_idle.set()
    assert watched.counted(1) == {("ok", "ok"): 1}
    is_idle.clear()
    assert watched.offer(OK)
    assert watched.counted(2) == {("ok", "ok"): 2}, "an engine that is never idle does not silence it"
    watched.shadows.stop()


def test_one_that_fails_is_said_and_takes_no_more_pictures(
    engine: Engine, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_requests: Sequence[Request]) -> list[Floats]:
        raise MemoryError("no room")

    monkeypatch.setattr(engine, "_score", broken)
    watched = Watched(engine, recipe)
    assert watched.offer(OK)
    give_up_s = time.monotonic() + 10
    while (agreement := watched.shadows.agreement("top")) is None or isinstance(agreement.recipe, Recipe):
        assert time.monotonic() < give_up_s
        time.sleep(0.01)
    assert not watched.offer(OK)
    assert "MemoryError: no room" in agreement.recipe.why
    watched.shadows.stop()


def test_another_second_model_while_a_picture_waits_for_the_last_one(engine: Engine, recipe: Recipe) -> None:
    is_idle = threading.Event()
    watched = Watched(engine, recipe, is_idle.is_set)
    assert watched.offer(OK)
    time.sleep(0.05)  # it waits for an engine that has nothing else to do
    watched.shadows.use("top", None)
    assert watched.shadows.agreement("top") is None
    is_idle.set()
    time.sleep(0.05)
    assert engine.asked == 0
    watched.shadows.use("top", recipe)
    assert watched.offer(OK)
    watched.counted(1)
    watched.shadows.stop()


def test_one_that_cannot_be_used_asks_for_nothing(engine: Engine) -> None:
    watched = Watched(engine, NoRecipe("it has no threshold"))
    assert not watched.offer(OK)
    watched.shadows.stop()
