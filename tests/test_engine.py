"""The engine thread, with backends that stall, fail and talk nonsense."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
from conftest import write_small_model
from numpy.typing import NDArray

from inspectd.engine.backend import Flight, Request, Scorer
from inspectd.line.batcher import Batcher, Job
from inspectd.line.inspection import Engine
from inspectd.line.judge import Standard
from inspectd.line.ledger import Ledger
from inspectd.line.recipe import Station
from inspectd.records import Frame, Outcome, Reason, Stamp, Verdict
from inspectd.simplenet import bundle
from inspectd.simplenet.bundle import Bundle

Scores = NDArray[np.float32]


class FakeBackend:
    """Answers what it is told to."""

    def __init__(self, answer: Callable[[Request], Scores], depth: int = 1) -> None:
        self.answer = answer
        self.depth = depth

    def submit(self, requests: Sequence[Request]) -> Flight:
        """Ask `answer` for each when the batch is waited for."""
        return lambda: [self.answer(request) for request in requests]


class Hall:
    """An engine between a batcher and a ledger; waits for verdicts without sleeping."""

    def __init__(self, backend: Scorer, deadline_ms: float | None = None) -> None:
        self.said: list[Verdict] = []
        self.heard = threading.Condition()
        self.released: list[int] = []
        self.lost: list[str] = []
        self.ledger = Ledger(self._hear)
        self.ledger.add_camera("top", deadline_ms)
        self.batcher = Batcher(8, 0)
        self.batcher.add_camera("top", "every", 8)
        self.engine = Engine(backend, self.batcher, self.ledger, on_lost=self._lose)

    def show(self, number: int, station: Station) -> None:
        entry = self.ledger.open_frame(Stamp("top", number, time.monotonic_ns()))
        assert entry is not None
        picture = np.full((48, 64, 3), number, np.uint8)
        frame = Frame(Stamp("top", number, 0), picture, lambda: self.released.append(number))
        assert self.batcher.put(Job(frame, entry, station)) is None

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


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundle.load(write_small_model(tmp_path_factory.mktemp("engine") / "model"))


@pytest.fixture
def station(model: Bundle) -> Station:
    return Station(model, model.geometry, Standard(1.0, [0.0, 0.5], "m"))


@pytest.fixture
def halls() -> Iterator[list[Hall]]:
    built: list[Hall] = []
    yield built
    for hall in built:
        hall.engine.stop()
        hall.engine.join(30)


def grid(value: float) -> Scores:
    return np.full((4, 4), value, np.float32)


def test_each_picture_of_a_batch_gets_its_own_verdict_and_its_slot_goes_back(
    station: Station, halls: list[Hall]
) -> None:
    hall = Hall(FakeBackend(lambda request: grid(float(request.picture[0, 0, 0]) - 1)))
    halls.append(hall)
    for number in (1, 2, 3):
        hall.show(number, station)
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
    station: Station, halls: list[Hall]
) -> None:
    is_in, may_go = threading.Event(), threading.Event()

    def stall(_: Request) -> Scores:
        is_in.set()
        assert may_go.wait(30)
        return grid(0)

    hall = Hall(FakeBackend(stall), deadline_ms=1)
    halls.append(hall)
    hall.show(1, station)
    hall.engine.start()
    assert is_in.wait(30)
    hall.show(2, station)  # waits behind the hung batch
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
def test_scores_that_are_no_numbers_are_never_ok(station: Station, halls: list[Hall], value: float) -> None:
    hall = Hall(FakeBackend(lambda _: grid(value)))
    halls.append(hall)
    hall.show(1, station)
    hall.engine.start()
    hall.wait_for(1)
    assert (hall.said[0].finding.outcome, hall.said[0].finding.reason) == (Outcome.FAULT, Reason.ENGINE)
    assert hall.lost == []


def test_a_backend_that_raises_is_a_lost_engine(
    station: Station, halls: list[Hall], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Request) -> Scores:
        raise RuntimeError("the device went away")

    hall = Hall(FakeBackend(fail))
    halls.append(hall)
    hall.show(1, station)
    hall.engine.start()
    with hall.heard:
        assert hall.heard.wait_for(lambda: bool(hall.lost), 30)
    assert "the device went away" in hall.lost[0]
    assert hall.released == [1]
    assert hall.said == []
    assert hall.ledger.in_flight() == 1, "the shutdown will say fault: shutdown"
    assert "the engine failed" in caplog.text


def test_a_model_without_a_threshold_scores_but_is_never_ok(model: Bundle, halls: list[Hall]) -> None:
    hall = Hall(FakeBackend(lambda _: grid(-5)))
    halls.append(hall)
    hall.show(1, Station(model, model.geometry, None))
    hall.engine.start()
    hall.wait_for(1)
    finding = hall.said[0].finding
    assert (finding.reason, finding.score) == (Reason.NO_THRESHOLD, -5)


def test_a_second_batch_is_begun_before_the_first_is_waited_for(station: Station, halls: list[Hall]) -> None:
    events: list[str] = []
    second = threading.Event()

    class TwoAtOnce:
        depth = 2

        def submit(self, requests: Sequence[Request]) -> Flight:
            number = int(requests[0].picture[0, 0, 0])
            events.append(f"begin {number}")
            if number == 2:
                second.set()

            def land() -> list[Scores]:
                assert second.wait(30), "the second batch was not begun while the first was under way"
                events.append(f"land {number}")
                return [grid(0) for _ in requests]

            return land

    hall = Hall(TwoAtOnce())
    halls.append(hall)
    hall.batcher._max_batch = 1
    hall.show(1, station)
    hall.show(2, station)
    hall.engine.start()
    hall.wait_for(2)
    assert events == ["begin 1", "begin 2", "land 1", "land 2"]
    assert hall.released == [1, 2]


def test_slots_of_all_batches_under_way_go_back_when_the_device_fails(
    station: Station, halls: list[Hall], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Request) -> Scores:
        raise RuntimeError("the device went away")

    hall = Hall(FakeBackend(fail, depth=3))
    halls.append(hall)
    hall.batcher._max_batch = 1
    for number in (1, 2, 3):
        hall.show(number, station)
    hall.engine.start()
    with hall.heard:
        assert hall.heard.wait_for(lambda: bool(hall.lost), 30)
    assert sorted(hall.released) == [1, 2, 3]
    assert "the engine failed" in caplog.text
