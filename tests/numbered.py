"""Pictures that carry their own number and a pattern that follows from it: a program can tell whether one is wrong.

A picture is a grid of dark and bright cells. Three rows spell its number; every other cell is dark or bright by a hash
of its place and of the number, and changes every eighth picture, so that a codec has both to copy and to draw.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

CELL = 16
BITS = 20
PERIOD = 8
DARK, BRIGHT = 40, 215
WRONG_BY = 50.0
"""Mean difference of a cell, in grey levels, that anybody would see."""
NOISE = 14
Pixels = np.ndarray[Any, Any]

ENCODERS: dict[str, tuple[str, dict[str, str]]] = {
    "h264": ("libx264", {"preset": "veryfast", "tune": "zerolatency", "slices": "4", "crf": "24"}),
    "h264-b": ("libx264", {"preset": "veryfast", "slices": "1", "crf": "24", "bf": "2"}),
    "hevc": (
        "libx265",
        {"preset": "ultrafast", "tune": "zerolatency", "crf": "22", "x265-params": "slices=4:log-level=none"},
    ),
    "hevc-b": ("libx265", {"preset": "ultrafast", "crf": "22", "x265-params": "bframes=2:log-level=none"}),
    "mjpeg": ("mjpeg", {"qscale": "4"}),
}


def draw(number: int, width: int = 640, height: int = 480) -> Pixels:
    """Return the picture of a number, uint8 [H, W], without noise."""
    rows, columns = height // CELL, width // CELL
    y, x = np.mgrid[0:rows, 0:columns]
    place = (y * columns + x).astype(np.uint64)
    turn = (np.uint64(number) + place * np.uint64(2654435761) % np.uint64(PERIOD)) // np.uint64(PERIOD)
    mixed = place * np.uint64(0x9E3779B97F4A7C15) + turn * np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(31)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(29)
    cells = (mixed & np.uint64(1)).astype(np.uint8)
    for row in _number_rows(rows):
        cells[row, :BITS] = [number >> i & 1 for i in range(BITS)]
    return np.repeat(np.repeat(DARK + cells * np.uint8(BRIGHT - DARK), CELL, 0), CELL, 1)


def noisy(number: int, width: int = 640, height: int = 480) -> Pixels:
    """Return the picture of a number as a sensor would give it, uint8 [H, W, 3]."""
    noise = np.random.default_rng(number).integers(-NOISE, NOISE + 1, (height, width))
    grey = np.clip(draw(number, width, height).astype(int) + noise, 0, 255).astype(np.uint8)
    return cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)


def look(picture: Pixels) -> tuple[int, int]:
    """Return the number that a picture spells, and how many of its cells are visibly wrong for that number."""
    height, width = (side // CELL * CELL for side in picture.shape[:2])
    grey = (picture if picture.ndim == 2 else picture.mean(axis=2))[:height, :width].astype(np.float32)
    cells = grey.reshape(height // CELL, CELL, width // CELL, CELL)
    bright = cells.mean(axis=(1, 3)) > 128
    numbers = {sum(int(bright[row, i]) << i for i in range(BITS)) for row in _number_rows(height // CELL)}
    return min(((n, _wrong_cells(cells, n, width, height)) for n in numbers), key=lambda found: found[1])


def _wrong_cells(cells: Pixels, number: int, width: int, height: int) -> int:
    expected = draw(number, width, height).reshape(cells.shape).astype(np.float32)
    return int((np.abs(cells - expected).mean(axis=(1, 3)) > WRONG_BY).sum())


def _number_rows(rows: int) -> tuple[int, int, int]:
    return (0, rows // 2, rows - 1)


def encode(
    kind: str, path: Path, count: int, *, fps: int = 30, gop: int = 30, size: tuple[int, int] = (640, 480)
) -> Path:
    """Write a video of the pictures 0 … count − 1; `kind` is one of ENCODERS."""
    name, options = ENCODERS[kind]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(name, rate=fps)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if kind == "mjpeg" else "yuv420p"
        stream.codec_context.options = options
        stream.codec_context.gop_size = gop
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(noisy(number, *size), format="bgr24").reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def jpegs(count: int, quality: int = 90, size: tuple[int, int] = (640, 480)) -> list[bytes]:
    """Return the pictures 0 … count − 1 as JPEG."""
    return [
        bytes(cv2.imencode(".jpg", noisy(number, *size), [cv2.IMWRITE_JPEG_QUALITY, quality])[1])
        for number in range(count)
    ]
