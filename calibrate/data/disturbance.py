"""What a line does to the picture of a good part, one thing at a time, in known amounts: lamps age, cameras move.

`painting.vary` draws from these at random, to learn from; here each is as it is named, to be measured against. Pictures
are float32 [H, W, 3] BGR, 0 … 255.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]
Change = Callable[[Picture, float, np.random.Generator], Picture]


class Kind(Enum):
    """What is disturbed, and in which direction."""

    DARKER = "darker"
    BRIGHTER = "brighter"
    MOVED = "moved"
    TURNED = "turned"
    ZOOMED = "zoomed"
    BLURRED = "blurred"
    NOISIER = "noisier"
    COMPRESSED = "compressed"


@dataclass(frozen=True, slots=True)
class Disturbance:
    """One change, of a known amount."""

    kind: Kind
    name: str
    is_usual: bool
    """A good part must stay good; beyond that, it is the equipment that must be looked at."""
    _change: Change

    def __call__(self, picture: Picture, scale: float, draws: np.random.Generator) -> Picture:
        """Return the changed picture; `scale`: its pixels for each of the camera's, across."""
        return np.clip(self._change(picture, scale, draws), 0, 255)


def lit(picture: Picture, factor: float) -> Picture:
    """Return it under another lamp: black stays black, white becomes whiter until it is white."""
    return np.asarray(picture * np.float32(factor), np.float32)


def moved(
    picture: Picture,
    shift: tuple[float, float],
    turn: float = 0.0,
    zoom: float = 1.0,
    border: int = cv2.BORDER_REPLICATE,
) -> Picture:
    """Return it shifted (pixels), turned (degrees) and zoomed about its middle; by default the edge goes on."""
    height, width = picture.shape[:2]
    move = np.asarray(cv2.getRotationMatrix2D((width / 2, height / 2), turn, zoom), np.float64)
    move[:, 2] += shift
    return np.asarray(cv2.warpAffine(picture, move, (width, height), borderMode=border), np.float32)


def blurred(picture: Picture, sigma: float) -> Picture:
    """Return it out of focus; `sigma` in pixels."""
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.float32) if sigma > 0 else picture


def noisier(picture: Picture, sigma: float, draws: np.random.Generator) -> Picture:
    """Return it with sensor noise of so many grey levels."""
    return np.asarray(picture + sigma * draws.standard_normal(picture.shape, np.float32), np.float32)


def compressed(picture: Picture, quality: int) -> Picture:
    """Return it as a JPEG of this quality shows it."""
    levels = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    _, data = cv2.imencode(".jpg", levels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.float32)


def _light(factor: float) -> Change:
    return lambda picture, _, __: lit(picture, factor)


def _move(share: float = 0.0, turn: float = 0.0, zoom: float = 1.0) -> Change:
    return lambda picture, _, __: moved(picture, (share * picture.shape[1], 0.0), turn, zoom)


def _blur(sigma: float) -> Change:
    return lambda picture, scale, _: blurred(picture, sigma * scale)


def _noise(sigma: float) -> Change:
    # Bringing a picture to fewer pixels averages its noise.
    return lambda picture, scale, draws: noisier(picture, sigma * min(1.0, scale), draws)


def _jpeg(quality: int) -> Change:
    return lambda picture, _, __: compressed(picture, quality)


DISTURBANCES = (
    Disturbance(Kind.DARKER, "10 % darker", True, _light(0.9)),
    Disturbance(Kind.DARKER, "20 % darker", False, _light(0.8)),
    Disturbance(Kind.DARKER, "30 % darker", False, _light(0.7)),
    Disturbance(Kind.BRIGHTER, "10 % brighter", True, _light(1.1)),
    Disturbance(Kind.BRIGHTER, "20 % brighter", False, _light(1.2)),
    Disturbance(Kind.BRIGHTER, "30 % brighter", False, _light(1.3)),
    Disturbance(Kind.MOVED, "moved by 0.3 % of its width", True, _move(1 / 300)),
    Disturbance(Kind.MOVED, "moved by 1 % of its width", False, _move(1 / 100)),
    Disturbance(Kind.TURNED, "turned by 2°", True, _move(turn=2)),
    Disturbance(Kind.ZOOMED, "zoomed by 2 %", False, _move(zoom=1.02)),
    Disturbance(Kind.BLURRED, "blurred by 1 pixel (σ)", True, _blur(1)),
    Disturbance(Kind.BLURRED, "blurred by 2 pixels (σ)", False, _blur(2)),
    Disturbance(Kind.BLURRED, "blurred by 3 pixels (σ)", False, _blur(3)),
    Disturbance(Kind.NOISIER, "noisier by 4 grey levels (σ)", True, _noise(4)),
    Disturbance(Kind.NOISIER, "noisier by 8 grey levels (σ)", False, _noise(8)),
    Disturbance(Kind.NOISIER, "noisier by 16 grey levels (σ)", False, _noise(16)),
    Disturbance(Kind.COMPRESSED, "compressed (JPEG at 80)", True, _jpeg(80)),
    Disturbance(Kind.COMPRESSED, "compressed (JPEG at 50)", False, _jpeg(50)),
)
"""Of each kind in order of its amount; distances in pixels are the camera's."""
