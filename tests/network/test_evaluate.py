"""AUROC and per-region overlap, against slow literal forms of their definitions."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import auc, roc_auc_score

from calibrate.evaluation.metrics import Maps, Metrics, Truths, image_auroc, mean, pixel_auroc, pro

SQUARE = np.ones((5, 5), np.uint8)


def literal_pro(maps: Maps, truths: Truths, limit: float, steps: int) -> float:
    """The definition, step by step: mark, dilate, walk over the regions."""
    low, high = float(maps.min()), float(maps.max())
    rates, overlaps = [], []
    for threshold in np.arange(low, high, (high - low) / steps):
        marked = maps > threshold
        shares = []
        for marks, truth in zip(marked, truths, strict=True):
            dilated = cv2.dilate(marks.astype(np.uint8), SQUARE)
            count, labels = cv2.connectedComponents(truth.astype(np.uint8), connectivity=8)
            shares += [dilated[labels == label].mean() for label in range(1, count)]
        overlaps.append(np.mean(shares))
        rates.append((marked & ~truths).sum() / (~truths).sum())
    kept = np.array(rates) < limit
    x, y = np.array(rates)[kept], np.array(overlaps)[kept]
    return float(auc(x / x.max(), y))


def blobs(seed: int, signal: float) -> tuple[Maps, Truths]:
    """Five smooth maps and their truths; defects touch edges, corners and each other, one map has none."""
    rng = np.random.default_rng(seed)
    maps = rng.normal(size=(5, 48, 40)).astype(np.float32)
    truths = np.zeros(maps.shape, np.uint8)
    for i in range(5):
        maps[i] = cv2.GaussianBlur(maps[i], (0, 0), 2)
        for _ in range(rng.integers(1, 5) if i else 0):
            centre = (int(rng.integers(0, 40)), int(rng.integers(0, 48)))
            cv2.circle(truths[i], centre, int(rng.integers(1, 8)), 1, -1)
    return maps + np.float32(signal) * truths, truths > 0


def one_defect() -> Truths:
    truths = np.zeros((2, 32, 32), np.bool_)
    truths[0, 8:16, 8:20] = True
    return truths


@pytest.mark.parametrize("signal", [0.0, 0.1, 0.4, -0.3])
@pytest.mark.parametrize("seed", range(4))
def test_pro_is_the_published_definition(seed: int, signal: float) -> None:
    maps, truths = blobs(seed, signal)
    assert pro(maps, truths) == pytest.approx(literal_pro(maps, truths, 0.3, 200), abs=1e-12)


@pytest.mark.parametrize(("limit", "steps"), [(0.05, 200), (1.0, 17), (2.0, 50)])
def test_limit_and_thresholds_can_be_others(limit: float, steps: int) -> None:
    maps, truths = blobs(9, 0.2)
    found = pro(maps, truths, limit=limit, thresholds=steps)
    assert found == pytest.approx(literal_pro(maps, truths, limit, steps), abs=1e-12)


def test_pro_of_maps_with_few_levels_is_the_published_one_too() -> None:
    maps, truths = blobs(3, 0.3)
    coarse = (np.round(maps * 4) / 4).astype(np.float32)
    assert pro(coarse, truths) == pytest.approx(literal_pro(coarse, truths, 0.3, 200), abs=1e-12)


def test_regions_that_touch_at_a_corner_are_one() -> None:
    truths = np.zeros((1, 32, 32), np.bool_)
    truths[0, 4:8, 4:8] = truths[0, 8:20, 8:20] = True
    maps = np.zeros(truths.shape, np.float32)
    maps[0, 10:18, 10:18] = 1  # dilated: exactly the larger square
    assert pro(maps, truths) == pytest.approx(144 / (144 + 16))


def test_the_dilation_helps_the_overlap_and_not_the_false_positives() -> None:
    truths = one_defect()
    maps = np.zeros(truths.shape, np.float32)
    maps[0, 10:14, 10:18] = 1  # two pixels short on every side
    assert pro(maps, truths) == 1.0


def test_perfect_maps_reach_one() -> None:
    truths = one_defect()
    maps = truths.astype(np.float32)
    assert (pixel_auroc(maps, truths), pro(maps, truths)) == (1.0, 1.0)


def test_inverted_maps_reach_nothing() -> None:
    truths = one_defect()
    maps = 1 - truths.astype(np.float32)
    assert (pixel_auroc(maps, truths), pro(maps, truths)) == (0.0, 0.0)


def test_constant_maps_tell_nothing() -> None:
    truths = one_defect()
    maps = np.full(truths.shape, 3, np.float32)
    assert (pixel_auroc(maps, truths), pro(maps, truths)) == (0.5, 0.0)


def test_a_limit_that_keeps_no_point_reaches_nothing() -> None:
    assert pro(*blobs(0, 0.2), limit=0.0) == 0.0


@pytest.mark.parametrize("truth", [True, False])
def test_a_metric_without_both_kinds_is_none(truth: bool) -> None:
    maps = blobs(0, 0.0)[0]
    truths = np.full(maps.shape, truth)
    assert (pixel_auroc(maps, truths), pro(maps, truths)) == (None, None)
    assert image_auroc([1.0, 2.0], [truth, truth]) is None


def test_no_pictures_have_no_metrics() -> None:
    nothing = np.empty((0, 8, 8), np.float32)
    assert (pixel_auroc(nothing, nothing > 0), pro(nothing, nothing > 0), image_auroc([], [])) == (None, None, None)


@pytest.mark.parametrize("levels", [1, 2, 5, 10_000])
def test_pixel_auroc_counts_ties_by_half(levels: int) -> None:
    maps, truths = blobs(1, 0.2)
    tied = (np.round(maps * levels) / levels).astype(np.float32)
    assert pixel_auroc(tied, truths) == pytest.approx(roc_auc_score(truths.ravel(), tied.ravel()), abs=1e-12)


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=30))
def test_any_few_pixels_agree_with_counting_pairs(pixels: list[tuple[int, bool]]) -> None:
    maps = np.array([[[value for value, _ in pixels]]], np.float32)
    truths = np.array([[[truth for _, truth in pixels]]], np.bool_)
    pairs = [np.sign(b - g) / 2 + 0.5 for b, is_bad in pixels if is_bad for g, is_other in pixels if not is_other]
    assert pixel_auroc(maps, truths) == (pytest.approx(np.mean(pairs)) if pairs else None)


def test_image_auroc_is_the_share_of_pairs_in_order() -> None:
    assert image_auroc([1, 2, 2, 3], [False, False, True, True]) == pytest.approx(3.5 / 4)
    assert image_auroc([5.0, 1.0], [False, True]) == 0.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    maps, truths = blobs(0, 0.1)
    maps[2, 3, 4] = bad
    for metric in (pixel_auroc, pro):
        with pytest.raises(ValueError, match="not finite"):
            metric(maps, truths)
    with pytest.raises(ValueError, match="finite numbers"):
        image_auroc([1.0, bad], [False, True])


def test_shapes_and_types_that_do_not_fit_are_refused() -> None:
    maps, truths = blobs(0, 0.1)
    for metric in (pixel_auroc, pro):
        with pytest.raises(ValueError, match=r"maps are \(5, 48, 40\) and truths \(4, 48, 40\)"):
            metric(maps, truths[:4])
        with pytest.raises(ValueError, match=r"expected \[N, H, W\]"):
            metric(maps[0], truths[0])
        with pytest.raises(ValueError, match="truths uint8"):
            metric(maps, truths.astype(np.uint8))
    with pytest.raises(ValueError, match="2 scores for 1 parts"):
        image_auroc([1.0, 2.0], [True])


def test_views_are_taken_as_they_are() -> None:
    maps, truths = blobs(2, 0.2)
    turned = pro(maps.transpose(0, 2, 1), truths.transpose(0, 2, 1))
    assert turned == pytest.approx(pro(maps, truths), abs=1e-12)


def test_the_mean_is_over_what_is_there() -> None:
    whole, partly, nothing = Metrics(1.0, 0.5, 0.25), Metrics(0.5, None, 0.75), Metrics(None, None, None)
    assert mean([whole, partly, nothing]) == Metrics(0.75, 0.5, 0.5)
    assert mean([]) == mean([nothing]) == nothing
