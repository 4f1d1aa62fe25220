"""The discriminators of an ensemble, trained side by side, and what they become together: one that is as wide as all.

Each member sees the pictures of half of the folds. The mean of all judges; a picture's held-out score is the mean
of those members that never saw it. One batch of rows serves all of them, each taking what it may see.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from calibrate.training.loss import StepLoss
from calibrate.training.material import Material
from calibrate.training.recipe import FOLDS, MEMBERS, Recipe
from calibrate.training.train import DISCRIMINATOR_DECAY, MIN_SPREAD
from inspectd.engine import devices
from inspectd.simplenet.network import Discriminator

ROWS_FOR_STATISTICS = 120_000


@dataclass(frozen=True, slots=True)
class Whitening:
    """What makes the good patches' features uncorrelated, each with a spread of about one."""

    mean: Tensor
    spread: Tensor
    """Of the features [D]: what a head standardises by."""
    variances: Tensor
    """Of standardised rows along each of `directions`, rising, and a little more: what is divided by [D]."""
    directions: Tensor
    """The principal ones, as columns [D, D]."""

    def __call__(self, rows: Tensor) -> Tensor:
        """Whiten rows [N, D]."""
        return self.standardise(rows) @ self.matrix

    @property
    def matrix(self) -> Tensor:
        """Standardised rows to whitened ones [D, D]."""
        return self.directions / self.variances.sqrt()

    def standardise(self, rows: Tensor) -> Tensor:
        """Bring each feature of rows [N, D] to mean 0 and spread 1."""
        return (rows - self.mean) / self.spread

    def principal(self, count: int, share: float) -> Tensor:
        """Return what maps standardised rows to their `count` principal components, whitened in part [count, D].

        `share` 0: distances among good patches are kept; 1: every direction counts alike.
        """
        return (self.directions[:, -count:] * self.variances[-count:] ** (-share / 2)).T

    def cpu(self) -> Whitening:
        """Return the same on the CPU."""
        return Whitening(self.mean.cpu(), self.spread.cpu(), self.variances.cpu(), self.directions.cpu())


def find_whitening(material: Material, recipe: Recipe, draws: torch.Generator) -> Whitening:
    """Learn it from good and varied patches of all folds."""
    rows = material.sample(ROWS_FOR_STATISTICS, draws, range(FOLDS))
    mean, spread = rows.mean(0), rows.std(0).clamp(min=MIN_SPREAD)
    rows = (rows - mean) / spread
    values, vectors = torch.linalg.eigh(rows.T @ rows / len(rows))
    return Whitening(mean, spread, values.clamp(min=0) + recipe.least_variance, vectors)


def train_members(
    material: Material,
    whiten: Whitening,
    recipe: Recipe,
    seed: int,
    on_step: Callable[[int, StepLoss], None],
) -> list[Discriminator]:
    """Train a discriminator of whitened patches for each of `MEMBERS`.

    `on_step` sees each step's number (from 1), and the mean of the members' losses and shares; the margin is 0.
    """
    device, width = whiten.mean.device, len(whiten.mean)
    torch.manual_seed(seed)
    draws = torch.Generator().manual_seed(seed)
    members = [Discriminator(width, 2, recipe.hidden).to(device) for _ in MEMBERS]
    optimiser = torch.optim.Adam(
        [weight for member in members for weight in member.parameters()],
        recipe.dsc_lr,
        weight_decay=DISCRIMINATOR_DECAY,
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, recipe.steps)
    narrow = torch.autocast(device.type, torch.bfloat16) if _has_bfloat16(device) else nullcontext()
    for number in range(1, recipe.steps + 1):
        with narrow:
            step = _Step.drawn(material, whiten, recipe, draws)
            losses = [step.loss(member, unseen) for member, unseen in zip(members, MEMBERS, strict=True)]
        mean = StepLoss(*(torch.stack(values).mean() for values in zip(*losses, strict=True)))
        optimiser.zero_grad()
        mean.loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        on_step(number, mean)
    return [member.eval() for member in members]


def _has_bfloat16(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 are faster than in float32 there; weights stay float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return devices.has_bfloat16()


@dataclass(frozen=True, slots=True)
class _Step:
    """The rows of one step: whitened good patches, and negatives."""

    rows: Tensor
    folds: Tensor
    is_good: Tensor

    @classmethod
    def drawn(cls, material: Material, whiten: Whitening, recipe: Recipe, draws: torch.Generator) -> _Step:
        count = recipe.patches_per_step
        varied = int(count * recipe.varied)
        painted = int(count * recipe.painted) if len(material.painted) else 0
        parts = [material.draw_good(count - varied, draws), material.draw_varied(varied, draws)]
        if painted:
            parts.append(material.draw_painted(painted, draws))
        rows, folds = whiten(torch.cat([part[0] for part in parts])), torch.cat([part[1] for part in parts])
        chosen = torch.randperm(count, generator=draws)[: count - painted]
        noisy = rows[chosen.to(rows.device)]
        noisy = noisy + _noise(noisy, recipe, draws)
        is_good = torch.cat([torch.arange(len(rows)) < count, torch.zeros(len(chosen), dtype=torch.bool)])
        return cls(torch.cat([rows, noisy]), torch.cat([folds, folds[chosen]]), is_good)

    def loss(self, member: Discriminator, unseen: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the logistic loss, and the shares of good patches and of others on the right side of zero."""
        may_see = ~torch.isin(self.folds, torch.tensor(unseen))
        device = self.rows.device
        outputs = member(self.rows[may_see.to(device)]).float()[:, 0]
        is_good = self.is_good[may_see].to(device)
        right, wrong = outputs[is_good], outputs[~is_good]
        loss = F.softplus(-right).mean() + F.softplus(wrong).mean()
        return loss, (right.detach() > 0).float().mean(), (wrong.detach() < 0).float().mean()


def _noise(rows: Tensor, recipe: Recipe, draws: torch.Generator) -> Tensor:
    """Return Gaussian noise whose strength differs from row to row."""
    strongest, weakest = math.log(recipe.noise_std), math.log(recipe.noise_std * recipe.weakest)
    strength = (weakest + (strongest - weakest) * torch.rand(len(rows), 1, generator=draws)).exp()
    return (torch.randn(rows.shape, generator=draws) * strength).to(rows)


def together(members: Sequence[Discriminator], whiten: Whitening, unit: float = 1.0) -> Discriminator:
    """Return one discriminator of standardised rows, in evaluation mode: the mean of the members, in `unit`s."""
    blocks = [member.body[0] for member in members]
    linears = [block[0] for block in blocks]  # type: ignore[index]
    norms = [block[1] for block in blocks]  # type: ignore[index]
    tails = torch.cat([member.tail.weight for member in members], dim=1)
    made = Discriminator(len(whiten.mean), 2, tails.shape[1]).to(tails.device)
    target = made.body[0]
    with torch.no_grad():
        target[0].weight.copy_(torch.cat([linear.weight for linear in linears]) @ whiten.matrix.T)  # type: ignore[index]
        target[0].bias.copy_(torch.cat([linear.bias for linear in linears]))  # type: ignore[index]
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(target[1], name).copy_(torch.cat([getattr(norm, name) for norm in norms]))  # type: ignore[index]
        made.tail.weight.copy_(tails / (len(members) * unit))
    return made.eval()
