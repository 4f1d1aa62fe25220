"""Augmentation: the published parameters with torchvision's meanings, every draw from one generator.

torchvision's transforms draw from the global generator; its functions do not, so they are called here with
parameters drawn by us, and a training can be repeated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from inspectd.errors import UsageError

FULL_SCALE = 255.0

_BELOW_ONE = math.nextafter(1.0, 0.0)
_FINITE = math.nextafter(math.inf, 0.0)
_LIMITS = {  # the highest possible value, and what to say otherwise
    "rotate_degrees": (180.0, "0 to 180"),
    "translate": (1.0, "0 to 1"),
    "scale": (_BELOW_ONE, "0 to less than 1"),
    "brightness": (_FINITE, "0 or more"),
    "contrast": (_FINITE, "0 or more"),
    "saturation": (_FINITE, "0 or more"),
    "gray": (1.0, "0 to 1, a probability"),
    "hflip": (1.0, "0 to 1, a probability"),
    "vflip": (1.0, "0 to 1, a probability"),
}


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How a picture is varied each time it is learned from; 0: not at all.

    Names are the published parameters. UsageError, in one sentence, for values that are impossible.
    """

    rotate_degrees: float = 0.0
    """Turned about its centre by up to so many degrees, either way; what comes into view is black."""
    translate: float = 0.0
    """Moved by up to this share of its width and of its height, either way, by whole pixels."""
    scale: float = 0.0
    """Enlarged by a factor from 1 − scale to 1 + scale."""
    brightness: float = 0.0
    """Multiplied by a factor from 1 − brightness (never below 0) to 1 + brightness; the same for the next two."""
    contrast: float = 0.0
    """Its difference from its own mean grey is multiplied."""
    saturation: float = 0.0
    """Its difference from its own grey version is multiplied."""
    gray: float = 0.0
    """Probability that it loses its colour."""
    hflip: float = 0.0
    """Probability that left and right are exchanged."""
    vflip: float = 0.0
    """Probability that top and bottom are exchanged."""

    def __post_init__(self) -> None:
        for name, (highest, expected) in _LIMITS.items():
            value = getattr(self, name)
            if not 0 <= value <= highest:  # NaN is within nothing
                raise UsageError(f"--{name} is {value:g}; expected {expected}.")

    @classmethod
    def mild(cls) -> Augmentation:
        """What a line's own jitter does: none of it makes another part out of a good part, as flips could."""
        return cls(rotate_degrees=5, translate=0.02, scale=0.02, brightness=0.1, contrast=0.1)

    @property
    def is_active(self) -> bool:
        """Whether pictures are changed at all."""
        return any(getattr(self, field.name) != 0 for field in fields(self))

    def __call__(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Return one picture [3, H, W], uint8 or float32 of 0 … 255, varied, in the same shape and type.

        All draws come from `generator` (on the CPU). The input is not written to; if nothing is asked for, it
        is returned as it is, and nothing is drawn.
        """
        pixels = self._jitter(pixels, generator)
        if _happens(self.hflip, generator):
            pixels = F.horizontal_flip(pixels)
        if _happens(self.vflip, generator):
            pixels = F.vertical_flip(pixels)
        if _happens(self.gray, generator):
            pixels = F.rgb_to_grayscale(pixels, num_output_channels=3)
        return self._move(pixels, generator)

    def _jitter(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        asked: list[tuple[Callable[[Tensor, float], Tensor], float]] = [
            (change, most)
            for change, most in (
                (F.adjust_brightness, self.brightness),
                (F.adjust_contrast, self.contrast),
                (F.adjust_saturation, self.saturation),
            )
            if most > 0
        ]
        if not asked:
            return pixels
        unit = FULL_SCALE if pixels.is_floating_point() else 1.0  # torchvision's floats are 0 … 1, and clamped
        pixels = pixels / unit if unit != 1 else pixels
        for i in torch.randperm(len(asked), generator=generator).tolist():
            change, most = asked[i]
            pixels = change(pixels, _uniform(max(0.0, 1 - most), 1 + most, generator))
        return pixels * unit if unit != 1 else pixels

    def _move(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        if not (self.rotate_degrees or self.translate or self.scale):
            return pixels
        height, width = pixels.shape[-2:]
        moved: Tensor = F.affine(
            pixels,
            angle=_uniform(-self.rotate_degrees, self.rotate_degrees, generator),
            translate=[round(_uniform(-1, 1, generator) * self.translate * side) for side in (width, height)],
            scale=_uniform(1 - self.scale, 1 + self.scale, generator),
            shear=[0.0, 0.0],
            interpolation=InterpolationMode.BILINEAR,
        )
        return moved


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _happens(probability: float, generator: torch.Generator) -> bool:
    return probability > 0 and _uniform(0, 1, generator) < probability
