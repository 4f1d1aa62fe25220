"""The simulated line: pure, one design for every seed, and its truth is true."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from inspectd.sim.line import KINDS, SIZES, Line

SMALL = {"width": 320, "height": 240}


@pytest.fixture(scope="module")
def good() -> Line:
    return Line(7, **SMALL)


@pytest.fixture(scope="module")
def bad() -> Line:
    return Line(7, **SMALL, defects=1.0)


@pytest.fixture(scope="module")
def examples(bad: Line) -> dict[tuple[str, str], int]:
    """The first part of every kind and size."""
    found: dict[tuple[str, str], int] = {}
    for number in range(200):
        defect = bad.part(number).defect
        assert defect is not None
        found.setdefault((defect.kind, defect.size), number)
    return found


def difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The largest difference over the channels, in grey levels [H, W]."""
    return np.asarray(cv2.absdiff(one, other).max(2), np.uint8)


def test_a_picture_is_a_function_of_seed_number_and_size_alone(bad: Line) -> None:
    again = Line(7, **SMALL, defects=1.0)
    in_reverse = [again.render(number) for number in (5, 4, 3)][::-1]
    for number, picture in zip((3, 4, 5), in_reverse, strict=True):
        np.testing.assert_array_equal(bad.render(number), picture)
        np.testing.assert_array_equal(bad.truth_mask(number), again.truth_mask(number))
        assert bad.part(number) == again.part(number)


def test_every_picture_is_a_fresh_writable_array(bad: Line) -> None:
    first = bad.render(3)
    kept = first.copy()
    first[:] = 0
    bad.truth_mask(3)[:] = 0
    np.testing.assert_array_equal(bad.render(3), kept)
    assert bad.truth_mask(3).any()


def test_no_two_pictures_are_alike(good: Line) -> None:
    for one, other in pairwise(good.render(number) for number in range(8)):
        assert (one != other).mean() > 0.5


def test_the_sensors_noise_is_new_in_every_picture(good: Line) -> None:
    corners = [good.render(number)[:30, :30].astype(np.float64) for number in range(6)]  # belt alone
    grain = [corner - cv2.GaussianBlur(corner, (0, 0), 1) for corner in corners]
    assert min(residue.std() for residue in grain) > 1
    for one, other in pairwise(grain):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.3


def test_seeds_vary_the_picture_and_keep_the_design() -> None:
    def typical(seed: int) -> NDArray[np.float64]:
        line = Line(seed, **SMALL)
        return np.asarray(np.mean([line.render(number) for number in range(24)], axis=0))

    assert (Line(1, **SMALL).render(0) != Line(2, **SMALL).render(0)).mean() > 0.5
    assert np.abs(typical(1) - typical(2)).mean() < 5


def test_a_defect_changes_nothing_outside_its_box(good: Line, bad: Line) -> None:
    for number in range(80):  # part 76 has a chip that grazes the next tooth
        defect = bad.part(number).defect
        assert defect is not None
        x, y, w, h = defect.box
        margin = 3 + max(w, h) // 8  # a stain fades beyond its mask
        apart = difference(good.render(number), bad.render(number))
        apart[max(0, y - margin) : y + h + margin, max(0, x - margin) : x + w + margin] = 0
        assert not apart.any(), f"part {number}, {defect}"


def test_sizes_mean_what_they_say(good: Line, bad: Line, examples: dict[tuple[str, str], int]) -> None:
    assert set(examples) == {(kind, size) for kind in KINDS for size in SIZES}
    for (kind, size), number in examples.items():
        apart = difference(good.render(number), bad.render(number))[bad.truth_mask(number) > 0]
        if size in {"gross", "clear"}:
            assert apart.mean() > 12, f"{kind} {size}"
        if size == "subtle":
            assert 0 < apart.mean() < 25, f"{kind} {size}"


def test_the_box_is_the_bounding_box_of_the_mask(bad: Line) -> None:
    for number in range(20):
        defect, mask = bad.part(number).defect, bad.truth_mask(number)
        assert defect is not None
        assert set(np.unique(mask)) == {0, 255}
        assert defect.box == cv2.boundingRect(mask)


def test_good_parts_have_no_truth_to_show(good: Line) -> None:
    assert good.part(4).number == 4
    assert good.part(4).defect is None
    assert not good.truth_mask(4).any()


def test_the_share_of_defects_is_the_one_asked_for() -> None:
    line = Line(3, width=64, height=64, defects=0.25)
    parts = [line.part(number) for number in range(1000)]
    defects = [part.defect for part in parts if part.defect is not None]
    assert 200 < len(defects) < 300
    assert min(Counter(defect.kind for defect in defects).values()) > 35
    assert min(Counter(defect.size for defect in defects).values()) > 35


def test_a_larger_share_keeps_the_defects_of_a_smaller_one() -> None:
    few, many = (Line(3, width=64, height=64, defects=share) for share in (0.2, 0.6))
    for number in range(60):
        if few.part(number).defect is not None:
            assert few.part(number) == many.part(number)


@pytest.mark.parametrize(("width", "height"), [(64, 64), (65, 301), (641, 97), (1280, 720)])
def test_any_size_of_picture(width: int, height: int) -> None:
    line = Line(width=width, height=height, defects=1.0)
    for number in range(6):
        picture, mask = line.render(number), line.truth_mask(number)
        assert picture.shape == (height, width, 3)
        assert mask.shape == (height, width)
        assert picture.dtype == mask.dtype == np.uint8
        assert mask.any()
        assert 20 < picture.mean() < 120


def test_numbers_may_be_huge(good: Line) -> None:
    assert good.render(2**63 + 1).any()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"defects": 1.1}, "between 0 and 1; it is 1.1"),
        ({"defects": -0.1}, "between 0 and 1; it is -0.1"),
        ({"defects": float("nan")}, "between 0 and 1; it is nan"),
        ({"width": 63}, "at least 64 pixels each way; 63 × 480"),
        ({"height": 0}, "at least 64 pixels each way; 640 × 0"),
        ({"seed": -1}, "whole number from 0; it is -1"),
    ],
)
def test_arguments_that_make_no_line(arguments: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Line(**arguments)  # type: ignore[arg-type]


def test_parts_are_numbered_from_zero(good: Line) -> None:
    for ask in (good.part, good.render, good.truth_mask):
        with pytest.raises(ValueError, match="-1 is not a part"):
            ask(-1)


def test_a_worn_tool_leaves_stronger_marks_and_changes_nothing_else() -> None:
    new, worn, same = (Line(7, **SMALL, wear=wear).render(3).astype(int) for wear in (0.0, 1.0, 0.0))
    assert (new == same).all()
    difference = np.abs(worn - new)
    assert 0 < difference.mean() < 8
    assert abs(worn.mean() - new.mean()) < 1, "it is as bright as before"
    with pytest.raises(ValueError, match="wear lies between 0 and 4; it is 5"):
        Line(7, wear=5)
