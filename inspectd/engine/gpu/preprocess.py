"""`simplenet.preprocess` on a GPU: the same picture, within one grey level, without a byte of new memory per frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from inspectd.model.geometry import FULL_SCALE, Channels, Geometry


@dataclass(frozen=True, slots=True)
class Preparation:
    """How one kind of picture becomes a network's input."""

    shape: tuple[int, ...]
    """[h, w] or [h, w, 3], BGR."""
    is_deep: bool
    """16 bits per value; else 8."""
    geometry: Geometry
    white_level: int
    normalisation: tuple[Channels, Channels]

    @property
    def band(self) -> tuple[int, int]:
        """First and last row (exclusive) that hold the region: contiguous, so that one copy uploads it."""
        _, y, _, h = self.geometry.region(self.shape[1], self.shape[0])
        return y, y + h

    @property
    def band_shape(self) -> tuple[int, ...]:
        """Shape of what is uploaded."""
        top, bottom = self.band
        return (bottom - top, *self.shape[1:])

    @property
    def dtype(self) -> torch.dtype:
        """Of the picture."""
        return torch.uint16 if self.is_deep else torch.uint8

    @property
    def band_bytes(self) -> int:
        """Size of what is uploaded."""
        count = 2 if self.is_deep else 1
        for length in self.band_shape:
            count *= length
        return count


def preparing(how: Preparation, device: torch.device) -> Callable[[Tensor, Tensor], None]:
    """Return a function that turns an uploaded band into a normalised picture [3, H, W], on the current stream.

    Scratch memory is taken here; one call must have ended on the device before the next begins.
    """
    geometry = how.geometry
    x, _, w, h = geometry.region(how.shape[1], how.shape[0])
    channels = 3 if len(how.shape) == 3 else 1
    size = geometry.scaled_size(w, h)
    top, left = geometry.corner(*size)
    cut = torch.zeros(1, channels, h, w, device=device)
    scaled = cut if size == (h, w) else torch.zeros(1, channels, *size, device=device)
    cropped = scaled[0, :, top : top + geometry.height, left : left + geometry.width]
    rgb = torch.zeros(3, geometry.height, geometry.width, device=device)
    order = torch.tensor([2, 1, 0] if channels == 3 else [0, 0, 0], device=device)
    mean, std = how.normalisation
    gain = torch.tensor([1 / (FULL_SCALE * s) for s in std], device=device)[:, None, None]
    offset = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=device)[:, None, None]

    def prepare(band: Tensor, into: Tensor) -> None:
        region = band[:, x : x + w]
        cut[0].copy_(region.permute(2, 0, 1) if channels == 3 else region[None])
        if how.is_deep:
            cut.mul_(FULL_SCALE / how.white_level).clamp_(max=FULL_SCALE)
        if scaled is not cut:
            torch.ops.aten._upsample_bilinear2d_aa.out(cut, size, False, None, None, out=scaled)
        if not how.is_deep:
            scaled.round_()  # pictures of 8 bits stay such, as in every published pipeline
        torch.index_select(cropped, 0, order, out=rgb)
        into.copy_(rgb.mul_(gain).add_(offset))

    return prepare
