"""The memory bank: a coreset of good patches, chosen as PatchCore does (Roth et al., CVPR 2022, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor


def coreset(rows: Tensor, count: int) -> Tensor:
    """Return the positions of `count` of the rows [N, k]: each is the one that is farthest from those before it."""
    squares = rows.square().sum(1)
    chosen = [torch.zeros(1, dtype=torch.long, device=rows.device)]  # there, so that a GPU is never waited for
    nearest = torch.full_like(squares, torch.inf)
    for _ in range(1, min(count, len(rows))):
        last = chosen[-1]
        product = rows @ rows.index_select(0, last)[0]
        nearest = torch.minimum(nearest, squares - 2 * product + squares.index_select(0, last))
        chosen.append(nearest.argmax(keepdim=True))
    return torch.cat(chosen)
