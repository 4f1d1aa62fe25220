"""What a model withstands, and the limits that follow from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from calibrate.data.disturbance import DISTURBANCES, Kind
from calibrate.data.training_set import Pictures
from calibrate.training.fit import pictures_for
from calibrate.training.options import options_for
from calibrate.training.withstood import Withstood, _Effects, chosen_of, disturbed_inputs, find_optics, withstood_of
from inspectd.model.optics import look_through
from inspectd.sim.line import Line

NUMBER = {disturbance.name: i for i, disturbance in enumerate(DISTURBANCES)}


def parts(count: int = 12, **options: Any) -> Pictures:
    line, pictures = Line(4), pictures_for(options_for(None, (), height=96, width=128, **options))
    for i in range(1, count + 1):
        pictures.add(line.render(i), str(i))
    return pictures


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return parts()


def tried(**rejected: int) -> list[Withstood]:
    """What was withstood, but for kinds of disturbance of which good parts are rejected from some step on."""
    steps = dict.fromkeys(Kind, 0)
    found = []
    for disturbance in DISTURBANCES:
        first = rejected.get(disturbance.kind.value)
        fails = first is not None and steps[disturbance.kind] >= first
        steps[disturbance.kind] += 1
        found.append(Withstood(disturbance, 20, 20 if fails else 0, 0))
    return found


def test_rejects_are_counted_under_each_disturbance() -> None:
    good = {0: 0.2, 3: 1.4, 7: 0.1}
    disturbed = {i: [good[i] + (number == 2) for number in range(len(DISTURBANCES))] for i in (0, 3)}
    found = withstood_of(1.0, good, disturbed)
    assert [one.disturbance for one in found] == list(DISTURBANCES)
    assert all(one.of == 2 and one.undisturbed == 1 for one in found)
    assert [one.rejected for one in found] == [2 if number == 2 else 1 for number in range(len(DISTURBANCES))]
    assert all(one.holds for one in found), "twice as many as without"
    assert withstood_of(1.0, good, {}) == []


@pytest.mark.parametrize(
    ("rejected", "undisturbed", "holds"), [(0, 0, True), (1, 0, True), (2, 0, False), (4, 2, True)]
)
def test_up_to_twice_the_rejects_are_withstood(rejected: int, undisturbed: int, holds: bool) -> None:
    assert Withstood(DISTURBANCES[0], 20, rejected, undisturbed).holds is holds


def test_some_pictures_evenly_over_time_are_disturbed() -> None:
    assert chosen_of([4, 9]) == [4, 9]
    many = chosen_of(range(1000))
    assert len(many) == 20
    assert many[1] - many[0] == 50


def test_each_disturbance_does_what_it_is_called(pictures: Pictures) -> None:
    plain = pictures.input(3).numpy()
    inputs = [one.numpy() for one in disturbed_inputs(pictures, 3)]
    assert len(inputs) == len(DISTURBANCES)
    for disturbance, changed in zip(DISTURBANCES, inputs, strict=True):
        assert changed.shape == plain.shape
        assert changed.dtype == np.float32
        assert 0 <= changed.min() <= changed.max() <= 255
        is_seen = disturbance.name != "blurred by 1 pixel (σ)"  # of ten that become one here
        assert np.array_equal(changed, plain) != is_seen, disturbance.name
    assert inputs[NUMBER["20 % darker"]].mean() == pytest.approx(0.8 * plain.mean(), rel=0.01)
    assert inputs[NUMBER["10 % brighter"]].mean() == pytest.approx(1.1 * plain.mean(), rel=0.02)
    assert np.array_equal(inputs[4], next(iter(list(disturbed_inputs(pictures, 3))[4:])).numpy()), "always the same"


def test_a_limit_lies_between_what_is_withstood_and_what_is_not(pictures: Pictures) -> None:
    found = find_optics(pictures, range(len(pictures)), tried(darker=2, brighter=0, noisier=1, blurred=1))
    light = found.light
    assert light.least is not None
    assert light.most is not None
    assert light.lowest - 0.3 < light.least < light.lowest - 0.15, "20 % is withstood, 30 % is not"
    assert light.highest + 0.08 < light.most < light.highest + 0.2, "not even 10 % is, but that is usual"
    assert found.noise.most is not None
    assert found.noise.highest + 4 < found.noise.most < found.noise.highest + 8
    assert found.noise.least is None
    assert found.sharpness.least is not None
    assert found.sharpness.least < found.sharpness.lowest


def test_beyond_what_was_tried_nothing_is_known(pictures: Pictures) -> None:
    found = find_optics(pictures, range(len(pictures)), tried())
    assert found.light.least is not None
    assert found.light.least == pytest.approx(0.75, abs=0.05), "30 % less, of a picture that is dark anyway"
    assert found.noise.most is not None
    assert found.noise.most > found.noise.highest + 10


def test_where_good_pictures_differ_by_as_much_there_is_no_limit() -> None:
    line, pictures = Line(4), pictures_for(options_for(None, (), height=96, width=128))
    for i in range(1, 13):
        pictures.add(np.clip(line.render(i) * (0.4 + i / 20), 0, 255).astype(np.uint8), str(i))
    found = find_optics(pictures, range(len(pictures)), tried(darker=0, brighter=0))
    assert found.light.highest - found.light.lowest > 0.5
    assert found.light.least is None
    assert found.light.most is None


def test_an_odd_picture_decides_no_limit() -> None:
    line, pictures = Line(4), pictures_for(options_for(None, (), height=96, width=128))
    for i in range(1, 13):
        pictures.add(np.clip(line.render(i) * (0.1 if i == 1 else 1), 0, 255).astype(np.uint8), str(i))
    every, without = (
        find_optics(pictures, usable, tried(darker=1, brighter=1))
        for usable in (range(12), [i for i in range(12) if i != 0])
    )
    assert every.light.least is None
    assert without.light.least is not None
    assert without == find_optics(parts(13), range(1, 12), tried(darker=1, brighter=1)), "as if it were not there"


@pytest.mark.parametrize("sigma", [12, 20, 30])
def test_a_picture_without_edges_is_not_as_sharp_as_one_with(pictures: Pictures, sigma: float) -> None:
    """Where none stands out from the noise there is no sharpness to measure, and all good pictures had some."""
    found = find_optics(pictures, range(len(pictures)), tried())
    draws = np.random.default_rng(0)
    for raw in pictures.raw:
        soft = cv2.GaussianBlur(raw.astype(np.float32), (0, 0), sigma) + draws.normal(0, 1, raw.shape)
        lens, good = (
            look_through(np.rint(np.clip(one, 0, 255)).astype(np.uint8), (0, 0, raw.shape[1], raw.shape[0]), 255)
            for one in (soft, raw)
        )
        assert lens is not None
        assert good is not None
        assert found.edges.least is not None
        assert lens.edges < found.edges.least < good.edges


def test_what_cannot_be_measured_any_more_sets_no_limit_inside_what_holds(
    pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two amounts of blur hold, under the third no edge is left to measure: the second one is within the limit."""
    seen = {None: 0.5, "blurred by 1 pixel (σ)": 0.4, "blurred by 2 pixels (σ)": 0.3, "blurred by 3 pixels (σ)": None}
    measured = _Effects._measured

    def fake(self: _Effects, number: int, raw: Any, disturbance: Any) -> Any:
        found = measured(self, number, raw, None)
        return found | {"sharpness": seen.get(disturbance and disturbance.name, 0.5)}

    monkeypatch.setattr(_Effects, "_measured", fake)
    limit = find_optics(pictures, range(len(pictures)), tried(blurred=2)).sharpness
    assert limit.least is not None
    usual = np.median([lens.sharpness for lens in pictures.lenses if lens is not None])
    assert limit.least == pytest.approx(usual - 0.2, abs=1e-3)


def test_soft_pictures_whose_sharpness_blur_does_not_lower_have_no_limit() -> None:
    """Every good picture must be on the right side of its own limits."""
    draws = np.random.default_rng(0)
    pictures = pictures_for(options_for(None, (), height=96, width=128))
    for i in range(12):
        soft = 120 + 400 * cv2.GaussianBlur(draws.standard_normal((480, 640, 3)).astype(np.float32), (0, 0), 12)
        pictures.add(np.clip(soft + draws.normal(0, 1, soft.shape), 0, 255).astype(np.uint8), str(i))
    found = find_optics(pictures, range(12), tried())
    for limits in (found.light, found.noise, found.sharpness):
        assert limits.least is None or limits.least < limits.lowest
        assert limits.most is None or limits.most > limits.highest


def finely_grained(count: int) -> Pictures:
    """Faint edges at the limit of what a lens resolves: a little noise hides how sharp they are."""
    pictures = pictures_for(options_for(None, (), height=96, width=128))
    for i in range(count):
        draws = np.random.default_rng(i)
        grain = cv2.GaussianBlur(draws.standard_normal((480, 640, 3)).astype(np.float32), (0, 0), 2)
        pictures.add(np.clip(128 + 240 * grain, 0, 255).astype(np.uint8), str(i))
    return pictures


@pytest.mark.parametrize("scene", [parts, finely_grained])
def test_nothing_usual_is_beyond_a_limit(scene: Callable[[int], Pictures]) -> None:
    """Not even of another number: noise blurs, blur takes noise away."""
    pictures = scene(8)
    found = find_optics(pictures, range(len(pictures)), tried(**{kind.value: 1 for kind in Kind}))
    compared: Counter[str] = Counter()
    for number, raw in enumerate(pictures.raw):
        height, width = raw.shape[:2]
        area = (0, 0, width, height)
        for usual in (one for one in DISTURBANCES if one.is_usual):
            changed = np.rint(usual(raw.astype(np.float32), 1.0, np.random.default_rng(99 + number))).astype(np.uint8)
            lens = look_through(changed, area, 255)
            assert lens is not None
            for name, limits, value in (
                ("light", found.light, found.brightness(changed, area, 255)),
                ("noise", found.noise, lens.noise),
                ("sharpness", found.sharpness, lens.sharpness),
                ("edges", found.edges, lens.edges),
            ):
                if value is not None:
                    compared[f"{name} {usual.kind.value}"] += 1
                    assert limits.least is None or value >= limits.least, (usual.name, name)
                    assert limits.most is None or value <= limits.most, (usual.name, name)
    assert compared["sharpness noisier"] > 0, "noise has not hidden all edges"
    assert found.edges.least is not None


def test_a_line_whose_light_varies_more_has_wider_limits(pictures: Pictures) -> None:
    usual, more = (find_optics(pictures, range(12), tried(darker=0, brighter=0), share) for share in (0.12, 0.5))
    assert usual.light.most is not None
    assert more.light.most is not None
    assert more.light.least is not None
    assert more.light.most > 1.49 > usual.light.most
    assert more.light.least < 0.51


def test_tiny_and_grey_and_deep_pictures_have_optics_too() -> None:
    pictures = pictures_for(options_for(None, (), height=32, width=32))
    for i in range(8):
        pictures.add(np.random.default_rng(i).integers(0, 4000, (20, 30)).astype(np.uint16), str(i))
    found = find_optics(pictures, range(len(pictures)), tried(noisier=0))
    assert found.noise.most is None
    assert found.sharpness.least is None
    assert len(found.template) == 256
