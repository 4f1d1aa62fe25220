"""`SimpleNet.fit`: trainings, if small ones."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from inspectd import SimpleNet
from inspectd.errors import UsageError


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
