"""Two pictures of the same part, taken at different times: what of light, lens and place is not as it was."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from inspectd.model.glance import grey_of, thinned
from inspectd.model.optics import brighter, look_through, places
from inspectd.records import Picture, Rect

LOOKED_AT = 256
"""Pixels of the shorter side by which it is told how far a picture was moved."""
SURE = 0.3
"""Of the peak of the two pictures' correlation, 0 … 1: with less they do not show the same."""
LIGHT, SHARP, SHIFT = 0.05, 0.1, 0.005
"""What is worth telling: of brightness and sharpness as a share, of a shift as a share of the shorter side."""


class Comparison(NamedTuple):
    """What the later picture has over the earlier one."""

    light: float
    """Times as bright."""
    sharpness: float | None
    """Times as sharp; None: one of them has no edges that can be measured."""
    shift_px: tuple[float, float] | None
    """How far its content has moved, right and down; None: that cannot be told."""

    def sentences(self, shorter_px: int) -> list[str]:
        """Return what is worth telling; `shorter_px`: the shorter side of the picture."""
        found = []
        if abs(self.light - 1) > LIGHT:
            found.append(f"it is {self.light:.2f} times as bright")
        if self.sharpness is not None and abs(self.sharpness - 1) > SHARP:
            found.append(f"it is {self.sharpness:.2f} times as sharp")
        if self.shift_px is not None and max(map(abs, self.shift_px)) > max(1.0, SHIFT * shorter_px):
            x, y = self.shift_px
            found.append(f"what it shows lies {x:+.0f} px to the right and {y:+.0f} px down")
        return found


def compare(now: Picture, then: Picture, area: Rect, white_level: int) -> Comparison | None:
    """Compare what is inspected of two pictures; None: they have different sizes."""
    if now.shape != then.shape or now.dtype != then.dtype:
        return None
    light = brighter(places(now, area, white_level), places(then, area, white_level))
    lenses = [look_through(one, area, white_level) for one in (now, then)]
    sharp = [lens.sharpness if lens is not None else None for lens in lenses]
    sharpness = sharp[0] / sharp[1] if sharp[0] and sharp[1] else None
    return Comparison(light, sharpness, _shift(now, then, area))


def _shift(now: Picture, then: Picture, area: Rect) -> tuple[float, float] | None:
    x, y, w, h = area
    small = [grey_of(thinned(one[y : y + h, x : x + w], LOOKED_AT)) for one in (then, now)]
    height, width = small[0].shape
    if min(height, width) < 16:
        return None
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    levelled = [np.asarray(one - one.mean(), np.float32) for one in small]
    (right, down), peak = cv2.phaseCorrelate(levelled[0], levelled[1], window)
    return (right * w / width, down * h / height) if peak >= SURE else None
