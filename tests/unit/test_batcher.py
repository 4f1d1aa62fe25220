"""The batcher: who waits, who gives way, and who goes next."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest

from inspectd.line.batcher import Batcher, Job, Policy
from inspectd.line.entries import Entry
from inspectd.line.recipe import Recipe
from inspectd.records import Frame, Stamp

MS = 1_000_000
NOBODY_WAITS = 0.0
PATIENCE_S = 30.0  # a test that needs it has failed
RECIPE = cast(Recipe, None)  # the batcher never looks at it


class Clock:
    """Stands still until it is moved; `then` runs when it is read."""

    def __init__(self) -> None:
        self.now_ns = 1_000 * MS
        self.then: Callable[[], object] = lambda: None

    def __call__(self) -> int:
        self.then()
        return self.now_ns


def job(camera: str, frame: int, queued_ns: int = 1_000 * MS) -> Job:
    stamp = Stamp(camera, frame, 0)
    return Job(
        Frame(stamp, np.zeros((1, 1), np.uint8), lambda: None),
        Entry(camera, None, stamp, queued_ns),
        RECIPE,
    )


def batcher(max_batch: int = 8, wait_ms: float = 0, clock: Clock | None = None, **lanes: Any) -> Batcher:
    """`lanes`: 0 is a `latest` camera, a number is the capacity of an `every` one."""
    made = Batcher(max_batch, wait_ms, clock or Clock())
    for name, capacity in lanes.items():
        policy: Policy = "every" if capacity else "latest"
        made.add_camera(name, policy, capacity or 1)
    return made


def names(jobs: list[Job]) -> list[tuple[str, int]]:
    return [(job.entry.camera, job.frame.stamp.frame) for job in jobs]


class Taker(threading.Thread):
    """Takes one batch in a thread of its own."""

    def __init__(self, source: Batcher) -> None:
        super().__init__(daemon=True)
        self.source = source
        self.took: list[Job] | None = None
        self.start()

    def run(self) -> None:
        self.took = self.source.take(100 * PATIENCE_S)

    def result(self) -> list[Job]:
        self.join(PATIENCE_S)
        assert self.took is not None, "take() still waits"
        return self.took


def test_latest_displaces_the_older_frame_and_gives_it_back() -> None:
    waiting = batcher(a=0)
    first, second, third = (job("a", n) for n in (1, 2, 3))
    assert waiting.put(first) is None
    assert waiting.put(second) is first
    assert waiting.put(third) is second
    assert waiting.take(NOBODY_WAITS) == [third]


def test_latest_keeps_one_whatever_capacity_is_named() -> None:
    waiting = Batcher(8, 0)
    waiting.add_camera("a", "latest", capacity=5)
    first = job("a", 1)
    waiting.put(first)
    assert waiting.put(job("a", 2)) is first


def test_every_keeps_up_to_its_capacity_and_gives_the_newcomer_back() -> None:
    waiting = batcher(a=3)
    jobs = [job("a", n) for n in range(1, 6)]
    assert [waiting.put(j) for j in jobs] == [None, None, None, jobs[3], jobs[4]]
    assert waiting.take(NOBODY_WAITS) == jobs[:3], "oldest first"
    assert waiting.put(jobs[3]) is None, "there is room again"


def test_one_cameras_plenty_displaces_nobody_else() -> None:
    waiting = batcher(a=0, b=0, c=2)
    for frame in range(1, 10):
        waiting.put(job("a", frame))
    assert waiting.put(job("b", 1)) is None
    assert waiting.put(job("c", 1)) is None
    assert sorted(names(waiting.take(NOBODY_WAITS))) == [("a", 9), ("b", 1), ("c", 1)]


def test_a_batch_is_no_larger_than_its_limit_and_the_rest_comes_next() -> None:
    waiting = batcher(max_batch=2, a=5)
    for frame in range(1, 6):
        waiting.put(job("a", frame))
    batches = [names(waiting.take(NOBODY_WAITS)) for _ in range(4)]
    assert batches == [[("a", 1), ("a", 2)], [("a", 3), ("a", 4)], [("a", 5)], []]


@pytest.mark.parametrize("max_batch", [1, 2, 3])
def test_no_camera_waits_longer_than_one_round(max_batch: int) -> None:
    lanes = dict.fromkeys("abcde", 20)
    waiting = batcher(max_batch, 0, None, **lanes, idle=0)
    for name in "ab":  # two hurry, three come now and then, one is silent
        for frame in range(20):
            waiting.put(job(name, frame))
    for name in "cde":
        waiting.put(job(name, 0))
    served: list[str] = []
    while len(served) < 5:
        served += [name for name, _ in names(waiting.take(NOBODY_WAITS))]
    assert sorted(served[:5]) == list("abcde")


def test_the_turn_goes_on_from_batch_to_batch() -> None:
    waiting = batcher(max_batch=2, a=9, b=9, c=9)
    for name in "abc":
        for frame in range(4):
            waiting.put(job(name, frame))
    served = [name for _ in range(6) for name, _ in names(waiting.take(NOBODY_WAITS))]
    assert "".join(served) == "abcabcabcabc"


def test_nothing_came() -> None:
    assert batcher(a=0).take(0.001) == []


def test_a_frame_that_arrives_wakes_the_engine() -> None:
    waiting = batcher(a=0)
    taker = Taker(waiting)
    waiting.put(job("a", 1))
    assert names(taker.result()) == [("a", 1)]


def test_a_frame_waits_for_company_only_until_its_time_is_over() -> None:
    clock = Clock()
    waiting = batcher(wait_ms=10, clock=clock, a=0, b=0)
    waiting.put(job("a", 1, clock.now_ns))
    clock.now_ns += 10 * MS
    assert names(waiting.take(NOBODY_WAITS)) == [("a", 1)]


def test_company_that_comes_in_time_goes_along() -> None:
    clock = Clock()
    waiting = batcher(wait_ms=1e6, clock=clock, a=0, b=0, c=0)
    waiting.put(job("a", 1, clock.now_ns))
    asked = threading.Event()
    clock.then = asked.set
    taker = Taker(waiting)
    assert asked.wait(PATIENCE_S), "a lone frame has to look at the clock before it goes"
    assert taker.took is None
    waiting.put(job("b", 1, clock.now_ns))
    waiting.put(job("c", 1, clock.now_ns))
    assert sorted(names(taker.result())) == [("a", 1), ("b", 1), ("c", 1)]


def test_the_wait_counts_from_the_oldest_frame_of_all_cameras() -> None:
    clock = Clock()
    waiting = batcher(wait_ms=10, clock=clock, a=0, b=3, c=0)
    waiting.put(job("a", 1, clock.now_ns))
    waiting.put(job("b", 1, clock.now_ns - 10 * MS))
    assert sorted(names(waiting.take(NOBODY_WAITS))) == [("a", 1), ("b", 1)]


@pytest.mark.parametrize(("max_batch", "lanes"), [(2, {"a": 5}), (9, {"a": 1, "b": 0})])
def test_a_full_batch_waits_for_nobody(max_batch: int, lanes: dict[str, int]) -> None:
    clock = Clock()
    waiting = batcher(max_batch=max_batch, wait_ms=1e9, clock=clock, **lanes)
    for frame in range(1, 3):
        waiting.put(job(list(lanes)[-frame % len(lanes)], frame, clock.now_ns))
    assert len(waiting.take(NOBODY_WAITS)) == 2


def test_a_closed_batcher_takes_and_gives_nothing_more_and_what_waited_is_its_cameras() -> None:
    waiting = batcher(a=0, b=3)
    jobs = [job("a", 1), job("b", 1), job("b", 2)]
    for one in jobs:
        waiting.put(one)
    waiting.close()
    late = job("a", 2)
    assert waiting.put(late) is late
    assert waiting.take(PATIENCE_S) == [], "a closed batcher keeps nobody waiting"
    assert waiting.remove_camera("b") == jobs[1:]
    assert waiting.remove_camera("a") == jobs[:1]


@pytest.mark.parametrize("has_one", [False, True])
def test_close_wakes_the_engine_whatever_it_waits_for(has_one: bool) -> None:
    clock = Clock()
    waiting = batcher(wait_ms=1e9, clock=clock, a=0, b=0)
    if has_one:
        waiting.put(job("a", 1, clock.now_ns))
    asked = threading.Event()
    clock.then = asked.set
    taker = Taker(waiting)
    assert not has_one or asked.wait(PATIENCE_S)
    waiting.close()
    assert taker.result() == []


def test_a_queue_is_not_opened_twice_and_may_be_opened_again() -> None:
    waiting = batcher(a=0, b=0)
    with pytest.raises(ValueError, match="camera a has a queue"):
        waiting.add_camera("a", "latest")
    first = job("a", 1)
    waiting.put(first)
    assert waiting.remove_camera("a") == [first]
    assert waiting.put(first) is first, "a camera without a queue gets its frame back"
    waiting.add_camera("a", "every", 2)
    assert waiting.put(job("a", 2)) is None
    assert names(waiting.take(NOBODY_WAITS)) == [("a", 2)]


def test_jobs_of_one_camera_are_closed_in_their_order_however_they_finish() -> None:
    waiting = batcher(max_batch=1, a=3, b=3)
    for camera in "ab":
        for frame in (1, 2, 3):
            waiting.put(job(camera, frame))
    taken = {name: one for _ in range(6) for one in waiting.take(NOBODY_WAITS) for name in names([one])}
    closed: list[Job] = []
    for name in (("a", 3), ("a", 2), ("b", 1), ("a", 1), ("b", 3), ("b", 2)):
        waiting.finish(taken[name], closed.append)
    assert names(closed) == [("b", 1), ("a", 1), ("a", 2), ("a", 3), ("b", 2), ("b", 3)]


def test_what_is_under_way_when_its_camera_is_removed_is_closed_as_usual() -> None:
    waiting = batcher(a=3)
    waiting.put(job("a", 1))
    (under_way,) = waiting.take(NOBODY_WAITS)
    assert waiting.remove_camera("a") == []
    waiting.add_camera("a", "every", 3)
    closed: list[Job] = []
    waiting.finish(under_way, closed.append)
    assert closed == [under_way]
    with pytest.raises(ValueError, match="camera a was finished that had not been queued"):
        waiting.finish(job("a", 9), closed.append)
