"""Several areas on one picture, and what is ignored of it: the worst decides, and nothing is left out by mistake."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from conftest import small_artefact

from inspectd.line.inspection import conclude
from inspectd.line.judge import Criterion, judge
from inspectd.line.recipe import Area, Recipe
from inspectd.model.geometry import Geometry
from inspectd.model.ignored import Ignored
from inspectd.records import Outcome, Reason, Stamp, Verdict
from inspectd.wire.messages import VerdictMessage, mask_part, verdict_message

CRITERION = Criterion(1.0, [0.0, 0.5], "m 0123")


def areas(**thresholds: float | None) -> Recipe:
    """One area for each, side by side, 16 pixels wide."""
    model = small_artefact()
    return Recipe(
        tuple(
            Area(
                model,
                Geometry(64, 64, (16 * i, 0, 16, 16)),
                None if threshold is None else Criterion(threshold, [0.0, 0.5], f"m{i}"),
                name=name,
            )
            for i, (name, threshold) in enumerate(thresholds.items())
        ),
        "A",
    )


def grid(value: float, side: int = 4) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.full((side, side), value, np.float32)


def message(recipe: Recipe, *scores: float, with_mask: bool = True) -> tuple[VerdictMessage, bytes]:
    finding = conclude(recipe, (64, 16), [grid(score, 2 + i) for i, score in enumerate(scores)])
    verdict = Verdict("top", 1, finding, 0, Stamp("top", 1, 1000), recipe=recipe.name)
    encoded = msgspec.json.encode(verdict_message(verdict, "e", 0, with_mask, 2000))
    return msgspec.json.decode(encoded, type=VerdictMessage), mask_part(finding)


def test_a_part_is_as_bad_as_its_worst_area_and_each_says_its_own() -> None:
    header, part = message(areas(left=1.0, middle=1.0, right=10.0), 0.5, 3.0, 11.0)
    assert (header.verdict, header.recipe) == ("ng", "A")
    assert [(one.name, one.verdict, one.score, one.model, one.roi) for one in header.areas] == [
        ("middle", "ng", 3.0, "m1", (16, 0, 16, 16)),
        ("right", "ng", 11.0, "m2", (32, 0, 16, 16)),
        ("left", "ok", 0.5, "m0", (0, 0, 16, 16)),
    ]
    assert (header.score, header.threshold, header.model) == (3.0, 1.0, "m1"), "what stands above is the worst's"
    assert len(header.regions) == 2, "of all areas"
    assert [len(one.regions) for one in header.areas] == [1, 1, 0]
    shapes = [(one.mask.w, one.mask.h) for one in header.areas if one.mask is not None]
    assert shapes == [(3, 3), (4, 4), (2, 2)]
    assert len(part) == 9 + 16 + 4
    assert header.mask == header.areas[0].mask, "the bytes begin with the worst's"


def test_an_area_that_could_not_be_judged_makes_the_part_a_fault_unless_another_is_defective() -> None:
    header, _ = message(areas(left=1.0, right=None), 0.5, 0.5)
    assert (header.verdict, header.reason) == ("fault", Reason.NO_THRESHOLD)
    assert {one.name: one.verdict for one in header.areas} == {"left": "ok", "right": "fault"}
    header, part = message(areas(left=1.0, right=None), 3.0, 0.5)
    assert header.verdict == "ng"
    assert [one.mask is None for one in header.areas] == [False, True]
    assert len(part) == 4


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_area_with_scores_that_are_no_numbers_is_never_ok(bad: float) -> None:
    header, _ = message(areas(left=1.0, right=1.0), 0.5, bad)
    assert (header.verdict, header.reason) == ("fault", Reason.ENGINE)


def test_one_area_speaks_for_itself() -> None:
    header, part = message(areas(left=1.0), 0.5, with_mask=False)
    assert (header.areas, header.mask, len(part)) == ((), None, 4)


def test_what_is_ignored_is_never_the_reason_and_everything_else_still_is() -> None:
    scores = grid(0.0, 8)
    scores[1, 1], scores[6, 6] = 9.0, 5.0
    left_out = Ignored([[(4, 4), (20, 4), (20, 20), (4, 20)]])  # covers the patches 1 and 2, and a half of others
    seen = left_out.seen((0, 0, 64, 64), (8, 8), (64, 64))
    assert np.argwhere(~seen).tolist() == [[1, 1]], "a patch is left out only where all of it is"
    found = judge(scores, CRITERION, (64, 64), (0, 0, 64, 64), seen)
    assert (found.outcome, found.score, len(found.regions)) == (Outcome.NG, 5.0, 1)
    assert found.mask is not None
    assert found.mask.bytes_[1, 1] == 0
    scores[6, 6] = 0.5
    assert judge(scores, CRITERION, (64, 64), (0, 0, 64, 64), seen).outcome is Outcome.OK
    scores[1, 1] = np.nan
    assert judge(scores, CRITERION, (64, 64), (0, 0, 64, 64), seen).reason is Reason.ENGINE


def test_where_all_is_ignored_nothing_is_ok() -> None:
    assert judge(grid(0.0), CRITERION, (64, 64), (0, 0, 64, 64), np.zeros((4, 4), np.bool_)).outcome is Outcome.FAULT


def test_a_painted_mask_and_an_roi() -> None:
    painted = np.zeros((48, 64), np.bool_)
    painted[:, 32:] = True
    ignored = Ignored(painted=painted)
    assert ignored.seen((16, 0, 32, 48), (4, 4), (64, 48)).tolist() == [[True, True, False, False]] * 4
    assert ignored.problem((32, 0, 32, 48), 64, 48) == "all of [32, 0, 32, 48], which is to be inspected, is ignored"
    assert ignored.problem((0, 0, 32, 48), 64, 48) is None
    assert ignored.problem((0, 0, 32, 48), 32, 48) == "the mask of what is ignored has 64x48, the picture 32x48"


def test_polygons_that_overlap_ignore_what_lies_in_both() -> None:
    square = [(0, 0), (39, 0), (39, 39), (0, 39)]
    moved = [(20, 20), (59, 20), (59, 59), (20, 59)]
    both, twice = Ignored([square, moved]).pixels(64, 64), Ignored([square, square]).pixels(64, 64)
    assert both[30, 30]
    assert (int(both.sum()), int(twice.sum())) == (2 * 1600 - 400, 1600)
