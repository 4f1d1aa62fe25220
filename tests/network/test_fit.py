"""`SimpleNet.fit`: trainings, if small ones."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from inspectd import SimpleNet
from inspectd.config_file import parse
from inspectd.engine.backend import Request
from inspectd.engine.choose import choose_backend
from inspectd.errors import UsageError
from inspectd.line.inspection import conclude
from inspectd.line.recipe import recipe_of
from inspectd.model.ignored import Ignored
from inspectd.plan import plans_of
from inspectd.simplenet import bundle
from inspectd.trial import Part, try_out


def test_fit_learns_what_is_normal(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    good = [(rng.normal(120, 4, (96, 96, 3))).astype(np.uint8) for _ in range(16)]
    net = SimpleNet("cpu").fit(good, imagesize=96, steps=80)
    bad = good[0].copy()
    cv2.line(bad, (20, 20), (70, 75), (255, 255, 255), 5)
    score, map_ = net.predict(bad)
    assert net.threshold is not None
    assert score > net.threshold
    y, x = np.unravel_index(np.argmax(map_), map_.shape)
    assert abs(y - x) < 20, "the worst place lies on the line"
    net.save_to_path(tmp_path / "model")
    again = SimpleNet("cpu").load_from_path(tmp_path / "model")
    assert abs(again.predict(bad)[0] - score) < 1e-6


def test_a_second_fit_judges_with_what_it_learned_and_not_with_the_first() -> None:
    draws = np.random.default_rng(0)
    bright, dark = ([draws.normal(grey, 4, (64, 64, 3)).astype(np.uint8) for _ in range(12)] for grey in (200, 60))
    net = SimpleNet("cpu").fit(bright, imagesize=64, steps=40)
    net.predict(dark[0])
    twice, _ = net.fit(dark, imagesize=64, steps=40).predict(dark[0])
    once, _ = SimpleNet("cpu").fit(dark, imagesize=64, steps=40).predict(dark[0])
    assert twice == pytest.approx(once, abs=1e-6)


def test_fit_takes_a_folder_and_refuses_what_is_none(pictures: Path) -> None:
    settings = {"steps": 2, "imagesize": 64}
    assert SimpleNet("cpu").fit(pictures, **settings).model.calibration is not None
    assert SimpleNet("cpu").fit(str(pictures), **settings).threshold is not None
    with pytest.raises(UsageError, match="expected pictures, their paths, or a folder"):
        SimpleNet("cpu").fit(str(pictures / "000.png"))


def test_rgb_where_bgr_is_expected_is_said() -> None:
    from inspectd.sim.line import Line

    parts = [Line(4).render(i) for i in range(1, 13)]
    net = SimpleNet("cpu").fit(parts, steps=2, imagesize=64)
    net.predict(parts[0])
    with pytest.warns(UserWarning, match="red and blue exchanged"):
        net.predict(parts[0][:, :, ::-1])


def test_what_is_ignored_is_not_learned_and_no_part_of_the_score_anywhere(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)

    def part(label: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        picture = draws.normal(120, 4, (96, 96, 3)).astype(np.uint8)
        picture[:40, :40] = draws.integers(0, 255, (5, 5, 3), np.uint8).repeat(8, 0).repeat(8, 1) // label
        return picture

    label = Ignored([[(0, 0), (60, 0), (60, 60), (0, 60)]])
    settings = {"imagesize": 96, "steps": 80}
    net = SimpleNet("cpu").fit([part(1) for _ in range(16)], ignored=label, **settings)
    other, defective = part(7), part(1)
    cv2.line(defective, (70, 70), (90, 92), (255, 255, 255), 5)
    assert net.threshold is not None
    assert net.predict(part(1))[0] <= net.threshold
    assert net.predict(other)[0] <= net.threshold, "a label that was never seen"
    assert net.predict(defective)[0] > net.threshold
    record = net.model.calibration.ignored  # type: ignore[union-attr]
    assert record is not None
    assert 0 < len(record.patches) < record.grid[0] * record.grid[1] / 2
    net.save_to_path(tmp_path / "model")
    again = SimpleNet("cpu").load_from_path(tmp_path / "model")
    assert again.predict(other)[0] == pytest.approx(net.predict(other)[0], abs=1e-6)
    # As the daemon judges: what the model left out is ignored there, too.
    cv2.imwrite(str(tmp_path / "other.png"), other)
    model = bundle.load(tmp_path / "model")
    (judged,) = try_out(model, choose_backend("cpu"), [Part(tmp_path / "other.png", "other.png", "good")])
    assert judged.finding.outcome == "ok"
    assert judged.finding.score == pytest.approx(net.predict(other)[0], abs=1e-3)


def test_what_is_ignored_needs_pictures_of_one_size() -> None:
    pictures = [np.full((96 + i, 96, 3), i, np.uint8) for i in range(9)]
    with pytest.raises(UsageError, match="for pictures of one size; 1 has 96x97, the first one 96x96"):
        SimpleNet("cpu").fit(pictures, ignored=Ignored([[(0, 0), (9, 0), (9, 9)]]), imagesize=96, steps=2)


def test_several_places_of_a_picture_are_learned_from_as_one(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    rois = ((0, 0, 64, 64), (96, 16, 64, 64))

    def part() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        picture = draws.integers(0, 255, (96, 192, 3), np.uint8)
        for x, y, w, h in rois:
            picture[y : y + h, x : x + w] = draws.normal(120, 4, (h, w, 3)).astype(np.uint8)
        return picture

    net = SimpleNet("cpu").fit([part() for _ in range(12)], roi=rois[0], rois=rois, imagesize=64, steps=80)
    calibration = net.model.calibration
    assert calibration is not None
    assert (calibration.roi, calibration.rois, calibration.pictures) == (rois[0], rois, 24)
    assert len(calibration.held_out_scores) == 24
    net.save_to_path(tmp_path / "model")
    model = bundle.load(tmp_path / "model")
    backend = choose_backend("cpu")
    parity = backend.prepare(model)
    text = f"areas: {{a: {{roi: {list(rois[0])}}}, b: {{roi: {list(rois[1])}}}}}"
    (plan,) = plans_of(parse(f"cameras: [{{name: top, source: 0, model: m, {text}}}]").cameras[0]).values()
    recipe = recipe_of("top", plan, lambda _: (model, parity))

    def judged(picture: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> dict[str, str]:
        scores = backend.score([Request(area.model, area.geometry, picture) for area in recipe.areas])
        return {one.name: one.finding.outcome for one in conclude(recipe, (192, 96), scores).areas}

    good, bad = part(), part()
    cv2.line(bad, (110, 30), (150, 70), (255, 255, 255), 5)
    assert judged(good) == {"a": "ok", "b": "ok"}
    assert judged(bad) == {"a": "ok", "b": "ng"}


def test_a_mask_that_leaves_a_pixel_and_no_patch_is_refused() -> None:
    painted = np.ones((192, 192), np.bool_)
    painted[100, 100] = False
    pictures = [np.full((192, 192, 3), i, np.uint8) for i in range(9)]
    with pytest.raises(UsageError, match="--ignore leaves no patch of the pictures to be inspected"):
        SimpleNet("cpu").fit(pictures, ignored=Ignored(painted=painted), imagesize=96, steps=2)
