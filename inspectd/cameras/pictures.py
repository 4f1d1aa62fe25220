"""Pictures from files: which ones a folder holds, and how one is decoded. The only such place.

`predict` and the daemon must see the same pixels for the same file, so both decode it here.
"""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np

from inspectd.cameras.sources import PICTURE_SUFFIXES
from inspectd.errors import UsageError
from inspectd.records import Picture

DECODE = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH


def list_pictures(path: Path) -> list[Path]:
    """Return the pictures below a folder in name order, recursively; a single picture is its own list."""
    if path.is_file():
        return [path]
    found = [
        Path(folder) / name
        for folder, _, names in os.walk(path)
        for name in names
        if Path(name).suffix.lower() in PICTURE_SUFFIXES and not name.startswith(".")
    ]
    return sorted(found, key=lambda p: p.relative_to(path).as_posix())


def part_name(picture: Path, folder: Path) -> str:
    """Return a picture's name in verdicts: its path relative to the folder."""
    return picture.name if picture == folder else picture.relative_to(folder).as_posix()


def read_picture(path: Path) -> Picture:
    """Decode one file to uint8 or uint16, [H, W] grey or [H, W, 3] BGR; UsageError when that fails."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise UsageError(f"The picture {path} cannot be read: {error.strerror}.") from None
    try:
        picture = cv2.imdecode(data, DECODE) if data.size else None
    except cv2.error:
        picture = None
    if picture is None:
        raise UsageError(f"The picture {path} cannot be decoded: it is empty, truncated or no picture.")
    return as_picture(picture, str(path))


def as_picture(array: object, what: str) -> Picture:
    """Check that an array is a picture as OpenCV makes them; drop an alpha channel."""
    if not isinstance(array, np.ndarray) or array.dtype not in (np.uint8, np.uint16):
        kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise UsageError(f"{what} is {kind}; expected a picture of uint8 or uint16.")
    if array.ndim == 3 and array.shape[2] == 4:
        array = array[:, :, :3]
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3) or 0 in array.shape:
        raise UsageError(f"{what} has shape {array.shape}; expected [H, W] grey or [H, W, 3] BGR.")
    return array
