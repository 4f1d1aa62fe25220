"""A head that was cross-fitted: every good picture is learned from, and has a score of a head that never saw it.

The judge is the mean of an ensemble's discriminators plus `memory_weight` times the distance to the nearest patch of a
memory bank, each in the unit in which the held-out pictures' own scores vary. For each fold there is a head of the
same kind whose members and memory bank know nothing of it. From all pictures come the standardisation, the principal
directions, and the two units.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from calibrate.training.ensemble import Whitening, find_whitening, together, train_members
from calibrate.training.loss import StepLoss
from calibrate.training.material import Material
from calibrate.training.memory import coreset
from calibrate.training.recipe import FOLDS, MEMBERS, Recipe, unseeing
from inspectd.simplenet.network import Discriminator, Head, HeadShape, MemoryBank, average_scores

SMALLEST_UNIT = 1e-6
MOST_ROWS = 16_384
"""Patches that are compared with a memory bank at once."""


@dataclass(frozen=True, slots=True)
class CrossFitted:
    """The head that judges, and for each fold the one that judged its pictures; on the CPU, in evaluation mode."""

    head: Head
    without: tuple[Head, ...]
    """By fold."""


def shape_for(shape: HeadShape, recipe: Recipe, remembered: int) -> HeadShape:
    """Return the shape of a cross-fitted head that remembers so many patches."""
    return dataclasses.replace(
        shape,
        pre_proj=0,
        embedding_size=None,
        dsc_layers=2,
        dsc_hidden=recipe.hidden * len(MEMBERS),
        memory_patches=remembered,
        memory_width=min(recipe.memory_width, shape.target_embed_dimension),
        score_window=recipe.score_window,
    )


def cross_fit(
    material: Material,
    shape: HeadShape,
    recipe: Recipe,
    seed: int,
    on_step: Callable[[int, StepLoss], None],
) -> CrossFitted:
    """Train the members, choose the memory banks, and bring both to their units."""
    whiten = find_whitening(material, recipe, torch.Generator().manual_seed(seed))
    members = train_members(material, whiten, recipe, seed, on_step)
    banks = _banks(material, whiten, recipe)
    kind = shape_for(shape, recipe, len(banks[-1].patches))
    with torch.no_grad():
        of_members, of_banks = _held_out(material, whiten, members, banks, kind.score_window)
    unit, bank_unit = (max(SMALLEST_UNIT, float(scores.std())) for scores in (of_members, of_banks))
    bank_unit /= recipe.memory_weight

    def head(chosen: Sequence[Discriminator], bank: MemoryBank) -> Head:
        made = Head(kind)
        made.discriminator.load_state_dict(
            together([member.cpu() for member in chosen], whiten.cpu(), unit).state_dict()
        )
        made.feature_mean.copy_(whiten.mean)
        made.feature_spread.copy_(whiten.spread)
        assert made.memory is not None
        made.memory.matrix.copy_(bank.matrix / bank_unit)
        made.memory.patches.copy_(bank.patches / bank_unit)
        return made.eval()

    without = tuple(
        head([members[number] for number in unseeing(fold)] * 2, banks[fold])  # twice: as wide as the judge
        for fold in range(FOLDS)
    )
    return CrossFitted(head(members, banks[-1]), without)


def _banks(material: Material, whiten: Whitening, recipe: Recipe) -> list[MemoryBank]:
    """Choose memory banks of the same size from good and varied patches: for each fold of all others, and of all."""
    device, width = whiten.mean.device, len(whiten.mean)
    matrix = whiten.principal(recipe.memory_width, recipe.memory_whitening)
    seen = [[other for other in range(FOLDS) if other != fold] for fold in range(FOLDS)] + [list(range(FOLDS))]
    rows = [material.sample(recipe.memory_from, torch.Generator().manual_seed(0), folds) for folds in seen]
    count = min(recipe.memory_patches, *(len(some) for some in rows))
    banks = []
    for some in rows:
        few = whiten.standardise(some.to(device)) @ matrix.T
        bank = MemoryBank(width, len(matrix), count).to(device)
        bank.matrix.copy_(matrix)
        bank.patches.copy_(few[coreset(few, count)])
        banks.append(bank)
    return banks


def _held_out(
    material: Material,
    whiten: Whitening,
    members: Sequence[Discriminator],
    banks: Sequence[MemoryBank],
    window: int,
) -> tuple[Tensor, Tensor]:
    """Return the scores [n] of the usable pictures by what never saw them: of the members, and of the banks."""
    judges = [together([members[number] for number in unseeing(fold)], whiten) for fold in range(FOLDS)]
    found = []
    for i in material.usable.tolist():
        judge, bank = judges[int(material.folds[i])], banks[int(material.folds[i])]
        rows = whiten.standardise(material.good[i].to(whiten.mean.device).float())
        parts = [torch.cat([-judge(some), bank(some)], 1) for some in torch.split(rows, MOST_ROWS)]
        averaged = average_scores(torch.cat(parts).T.reshape(2, *material.grid), window)  # [2, h, w]
        found.append(averaged.flatten(1).amax(1).cpu())
    of_members, of_banks = torch.stack(found).unbind(1)
    return of_members, of_banks
