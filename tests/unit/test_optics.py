"""Light and lens: what a line's wear moves is measured, and a part or a defect moves it hardly."""

from __future__ import annotations

from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from conftest import small_artefact

from inspectd.config import CameraConfig
from inspectd.line.fitness import find_problem, optics_problem
from inspectd.line.recipe import recipe_for
from inspectd.model.optics import Limits, Optics, brighter, limits_of, look_through, places
from inspectd.records import Outcome, Reason
from inspectd.sim.line import Line

Pixels = np.ndarray[Any, Any]
PART = Line(4).render(1)
HEIGHT, WIDTH = PART.shape[:2]
ALL = (0, 0, WIDTH, HEIGHT)


def changed(**by: float) -> Pixels:
    picture = PART.astype(np.float32)
    if "blur" in by:
        picture = cv2.GaussianBlur(picture, (0, 0), by["blur"])
    picture = picture * by.get("light", 1.0)
    picture = picture + np.random.default_rng(0).normal(0, by.get("noise", 0.0), picture.shape)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def optics(**limits: Limits) -> Optics:
    usual = tuple(int(10 * v) for v in places(PART, ALL, 65535))
    free = {"light": Limits(1, 1), "noise": Limits(0, 1), "sharpness": Limits(0, 1)}
    return Optics(usual, **{**free, **limits})


def problem(picture: Pixels, of: Optics | None) -> str | None:
    model = small_artefact(optics=of)
    return optics_problem(recipe_for(CameraConfig(name="top", source="0", model="m"), model).areas[0], picture)


@pytest.mark.parametrize("factor", [0.5, 0.8, 0.9, 1.0, 1.1])
def test_light_is_a_factor(factor: float) -> None:
    usual = places(PART, ALL, 65535)
    assert brighter(places(changed(light=factor), ALL, 65535), usual) == pytest.approx(factor, abs=0.1)


def test_a_large_defect_is_no_other_light() -> None:
    usual = places(PART, ALL, 65535)
    for level in (0, 255):
        stained = PART.copy()
        stained[: HEIGHT // 2, : WIDTH // 2] = level
        assert brighter(places(stained, ALL, 65535), usual) == pytest.approx(1, abs=0.1)
        assert abs(float(stained.mean()) / float(PART.mean()) - 1) > 0.1, "its mean would say so"


def test_noise_is_measured_in_grey_levels_whatever_the_part() -> None:
    quiet = look_through(changed(), ALL, 65535)
    assert quiet is not None
    for sigma in (4.0, 8.0):
        seen = look_through(changed(noise=sigma), ALL, 65535)
        assert seen is not None
        assert seen.noise == pytest.approx(np.hypot(sigma, quiet.noise), rel=0.15)


def test_blur_lowers_sharpness_and_light_does_not() -> None:
    sharp, soft, softer = (look_through(changed(blur=sigma), ALL, 65535) for sigma in (0.1, 1.0, 3.0))
    dark = look_through(changed(light=0.7), ALL, 65535)
    assert sharp is not None
    assert soft is not None
    assert softer is not None
    assert dark is not None
    assert None not in (sharp.sharpness, soft.sharpness, softer.sharpness, dark.sharpness)
    assert sharp.sharpness > soft.sharpness + 0.03 > softer.sharpness + 0.03  # type: ignore[operator]
    assert dark.sharpness == pytest.approx(sharp.sharpness, abs=0.02)


@pytest.mark.parametrize("noise", [0.0, 2.0, 4.0])
def test_a_lens_out_of_focus_is_seen_through_the_sensors_noise(noise: float) -> None:
    """What comes through the lens is blurred; the sensor's noise comes after it and is not."""
    seen = [look_through(changed(blur=sigma, noise=noise), ALL, 65535) for sigma in (0.1, 1.0, 2.0, 4.0)]
    sharpness = [one.sharpness for one in seen if one is not None and one.sharpness is not None]
    assert len(sharpness) >= 3, "in the worst case no edge stands out from the noise"
    assert sharpness == sorted(sharpness, reverse=True)
    assert sharpness[0] > sharpness[1] + 0.03


def test_where_nothing_stands_out_there_is_no_sharpness() -> None:
    grey = np.random.default_rng(0).normal(120, 6, (480, 640)).clip(0, 255).astype(np.uint8)
    for picture in (grey, np.full((480, 640), 9, np.uint8)):
        seen = look_through(picture, (0, 0, 640, 480), 65535)
        assert seen is not None
        assert seen.sharpness is None


def test_sixteen_bits_say_the_same_as_eight() -> None:
    deep = PART.astype(np.uint16) * 16
    assert brighter(places(deep, ALL, 4080), places(PART, ALL, 65535)) == pytest.approx(1, abs=0.01)
    eight, sixteen = look_through(PART, ALL, 65535), look_through(deep, ALL, 4080)
    assert eight is not None
    assert sixteen is not None
    assert sixteen.noise == pytest.approx(eight.noise, abs=0.02)
    assert sixteen.sharpness == pytest.approx(eight.sharpness, abs=0.02)


@pytest.mark.parametrize("shape", [(1, 1), (3, 900), (39, 39, 3), (1, 2, 3)])
def test_what_is_too_small_has_no_lens_and_no_problem(shape: tuple[int, ...]) -> None:
    tiny = np.full(shape, 100, np.uint8)
    area = (0, 0, shape[1], shape[0])
    assert look_through(tiny, area, 65535) is None
    assert places(tiny, area, 65535).shape == (256,)
    narrow = optics(sharpness=Limits(0.3, 0.4, least=0.9), noise=Limits(0, 0, most=0.0))
    assert problem(tiny, msgspec.structs.replace(narrow, light=Limits(1, 1))) is None


@pytest.mark.parametrize("shape", [(40, 40), (41, 5000, 3), (3000, 40)])
def test_any_shape_can_be_looked_through(shape: tuple[int, ...]) -> None:
    picture = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    seen = look_through(picture, (0, 0, shape[1], shape[0]), 65535)
    assert seen is not None
    assert np.isfinite(seen.noise)
    assert seen.sharpness is None or 0 <= seen.sharpness < 2
    flat = look_through(np.full(shape, 9, np.uint8), (0, 0, shape[1], shape[0]), 65535)
    assert flat is not None
    assert flat.noise == 0


@pytest.mark.parametrize(
    ("picture", "limits", "says"),
    [
        (
            changed(light=0.7),
            {"light": Limits(0.95, 1.05, least=0.85)},
            "darker than the model is known to withstand",
        ),
        (changed(light=1.3), {"light": Limits(0.95, 1.05, most=1.15)}, "brighter than the model is known to withstand"),
        (changed(noise=12), {"noise": Limits(0, 1, most=6)}, "noisier than the model is known to withstand"),
        (
            changed(blur=3),
            {"sharpness": Limits(0.4, 0.5, least=0.35)},
            "less sharp than the model is known",
        ),
        (changed(light=0.9), {"light": Limits(0.95, 1.05, least=0.85)}, None),
        (changed(light=0.3, noise=30, blur=5), {}, None),
    ],
)
def test_beyond_what_the_model_withstands_the_equipment_is_named(
    picture: Pixels, limits: dict[str, Limits], says: str | None
) -> None:
    found = problem(picture, optics(**limits))
    assert (found is None) if says is None else (says in (found or ""))
    assert problem(picture, None) is None


def test_it_is_a_fault_and_only_of_cameras() -> None:
    model = small_artefact(optics=optics(light=Limits(0.95, 1.05, least=0.85)))
    recipe = recipe_for(CameraConfig(name="top", source="0", model="m"), model)
    found = find_problem(recipe, changed(light=0.7), is_camera=True)
    assert found is not None
    assert (found.outcome, found.reason) == (Outcome.FAULT, Reason.PICTURE)
    assert find_problem(recipe, changed(light=0.7), is_camera=False) is None


def test_limits_are_kept_with_the_range_and_survive_being_written() -> None:
    kept = optics(light=limits_of([0.91, 1.0, 1.08], 0.80001, None))
    assert kept.light == Limits(0.91, 1.08, 0.8, None)
    assert msgspec.json.decode(msgspec.json.encode(kept), type=Optics) == kept
