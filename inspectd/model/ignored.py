"""What of a camera's picture is not inspected: polygons, or a painted mask."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from inspectd.model.calibration import IgnoredPatches
from inspectd.records import Rect

Polygon = Sequence[tuple[int, int]]
"""Corners x, y in pixels of the camera's picture."""
WHOLE = 0.99
"""A patch is ignored only where all of it is; to the rounding of its edges."""

Cells = NDArray[np.bool_]


class Ignored:
    """Pixels of a camera's picture that no verdict depends on. Immutable.

    A patch that is inspected in part only would look like a defect, or hide one: those that are ignored completely
    are left out, all others are inspected as they are.
    """

    def __init__(
        self,
        polygons: Sequence[Polygon] = (),
        painted: NDArray[np.bool_] | None = None,
        patches: IgnoredPatches | None = None,
    ) -> None:
        """`painted`: bool [H, W], of pictures of that size only. `patches`: those that a calibration left out."""
        self._patches = patches
        self._polygons = [np.asarray(polygon, np.int32).reshape(-1, 2) for polygon in polygons]
        self._corners = polygons
        self._painted = painted
        self._cells: dict[tuple[Rect, tuple[int, int], tuple[int, int]], Cells] = {}
        self._problems: dict[tuple[Rect, int, int], str | None] = {}

    def __eq__(self, other: object) -> bool:
        """Whether the same is ignored."""
        if not isinstance(other, Ignored) or self._corners != other._corners or self._patches != other._patches:
            return False
        one, two = self._painted, other._painted
        return one is two or (one is not None and two is not None and np.array_equal(one, two))

    __hash__ = None  # type: ignore[assignment]  # nobody needs one, and it would be of a whole picture

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height of the pictures that it is for; None: of any."""
        return None if self._painted is None else (self._painted.shape[1], self._painted.shape[0])

    def problem(self, area: Rect, width: int, height: int) -> str | None:
        """Return why a rectangle of a picture of this size cannot be inspected, or None: it can."""
        key = (area, width, height)
        if key not in self._problems:
            self._problems[key] = self._mismatch(width, height) or self._cover(area, width, height)
        return self._problems[key]

    def _mismatch(self, width: int, height: int) -> str | None:
        if self.size is not None and self.size != (width, height):
            return f"the mask of what is ignored has {self.size[0]}x{self.size[1]}, the picture {width}x{height}"
        for number, corners in enumerate(self._polygons, start=1):
            left, top = corners.min(axis=0)
            right, bottom = corners.max(axis=0)
            if right < 0 or bottom < 0 or left >= width or top >= height:
                return f"polygon {number} of what is ignored lies outside the picture of {width}x{height}"
        return None

    def and_patches(self, patches: IgnoredPatches) -> Ignored:
        """Return what is ignored here, and what a calibration left out."""
        return Ignored(self._corners, self._painted, patches)

    def pixels(self, width: int, height: int) -> NDArray[np.bool_]:
        """Return what is ignored of a picture, bool [H, W]."""
        filled = np.zeros((height, width), np.uint8)
        for corners in self._polygons:  # one by one: together, what lies in two of them would not be filled
            cv2.fillPoly(filled, [corners], 1)
        return np.asarray(filled > 0 if self._painted is None else (filled > 0) | self._painted, np.bool_)

    def _cover(self, area: Rect, width: int, height: int) -> str | None:
        x, y, w, h = area
        is_covered = self.pixels(width, height)[y : y + h, x : x + w].all()
        return f"all of {list(area)}, which is to be inspected, is ignored" if is_covered else None

    def seen(self, area: Rect, grid: tuple[int, int], size: tuple[int, int]) -> Cells:
        """Return which patches of a grid [h, w] over a rectangle of a picture of (w, h) pixels are inspected."""
        key = (area, grid, size)
        if (known := self._cells.get(key)) is None:
            x, y, w, h = area
            inside = self.pixels(*size)[y : y + h, x : x + w].astype(np.float32)
            share = cv2.resize(inside, grid[::-1], interpolation=cv2.INTER_AREA)
            known = np.asarray(share < WHOLE, np.bool_)
            if self._patches is not None and self._patches.grid == grid:
                known.reshape(-1)[[i for i in self._patches.patches if i < known.size]] = False
            self._cells[key] = known
        return known
