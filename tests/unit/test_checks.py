"""The checks of a live capture: they see what is wrong, and cry no wolf on real good parts."""

from __future__ import annotations

import re
from typing import Any

import cv2
import numpy as np
import pytest

from calibrate.acquire.checks import CaptureChecks
from inspectd.sim.line import Line

Pixels = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def parts() -> list[Pixels]:
    line = Line(4)
    return [line.render(i) for i in range(1, 31)]


def said(checks: CaptureChecks, pictures: list[Pixels]) -> list[str]:
    return [warning for i, one in enumerate(pictures) for warning in checks.look(one, f"frame {i}").warnings]


def test_good_parts_are_neither_repeats_nor_wrong(parts: list[Pixels]) -> None:
    checks = CaptureChecks()
    assert not any(checks.look(part, "x").is_repeat for part in parts)
    assert checks.summary() == []


def test_a_still_scene_is_a_repeat_whatever_the_noise(parts: list[Pixels]) -> None:
    checks, rng = CaptureChecks(), np.random.default_rng(0)
    for part in parts[:5]:
        checks.look(part, "x")
    noisy = parts[2] + rng.normal(0, 6, parts[2].shape)
    assert checks.look(np.clip(noisy, 0, 255).astype(np.uint8), "again").is_repeat
    assert checks.look((parts[2] * 0.99).astype(np.uint8), "flicker").is_repeat


def test_repeats_are_not_counted(parts: list[Pixels]) -> None:
    checks = CaptureChecks()
    for _ in range(3):
        checks.look(np.zeros((48, 64), np.uint8), "dark")
    assert checks.summary() == ["1 of 1 pictures: very dark. The first is dark."]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda part: (part * 0.08).astype(np.uint8), "very dark.*more light"),
        (lambda part: np.clip(part.astype(int) + 215, 0, 255).astype(np.uint8), "overexposed.*less light"),
    ],
)
def test_light(parts: list[Pixels], change: Any, says: str) -> None:
    (warning,) = said(CaptureChecks(), [change(parts[0])])
    assert re.search(says, warning)


def test_blur_is_seen_against_the_others(parts: list[Pixels]) -> None:
    checks = CaptureChecks()
    assert said(checks, parts[:20]) == []
    (warning,) = said(checks, [cv2.GaussianBlur(parts[21], (0, 0), 4)])
    assert "blurred" in warning
    assert "focus" in warning


@pytest.mark.parametrize(
    ("gains", "says"), [((1.3, 1.3, 1.3), "brightness has drifted"), ((1.3, 1, 0.75), "white balance")]
)
def test_drift(parts: list[Pixels], gains: tuple[float, ...], says: str) -> None:
    drifting = [
        np.clip(part * (1 + (np.array(gains) - 1) * i / len(parts)) * 0.7, 0, 255).astype(np.uint8)
        for i, part in enumerate(parts)
    ]
    warnings = said(CaptureChecks(), drifting)
    assert any(says in warning for warning in warnings)
    assert len(warnings) <= 2, "one kind is not said again for a while"


def test_sixteen_bits(parts: list[Pixels]) -> None:
    deep = [part.astype(np.uint16) * 16 for part in parts]
    assert said(CaptureChecks(white_level=4095), deep) == []
    assert "very dark" in said(CaptureChecks(white_level=65535), [deep[0]])[0]
