"""The pictures that differ most, on one sheet: what should not be among good parts is seen at a glance.

What many pictures share (a hand in a quarter of a video) is not odd to any program; a person sees it at once.
"""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from calibrate.data.training_set import Pictures
from inspectd.atomic import missing, remove_empty, write_whole

SHOWN = 24
COLUMNS = 6
THUMB_PX = 200
CAPTION_PX = 22


class Overview:
    """A sheet that lies beside where the run will be while it is calibrated, and is in its report afterwards."""

    def __init__(self, pictures: Pictures, run: Path) -> None:
        self.sheet = draw_overview(pictures)
        self._path = run.with_name(f"{run.name}.pictures.jpg")
        self._made: list[Path] = []

    @property
    def said(self) -> str:
        """Where it is, and what to look for."""
        return (
            f"The pictures that differ most: {self._path}. Each must show a good part and nothing else: no hand, no "
            "empty place."
        )

    def __enter__(self) -> Overview:
        """Write it."""
        self._made = missing(self._path.parent)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self._path, cv2.imencode(".jpg", self.sheet)[1].tobytes())
        return self

    def __exit__(self, *_: object) -> None:
        """Remove it, and the folders that were made for nothing."""
        self._path.unlink(missing_ok=True)
        remove_empty(self._made)


def most_different(pictures: Pictures, count: int = SHOWN) -> list[int]:
    """Return positions of pictures, in order, each of which was the one farthest from those chosen before it."""
    looks = np.stack([_look(small) for small in pictures.smalls])
    middle = np.median(looks, axis=0)
    chosen = [int(np.abs(looks - middle).sum(axis=1).argmin())]  # first the most usual one
    nearest = np.full(len(looks), np.inf)
    while len(chosen) < min(count, len(looks)):
        nearest = np.minimum(nearest, ((looks - looks[chosen[-1]]) ** 2).sum(axis=1))
        chosen.append(int(nearest.argmax()))
    return sorted(dict.fromkeys(chosen))


def draw_overview(pictures: Pictures) -> NDArray[np.uint8]:
    """Draw them with their names, BGR."""
    chosen = most_different(pictures)
    height, width = pictures.geometry.height, pictures.geometry.width
    scale = THUMB_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    columns = min(COLUMNS, len(chosen))
    cell = (size[0] + 8, size[1] + CAPTION_PX)
    sheet = np.full((math.ceil(len(chosen) / columns) * cell[1], columns * cell[0], 3), 255, np.uint8)
    for number, position in enumerate(chosen):
        top, left = number // columns * cell[1], number % columns * cell[0]
        rgb = pictures.input(position * max(1, len(pictures.rois))).permute(1, 2, 0).clamp(0, 255).byte().numpy()
        thumb = cv2.resize(np.ascontiguousarray(rgb[:, :, ::-1]), size, interpolation=cv2.INTER_AREA)
        sheet[top : top + size[1], left : left + size[0]] = thumb
        name = pictures.taken[position].encode("ascii", "replace").decode()[-28:]
        cv2.putText(
            sheet, name, (left + 2, top + size[1] + 15), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA
        )
    return sheet


def _look(small: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a small picture whatever its brightness."""
    return np.asarray((small - small.mean()) / (small.std() + 1e-6), np.float32)
