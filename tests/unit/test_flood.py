"""A live camera that sends far more pictures than it should is noticed, and no other."""

from __future__ import annotations

import pytest

from inspectd.cameras.flood import Flood


def pictures_until_full(fps: float, rate: float, most: int = 5000) -> int | None:
    """Return after how many pictures, `rate` a second, it is a flood; None: it is none."""
    flood = Flood(fps, 1.5)
    return next((count for count in range(most) if flood.is_full(100 + count / rate)), None)


@pytest.mark.parametrize(("fps", "rate"), [(0, 25), (0, 119), (25, 60), (30, 119), (200, 399), (1000, 1001)])
def test_no_rate_that_may_be_meant_is_a_flood(fps: float, rate: float) -> None:
    assert pictures_until_full(fps, rate) is None


@pytest.mark.parametrize(("fps", "rate"), [(0, 150), (0, 1000), (25, 1000), (200, 500)])
def test_more_than_twice_what_is_said_is_a_flood(fps: float, rate: float) -> None:
    count = pictures_until_full(fps, rate)
    assert count is not None
    assert count >= max(fps, 60) / 2


def test_a_camera_that_was_well_may_send_more_at_once_than_one_that_has_just_been_opened() -> None:
    new, known = Flood(0, 1.5), Flood(0, 1.5)
    assert not any(known.is_full(100 + number / 25) for number in range(100))
    after = [sum(not flood.is_full(105 + number / 1e6) for number in range(1000)) for flood in (new, known)]
    assert after == [30, 180]


@pytest.mark.parametrize("fps", [25, 60, 200])
def test_what_piled_up_in_a_second_may_come_at_once_and_again_a_second_later(fps: float) -> None:
    flood = Flood(fps, 1.5)
    times = [number / fps for number in range(3 * fps)]
    times += [4 + second + number / 1e6 for second in range(10) for number in range(fps)]
    assert not any(flood.is_full(100 + time) for time in times)
