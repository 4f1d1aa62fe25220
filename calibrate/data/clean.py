"""Which pictures look unlike the rest: a defective part that slipped in among the good ones, a hand, an empty place.

A patch is familiar if several *other* pictures show something close to it. How far away it is from the
nearest patch of the k-th closest other picture is its oddness; a picture is as odd as its oddest patch. With
k pictures needed, a few equal defects do not vouch for each other. Pictures whose oddness lies far outside
that of most are unlike the rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

WITNESSES = 0.08
"""Share of the training pictures that must show something close to a patch for it to be familiar."""
PATCHES_PER_PICTURE = 32
"""Drawn from each training picture to be compared with."""
WIDTH = 64
"""Values per patch after a random projection, which keeps distances well enough (Johnson-Lindenstrauss)."""
EVERY = 2
"""Of a picture's patches every so many is looked at: neighbours overlap."""
FOR_SPREAD = 4096
"""Patches of a picture, about, that the spread of each value is taken from."""
OUTLYING = 4.5
"""How many robust spreads above the median oddness a picture must lie to be called unlike the rest."""
_CHUNK = 1024  # patches compared at a time: bounds the memory to some hundred megabytes


@dataclass(frozen=True, slots=True)
class Cleaning:
    """What was found among all pictures of a calibration."""

    oddness: tuple[float, ...]
    """Of each picture, in units of patch distance."""
    limit: float
    """More than this is unlike the rest."""
    unlike: frozenset[int]
    """Positions of training pictures that are left out."""
    unconfirmed: frozenset[int]
    """Positions of held-out pictures that count as rejected until a person confirms that they are good. Where every
    picture is both learned from and held out, these are the same."""


def find_unlike(features: Tensor, training: Sequence[int], held_out: Sequence[int], confirmed: set[int]) -> Cleaning:
    """Judge all pictures by their features float16 [N, P, D] against those at the positions `training`.

    The random draws are fixed: the same pictures always give the same answer.
    """
    oddness = _oddness(features, training)
    known = torch.tensor([math.log(max(oddness[i], 1e-12)) for i in training])
    median = float(known.median())
    spread = 1.4826 * float((known - median).abs().median())
    limit = math.exp(median + OUTLYING * max(spread, 1e-6))
    odd = {i for i, value in enumerate(oddness) if value > limit and i not in confirmed}
    return Cleaning(tuple(oddness), limit, frozenset(odd & set(training)), frozenset(odd & set(held_out)))


def _oddness(features: Tensor, training: Sequence[int]) -> list[float]:
    count, patches, width = features.shape
    draws = torch.Generator().manual_seed(0)
    project = torch.randn(width, WIDTH, generator=draws).div_(math.sqrt(WIDTH)).to(features.device)
    chosen = torch.randint(patches, (len(training), min(PATCHES_PER_PICTURE, patches)), generator=draws)
    few = features[list(training)[:8], :: max(1, patches // FOR_SPREAD)].flatten(0, 1)
    project = project / few.float().std(0).clamp(min=1e-6)[:, None]
    seen = torch.stack([features[i][chosen[n].to(features.device)].float() @ project for n, i in enumerate(training)])
    rows = seen.flatten(0, 1)  # [T·m, WIDTH]
    squares = rows.square().sum(1)
    witnesses = max(1, min(math.ceil(WITNESSES * len(training)), len(training) - 1))
    of_training = {i: n for n, i in enumerate(training)}
    result = []
    for i in range(count):
        worst = 0.0
        for part in torch.split(features[i, ::EVERY].float() @ project, _CHUNK):
            near = torch.addmm(squares, part, rows.T, alpha=-2)  # [p, T·m]; |part|² is the same for all of a row
            near = near.view(len(part), len(training), -1).amin(2)  # [p, T]: to each training picture
            near += part.square().sum(1)[:, None]
            if i in of_training:
                near[:, of_training[i]] = torch.inf  # a picture is no witness for itself
            worst = max(worst, float(near.kthvalue(witnesses, dim=1).values.max()))
        result.append(math.sqrt(max(0.0, worst)))
    return result
