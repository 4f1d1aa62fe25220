"""Two pictures of a part: what of light, lens and place has changed, and which way."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from inspectd.model.compared import compare
from inspectd.records import Picture
from inspectd.sim.line import Line

AREA = (0, 0, 320, 240)
THEN = Line(7, width=320, height=240).render(3)


def moved(right: int, down: int) -> Picture:
    by = np.array([[1, 0, right], [0, 1, down]], np.float32)
    return np.asarray(cv2.warpAffine(THEN, by, (320, 240), borderMode=cv2.BORDER_REFLECT), np.uint8)


def told(now: Picture, area: Any = AREA) -> list[str]:
    found = compare(now, THEN, area, 255)
    assert found is not None
    return found.sentences(240)


def test_the_same_picture_has_nothing_to_tell() -> None:
    assert told(THEN) == []


def test_the_noise_of_another_picture_is_nothing_to_tell() -> None:
    noise = np.random.default_rng(0).normal(0, 3, THEN.shape)
    assert told(np.clip(THEN + noise, 0, 255).astype(np.uint8)) == []


@pytest.mark.parametrize(("right", "down"), [(12, 0), (-12, 0), (0, 9), (0, -9), (20, -15)])
def test_how_far_and_which_way_it_was_moved_is_told(right: int, down: int) -> None:
    found = compare(moved(right, down), THEN, AREA, 255)
    assert found is not None
    assert found.shift_px == pytest.approx((right, down), abs=1.5)
    assert found.sentences(240) == [f"what it shows lies {found.shift_px[0]:+.0f} px to the right and "
                                    f"{found.shift_px[1]:+.0f} px down"]  # fmt: skip


def test_light_and_sharpness_are_told() -> None:
    (dark,) = told((THEN * 0.7).astype(np.uint8))
    assert dark.startswith("it is 0.7")
    assert "times as bright" in dark
    (soft,) = told(np.asarray(cv2.GaussianBlur(THEN, (0, 0), 2.0), np.uint8))
    assert "times as sharp" in soft


def test_pictures_of_two_sizes_cannot_be_compared() -> None:
    assert compare(THEN[:120], THEN, AREA, 255) is None
    assert compare(THEN.astype(np.uint16), THEN, AREA, 255) is None


def test_only_what_is_inspected_counts() -> None:
    now = THEN.copy()
    now[:, 160:] = 0
    assert told(now, (0, 0, 160, 240)) == []
    assert told(now) != []


def test_what_is_no_more_the_same_scene_has_not_been_moved() -> None:
    other = np.random.default_rng(1).integers(0, 255, THEN.shape, np.uint8)
    found = compare(other, THEN, AREA, 255)
    assert found is not None
    assert found.shift_px is None
