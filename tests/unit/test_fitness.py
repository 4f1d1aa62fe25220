"""May a picture be judged: light, size and colours of a camera, before the network sees anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from conftest import small_artefact, small_calibration

from inspectd.cameras.protocol import Opened
from inspectd.cameras.sources import parse_source
from inspectd.config import CameraConfig
from inspectd.line.fitness import (
    Beyond,
    camera_mismatch,
    find_problem,
    light_problem,
    scene_mismatch,
    setting_mismatch,
    transfer_problem,
)
from inspectd.line.recipe import Area, Recipe, recipe_for
from inspectd.model.calibration import CameraRecord
from inspectd.model.framing import Tint, find_framing, find_tint, shrink, tint
from inspectd.model.glance import Glance
from inspectd.records import Reason
from inspectd.sim.line import Line

PARTS = [Line(4).render(i) for i in range(1, 40)]
CAMERA = CameraConfig(name="top", source="rtsp://h/x", model="m")
STATISTICS = {"grey_mean": 120.0, "grey_lowest": 100.0, "grey_highest": 140.0, "contrast_mean": 40.0, "sizes": 1.0}


def area(**changes: object) -> Area:
    return recipe_for(CAMERA, small_artefact(**changes)).areas[0]  # type: ignore[arg-type]


def picture(level: float, contrast: float, dtype: type = np.uint8) -> np.ndarray:  # type: ignore[type-arg]
    rng = np.random.default_rng(0)
    values = rng.normal(level, contrast, (48, 64, 3)).clip(0, 255)
    return (values * (257 if dtype is np.uint16 else 1)).astype(dtype)


@pytest.mark.parametrize(
    ("seen", "says"),
    [
        (picture(3, 2), "too dark"),
        (picture(3, 2, np.uint16), "too dark"),
        (picture(253, 2), "too bright"),
        (picture(120, 3), "next to nothing"),
        (picture(120, 40), None),
        (picture(120, 40, np.uint16), None),
        (picture(70, 30), None),
        (picture(180, 40), None),
    ],
)
def test_light_that_has_gone_is_a_fault_and_a_part_that_differs_is_not(
    tmp_path: Path,
    seen: np.ndarray,  # type: ignore[type-arg]
    says: str | None,
) -> None:
    found = light_problem(area(statistics=STATISTICS), seen)
    assert (found is None) if says is None else (says in (found or ""))


def test_a_model_without_statistics_says_nothing_about_light(tmp_path: Path) -> None:
    assert light_problem(area(statistics={}), picture(0, 0)) is None
    bare = replace(small_artefact(), calibration=None)
    assert light_problem(recipe_for(CAMERA, bare).areas[0], picture(0, 0)) is None


@pytest.mark.parametrize(
    ("source", "sizes", "says"),
    [
        ("rtsp://h/x", 1.0, "calibrated at 640x480; this camera gives 64x48"),
        ("rtsp://h/x", 3.0, None),  # calibrated on pictures of several sizes
        ("sim://line?fps=5", 1.0, None),
    ],
)
def test_another_size_is_another_camera(tmp_path: Path, source: str, sizes: float, says: str | None) -> None:
    record = CameraRecord("folder", None, 640, 480)
    model = area(camera=record, statistics={**STATISTICS, "sizes": sizes})
    found = camera_mismatch(model, parse_source(source), Opened(4, 4096, 64, 48, 30.0, True, "H264"))
    assert (found is None) if says is None else (says in (found or ""))


@pytest.mark.parametrize("fill", [0, 128, 255, (0, 135, 0)], ids=["black", "grey", "white", "green"])
@pytest.mark.parametrize("rows", [1, 5, 24])
def test_a_picture_whose_last_rows_never_came_is_told_where_no_good_one_ends_like_that(fill: Any, rows: int) -> None:
    def recipe(**known: float) -> Recipe:
        return recipe_for(CAMERA, small_artefact(statistics={**STATISTICS, "grey_lowest": 0.0, **known}))

    broken = PARTS[0].copy()
    broken[-rows:] = fill
    assert transfer_problem(recipe(end_spread=2.5), PARTS[0]) is None
    assert "breaks off" in (transfer_problem(recipe(end_spread=2.5), broken) or "")
    assert "breaks off" in (transfer_problem(recipe(end_spread=2.5), broken[:, :, 0]) or ""), "a grey camera's"
    assert transfer_problem(recipe(end_spread=1.0), broken) is None, "good pictures ended nearly so"
    assert transfer_problem(recipe(), broken) is None, "an older model, which does not know"
    assert transfer_problem(recipe(end_spread=2.5), np.zeros_like(broken)) is None, "the light is out"
    found = find_problem(recipe(end_spread=2.5), broken, is_camera=True)
    assert found is not None
    assert found.reason is Reason.PICTURE
    assert find_problem(recipe(end_spread=2.5), broken, is_camera=False) is None, "a file's pictures are what they are"


@pytest.fixture(scope="module")
def colours() -> Tint:
    found = find_tint([tint(part) for part in PARTS])
    assert found is not None
    return found


def test_exchanged_colours_and_grey_are_told_and_light_is_not(colours: Tint) -> None:
    for part in PARTS:
        assert colours.distance(part) <= colours.limit
        assert colours.distance((part * 0.6).astype(np.uint8)) <= colours.limit
        assert colours.distance(part.astype(np.uint16) * 200) <= colours.limit
        assert colours.distance(part[:, :, ::-1]) > colours.limit
        grey = part.mean(axis=2).astype(np.uint8)
        assert colours.distance(np.dstack([grey] * 3)) > colours.limit
        assert colours.distance(grey) > colours.limit


def test_defects_keep_the_colours(colours: Tint) -> None:
    line = Line(9, defects=0.5)
    assert all(colours.distance(line.render(i)) <= colours.limit for i in range(1, 60))


def test_a_grey_camera_that_becomes_a_coloured_one_is_told() -> None:
    found = find_tint([tint(np.dstack([part.mean(axis=2).astype(np.uint8)] * 3)) for part in PARTS])
    assert found is not None
    assert found.distance(PARTS[0]) > found.limit
    assert msgspec.json.decode(msgspec.json.encode(found), type=Tint) == found


def test_colours_that_vary_from_part_to_part_tell_nothing() -> None:
    rng = np.random.default_rng(1)
    assert find_tint([tint(np.full((48, 64, 3), rng.integers(0, 255, 3), np.uint8)) for _ in range(30)]) is None
    assert find_tint([tint(PARTS[0])] * 3) is None


def test_a_mirrored_picture_is_another_scene_where_it_can_be_told(tmp_path: Path) -> None:
    framing = find_framing([shrink(part) for part in PARTS])
    model = area(framing=framing, tint=find_tint([tint(part) for part in PARTS]))
    for part in PARTS[:10]:
        assert scene_mismatch(model, Glance(part)) is None
        assert "flipped" in (scene_mismatch(model, Glance(np.ascontiguousarray(part[:, ::-1]))) or "")
        assert "other colours" in (scene_mismatch(model, Glance(np.ascontiguousarray(part[:, :, ::-1]))) or "")
    assert small_calibration(1.0).tint is None


THEN = {"auto_exposure": 1.0, "exposure": 156.0, "gain": 10.0, "auto_white_balance": 0.0, "white_balance": 4600.0}


@pytest.mark.parametrize(
    ("then", "now", "says"),
    [
        ({}, {}, None),
        ({"exposure": 300.0}, {"exposure": 300.0}, None),
        ({}, {"exposure": 300.0}, "the camera's exposure is 300, at calibration it was 156"),
        ({}, {"exposure": 157.0}, None),
        ({}, {"gain": 11.0}, "the camera's gain is 11, at calibration it was 10"),
        ({}, {"white_balance": 6500.0}, "the camera's white balance is 6500"),
        ({}, {"auto_exposure": 3.0}, "the camera's auto exposure is 3"),
        ({"auto_exposure": 3.0}, {"auto_exposure": 3.0, "exposure": 9.0, "gain": 90.0}, None),
        ({"auto_white_balance": 1.0}, {"auto_white_balance": 1.0, "white_balance": 6500.0}, None),
    ],
)
def test_a_cameras_settings_are_those_of_the_calibration_unless_it_chooses_them_itself(
    then: dict[str, float], now: dict[str, float], says: str | None
) -> None:
    found = setting_mismatch(THEN | then, THEN | now)
    assert found is says is None or (says is not None and found is not None and found.startswith(says))
    assert setting_mismatch(THEN | then, {}) is None, "another camera may have no such setting"


def test_a_lamp_that_flickers_about_a_limit_is_one_fault_and_not_verdicts_by_turns() -> None:
    """The good ones had 100 to 140: darker than 50 is too dark, and after that all below 62.5."""
    model, beyond = area(statistics=STATISTICS), Beyond()
    levels = (90, 52, 47, 53, 47, 60, 47, 70, 52)
    found = [light_problem(model, picture(level, 15), beyond) is None for level in levels]
    assert found == [True, True, False, False, False, False, False, True, True]
    assert [light_problem(model, picture(level, 15)) is None for level in levels[:4]] == [True, True, False, True]


def test_what_good_pictures_reach_is_inside_again_whatever_was_before() -> None:
    beyond, key = Beyond(), ("m", "x")
    for limit, inner in ((1.0, 2.0), (1.0, 1.0), (0.0, 5.0)):
        assert beyond.is_below(key, limit, inner, limit - 0.1)
        assert not beyond.is_below(key, limit, inner, inner)
        assert beyond.is_above(key, -limit, -inner, -limit + 0.1)
        assert not beyond.is_above(key, -limit, -inner, -inner)


def test_cameras_remember_each_by_itself() -> None:
    model, one, other = area(statistics=STATISTICS), Beyond(), Beyond()
    assert light_problem(model, picture(40, 15), one) is not None
    assert light_problem(model, picture(55, 15), one) is not None
    assert light_problem(model, picture(55, 15), other) is None
