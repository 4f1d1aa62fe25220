"""The judge: nothing but numbers in, verdict and regions out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from inspectd.line.judge import MASK_LEVEL, MAX_REGIONS, Criterion, find_regions, judge, mask_bytes
from inspectd.records import Finding, Outcome, Reason, Rect

Grid = NDArray[np.float32]
PICTURE = (640, 480)
AREA: Rect = (0, 0, 640, 480)

sides = st.tuples(st.integers(1, 12), st.integers(1, 12))
few_levels = st.sampled_from([np.float32(v) for v in (-1.0, 0.0, 0.25, 0.5, 0.75, 1.0, 3.0)])
any_score = st.floats(-1e6, 1e6, width=32)
grids = st.one_of(hnp.arrays(np.float32, sides, elements=few_levels), hnp.arrays(np.float32, sides, elements=any_score))
areas = st.tuples(st.integers(0, 500), st.integers(0, 500), st.integers(12, 2000), st.integers(12, 2000))


def grid(*rows: str) -> Grid:
    """Draw a grid: a digit is a score, a dot is 0."""
    return np.array([[0 if c == "." else int(c) for c in row] for row in rows], np.float32)


def verdict(score: float | np.float32, threshold: float) -> Finding:
    scores = np.zeros((4, 4), np.float32)
    scores[1, 2] = score
    return judge(scores, Criterion(threshold, (), "m"), PICTURE, AREA)


def test_exactly_the_threshold_is_ok_and_its_upper_neighbour_is_ng() -> None:
    assert verdict(0.5, 0.5).outcome is Outcome.OK
    above = verdict(np.nextafter(np.float32(0.5), np.float32(1)), 0.5)
    assert (above.outcome, len(above.regions)) == (Outcome.NG, 1)


@pytest.mark.parametrize("threshold", [0.1, 0.3, 1 / 3, 0.7, 1e-3 + 1e-12])
def test_a_threshold_between_two_float32_parts_exactly_these_two(threshold: float) -> None:
    nearest = np.float32(threshold)
    assert float(nearest) != threshold, "this threshold would test nothing"
    if float(nearest) > threshold:
        lower, upper = np.nextafter(nearest, np.float32(-np.inf)), nearest
    else:
        lower, upper = nearest, np.nextafter(nearest, np.float32(np.inf))
    assert (verdict(lower, threshold).outcome, verdict(lower, threshold).regions) == (Outcome.OK, ())
    assert (verdict(upper, threshold).outcome, len(verdict(upper, threshold).regions)) == (Outcome.NG, 1)


@pytest.mark.parametrize("score", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_no_number_is_a_fault_of_the_engine(score: float) -> None:
    finding = verdict(score, 0.5)
    assert (finding.outcome, finding.reason, finding.score, finding.mask) == (Outcome.FAULT, Reason.ENGINE, None, None)
    assert (finding.model, finding.picture, finding.roi) == ("m", PICTURE, AREA)
    assert finding.detail
    assert "not a finite number" in finding.detail


def test_a_threshold_that_is_no_number_is_never_ok() -> None:
    assert verdict(5.0, float("nan")).outcome is not Outcome.OK


def test_a_finding_says_what_it_was_judged_by() -> None:
    scores = grid(".1", "32")
    finding = judge(scores, Criterion(2.5, (0.5, 1.0, 3.0, 4.0), "run a1b2"), PICTURE, (8, 16, 64, 32))
    assert (finding.outcome, finding.reason, finding.score, finding.threshold) == (Outcome.NG, None, 3.0, 2.5)
    assert (finding.model, finding.picture, finding.roi) == ("run a1b2", PICTURE, (8, 16, 64, 32))
    assert finding.mask is not None
    assert (finding.mask.area, finding.mask.level, finding.mask.bytes_.shape) == ((8, 16, 64, 32), 128, (2, 2))


@pytest.mark.parametrize(("score", "p"), [(0.0, 1.0), (1.0, 1.0), (1.5, 0.75), (2.0, 0.75), (3.0, 0.5), (4.1, 0.0)])
def test_p_is_the_share_of_good_parts_that_scored_at_least_this_high(score: float, p: float) -> None:
    standard = Criterion(9.0, (1.0, 2.0, 3.0, 4.0), "m")
    assert judge(np.full((2, 2), score, np.float32), standard, PICTURE, AREA).p == p
    assert verdict(1.0, 9.0).p is None, "without held-out parts nobody knows"


def test_regions_touch_at_corners_too_and_the_worst_is_first() -> None:
    scores = grid(
        "2.....",
        ".3....",
        "...5..",
        "......",
        "77...4",
        "7.....",
    )
    regions = find_regions(scores, 1.0, (0, 0, 60, 60))
    assert [(r.x, r.y, r.w, r.h, r.area, r.score) for r in regions] == [
        (0, 40, 20, 20, 300, 7.0),
        (30, 20, 10, 10, 100, 5.0),
        (50, 40, 10, 10, 100, 4.0),
        (0, 0, 20, 20, 200, 3.0),
    ]


def test_a_patch_at_the_threshold_joins_nothing() -> None:
    assert [(r.x, r.w) for r in find_regions(grid("212"), 1.0, (0, 0, 3, 1))] == [(0, 1), (2, 1)]


def test_of_many_regions_the_worst_thirty_two_are_kept() -> None:
    scores = np.zeros((20, 20), np.float32)
    scores[::2, ::2] = np.arange(1, 101, dtype=np.float32).reshape(10, 10)
    regions = find_regions(scores, 0.5, (0, 0, 200, 200))
    assert MAX_REGIONS == 32
    assert [r.score for r in regions] == list(range(100, 68, -1))


def test_regions_are_in_pixels_of_the_whole_picture_with_cells_of_broken_size() -> None:
    (region,) = find_regions(grid("...", ".99", "..."), 1.0, (100, 50, 100, 200))
    assert (region.x, region.y) == (100 + 33, 50 + 67)
    assert (region.x + region.w, region.y + region.h) == (200, 50 + 133)


@given(grids, st.floats(-2, 4) | any_score, areas)
def test_ng_and_regions_go_together_and_lie_inside_the_area(scores: Grid, threshold: float, area: Rect) -> None:
    finding = judge(scores, Criterion(threshold, (), "m"), (2600, 2600), area)
    is_above = bool((scores.astype(np.float64) > threshold).any())
    assert (finding.outcome is Outcome.NG) == is_above == bool(finding.regions)
    assert finding.outcome in (Outcome.OK, Outcome.NG)
    for region in finding.regions:
        assert area[0] <= region.x < region.x + region.w <= area[0] + area[2]
        assert area[1] <= region.y < region.y + region.h <= area[1] + area[3]
        assert threshold < region.score <= float(scores.max())
        assert region.area >= 1
    if finding.regions:
        assert finding.regions[0].score == finding.score
        assert list(finding.regions) == sorted(finding.regions, key=lambda r: -r.score)


def test_a_grid_finer_than_the_pixels_stays_inside() -> None:
    scores = np.zeros((8, 8), np.float32)
    scores[7, 7] = 2
    (region,) = find_regions(scores, 1.0, (0, 0, 3, 3))
    assert region.x + region.w <= 3


def test_a_region_covers_no_more_than_its_rectangle() -> None:
    (region,) = find_regions(np.pad(np.ones((1, 1), np.float32), (0, 7)), 0.5, (0, 0, 20, 20))
    assert region.area <= region.w * region.h


def test_the_mask_is_the_formula_of_the_protocol_clipped_to_a_byte() -> None:
    standard = Criterion(3.0, (0.0, 1.0, 2.0), "m")  # median 1: 64 a unit
    scores = np.array([[-5, 1, 1.253, 1.258], [3, 3.25, 4.98, 99]], np.float32)
    assert mask_bytes(scores, standard).tolist() == [[0, 0, 16, 17], [128, 144, 255, 255]]
    assert mask_bytes(scores, standard).dtype == np.uint8


@given(
    hnp.arrays(np.float32, sides, elements=st.floats(-1e4, 1e4, width=32)),
    st.floats(-100, 100),
    st.lists(st.floats(-100, 100), max_size=4).map(sorted),
)
def test_bytes_above_the_level_are_above_the_threshold(scores: Grid, threshold: float, held_out: list[float]) -> None:
    standard = Criterion(threshold, held_out, "m")
    mask, exact = mask_bytes(scores, standard), scores.astype(np.float64)
    assert (exact[mask > MASK_LEVEL] > threshold).all()
    assert (mask[exact > threshold] >= MASK_LEVEL).all()
    order = np.argsort(scores, axis=None)
    assert (np.diff(mask.ravel()[order].astype(int)) >= 0).all(), "a worse patch is never paler"


@pytest.mark.parametrize("held_out", [(2.0,), (5.0,)])
def test_a_threshold_at_or_below_the_typical_score_still_parts_the_mask(held_out: tuple[float, ...]) -> None:
    scores = np.array([[0, 1.99, 2, 2.01, 9]], np.float32)
    assert mask_bytes(scores, Criterion(2.0, held_out, "m")).tolist() == [[0, 0, 128, 255, 255]]


def test_the_threshold_itself_is_the_level_at_any_scale() -> None:
    assert mask_bytes(np.full((1, 1), 1e9, np.float32), Criterion(1e9, (1e9,), "m")).item() == 128
