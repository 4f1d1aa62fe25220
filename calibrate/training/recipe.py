"""The recipe of `calibrate --camera`: constants, and which pictures are held out of what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import combinations

from calibrate.data.painting import Variation

FOLDS = 4
BLOCKS = 2
"""Stretches of time in each fold."""
MEMBERS = tuple(combinations(range(FOLDS), FOLDS // 2))
"""For each member of the ensemble, the folds that it never sees: every fold is unseen by half of the members."""


USUAL = Variation()


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is trained that must carry over to parts nobody looked at (calibrate/README.md says why so)."""

    steps: int = 400
    noise_std: float = 1.0
    """The strongest noise, in units of the whitened good patches' own spread."""
    weakest: float = 0.15
    """The weakest, as a share of that; between them strengths are drawn evenly on a logarithmic scale."""
    patches_per_step: int = 512
    varied: float = 0.5
    """Share of them from pictures that were varied as a line varies them, by at most:"""
    vary_light: float = USUAL.light
    vary_contrast: float = USUAL.contrast
    vary_shift: float = USUAL.shift
    vary_turn: float = USUAL.turn
    vary_zoom: float = USUAL.zoom
    vary_focus: float = USUAL.focus
    vary_noise: float = USUAL.noise
    vary_quality: int = USUAL.quality
    painted: float = 0.5
    """Share of the negatives that show painted defects; the others are good patches with noise."""
    made: int = 300
    """At most so many varied pictures, and so many painted ones."""
    made_of_each: int = 2
    """At most so many of either kind from one picture."""
    probes: int = 100
    """Good parts with one painted defect each, by which the threshold's room is seen."""
    hidden: int = 48
    """Width of each member's hidden layer."""
    dsc_lr: float = 1e-3
    least_variance: float = 0.05
    """Added to the good patches' variance in each direction before they are whitened."""
    memory_patches: int = 1000
    memory_width: int = 128
    """Principal components in which they are compared."""
    memory_whitening: float = 0.25
    """How far these are whitened: at 0 the largest variances decide what is near, at 1 all directions count alike."""
    memory_weight: float = 2.0
    """How much the distance counts beside the ensemble, each in the unit of good parts' own scores."""
    memory_from: int = 40_000
    """So many good patches are drawn, and the memory bank is chosen from them."""
    score_window: int = 3

    @property
    def variation(self) -> Variation:
        """By how much pictures are varied."""
        return Variation(**{of.name: getattr(self, f"vary_{of.name}") for of in fields(Variation)})


def folds_of(count: int) -> list[int]:
    """Return the fold of each of `count` pictures, in order of time.

    Neighbouring frames are near-copies, so folds are made of blocks. Two in each: what drifts is in every fold.
    """
    blocks = FOLDS * BLOCKS
    edges = [round(count * i / blocks) for i in range(blocks + 1)]
    return [i % FOLDS for i in range(blocks) for _ in range(edges[i], edges[i + 1])]


def unseeing(fold: int, members: Sequence[tuple[int, ...]] = MEMBERS) -> list[int]:
    """Return the numbers of the members that never see a fold."""
    return [number for number, unseen in enumerate(members) if fold in unseen]
