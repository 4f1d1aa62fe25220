"""Pictures of real parts: no false alarms while they are captured, and the framing known again where it is steady."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from calibrate.acquire.checks import CaptureChecks
from inspectd.cameras.image_files import list_pictures, read_picture
from inspectd.model.framing import find_framing, shrink

pytestmark = pytest.mark.realdata
Pixels = np.ndarray[Any, Any]


def moved(picture: Pixels) -> Pixels:
    """As a camera sees it that was pushed aside by an eighth of its picture."""
    height, width = picture.shape[:2]
    matrix = np.array([[1, 0, 0.12 * width], [0, 1, 0]], np.float32)
    return np.asarray(cv2.warpAffine(picture, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE))


def test_good_parts_are_not_warned_of(shared: Path) -> None:
    for name, expected in (("bottle", 0), ("ball_screw", 0), ("magnetic_tile", 2)):
        checks = CaptureChecks()
        for path in list_pictures(shared / "data" / name / "train" / "good"):
            assert not checks.look(read_picture(path), path.name).is_repeat
        # The tiles were taken at six exposures, in this order: brightness does drift, and some are soft.
        assert len(checks.summary()) == expected, checks.summary()


@pytest.mark.parametrize(("name", "is_steady"), [("bottle", True), ("ball_screw", True), ("magnetic_tile", False)])
def test_the_framing_is_known_where_it_is_steady(shared: Path, name: str, is_steady: bool) -> None:
    folder = shared / "data" / name
    found = find_framing([shrink(read_picture(path)) for path in list_pictures(folder / "train" / "good")[:60]])
    assert (found is not None) is is_steady
    if found is not None:
        tests = [read_picture(path) for path in list_pictures(folder / "test")[::4]]
        assert all(found.shows(picture) for picture in tests)
        assert not any(found.shows(moved(picture)) for picture in tests)
