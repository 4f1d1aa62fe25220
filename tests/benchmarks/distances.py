"""The distances that SimpleNet is held against: PatchCore and Mahalanobis, on the very features that it learns from.

Both are the plain textbook ones. PatchCore (Roth et al., CVPR 2022): a greedy coreset of the good patches, chosen in
128 randomly projected dimensions; a patch scores its distance to the nearest of them, and its neighbours' weights of
the published score are left out. Mahalanobis (Defard et al., PaDiM, 2020, with one Gaussian for all places): a
patch scores its distance from the mean in units of the good patches' own covariance.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from calibrate.training.memory import coreset

Distance = Callable[[Tensor], Tensor]
"""Patches [P, D] of a picture to their scores [P]."""
PROJECTED = 128
LEAST_VARIANCE = 1e-3
"""Of a standardised feature's: what lies along a direction in which nothing varies must not count for ever."""


def patchcore(good: Tensor, share: float) -> Distance:
    """Learn from good patches [N, D]; `share` of them are kept."""
    draws = torch.Generator().manual_seed(0)
    small = good @ torch.randn(good.shape[1], PROJECTED, generator=draws).to(good.device)
    memory = good[coreset(small, max(1, int(len(good) * share)))]
    return lambda patches: torch.cdist(patches, memory).amin(1)


def mahalanobis(good: Tensor) -> Distance:
    """Learn from good patches [N, D]."""
    mean, spread = good.mean(0), good.std(0).clamp(min=1e-6)
    standard = (good - mean) / spread
    values, vectors = torch.linalg.eigh((standard.T @ standard / len(standard)).double())
    whiten = (vectors / (values.clamp(min=0) + LEAST_VARIANCE).sqrt()).float()
    return lambda patches: (((patches - mean) / spread) @ whiten).norm(dim=1)
