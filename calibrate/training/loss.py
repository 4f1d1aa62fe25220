"""What the discriminator learns from: good patches, and the same patches with noise (sections 3.3, 3.5)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

NoiseKind = Literal["gaussian", "differences"]


@dataclass(frozen=True, slots=True)
class NoiseMaker:
    """Noise of `std`, drawn on the device of the rows.

    `gaussian`, as published: independent in every feature. `differences`: between two good patches drawn at
    random, so it varies as good patches vary, feature with feature, and what is told from it lies close to them.

    `mix` > 1 draws for each row one of `mix` strengths std · 1.1^k, k uniform in 0 … mix − 1
    (published: `noise_std`, `mix_noise`). `auto` > 0 replaces `std` by `auto` times the rows' own spread,
    the mean over their features (published by name only: `auto_noise`).
    """

    std: float
    mix: int
    generator: torch.Generator
    auto: float = 0.0
    kind: NoiseKind = "gaussian"

    def __call__(self, rows: Tensor) -> Tensor:
        """Return noise of the shape and device of `rows` [N, D]."""
        noise = self._unscaled(rows.detach())
        noise *= self.auto * rows.detach().std(0).mean() if self.auto > 0 else self.std
        if self.mix > 1:
            strength = torch.randint(self.mix, (len(rows), 1), generator=self.generator, device=rows.device)
            noise *= 1.1**strength
        return noise

    def _unscaled(self, rows: Tensor) -> Tensor:
        if self.kind == "gaussian":
            return torch.empty_like(rows).normal_(generator=self.generator)
        one, other = (torch.randperm(len(rows), generator=self.generator, device=rows.device) for _ in range(2))
        return (rows[one] - rows[other]) / math.sqrt(2)  # the variance of the rows themselves


@dataclass(frozen=True, slots=True)
class StepLoss:
    """One step's loss and how much of it is already right; tensors without dimensions."""

    loss: Tensor
    p_true: Tensor
    """Share of good patches that score at least the margin."""
    p_fake: Tensor
    """Share of noisy patches that score less than minus the margin."""


def truncated_l1(good: Tensor, noisy: Tensor, margin: float) -> StepLoss:
    """Eq. 5: both sides are pushed past ±`margin` and no further. Takes discriminator outputs [N, 1]."""
    loss = (margin - good).clamp(min=0).mean() + (margin + noisy).clamp(min=0).mean()
    p_true = (good.detach() >= margin).float().mean()
    p_fake = (noisy.detach() < -margin).float().mean()
    return StepLoss(loss, p_true, p_fake)
