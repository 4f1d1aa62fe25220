"""Products and areas: what a configuration asks for, what one inherits, and what contradicts itself."""

from __future__ import annotations

import fnmatch
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import small_artefact, small_calibration
from hypothesis import given
from hypothesis import strategies as st

from inspectd.config_file import parse
from inspectd.errors import UsageError
from inspectd.line.products import Products
from inspectd.line.recipe import NoRecipe, Recipe, recipe_of
from inspectd.model.calibration import CameraRecord
from inspectd.patterns import common_text, matches
from inspectd.plan import AreaPlan, Plan, plans_of

CAMERA = "cameras: [{name: top, source: 0, mode: trigger, %s}]\n"
SIZED = CameraRecord("0", None, 64, 48)


def plans(text: str) -> dict[str | None, Plan]:
    return dict(plans_of(parse(CAMERA % text).cameras[0]))


def mistakes(text: str) -> list[str]:
    with pytest.raises(UsageError) as refused:
        parse(CAMERA % text)
    return [line.strip() for line in str(refused.value).splitlines()[1:]]


def test_a_camera_without_recipes_and_areas_has_one_of_each_without_a_name() -> None:
    (plan,) = plans("model: m, threshold: 3, roi: [1, 2, 3, 4]").values()
    assert plan == Plan(None, (AreaPlan(None, "m", 3.0, (1, 2, 3, 4)),), (), None)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("model: m, threshold: 3, areas: {a: {}, b: {model: n}}", {("a", "m", 3.0), ("b", "n", None)}),
        ("model: m, threshold: 3, areas: {a: {threshold: 4}, b: {model: m}}", {("a", "m", 4.0), ("b", "m", 3.0)}),
        ("areas: {a: {model: n, threshold: 5}}", {("a", "n", 5.0)}),
    ],
)
def test_a_threshold_is_inherited_with_its_model_and_never_without(
    text: str, found: set[tuple[str, str, float | None]]
) -> None:
    (plan,) = plans(text).values()
    assert {(area.name, area.model, area.threshold) for area in plan.areas} == found


def test_recipes_have_what_is_the_cameras_unless_they_say_otherwise() -> None:
    found = plans(
        "model: m, threshold: 3, areas: {a: {roi: [0, 0, 9, 9]}}, ignore: [[[0, 0], [1, 0], [1, 1]]], "
        "recipes: {A: {parts: 'A*'}, B: {model: n}, C: {roi: [1, 1, 2, 2], ignore: []}, D: {areas: {x: {}, y: {}}}}"
    )
    assert list(found) == ["A", "B", "C", "D"], "in their order: the first is in force at first"
    assert found["A"].areas == (AreaPlan("a", "m", 3.0, (0, 0, 9, 9)),)
    assert found["B"].areas == (AreaPlan("a", "n", None, (0, 0, 9, 9)),)
    assert found["C"].areas == (AreaPlan(None, "m", 3.0, (1, 1, 2, 2)),)
    assert [area.name for area in found["D"].areas] == ["x", "y"]
    assert [bool(plan.ignore) for plan in found.values()] == [True, True, False, True]
    assert [plan.parts for plan in found.values()] == ["A*", None, None, None]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("recipes: {A: {model: m}, B: {}}", "cameras[0].recipes.B.model is missing; expected a folder"),
        ("areas: {a: {model: m}, b: {}}", "cameras[0].areas.b.model is missing; expected a folder"),
        ("model: m, roi: [0, 0, 1, 1], areas: {a: {}}", "cameras[0] has a roi and areas; expected either"),
        ("model: m, recipes: {}", "cameras[0].recipes has 0 entries; expected 1 to 64, or null"),
        ("model: m, areas: 3", "cameras[0].areas is 3; expected a mapping with a name for each or null"),
        ("model: m, areas: {a b: {}}", "cameras[0].areas has an entry 'a b'; expected a name such as A"),
        ("model: m, areas: {a: {modl: n}}", "cameras[0].areas.a.modl is not a known key; did you mean model?"),
        (
            "model: m, ignore: [[[0, 0], [1, 1]]]",
            "cameras[0].ignore is [[[0, 0], [1, 1]]]; expected a list of",
        ),
        ("model: m, ignore: ''", "cameras[0].ignore is empty; expected a list of polygons, or the path of a PNG"),
        ("model: m, shadow: n, areas: {a: {}}", "cameras[0].shadow is for a camera with one model"),
        (
            "model: m, trigger_delay_ms: 200",
            "cameras[0].trigger_delay_ms is 200, and the verdict is due after",
        ),
        (
            "model: m, recipes: {A: {parts: 'A-*'}, B: {parts: '*-7'}}",
            "cameras[0].recipes.B.parts is '*-7', and cameras[0].recipes.A.parts 'A-*': a part 'A-7' would",
        ),
    ],
)
def test_what_contradicts_itself_is_told_in_one_sentence(text: str, says: str) -> None:
    (mistake,) = mistakes(text)
    assert mistake.startswith(says)


def test_a_camera_that_takes_its_pictures_when_it_is_told_has_to_be_told() -> None:
    with pytest.raises(UsageError, match="TriggerSource is Software: the camera takes a picture when it is told, and"):
        parse(
            'cameras: [{name: top, source: "aravis://X7", mode: trigger, model: m, triggered_by: camera, '
            'features: {TriggerMode: "On", TriggerSource: Software}}]\n'
        )


@pytest.mark.parametrize(
    "key", ["triggered_by: camera", "allow_arrival_time: true", "trigger_delay_ms: 5", "trigger_window_ms: 5"]
)
def test_what_is_for_triggers_is_no_use_to_a_stream(key: str) -> None:
    with pytest.raises(UsageError, match="is for mode: trigger; expected that mode, or nothing"):
        parse(f"cameras: [{{name: top, source: 0, model: m, {key}}}]")


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ("source: 0", "synchronized is for RTSP cameras"),
        ('source: "http://cam/x"', "synchronized is for RTSP cameras"),
        (
            'source: "rtsp://cam/x", mode: trigger, allow_arrival_time: true',
            "synchronized cannot be used with mode: trigger; a clock that is a little off cannot be told",
        ),
    ],
)
def test_a_clock_that_nobody_can_prove_matches_no_triggers(keys: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse(f"cameras: [{{name: top, {keys}, model: m, synchronized: true}}]")


@given(st.text("ab*?", max_size=5), st.text("abc", max_size=6))
def test_a_pattern_means_what_it_means_in_a_shell(pattern: str, text: str) -> None:
    assert matches(pattern, text) == fnmatch.fnmatchcase(text, pattern)


SHORT = ["".join(letters) for length in range(7) for letters in product("abx", repeat=length)]


@given(st.text("ab*?", max_size=4), st.text("ab*?", max_size=4))
def test_two_patterns_have_a_text_in_common_if_there_is_one(one: str, other: str) -> None:
    found = common_text(one, other)
    shortest = next((text for text in SHORT if matches(one, text) and matches(other, text)), None)
    assert (found is None) == (shortest is None)
    if found is not None and shortest is not None:
        assert matches(one, found)
        assert matches(other, found)
        assert len(found) == len(shortest)


def recipe(text: str, **calibration: object) -> Recipe:
    (plan,) = plans(text).values()
    model = small_artefact(**{"camera": SIZED, **calibration})  # type: ignore[arg-type]
    return recipe_of("top", plan, lambda _: (model, None))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("roi: [60, 0, 10, 10]", r"the roi \[60, 0, 10, 10\] does not lie inside the picture of 64x48"),
        ("areas: {a: {roi: [0, 40, 10, 10]}}", r"area a: the roi .* does not lie inside the picture of 64x48"),
        (
            "ignore: [[[0, 0], [64, 0], [64, 48], [0, 48]]]",
            r"all of \[0, 0, 64, 48\], which is to be",
        ),
        ("ignore: [[[70, 0], [80, 0], [80, 9]]]", r"polygon 1 of what is ignored lies outside the picture of 64x48"),
    ],
)
def test_an_area_that_cannot_be_seen_is_refused_before_anything_runs(text: str, says: str) -> None:
    roi = (60, 0, 10, 10) if "60" in text else (0, 40, 10, 10) if "areas" in text else None
    with pytest.raises(UsageError, match=says):
        recipe("model: m, " + text, roi=roi)


@pytest.mark.parametrize(("size", "says"), [((10, 10), "has 10x10, the picture 64x48"), (None, "cannot be read")])
def test_a_mask_that_does_not_fit_is_refused(tmp_path: Path, size: tuple[int, int] | None, says: str) -> None:
    path = tmp_path / "mask.png"
    if size is not None:
        cv2.imwrite(str(path), np.full(size, 255, np.uint8))
    with pytest.raises(UsageError, match=says):
        recipe(f"model: m, ignore: {path}")


def test_areas_may_share_a_model_that_was_calibrated_on_all_of_them() -> None:
    rois = ((0, 0, 16, 16), (32, 0, 16, 16))
    areas = "areas: {a: {roi: [0, 0, 16, 16]}, b: {roi: [32, 0, 16, 16]}}"
    found = recipe("model: m, " + areas, roi=rois[0], rois=rois)
    assert [area.geometry.area(64, 48) for area in found.areas] == list(rois)
    with pytest.raises(UsageError, match=r"area b has roi \[32, 0, 16, 16\], .* calibrated on \[0, 0, 16, 16\]"):
        recipe("model: m, " + areas, roi=rois[0])


def product_recipe(name: str) -> Recipe:
    return recipe_of(
        "top", Plan(name, (AreaPlan(None, "m", None, None),), (), None), lambda _: (small_artefact(), None)
    )


def test_the_id_of_a_part_says_which_product_it_is_and_an_unknown_one_is_none() -> None:
    products = Products({"A": product_recipe("A"), "B": product_recipe("B")}, "B", {"A": "A-*"})
    assert products.current.name == "B"
    assert products.of_part("A-1").name == "A"
    assert products.of_part(None).name == "B"
    unknown = products.of_part("C-1")
    assert isinstance(unknown, NoRecipe)
    assert "'C-1' belongs to no recipe; their parts are A: A-*" in unknown.why
    with pytest.raises(UsageError, match="There is no recipe 'C'; there are: A, B"):
        products.with_choice("C")


def test_a_camera_without_recipes_says_so() -> None:
    with pytest.raises(UsageError, match="There is no recipe 'C'; the camera has no recipes"):
        Products({None: product_recipe("A")}).named("C")


def test_a_calibration_without_rois_can_still_be_read() -> None:
    assert small_calibration(1.0).rois == ()


def test_a_choice_that_was_made_while_other_recipes_were_loaded_is_never_undone() -> None:
    a, b, c = (product_recipe(name) for name in "ABC")
    loaded = Products({"A": a, "C": c}, "A")
    assert loaded.chosen_as(Products({"A": a, "B": b}, "A"), "A").chosen == "A"
    assert loaded.chosen_as(Products({"A": a, "C": c}, "C"), "A").chosen == "C"
    of_unknown = loaded.chosen_as(Products({"A": a, "B": b}, "B"), "A")
    assert isinstance(of_unknown.current, NoRecipe), "the parts that come are B, which nobody can judge any more"
    assert loaded.chosen_as(Products({None: a}), None).chosen == "A", "it had no products before"
    assert loaded.chosen_as(Products({"B": b}, "B"), "B").chosen == "A", "nobody chose it: it was the first"
