"""The threshold keeps what it promises; the options of a calibration are what was asked for."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from calibrate.training.options import options_for
from calibrate.training.threshold import choose_threshold, held_out_positions, parts_needed, proven_rate
from inspectd.errors import UsageError

# The threshold


def test_bound_is_the_published_one() -> None:
    assert parts_needed(0.01, 0.95) == 299
    assert proven_rate(299, 0, 0.95) <= 0.01 < proven_rate(298, 0, 0.95)
    assert round(proven_rate(60, 0, 0.95), 3) == 0.049


@pytest.mark.parametrize("count", [299, 640, 2000])
def test_with_enough_parts_the_threshold_is_the_smallest_that_is_proven(count: int) -> None:
    scores = np.random.default_rng(count).gamma(2, size=count)
    threshold = choose_threshold(scores.tolist(), 0.01, 0.95)
    assert threshold.is_proven
    assert threshold.margin == 0
    above = int((scores > threshold.value).sum())
    assert proven_rate(count, above, 0.95) <= 0.01 < proven_rate(count, above + 1, 0.95)


def test_coverage_of_the_bound() -> None:
    """In at least 94 % of 1,000 calibrations the true rate is within the bound (95 % is promised)."""
    rng = np.random.default_rng(5)
    kept = 0
    for _ in range(1000):
        threshold = choose_threshold(rng.exponential(size=640).tolist(), 0.01, 0.95)
        kept += float(np.exp(-threshold.value)) <= threshold.rate  # the exponential's own tail
    assert kept / 1000 >= 0.94


def test_with_too_few_parts_the_largest_score_is_raised_and_nothing_is_claimed() -> None:
    scores = np.random.default_rng(1).normal(size=15)
    threshold = choose_threshold(scores.tolist(), 0.01, 0.95)
    assert not threshold.is_proven
    assert threshold.value == pytest.approx(scores.max() + threshold.margin)
    assert threshold.margin > 0
    assert threshold.parts_needed == 299
    assert threshold.proven_rate == proven_rate(15, 0, 0.95)


@pytest.mark.parametrize("scores", [[1.0], [2.0, 2.0, 2.0]])
def test_a_threshold_from_hardly_anything_still_is_one(scores: list[float]) -> None:
    assert choose_threshold(scores, 0.01, 0.95).value >= max(scores)


@pytest.mark.parametrize("scores", [[], [1.0, float("nan")], [float("inf")]])
def test_no_threshold_from_nonsense(scores: list[float]) -> None:
    with pytest.raises(ValueError, match="held-out"):
        choose_threshold(scores, 0.01, 0.95)


@pytest.mark.parametrize("count", [8, 9, 60, 1000])
def test_held_out_pictures_are_contiguous_blocks(count: int) -> None:
    held = held_out_positions(count)
    assert held == sorted(set(held))
    assert held[0] >= 0
    assert held[-1] == count - 1
    assert abs(len(held) - count / 4) <= 1.5
    assert sum(b - a > 1 for a, b in itertools.pairwise(held)) <= 1


# Options


@pytest.mark.parametrize("backbone", [None, "wideresnet50"])
def test_every_backbone_has_the_stable_recipe(backbone: str | None) -> None:
    options = options_for(backbone, ())
    assert options.schedule.standardise
    assert options.schedule.draws_patches
    assert options.schedule.noise == "differences"
    assert options.layers == (("blocks.2", "blocks.4") if backbone is None else ("layer2", "layer3"))


def test_asking_for_epochs_asks_for_the_published_schedule() -> None:
    assert options_for(None, (), meta_epochs=3).schedule.steps is None


def test_unknown_parameters_are_named() -> None:
    with pytest.raises(UsageError, match=r"nois_std.*noise_std"):
        options_for(None, (), nois_std=1)


# Parts that count as rejected


def test_marked_parts_count_as_rejected_whatever_they_score() -> None:
    scores = np.random.default_rng(3).normal(size=700)
    plain = choose_threshold(scores.tolist(), 0.01, 0.95)
    marked = [bool(i == int(scores.argmin())) for i in range(len(scores))]
    strict = choose_threshold(scores.tolist(), 0.01, 0.95, marked)
    assert strict.is_proven
    assert strict.value > plain.value, "one place above the threshold is taken already"
    assert strict.proven_rate == plain.proven_rate


def test_too_many_marked_parts_cannot_be_proven() -> None:
    scores = [float(i) for i in range(320)]
    few = choose_threshold(scores, 0.01, 0.95, [i >= 318 for i in range(320)])
    assert not few.is_proven
    assert few.proven_rate == proven_rate(320, 2, 0.95)
    assert few.value >= 317
    everything = choose_threshold(scores, 0.01, 0.95, [True] * 320)
    assert everything.proven_rate == 1.0
    assert everything.value >= 319


def test_marks_must_fit_the_scores() -> None:
    with pytest.raises(ValueError, match="2 marks for 3"):
        choose_threshold([1.0, 2.0, 3.0], 0.01, 0.95, [True, False])
