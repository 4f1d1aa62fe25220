"""When a camera that takes a picture when it is told is told so."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspectd.cameras.vision.demand import Demand

MS = 1_000_000


def test_a_picture_is_taken_after_its_time_and_never_at_it() -> None:
    demand = Demand()
    assert demand.due_in_ns(0) is None
    demand.want(5 * MS)
    assert demand.due_in_ns(2 * MS) == 3 * MS + 1
    assert demand.due_in_ns(5 * MS) == 1
    assert demand.due_in_ns(5 * MS + 1) == 0


def test_one_picture_is_under_way_at_a_time_and_answers_all_that_was_due_when_it_was_taken() -> None:
    demand = Demand()
    for at_ns in (30, 10, 20, 500):
        demand.want(at_ns)
    demand.told(25)
    assert demand.told_ns == 25
    assert demand.due_in_ns(40) is None, "one is under way"
    demand.want(26)
    assert demand.came() == 25
    assert demand.due_in_ns(40) == 0, "what became due meanwhile"
    demand.told(40)
    assert demand.came() == 40
    assert demand.due_in_ns(40) == 461, "and what is not due yet"


def test_a_picture_that_nobody_asked_for_is_none_of_ours() -> None:
    with pytest.raises(ValueError, match="no picture was under way"):
        Demand().came()
    with pytest.raises(ValueError, match="no picture was under way"):
        Demand().silent()


def test_one_that_did_not_come_is_waited_for_no_longer() -> None:
    demand = Demand()
    demand.want(5)
    demand.told(10)
    demand.want(12)
    assert demand.due_in_ns(500) is None
    assert demand.silent() == 10
    assert demand.due_in_ns(500) == 0


def test_a_camera_that_keeps_a_rate_is_not_told_before_it_hears_again() -> None:
    demand = Demand(rests_ns=100)
    demand.want(5)
    assert demand.due_in_ns(6) == 0
    demand.told(6)
    demand.want(20)
    demand.came()
    assert demand.due_in_ns(30) == 76, "100 after it was told"
    assert demand.due_in_ns(106) == 0


def test_where_nobody_triggers_pictures_are_taken_again_and_again() -> None:
    demand, now_ns, told = Demand(every_ns=40 * MS), 7 * MS, []
    while len(told) < 4:
        due_ns = demand.due_in_ns(now_ns)
        assert due_ns is not None
        now_ns += due_ns
        demand.told(now_ns)
        told.append(now_ns)
        now_ns += (10 + 60 * (len(told) == 2)) * MS
        demand.came()
    gaps_ms = [round((after - before) / MS) for before, after in pairwise(told)]
    assert gaps_ms == [40, 70, 40], "as often as it is wanted, and as fast as the camera can"


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 30)), max_size=40), st.lists(st.integers(1, 20), min_size=1)
)
def test_each_trigger_is_answered_by_the_first_picture_that_was_told_after_it(
    triggers: list[tuple[int, int]], takes: list[int]
) -> None:
    """`triggers`: pause before each, and its delay. `takes`: how long the camera takes for its pictures, in turns."""
    demand, wanted, told = Demand(), list[int](), list[int]()
    comes_at, step, pauses = -1, 0, list(triggers)
    next_at = pauses[0][0] if pauses else -1
    for now in range(4000):
        while pauses and now >= next_at:
            wanted.append(now + pauses.pop(0)[1])
            demand.want(wanted[-1])
            next_at = now + (pauses[0][0] if pauses else 0)
        if demand.told_ns is not None and now >= comes_at:
            assert demand.came() == told[-1]
        if demand.due_in_ns(now) == 0:
            demand.told(now)
            told.append(now)
            comes_at, step = now + takes[step % len(takes)], step + 1
    for at in wanted:
        answers = [one for one in told if one > at]
        assert answers, "nobody is forgotten"
        assert answers[0] - at <= max(takes) + 1
    for one, before in zip(told, [-1, *told], strict=False):
        assert any(before <= at < one for at in wanted), "no picture is taken for nobody"
