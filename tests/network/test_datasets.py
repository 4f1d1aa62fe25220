"""Data sets as others lay them out: masks by any name, rotated pictures, masks that cannot be right, copies."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from calibrate.data.dataset import doubt, find_class, read_truth
from calibrate.data.training_set import Pictures
from calibrate.published_runs import copies_note
from inspectd.cameras.image_files import read_picture
from inspectd.errors import UsageError
from inspectd.model.geometry import Geometry


def data_set(root: Path, *, good: str = "good", mask: str | None = "000_mask.png", picture: str = "000.png") -> Path:
    """Write one class with one good and one defective test picture of 40 × 30."""
    rng = np.random.default_rng(0)
    for folder, name in (("train/" + good, "000.png"), ("test/" + good, "000.png"), ("test/crack", picture)):
        (root / "part" / folder).mkdir(parents=True)
        cv2.imwrite(str(root / "part" / folder / name), rng.integers(0, 255, (30, 40, 3), np.uint8))
    if mask is not None:
        (root / "part/ground_truth/crack").mkdir(parents=True)
        drawn = np.zeros((30, 40), np.uint8)
        drawn[5:9, 6:20] = 255
        plain = root / f"drawn{Path(mask).suffix.lower()}"
        cv2.imwrite(str(plain), drawn)
        plain.rename(root / "part/ground_truth/crack" / mask)
    return root


@pytest.mark.parametrize(
    "mask", ["000_mask.png", "000.png", "000.bmp", "000.tif", "000_mask.PNG", "000.PNG", "000_mask.bmp", "000_MASK.png"]
)
def test_masks_of_many_names_are_read(tmp_path: Path, mask: str) -> None:
    found = find_class(data_set(tmp_path, mask=mask), "part")
    (defect,) = [test for test in found.test if test.is_defective]
    assert read_truth(defect, read_picture(defect.path)).sum() == 4 * 14


def test_good_may_be_called_ok(tmp_path: Path) -> None:
    found = find_class(data_set(tmp_path, good="ok"), "part")
    assert len(found.train) == 1
    assert [(test.kind, test.is_defective) for test in found.test] == [("crack", True), ("good", False)]


def test_a_missing_mask_and_one_of_another_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no mask"):
        find_class(data_set(tmp_path / "a", mask=None), "part")
    root = data_set(tmp_path / "b")
    cv2.imwrite(str(root / "part/ground_truth/crack/000_mask.png"), np.zeros((40, 30), np.uint8))
    with pytest.raises(UsageError, match=r"is 30x40, but its picture .* is 40x30"):
        find_class(root, "part")


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_picture_that_its_camera_has_rotated_has_the_size_that_is_seen(tmp_path: Path, orientation: int) -> None:
    root = data_set(tmp_path, picture="000.jpg")
    path = root / "part/test/crack/000.jpg"
    upright = Image.open(path)
    stored = upright.rotate({3: 180, 6: 90, 8: 270}[orientation], expand=True)
    exif = Image.Exif()
    exif[274] = orientation
    stored.save(path, exif=exif)
    upright.close()
    found = find_class(root, "part")
    (defect,) = [test for test in found.test if test.is_defective]
    assert read_picture(path).shape[:2] == (30, 40)
    assert read_truth(defect, read_picture(path)).shape == (30, 40)


@pytest.mark.parametrize(("level", "says"), [(0, "marks nothing"), (255, "marks everything")])
def test_a_mask_that_cannot_be_right_is_said(tmp_path: Path, level: int, says: str) -> None:
    root = data_set(tmp_path)
    cv2.imwrite(str(root / "part/ground_truth/crack/000_mask.png"), np.full((30, 40), level, np.uint8))
    (defect,) = [test for test in find_class(root, "part").test if test.is_defective]
    assert says in (doubt(defect, read_truth(defect, read_picture(defect.path))) or "")


def test_what_was_passed_over_is_noted(tmp_path: Path) -> None:
    root = data_set(tmp_path)
    (root / "part/train/good/.ipynb_checkpoints").mkdir()
    (root / "part/test/.ipynb_checkpoints").mkdir()
    cv2.imwrite(str(root / "part/train/good/.ipynb_checkpoints/x.png"), np.zeros((9, 9), np.uint8))
    (root / "part/test/crack/readme.txt").write_text("x")
    found = find_class(root, "part")
    assert len(found.train) == 1
    assert len(found.notes) == 2


def test_copies_of_training_pictures_among_the_held_out_are_found() -> None:
    pictures = Pictures(Geometry(32, 32))
    rng = np.random.default_rng(0)
    drawn = [rng.integers(0, 255, (32, 32, 3), np.uint8) for _ in range(4)]
    for i, picture in enumerate([*drawn, drawn[1]]):
        pictures.add(picture, f"{i}.png")
    assert "1 held-out pictures are exact copies of others: 4.png (as 1.png)" in (copies_note(pictures, 3) or "")
    assert copies_note(pictures, 5) is None
    assert pictures.copy_of(drawn[0]) == "0.png"
    assert pictures.copy_of(drawn[0] + 1) is None


@pytest.mark.realdata
def test_the_fields_data_sets(shared: Path) -> None:
    """faults 12, 16 and 17."""
    rotated = find_class(shared / "faults", "exif_upright")
    assert sum(test.is_defective for test in rotated.test) == 3
    assert len(find_class(shared / "faults" / "hidden", "ipynb_in").train) == 12
    black = find_class(shared / "faults", "mask_blackalpha")
    defects = [test for test in black.test if test.is_defective]
    assert all(doubt(test, read_truth(test, read_picture(test.path))) for test in defects)


def test_how_even_good_pictures_end_is_known_of_those_that_are_kept() -> None:
    rng, taken = np.random.default_rng(0), Pictures(Geometry(32, 32))
    for number in range(4):
        picture = rng.integers(0, 255, (30, 40, 3), np.uint8)
        picture[29 if number == 2 else 30 :] = 255
        taken.add(picture, str(number))
    assert taken.statistics()["end_spread"] == 0
    taken.drop(2)
    assert taken.statistics()["end_spread"] > 50
