"""The published training loop: rows of embedded patches in, a trained head out (section 3.5, algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from calibrate.training.features import Batches
from calibrate.training.loss import NoiseKind, NoiseMaker, StepLoss, truncated_l1
from inspectd.simplenet.network import Head

PROJECTION_LR = 1e-4
"""AdamW on the projection, as published (its option `--dsc_lr` does not reach the projection)."""
BACKBONE_LR = 1e-3
"""AdamW on the backbone where it trains, as published."""
DISCRIMINATOR_DECAY = 1e-5
COS_LR_FLOOR = 0.4
"""What `cos_lr` leaves of `dsc_lr` at the end, as published."""
MIN_SPREAD = 1e-6  # a feature that never varies is not divided by nothing


@dataclass(frozen=True, slots=True)
class Schedule:
    """How a head is trained. The defaults are the published `run.sh`; units as there."""

    meta_epochs: int = 40
    gan_epochs: int = 4
    aed_meta_epochs: int | None = None
    """Meta epochs in which the projection learns with the discriminator; afterwards it stays as it is, and
    `cos_lr` begins. None: it learns throughout, and `cos_lr` begins after the first."""
    noise_std: float = 0.015
    auto_noise: float = 0.0
    """If above 0, the noise is this share of the features' own spread instead of `noise_std`."""
    mix_noise: int = 1
    noise: NoiseKind = "gaussian"
    """Its shape; see `loss.NoiseMaker`."""
    dsc_margin: float = 0.5
    dsc_lr: float = 2e-4
    cos_lr: bool = False
    """The discriminator's rate falls along a half cosine to `COS_LR_FLOOR` of it, a step for each gan epoch."""
    train_backbone: bool = False
    batch_size: int = 8
    """Pictures in a step, with all their patches."""
    standardise: bool = False
    """Divide features by the training set's own spread, so that `noise_std` is relative to it."""

    @property
    def epochs(self) -> tuple[int, int]:
        """Meta epochs, and epochs in each of them."""
        return (self.meta_epochs, self.gan_epochs)


def noise_for(schedule: Schedule, generator: torch.Generator) -> NoiseMaker:
    """Return the noise that a schedule asks for."""
    return NoiseMaker(schedule.noise_std, schedule.mix_noise, generator, schedule.auto_noise, schedule.noise)


class HeadTrainer:
    """Owns a head and its optimisers; one call of `step` is one optimiser step.

    `backbone` is given where it trains too.
    """

    def __init__(
        self,
        head: Head,
        schedule: Schedule,
        noise: Callable[[Tensor], Tensor],
        backbone: nn.Module | None = None,
    ) -> None:
        self.head = head.train()
        self.schedule = schedule
        self._noise = noise
        self._epochs = 0
        discriminator = torch.optim.Adam(
            head.discriminator.parameters(), schedule.dsc_lr, weight_decay=DISCRIMINATOR_DECAY
        )
        self._optimisers: list[torch.optim.Optimizer] = [discriminator]
        if head.pre_projection is not None:
            self._optimisers.append(torch.optim.AdamW(head.pre_projection.parameters(), PROJECTION_LR))
        if backbone is not None:
            self._optimisers.append(torch.optim.AdamW(backbone.parameters(), BACKBONE_LR))
        falling = (schedule.meta_epochs - self._adapting) * schedule.gan_epochs
        self._each_epoch = (
            torch.optim.lr_scheduler.CosineAnnealingLR(discriminator, falling, COS_LR_FLOOR * schedule.dsc_lr)
            if schedule.cos_lr
            else None
        )

    def step(self, rows: Tensor) -> StepLoss:
        """Learn from embedded rows [N, D]: once as they are and once with noise, in one pass."""
        good = self.head.adapt(rows)
        noisy = good + self._noise(good)
        scores = self.head.discriminator(torch.cat([good, noisy]))  # [2·N, 1]
        result = truncated_l1(scores[: len(good)], scores[len(good) :], self.schedule.dsc_margin)
        for optimiser in self._optimisers:
            optimiser.zero_grad()
        result.loss.backward()  # type: ignore[no-untyped-call]
        for optimiser in self._optimisers:
            optimiser.step()
        return result

    def end_epoch(self) -> None:
        """Say that a gan epoch is over: what changes from epoch to epoch changes now."""
        self._epochs += 1
        if self._each_epoch is not None and self._epochs > self._adapting * self.schedule.gan_epochs:
            self._each_epoch.step()
        is_adapted = self._epochs == (self.schedule.aed_meta_epochs or 0) * self.schedule.gan_epochs
        if is_adapted and self.head.pre_projection is not None:
            self.head.pre_projection.requires_grad_(False)  # no gradient, so its optimiser leaves it alone

    @property
    def learning_rate(self) -> float:
        """The discriminator's, now."""
        return float(self._optimisers[0].param_groups[0]["lr"])

    @property
    def _adapting(self) -> int:
        """Meta epochs before the rate of `cos_lr` falls: the published default where none is asked for."""
        return 1 if self.schedule.aed_meta_epochs is None else self.schedule.aed_meta_epochs


def standardise(head: Head, rows: Tensor) -> None:
    """Set the head's feature mean and spread from rows [N, D] of the training set."""
    head.feature_mean.copy_(rows.mean(0))
    head.feature_spread.copy_(rows.std(0).clamp(min=MIN_SPREAD))


def train(
    trainer: HeadTrainer,
    batches: Batches,
    on_step: Callable[[int, StepLoss], None],
    on_meta_epoch: Callable[[int], None] = lambda _: None,
) -> None:
    """Run all epochs of the trainer's schedule; `on_step` sees each step's number (from 1) and loss.

    `on_meta_epoch` is called with the number (from 1) of each that has ended; it finds the head in training
    mode and must leave it so. Afterwards the head is in evaluation mode, its parameters free again.
    """
    meta_epochs, gan_epochs = trainer.schedule.epochs
    number = 0
    for meta_epoch in range(1, meta_epochs + 1):
        for _ in range(gan_epochs):
            for rows in batches.epoch():
                number += 1
                on_step(number, trainer.step(rows))
            trainer.end_epoch()
        on_meta_epoch(meta_epoch)
    trainer.head.requires_grad_(True)
    trainer.head.eval()
