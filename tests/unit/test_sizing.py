"""The input's size: of the picture's shape, within a budget, or as large as a defect needs."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from calibrate.camera import Sides
from calibrate.cli import sides_joined
from calibrate.data.sizing import MOST, MULTIPLE, PIXELS, Sizing, typical_size
from calibrate.training import timing
from calibrate.training.options import options_for
from inspectd.errors import UsageError


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        ((1024, 1024), (448, 448)),
        ((1280, 720), (608, 320)),
        ((500, 1250), (288, 704)),
        ((300, 300), (288, 288)),
        ((5472, 3648), (544, 352)),
        ((20000, 100), (6336, 32)),
    ],
)
def test_the_shape_is_kept_within_the_budget(picture: tuple[int, int], expected: tuple[int, int]) -> None:
    assert Sizing().input_size(picture, 8) == expected
    assert expected[0] * expected[1] <= 1.1 * PIXELS


@pytest.mark.parametrize("picture", [(1, 1), (7, 3000), (64, 48), (8192, 8192), (100_000, 100_000)])
def test_whatever_the_picture_the_sides_are_whole_patches(picture: tuple[int, int]) -> None:
    for sizing in (Sizing(), Sizing(pixels=1024), Sizing(pixels=20_000_000)):
        width, height = sizing.input_size(picture, 8)
        assert width % MULTIPLE == height % MULTIPLE == 0
        assert min(width, height) >= MULTIPLE
        assert max(width, height) <= 8192


def test_a_picture_is_not_enlarged_unless_it_is_tiny() -> None:
    assert Sizing(pixels=20_000_000).input_size((640, 480), 8) == (640, 480)
    assert Sizing().input_size((64, 48), 8) == (160, 128)


def test_the_smallest_defect_decides() -> None:
    """It covers one and a half patches of the finest layer."""
    assert Sizing(smallest_defect=12).input_size((1024, 1024), 8) == (1024, 1024)
    assert Sizing(smallest_defect=24).input_size((1024, 768), 8) == (512, 384)
    assert Sizing(smallest_defect=6).input_size((640, 480), 8) == (1280, 960)
    assert Sizing(size=(96, 64), smallest_defect=None).input_size((1024, 768), 8) == (96, 64)


def test_what_no_machine_could_hold_is_refused() -> None:
    with pytest.raises(UsageError, match="at most 20 million pixels"):
        Sizing(size=(8192, 8192)).input_size((10000, 10000), 8)


def test_steps_become_smaller_until_hardly_anything_is_left() -> None:
    sizing: Sizing | None = Sizing()
    sizes = []
    while sizing is not None:
        sizes.append(sizing.pixels or PIXELS)
        sizing = sizing.below(sizes[-1] - 1)
    assert sizes[0] == PIXELS
    assert all(0.7 < b / a < 0.8 for a, b in itertools.pairwise(sizes))
    assert 20_000 <= sizes[-1] < 30_000
    assert [Sizing().is_asked, Sizing(pixels=5).is_asked, Sizing(smallest_defect=3).is_asked] == [False, True, True]


@pytest.mark.parametrize(
    ("deadline_ms", "sizing", "size"),
    [
        (1000.0, Sizing(), (448, 448)),
        (110.0, Sizing(), (288, 288)),
        (1.0, Sizing(), (448, 448)),  # nothing helps: it is left, and said
        (110.0, Sizing(pixels=PIXELS), (448, 448)),
        (110.0, Sizing(size=(320, 320)), (320, 320)),
    ],
)
def test_without_a_wish_the_input_is_as_large_as_the_deadline_allows(
    monkeypatch: pytest.MonkeyPatch, deadline_ms: float, sizing: Sizing, size: tuple[int, int]
) -> None:
    """On a machine that takes a millisecond for a thousand pixels."""
    monkeypatch.setattr(timing, "milliseconds_a_part", lambda options, *_: options.width * options.height / 1000)
    options, backend = options_for(None, (), sizing=sizing), object()
    fitted, said = timing.fit_deadline(options, backend, (1024, 1024), deadline_ms, is_firm=False)  # type: ignore[arg-type]
    assert (fitted.width, fitted.height) == size
    assert ("so it is made smaller" in said) == (not sizing.is_asked and size != (448, 448))
    took_ms = size[0] * size[1] / 1000
    assert ("more than a camera's usual deadline" in said) == (took_ms > deadline_ms)
    if took_ms > deadline_ms:
        with pytest.raises(UsageError, match="more than the camera's deadline"):
            timing.fit_deadline(options, backend, (1024, 1024), deadline_ms, is_firm=True)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("defect", "picture", "says"),
    [
        (900, (1280, 720), "the inspected picture has only 1280x720"),
        (2, (1280, 720), "too few to be told from noise; expected at least 3"),
        (5, (5472, 3648), f"more than {MOST / 1e6:g} million pixels"),
        (3, (4096, 256), "or 8192 on a side"),
    ],
)
def test_a_defect_that_no_input_can_show_is_refused(defect: float, picture: tuple[int, int], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Sizing(smallest_defect=defect).input_size(picture, 8)


def test_the_typical_size_is_that_of_decoded_pictures(tmp_path: Path) -> None:
    for i, (width, height) in enumerate([(40, 30), (44, 30), (400, 300)]):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.zeros((height, width, 3), np.uint8))
    paths = sorted(tmp_path.iterdir())
    assert typical_size(paths) == (44, 30)
    (tmp_path / "broken.png").write_bytes(b"nothing")
    assert typical_size([*paths, tmp_path / "broken.png", tmp_path / "gone.png"]) == (44, 30)
    assert typical_size([tmp_path / "broken.png"]) is None
    turned = Image.new("RGB", (60, 20))
    exif = turned.getexif()
    exif[0x112] = 6  # a quarter turn
    turned.save(tmp_path / "turned.jpg", exif=exif)
    decoded = cv2.imread(str(tmp_path / "turned.jpg"))
    assert typical_size([tmp_path / "turned.jpg"]) == (decoded.shape[1], decoded.shape[0]) == (20, 60)


@pytest.mark.parametrize(
    ("line", "expected"),
    [("--imagesize 448 256", (448, 256)), ("--imagesize 448x256", (448, 256)), ("--imagesize 64 --parts 9", (64, 64))],
)
def test_width_and_height_may_be_written_as_one_likes(line: str, expected: tuple[int, int]) -> None:
    args = sides_joined(line.split())
    assert Sides().convert(args[1], None, None) == expected
