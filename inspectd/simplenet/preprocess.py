"""From a camera's picture to the network's input: region of interest, resize, colour order, normalisation.

One place for all: calibration, `predict` and the daemon see the same numbers for the same picture.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, cast

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from inspectd.model.geometry import FULL_SCALE, IMAGENET_MEAN, IMAGENET_STD, Channels, Geometry
from inspectd.records import Picture


def resize(picture: Picture, geometry: Geometry, white_level: int = 65535) -> Tensor:
    """Cut the ROI out, resize it (bilinear, antialiased) and crop its centre where the geometry says so; RGB.

    uint8 pictures stay uint8 (as every published pipeline rounds there); uint16 ones become float32, scaled
    so that `white_level` is 255. Returns [3, height, width]; a grey picture is repeated in all three.
    """
    return crop(scale(picture, geometry, white_level), geometry)


def scale(picture: Picture, geometry: Geometry, white_level: int = 65535) -> Tensor:
    """Do what `resize` does but for the crop: where augmentation has its place."""
    x, y, w, h = geometry.region(picture.shape[1], picture.shape[0])
    cut: NDArray[Any] = picture[y : y + h, x : x + w]
    if cut.dtype == np.uint16:
        cut = np.minimum(cut.astype(np.float32) * np.float32(FULL_SCALE / white_level), np.float32(FULL_SCALE))
    size = geometry.scaled_size(w, h)
    if size != (h, w):
        if cut.ndim == 2 and cut.dtype == np.uint8:  # torch resizes three channels of bytes faster than one
            cut = cv2.merge((cut, cut, cut))
        cut = _resized(cut, size)
    if cut.ndim == 2:
        return torch.from_numpy(np.ascontiguousarray(cut)).expand(3, -1, -1)
    blue, green, red = cv2.split(cut)  # cvtColor would start threads of its own
    return torch.from_numpy(cv2.merge((red, green, blue))).permute(2, 0, 1)


def _resized(cut: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Return [h, w] or [h, w, 3] in another `size` (height, width)."""
    pixels = torch.from_numpy(np.ascontiguousarray(cut))
    planes = pixels[None, None] if cut.ndim == 2 else pixels[None].permute(0, 3, 1, 2)  # [1, C, h, w]
    planes = F.interpolate(planes, size=size, mode="bilinear", antialias=True)
    resized: NDArray[Any] = (planes[0, 0] if cut.ndim == 2 else planes[0].permute(1, 2, 0)).numpy()
    return resized


def crop(pixels: Tensor, geometry: Geometry) -> Tensor:
    """Cut the centre [3, height, width] out of a scaled picture [3, h, w]."""
    top, left = geometry.corner(*pixels.shape[-2:])
    return pixels[:, top : top + geometry.height, left : left + geometry.width]


def network_input(
    picture: Picture,
    geometry: Geometry,
    white_level: int = 65535,
    mean: Channels = IMAGENET_MEAN,
    std: Channels = IMAGENET_STD,
) -> NDArray[np.float32]:
    """Do everything that lies between a camera's picture and a network on the CPU: float32 [3, H, W]."""
    return normalised(resize(picture, geometry, white_level), mean, std)


def normalised(pixels: Tensor, mean: Channels = IMAGENET_MEAN, std: Channels = IMAGENET_STD) -> NDArray[np.float32]:
    """Return what `Normalise` does to one picture [3, H, W] of 0 … 255, in memory of its own.

    There the channels of a pixel lie side by side, as a camera gives them and a CPU's convolutions want them.
    """
    height, width = pixels.shape[-2:]
    gain, offset = _row_of_gains(width, mean, std)
    rows = torch.addcmul(offset, pixels.permute(1, 2, 0).reshape(height, 3 * width), gain)
    return cast("NDArray[np.float32]", rows.view(height, width, 3).permute(2, 0, 1).numpy())


@lru_cache(maxsize=64)
def _row_of_gains(width: int, mean: Channels, std: Channels) -> tuple[Tensor, Tensor]:
    """Return gain and offset for each number in a row of pixels, [3 · width] each."""
    gain = torch.tensor([1 / (FULL_SCALE * s) for s in std])
    offset = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)])
    return gain.repeat(width), offset.repeat(width)


class Normalise:
    """[B, 3, H, W] of 0 … 255 to the backbone's unit: x / 255, minus the mean, by the spread, per channel."""

    def __init__(
        self,
        device: torch.device,
        mean: Channels = IMAGENET_MEAN,
        std: Channels = IMAGENET_STD,
    ) -> None:
        self._mean = torch.tensor(mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(std, device=device).view(1, 3, 1, 1)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return float32 of the same shape."""
        return (pixels.float() / FULL_SCALE - self._mean) / self._std
