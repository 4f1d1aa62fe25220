"""The fingerprint of a camera's framing: a bumped camera is noticed, a bad part is not taken for one."""

from __future__ import annotations

from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from inspectd.model.framing import Framing, find_framing, shrink, tint
from inspectd.model.glance import thinned
from inspectd.model.optics import places
from inspectd.sim.line import Line

Pixels = np.ndarray[Any, Any]


def moved(picture: Pixels, shift: float = 0.0, angle: float = 0.0, zoom: float = 1.0) -> Pixels:
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, zoom)
    matrix[0, 2] += shift * width
    return np.asarray(cv2.warpAffine(picture, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE))


@pytest.fixture(scope="module")
def parts() -> list[Pixels]:
    line = Line(4)
    return [line.render(i) for i in range(1, 40)]


@pytest.fixture(scope="module")
def framing(parts: list[Pixels]) -> Framing:
    found = find_framing([shrink(part) for part in parts])
    assert found is not None
    return found


def test_other_good_and_defective_parts_show_the_scene(framing: Framing) -> None:
    line = Line(9, defects=0.5)
    assert all(framing.shows(line.render(i)) for i in range(1, 60))


@pytest.mark.parametrize("change", [{"shift": 0.12}, {"shift": -0.12}, {"zoom": 1.25}, {"shift": 0.3, "angle": 30}])
def test_a_moved_camera_does_not(framing: Framing, parts: list[Pixels], change: dict[str, float]) -> None:
    assert not any(framing.shows(moved(part, **change)) for part in parts)


def test_another_scene_does_not(framing: Framing) -> None:
    rng = np.random.default_rng(0)
    assert not framing.shows(rng.integers(0, 255, (200, 300, 3), np.uint8))
    assert not framing.shows(np.zeros((200, 300), np.uint8))


def test_light_depth_and_size_do_not_matter(framing: Framing, parts: list[Pixels]) -> None:
    part = parts[0]
    usual = framing.similarity(part)
    assert framing.similarity((part * 0.6 + 20).astype(np.uint8)) == pytest.approx(usual, abs=0.01)
    assert framing.similarity(part.astype(np.uint16) * 200) == pytest.approx(usual, abs=0.01)
    assert framing.similarity(cv2.resize(part, None, fx=2, fy=2)) == pytest.approx(usual, abs=0.02)


def test_it_is_data(framing: Framing) -> None:
    assert msgspec.json.decode(msgspec.json.encode(framing), type=Framing) == framing


@pytest.mark.parametrize("count", [0, 7, 40])
def test_no_fingerprint_where_nothing_is_steady(count: int) -> None:
    rng = np.random.default_rng(1)
    textures = [shrink(rng.integers(0, 255, (64, 64), np.uint8)) for _ in range(count)]
    assert find_framing(textures) is None
    assert find_framing([shrink(np.full((64, 64), 90, np.uint8))] * count) is None


@pytest.mark.parametrize(("width", "height"), [(640, 480), (1000, 700), (1920, 1080), (100, 90)])
def test_fewer_pixels_of_a_picture_say_the_same_as_all_of_them(width: int, height: int) -> None:
    part = Line(3, width=width, height=height).render(0)
    few = thinned(part, 128)
    assert np.abs(shrink(few) - shrink(part)).max() == 0
    assert np.abs(tint(few) - tint(part)).max() == 0
    seen, fewer = (places(one, (0, 0, one.shape[1], one.shape[0]), 255) for one in (part, few))
    assert np.abs(seen - fewer).max() == 0
