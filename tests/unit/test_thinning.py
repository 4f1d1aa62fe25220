"""A long video is thinned by novelty; the pictures that differ most are shown before training."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from calibrate.acquire.thinning import Thinning
from calibrate.data.training_set import Pictures
from calibrate.results.overview import Overview, most_different
from inspectd.model.geometry import Geometry


def picture(level: int, square: int = 0) -> np.ndarray:  # type: ignore[type-arg]
    made = np.full((48, 64, 3), level, np.uint8)
    made[10:20, square : square + 10] = 255
    return made


def test_of_a_long_stretch_of_the_same_hardly_anything_is_kept() -> None:
    """A thousand pictures of three parts, one of which was there for a moment only."""
    pictures = Pictures(Geometry(32, 32))
    thinning = Thinning(pictures, 20)
    noise = np.random.default_rng(0)
    for i in range(1000):
        part = 0 if i < 400 else 40 if i < 403 else 20
        pictures.add(np.clip(picture(100, part) + noise.integers(0, 3, (48, 64, 3)), 0, 255).astype(np.uint8), str(i))
        thinning.after_adding()
        assert len(pictures) <= 20
    assert thinning.dropped == 980
    kept = [int(name) for name in pictures.names]
    assert kept == sorted(kept)
    assert 0 in kept
    assert {400, 403} <= set(kept), "where something new begins"
    for of_each in (pictures.smalls, pictures.tints, pictures.places, pictures.lenses):
        assert len(of_each) == 20
    assert pictures.input(0).shape == (3, 32, 32)
    assert "Of 1000 frames the 20 were kept" in thinning.notes()[0]


def test_a_short_one_is_left_alone() -> None:
    pictures = Pictures(Geometry(32, 32))
    thinning = Thinning(pictures)
    for i in range(5):
        pictures.add(picture(i), str(i))
        thinning.after_adding()
    assert (len(pictures), thinning.notes()) == (5, [])


def test_the_digest_is_of_the_pictures_that_are_kept() -> None:
    whole, thinned = Pictures(Geometry(32, 32)), Pictures(Geometry(32, 32))
    for i in (1, 2, 3):
        thinned.add(picture(i), str(i))
        if i != 2:
            whole.add(picture(i), str(i))
    assert thinned.digest != whole.digest
    thinned.drop(1)
    assert thinned.digest == whole.digest


def test_what_many_share_is_on_the_sheet_once_and_early() -> None:
    pictures = Pictures(Geometry(32, 64))
    for i in range(60):
        pictures.add(picture(90 + i % 3, 30 if i % 4 == 0 else 5), str(i))
    chosen = most_different(pictures, 2)
    assert {int(pictures.names[i]) % 4 == 0 for i in chosen} == {True, False}
    assert len(most_different(pictures)) == 6, "no two that look the same"


def test_the_sheet_lies_beside_the_run_until_the_report_has_it(tmp_path: Path) -> None:
    pictures = Pictures(Geometry(32, 64))
    for i in range(3):
        pictures.add(picture(90, 10 * i), f"Größe {i}.png")
    with Overview(pictures, tmp_path / "group" / "run") as overview:
        assert "Each must show a good part" in overview.said
        sheet = cv2.imread(str(tmp_path / "group" / "run.pictures.jpg"))
        assert sheet is not None
        assert sheet.shape == overview.sheet.shape
    assert list(tmp_path.iterdir()) == [], "nor the folder that was made for it"
