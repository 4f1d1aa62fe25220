"""A picture at a glance: few pixels and means of places, the same whichever way they are come by."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from inspectd.model.glance import FEW, SIDE, Glance, averaged, thinned
from inspectd.model.optics import Optics, brighter, limits_of, places
from inspectd.sim.line import Line

SIZES = [(1920, 1080), (1000, 700), (640, 480), (129, 128), (100, 90), (7, 300), (1, 1)]


def pictures(width: int, height: int) -> list[np.ndarray[Any, Any]]:
    """Of a size, in colour, in grey and with 12 bits."""
    rng = np.random.default_rng(width)
    colour = rng.integers(0, 256, (height, width, 3), np.uint8)
    return [colour, np.ascontiguousarray(colour[..., 1]), colour.astype(np.uint16) * 16]


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_light_of_a_whole_picture_is_that_of_its_places(width: int, height: int) -> None:
    usual = Optics(tuple(range(256)), *[limits_of([1.0], None, None)] * 3)
    for picture in pictures(width, height):
        white = 4080 if picture.dtype == np.uint16 else 255
        directly = brighter(places(picture, (0, 0, width, height), white), usual.usual)
        assert usual.brightness_at(Glance(picture), white) == pytest.approx(directly, rel=1e-5)


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("places", [1, 8, 32])
def test_means_of_equal_areas_lose_nothing(width: int, height: int, places: int) -> None:
    for picture in pictures(width, height):
        levels = picture.astype(np.float32)
        means = averaged(levels, places, places)
        assert means.shape == (places, places, *levels.shape[2:])
        assert means.mean(axis=(0, 1)) == pytest.approx(levels.mean(axis=(0, 1)), rel=1e-4)
        if width % places == 0 and height % places == 0:
            as_opencv = cv2.resize(levels, (places, places), interpolation=cv2.INTER_AREA)
            assert np.abs(means - as_opencv.reshape(means.shape)).max() < 0.01 * levels.max()


def test_few_pixels_are_pixels_of_the_picture() -> None:
    picture = Line(2, width=1920, height=1080).render(3)
    few = Glance(picture).few
    assert min(few.shape[:2]) >= FEW
    assert np.array_equal(few, picture[::8, ::8])
    assert thinned(few, FEW) is few
    assert Glance(picture).grey.shape == (SIDE, SIDE)
    assert Glance(picture[..., 0]).colours(8) is None
