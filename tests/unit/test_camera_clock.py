"""A camera's own clock: on ours, and what it says of how promptly pictures were taken."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspectd.cameras.vision.clock import DRIFT, CameraClock, Promptness, Proof

MS = 1_000_000
VARIES_MS = 100


def test_a_camera_clock_is_brought_to_ours_by_the_quickest_picture() -> None:
    clock, camera_ns = CameraClock(), 5_000_000_000
    late_ms = (9, 3, 1, 20, 4, 1, 300, 2)
    found = []
    for i, late in enumerate(late_ms):
        taken = camera_ns + i * 40_000_000
        found.append(clock.taken_ns(taken, 77_000_000_000 + taken + late * 1_000_000) - taken - 77_000_000_000)
    assert [one / 1e6 for one in found] == [9, 3, 1, 1, 1, 1, 1, 1], "by at most the least delay that was seen"
    reset = clock.taken_ns(1_000, 90_000_000_000_000)
    assert reset == 90_000_000_000_000, "a clock that was set anew begins anew"


def lateness_ms(begins_ms: list[float], every_ms: float = 1000, drift: float = 0.0) -> list[float]:
    """`begins_ms`: by how much later than it was told the camera took each picture."""
    promptness, found = Promptness(VARIES_MS * MS), []
    for i, begins in enumerate(begins_ms):
        told_ms = 50 + i * every_ms
        camera_ns = 7_000_000_000 + (told_ms + begins) * (1 + drift) * MS
        found.append(promptness.late_ns(int(camera_ns), int(told_ms * MS)) / MS)
    return found


def test_a_picture_is_as_late_as_it_is_later_than_the_soonest() -> None:
    assert lateness_ms([3, 3, 43, 3, 303]) == pytest.approx([0, 0, 40, 0, 300], abs=0.5)


def test_the_first_one_may_have_been_late_itself() -> None:
    assert lateness_ms([60, 3, 43]) == pytest.approx([0, 0, 40], abs=0.5)


def test_one_from_before_it_was_told_is_known_however_slowly_they_come() -> None:
    assert lateness_ms([3, 3, -140])[-1] == pytest.approx(-143, abs=1)
    assert lateness_ms([3, 3, -1500], every_ms=5000)[-1] < 0


def test_one_late_picture_does_not_hide_the_next() -> None:
    """What is remembered is the soonest, and not the last: pictures that are late one after the other are all late."""
    assert lateness_ms([3, 203, 203, 203]) == pytest.approx([0, 200, 200, 200], abs=1)


@pytest.mark.parametrize("drift", [-5e-5, 5e-5, 1.5e-4, -1.5e-4])
def test_a_clock_that_drifts_makes_no_picture_late_or_old(drift: float) -> None:
    found = lateness_ms([3.0] * 3000, every_ms=2000, drift=drift)
    assert set(found) == {0.0}
    found = lateness_ms([3, 3, 203], every_ms=10_000, drift=drift)
    assert found[-1] == pytest.approx(200, abs=10_000 * 2 * DRIFT * 2 + 1)


@given(st.lists(st.floats(0, 90), min_size=2, max_size=40), st.floats(-DRIFT, DRIFT), st.randoms())
def test_no_picture_is_said_to_be_later_than_it_was(begins: list[float], drift: float, rng: random.Random) -> None:
    """So a trigger that came before it was taken is never answered by what is there after it was told only."""
    promptness, told_ms = Promptness(VARIES_MS * MS), 0.0
    for one in begins:
        told_ms += rng.choice((1, 50, 5000))
        late_ns = promptness.late_ns(int(9e9 + (told_ms + one) * (1 + drift) * MS), int(told_ms * MS))
        assert 0 <= late_ns <= one * MS + 100_000


def proved(pictures: list[tuple[float, float]]) -> list[bool]:
    """`pictures`: when they were taken by the camera's clock, and told by ours, in ms."""
    proof = Proof(VARIES_MS * MS)
    return [proof.add(int(camera * MS), int(told * MS)) is not None for camera, told in pictures]


def test_a_clock_is_believed_when_two_pictures_are_as_far_apart_by_both() -> None:
    assert proved([(9000, 100), (9205, 300)]) == [False, True]
    assert proved([(9000, 100), (9390, 300), (9590, 500)]) == [False, False, True], "a picture that was late"
    apart_ms = Proof(VARIES_MS * MS).apart_ns / MS
    for scale in (8.0, 1e-3, 0.125):
        times = [(9000 + i * apart_ms * scale, 100 + i * apart_ms) for i in range(5)]
        assert not any(proved(times)), f"it runs {scale} times as fast as ours"


def test_a_clock_that_is_not_believed_is_described() -> None:
    for pictures, says in (([(0, 100), (0, 300)], "no time of their own"), ([(5, 100), (6, 900)], "that do not fit")):
        proof = Proof(VARIES_MS * MS)
        assert not proof.has_picture
        for camera, told in pictures:
            assert proof.add(camera * MS, told * MS) is None
        assert proof.has_picture
        assert says in proof.flaw


def test_what_was_proved_is_known_from_then_on() -> None:
    proof = Proof(VARIES_MS * MS)
    times = [(9040, 100), (9203, 300)]
    found = [proof.add(camera * MS, told * MS) for camera, told in times]
    promptness = found[-1]
    assert promptness is not None
    assert all(before is None for before, _ in pairwise(found))
    assert promptness.late_ns(9503 * MS, 600 * MS) == 0
    assert promptness.late_ns(9853 * MS, 900 * MS) / MS == pytest.approx(50, abs=1)
