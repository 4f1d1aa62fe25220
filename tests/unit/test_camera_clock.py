"""A camera's own clock: on ours, and what it says of how promptly pictures were taken."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspectd.cameras.vision.clock import DRIFT, CameraClock, Promptness, _Mark

MS = 1_000_000
MARK = _Mark(0, 0, 0, is_believed=True)


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


class Told:
    """A camera that is told to take pictures. Times in ms."""

    def __init__(self, *, scale: float = 1.0, way: float = 30.0) -> None:
        """`scale`: how fast its clock runs; 0: it has none. `way`: from exposure to arrival."""
        self.promptness, self.scale, self.way, self.now = Promptness(), scale, way, 5000.0

    def take(self, begins: float, *, way: float | None = None, after: float = 1000) -> tuple[float, float] | None:
        """Return how late a picture may have been taken, that was taken so long after it was told."""
        self.now += after
        told_ns = int(self.now * MS)
        camera_ns = int((900_000 + self.now + begins) * self.scale * MS)
        came_ns = int((self.now + begins + (self.way if way is None else way)) * MS)
        found = self.promptness.look(camera_ns, told_ns, came_ns)
        return None if found is None else ((found.from_ns - told_ns) / MS, (found.until_ns - told_ns) / MS)


def open_told(**keys: float) -> Told:
    camera = Told(**keys)
    assert all(camera.take(2, after=50) for _ in range(4))
    return camera


def about(*values: float) -> object:
    return pytest.approx(values, abs=5)


@pytest.mark.parametrize("scale", [1.0, 0.0])
def test_what_comes_as_soon_as_usual_was_taken_when_it_was_told(scale: float) -> None:
    camera = open_told(scale=scale)
    assert camera.take(2) == about(0, 0)
    assert camera.take(2, after=8 * 3600_000) == about(0, 0), "after a night"


def test_of_what_comes_late_the_cameras_clock_says_whether_it_was_taken_late() -> None:
    camera = open_told()
    assert camera.take(302) == about(300, 300)
    assert camera.take(2, way=330) == about(0, 1), "it was long under way"
    assert camera.take(102, way=230) == about(100, 101)
    assert camera.take(302) == about(300, 300), "one late picture hides no other"


@given(st.lists(st.floats(0, 10), min_size=4, max_size=4))
def test_a_clock_is_believed_when_a_camera_is_open_however_its_first_pictures_came(begins: list[float]) -> None:
    camera = Told()
    assert all(camera.take(one, after=50) for one in begins)
    found = camera.take(0, way=90)
    assert found is not None
    assert found[1] < 20, "it was long under way, and taken when it was told"


def test_without_a_clock_it_may_have_been_taken_at_any_time_until_then() -> None:
    camera = open_told(scale=0)
    assert camera.take(302) == about(0, 300)
    assert camera.take(2, way=330) == about(0, 300)


@pytest.mark.parametrize("scale", [8.0, 1.25, 0.8, 0.125, 1e-3, -1.0])
def test_a_clock_of_another_measure_is_not_believed(scale: float) -> None:
    camera = open_told(scale=scale)
    for _ in range(20):
        assert camera.take(2) == about(0, 0)
        found = camera.take(302)
        assert found is not None
        assert found[0] <= 300
        assert found[1] >= 297
        assert camera.take(-60) is None, "and it lets no older picture pass"


def test_after_a_pause_the_clock_is_believed_no_further_than_it_may_have_drifted() -> None:
    camera = open_told()
    found = camera.take(302, after=3600_000)
    assert found is not None
    assert found == about(0, 300), "it may have drifted by seconds: what comes late may have been taken late"
    assert camera.take(2) == about(0, 0)


def test_lateness_that_creeps_is_seen() -> None:
    camera = open_told()
    for late in range(0, 300, 2):
        found = camera.take(2 + late / 2, after=1000)
        assert found is not None
        assert found[1] >= late / 2 - 3, "it is never said to have been taken earlier than it was"


def test_what_comes_sooner_than_ever_is_from_before_it_was_told() -> None:
    for scale in (1.0, 0.0):
        camera = open_told(scale=scale)
        assert camera.take(-60) is None
        assert camera.take(-90, after=3600_000) is None
        assert camera.take(2) == about(0, 0), "and says nothing of the next ones"


def test_a_quicker_way_makes_no_picture_older() -> None:
    camera = Told(way=130)
    assert all(camera.take(2, after=50) for _ in range(4))
    assert camera.take(2, way=30) == about(0, 0), "its clock says that it was taken as always"
    assert camera.take(62, way=30) == about(60, 60)


@pytest.mark.parametrize("drift", [-9e-4, 9e-4, 1e-4])
def test_a_clock_that_drifts_makes_no_picture_late_or_old(drift: float) -> None:
    camera = open_told(scale=1 + drift)
    assert {camera.take(2) == about(0, 0) for _ in range(3000)} == {True}
    assert camera.take(302) == about(300, 300)


def test_a_clock_that_is_set_makes_no_picture_late_or_old() -> None:
    camera = open_told()
    for step_ms in (80, -80, 1e7, -1e7):
        camera.promptness._mark = replace(camera.promptness._mark or MARK, ahead_ns=int(step_ms * MS))
        assert camera.take(2) == about(0, 0)


@given(
    st.lists(st.tuples(st.floats(0, 400), st.floats(25, 200), st.sampled_from([1, 50, 900, 60_000])), max_size=30),
    st.floats(-DRIFT / 2, DRIFT / 2),
)
def test_it_was_taken_in_the_time_that_is_said(taken: list[tuple[float, float, float]], drift: float) -> None:
    """`taken`: how late, by how long a way, and how long after the one before, in ms."""
    camera = Told(scale=1 + drift, way=25)
    for _ in range(4):
        camera.take(0, after=50)
    for begins, way, after in taken:
        found = camera.take(begins, way=way, after=after)
        assert found is not None
        assert found[0] - 1 <= begins <= found[1] + 1
