"""The threshold keeps what it promises; the options of a calibration are what was asked for."""

from __future__ import annotations

import itertools
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from calibrate.training.independence import independent_parts
from calibrate.training.options import options_for
from calibrate.training.recipe import Recipe
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


def test_coverage_where_odd_parts_make_a_choice() -> None:
    rng = np.random.default_rng(6)
    kept, proven = 0, 0
    for _ in range(1000):
        odd = rng.random(640) < 0.01
        scores = np.where(odd, 6 + 3 * rng.exponential(size=640), rng.normal(size=640))
        threshold = choose_threshold(scores.tolist(), 0.01, 0.95, painted=rng.normal(4, 3, 100).tolist())
        above = 0.01 * min(1.0, np.exp((6 - threshold.value) / 3)) + 0.99 * NormalDist().cdf(-threshold.value)
        kept += above <= threshold.proven_rate
        proven += threshold.is_proven
    assert kept / 1000 >= 0.94
    assert 0 < proven < 1000, "both happen"


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


@pytest.mark.parametrize(("backbone", "remembered"), [(None, 1000), ("wideresnet50", 4000)])
def test_every_backbone_has_the_recipe_and_larger_ones_remember_more(backbone: str | None, remembered: int) -> None:
    options = options_for(backbone, ())
    assert options.recipe == Recipe(memory_patches=remembered)
    assert options.layers == (("blocks.2", "blocks.4") if backbone is None else ("layer2", "layer3"))
    changed = Recipe(steps=7, noise_std=0.5, dsc_lr=0.1, memory_patches=remembered)
    assert options_for(backbone, (), steps=7, noise_std=0.5, dsc_lr=0.1).recipe == changed
    assert options_for(backbone, (), memory_patches=9).recipe == Recipe(memory_patches=9)


@pytest.mark.parametrize("asked", [{"meta_epochs": 3}, {"batch_size": 2}, {"pre_proj": 1}, {"dsc_hidden": 64}])
def test_what_only_the_published_schedule_has_asks_for_it(asked: dict[str, int]) -> None:
    options = options_for(None, (), noise_std=0.3, **asked)
    assert options.recipe is None
    assert options.schedule.standardise
    assert options.schedule.noise_std == 0.3


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"noise_std": 0}, "without noise"),
        ({"noise_std": -1}, "noise_std is -1"),
        ({"steps": 0}, "steps is 0"),
        ({"patches_per_step": 0}, "patches_per_step is 0"),
        ({"patches_per_step": 63}, "of at least 64"),
        ({"memory_patches": 0}, "memory_patches is 0; expected a whole number of at least 1"),
        ({"memory_patches": -1}, "memory_patches is -1"),
        ({"memory_weight": 0.0}, "memory_weight is 0; expected a number above 0"),
        ({"memory_whitening": 1.5}, "memory_whitening is 1.5; expected a share"),
        ({"score_window": 2}, "score_window is 2; expected an odd number"),
        ({"score_window": 65}, "score_window is 65; expected an odd number of at most 63"),
        ({"varied": 1.5}, "varied is 1.5; expected a share"),
        ({"weakest": 0.0}, "weakest is 0; expected a share"),
        ({"steps": 3, "meta_epochs": 2}, "steps belongs to calibration's own recipe"),
        ({"cache": "none"}, "belong to the published schedule"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(asked: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        options_for(None, (), **asked)


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


def test_painted_defects_show_how_much_room_there_is() -> None:
    """No good part above 0.3 and no painted defect below 4.5: the threshold lies between."""
    good = [i / 200 for i in range(60)]
    chosen = choose_threshold(good, 0.01, 0.95, painted=[4.5 + i / 100 for i in range(100)])
    assert 2 < chosen.value < 3
    assert chosen.proven_rate == choose_threshold(good, 0.01, 0.95).proven_rate, "the raise proves nothing more"
    assert (chosen.painted, chosen.painted_found, chosen.painted_found_at_lowest) == (100, 100, 100)
    assert good[-1] < chosen.value - chosen.margin < 0.5


def test_the_nearer_the_defects_the_nearer_the_threshold_to_the_good_parts() -> None:
    good = np.random.default_rng(2).normal(size=120).tolist()
    lowest = choose_threshold(good, 0.01, 0.95, painted=[0.0]).value
    assert 2 < lowest < 3, "about where a normal tail leaves one of a hundred"
    chosen = [
        choose_threshold(good, 0.01, 0.95, painted=np.linspace(2, highest, 100).tolist()) for highest in (4, 16, 32, 64)
    ]
    values = [one.value for one in chosen]
    assert lowest <= values[0] < values[1] < values[2] < values[3]
    assert chosen[0].painted_found > 0.9 * chosen[0].painted_found_at_lowest


def test_a_few_lucky_painted_defects_do_not_raise_it() -> None:
    """Where hardly any is found they say nothing of room: real defects lie as low as those that are missed."""
    good = [i / 200 for i in range(60)]
    chosen = choose_threshold(good, 0.01, 0.95, painted=[0.1] * 99 + [40.0])
    assert chosen.margin == 0
    assert chosen.value < 0.5
    enough = choose_threshold(np.linspace(0, 1, 1000).tolist(), 0.01, 0.95, painted=[0.1] * 90 + [40.0] * 10)
    assert enough.margin == 0


def test_good_parts_come_first() -> None:
    """However many painted defects lie below: the threshold is not lowered to them."""
    good = np.linspace(0, 1, 60).tolist()
    chosen = choose_threshold(good, 0.01, 0.95, painted=[0.1] * 100)
    assert chosen.value >= 1
    assert (chosen.painted_found, chosen.painted_found_at_lowest) == (0, 0)


def test_a_few_odd_good_parts_are_for_a_person_to_look_at() -> None:
    """They lie above the threshold, which the others decide, until they are confirmed; what is proven counts them."""
    good = [*np.random.default_rng(0).normal(size=116).tolist(), 6.0, 7.0, 8.0, 9.0]
    painted = np.linspace(-1, 12, 100).tolist()
    chosen = choose_threshold(good, 0.01, 0.95, painted=painted)
    assert 2 < chosen.value < 5
    assert chosen.proven_rate == proven_rate(120, 4, 0.95)
    sure = [score >= 6 for score in good]
    confirmed = choose_threshold(good, 0.01, 0.95, painted=painted, confirmed=sure)
    assert confirmed.value >= 8, "1 of 120 may be rejected"
    assert confirmed.proven_rate == proven_rate(120, 1, 0.95)
    marked = choose_threshold(good, 0.01, 0.95, [score == 9 for score in good], painted=painted)
    assert marked.proven_rate == proven_rate(120, 4, 0.95)


@pytest.mark.parametrize("painted", [(), tuple(np.linspace(0, 9, 100))], ids=["alone", "painted"])
def test_pictures_of_few_parts_prove_little(painted: tuple[float, ...]) -> None:
    scores = np.random.default_rng(4).normal(size=640).tolist()
    every = choose_threshold(scores, 0.01, 0.95, painted=painted)
    assert every.is_proven
    assert every.independent_parts is None
    few = choose_threshold(scores, 0.01, 0.95, painted=painted, independent=64.9)
    assert not few.is_proven
    assert few.independent_parts == 64
    assert few.proven_rate >= proven_rate(64, 0, 0.95)
    hardly_any = choose_threshold(scores, 0.01, 0.95, painted=painted, independent=3)
    assert hardly_any.proven_rate == 1.0, "not even their number is known well"


def test_independent_scores_are_as_many_as_they_are_and_those_that_follow_each_other_fewer() -> None:
    draws = np.random.default_rng(6)
    found = [independent_parts(draws.normal(size=200).tolist()) for _ in range(50)]
    assert np.median(found) == 200
    for correlation in (0.5, 0.9):
        chain = [draws.normal()]
        for _ in range(1999):
            chain.append(correlation * chain[-1] + np.sqrt(1 - correlation**2) * draws.normal())
        expected = 2000 * (1 - correlation) / (1 + correlation)
        assert 0.6 * expected < independent_parts(chain) < 1.4 * expected


def test_a_still_picture_is_one_part_and_heads_differences_are_none() -> None:
    assert independent_parts([3.0] * 50) == 1
    draws = np.random.default_rng(7)
    heads = [i // 25 % 4 for i in range(200)]
    scores = [5.0 * head + draws.normal() for head in heads]
    assert independent_parts(scores) < 50
    assert independent_parts(scores, heads) > 150


def test_more_parts_do_not_find_less() -> None:
    """Enough parts could prove the rate at the oddest one's score, where no defect is found: then it is not proven."""
    draws = np.random.default_rng(8)
    painted = draws.normal(4, 1.5, 100).tolist()
    values = []
    for count in (120, 298, 300, 320, 640):
        good = [*draws.normal(size=count - count // 60).tolist(), *(9 + draws.random(count // 60)).tolist()]
        chosen = choose_threshold(good, 0.01, 0.95, painted=painted)
        assert chosen.painted_found > 60, count
        assert not chosen.is_proven
        careful = 0.95 if count < 299 else 0.99  # there was a choice
        assert chosen.proven_rate == proven_rate(count, sum(score > chosen.value for score in good), careful)
        values.append(chosen.value)
        confirmed = choose_threshold(good, 0.01, 0.95, painted=painted, confirmed=[score > 8 for score in good])
        assert confirmed.value > 8, "a person says that they are good parts"
    assert max(values) - min(values) < 1
    assert choose_threshold(draws.normal(size=300).tolist(), 0.01, 0.95, painted=painted).is_proven, "it costs little"


def test_a_threshold_above_a_proven_one_is_proven() -> None:
    """Painted defects far above raise it beyond: no other threshold is then told."""
    good = [*np.random.default_rng(3).normal(size=36).tolist(), 4.15]
    chosen = choose_threshold(good, 0.1, 0.95, painted=[1.65] * 26 + np.linspace(8, 12, 74).tolist())
    assert chosen.value > 4.15
    assert chosen.is_proven
    assert chosen.proven_rate == proven_rate(37, 0, 0.95)


def test_marked_parts_count_among_those_that_a_rate_explains() -> None:
    draws = np.random.default_rng(9)
    good = [*draws.normal(size=1930).tolist(), *(9 + draws.random(70)).tolist()]
    marked = [i >= 1960 for i in range(2000)]
    chosen = choose_threshold(good, 0.01, 0.95, marked, painted=draws.normal(4, 1.5, 100).tolist())
    assert chosen.value > 9


def test_what_a_rate_cannot_explain_raises_the_threshold() -> None:
    """With 2,000 parts of which 3 % are odd, 1 % is no true word for a threshold below them."""
    draws = np.random.default_rng(9)
    good = [*draws.normal(size=1940).tolist(), *(9 + draws.random(60)).tolist()]
    chosen = choose_threshold(good, 0.01, 0.95, painted=draws.normal(4, 1.5, 100).tolist())
    assert chosen.value > 9
    assert sum(score > chosen.value for score in good) / 2000 < 0.02


def test_with_enough_parts_no_more_are_rejected_than_can_be_proven() -> None:
    draws = np.random.default_rng(0)
    good = draws.normal(size=1000).tolist()
    alone = choose_threshold(good, 0.01, 0.95)
    painted = choose_threshold(good, 0.01, 0.95, painted=draws.normal(6, 1, 100).tolist())
    assert painted.value - painted.margin == pytest.approx(alone.value)
    assert painted.value > alone.value
    assert painted.proven_rate == alone.proven_rate <= 0.01
