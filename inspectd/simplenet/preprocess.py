"""From a camera's picture to the network's input: region of interest, resize, colour order, normalisation.

One place for all: calibration, `predict` and the daemon see the same numbers for the same picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from inspectd.records import Picture, Rect

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
FULL_SCALE = 255.0


@dataclass(frozen=True, slots=True)
class Geometry:
    """Which rectangle of a picture is inspected, and the network's input size that it is brought to.

    `roi` is in pixels of a picture of `picture` (w, h); a picture of another size has it scaled. None: all.
    """

    height: int
    width: int
    roi: Rect | None = None
    picture: tuple[int, int] | None = None

    def area(self, width: int, height: int) -> Rect:
        """Return the inspected rectangle of a picture of `width` × `height`, at least one pixel, inside it."""
        if self.roi is None:
            return (0, 0, width, height)
        x, y, w, h = self.roi
        across, down = (1.0, 1.0) if self.picture is None else (width / self.picture[0], height / self.picture[1])
        left, top = min(round(x * across), width - 1), min(round(y * down), height - 1)
        right = max(left + 1, min(round((x + w) * across), width))
        bottom = max(top + 1, min(round((y + h) * down), height))
        return (left, top, right - left, bottom - top)


def resize(picture: Picture, geometry: Geometry, white_level: int = 65535) -> Tensor:
    """Cut the ROI out and resize it (bilinear, antialiased), RGB.

    uint8 pictures stay uint8 (as every published pipeline rounds there); uint16 ones become float32, scaled
    so that `white_level` is 255. Returns [3, height, width]; a grey picture is repeated in all three.
    """
    x, y, w, h = geometry.area(picture.shape[1], picture.shape[0])
    cut = picture[y : y + h, x : x + w]
    if cut.dtype == np.uint16:
        cut = np.minimum(cut.astype(np.float32) * np.float32(FULL_SCALE / white_level), np.float32(FULL_SCALE))
    pixels = torch.from_numpy(np.ascontiguousarray(cut))
    pixels = pixels[None, None] if pixels.dim() == 2 else pixels.permute(2, 0, 1)[None]  # [1, C, h, w]
    size = (geometry.height, geometry.width)
    if tuple(pixels.shape[-2:]) != size:
        pixels = F.interpolate(pixels, size=size, mode="bilinear", antialias=True)
    if pixels.shape[1] == 1:
        return pixels[0].expand(3, -1, -1)
    return pixels[0].flip(0)  # BGR -> RGB


class Normalise:
    """[B, 3, H, W] of 0 … 255 to the backbone's unit: x / 255, minus the mean, by the spread, per channel."""

    def __init__(
        self,
        device: torch.device,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ) -> None:
        self._mean = torch.tensor(mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(std, device=device).view(1, 3, 1, 1)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return float32 of the same shape."""
        return (pixels.float() / FULL_SCALE - self._mean) / self._std
