"""The SimpleNet training loop: rows of embedded patches in, a trained head out (section 3.5, algorithm 1).

Where the rows come from is not decided here: the published way passes whole batches of pictures, camera
calibration draws patches from a cache. Both take the same steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from calibrate.loss import StepLoss, truncated_l1
from inspectd.simplenet.network import Head

PROJECTION_LR = 1e-4
"""AdamW on the projection, as published (its option `--dsc_lr` does not reach the projection)."""
DISCRIMINATOR_DECAY = 1e-5
MIN_SPREAD = 1e-6  # a feature that never varies is not divided by nothing


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a head is trained. The defaults are the published `run.sh`; units as there."""

    meta_epochs: int = 40
    gan_epochs: int = 4
    noise_std: float = 0.015
    mix_noise: int = 1
    dsc_margin: float = 0.5
    dsc_lr: float = 2e-4
    standardise: bool = False
    """Divide features by the training set's own spread, so that `noise_std` is relative to it."""
    batch_size: int = 8
    """Pictures in a step, with all their patches."""
    patches_per_step: int | None = None
    """If given, a step takes so many patches drawn from all pictures instead, and there are `steps`."""
    steps: int | None = None
    cosine: bool = False
    """Both learning rates fall to nothing along a half cosine over the whole training."""


class HeadTrainer:
    """Owns a head and its two optimisers; one call of `step` is one optimiser step."""

    def __init__(self, head: Head, recipe: Recipe, noise: Callable[[Tensor], Tensor], steps: int) -> None:
        self.head = head.train()
        self.recipe = recipe
        self._noise = noise
        self._optimisers: list[torch.optim.Optimizer] = [
            torch.optim.Adam(head.discriminator.parameters(), recipe.dsc_lr, weight_decay=DISCRIMINATOR_DECAY)
        ]
        if head.pre_projection is not None:
            self._optimisers.append(torch.optim.AdamW(head.pre_projection.parameters(), PROJECTION_LR))
        self._schedules = [
            torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, steps))
            for optimiser in self._optimisers
            if recipe.cosine
        ]

    def step(self, rows: Tensor) -> StepLoss:
        """Learn from embedded rows [N, D]: once as they are and once with noise, in one pass."""
        good = self.head.adapt(rows)
        noisy = good + self._noise(good)
        scores = self.head.discriminator(torch.cat([good, noisy]))  # [2·N, 1]
        result = truncated_l1(scores[: len(good)], scores[len(good) :], self.recipe.dsc_margin)
        for optimiser in self._optimisers:
            optimiser.zero_grad()
        result.loss.backward()  # type: ignore[no-untyped-call]
        for optimiser in self._optimisers:
            optimiser.step()
        for schedule in self._schedules:
            schedule.step()
        return result

    def finish(self) -> Head:
        """Return the trained head in evaluation mode."""
        return self.head.eval()


def standardise(head: Head, rows: Tensor) -> None:
    """Set the head's feature mean and spread from rows [N, D] of the training set."""
    head.feature_mean.copy_(rows.mean(0))
    head.feature_spread.copy_(rows.std(0).clamp(min=MIN_SPREAD))


def train(trainer: HeadTrainer, batches: Iterable[Tensor], on_step: Callable[[int, StepLoss], None]) -> Head:
    """Run all `batches` of rows through `trainer`; `on_step` sees each step's number (from 1) and loss."""
    for number, rows in enumerate(batches, start=1):
        on_step(number, trainer.step(rows))
    return trainer.finish()
