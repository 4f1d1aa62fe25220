"""The memory bank: a coreset of good patches, chosen as PatchCore does (Roth et al., CVPR 2022, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor


def coreset(rows: Tensor, count: int) -> Tensor:
    """Return the positions of `count` of the rows [N, k]: each is the one that is farthest from those before it."""
    squares = rows.square().sum(1)
    columns = rows.T.contiguous()  # a product with one row reads them in half the time
    chosen = [torch.zeros(1, dtype=torch.long, device=rows.device)]  # there, so that a GPU is never waited for
    nearest, distance = torch.full_like(squares, torch.inf), torch.empty_like(squares)
    for _ in range(1, min(count, len(rows))):
        last = chosen[-1]
        torch.mv(columns.T, rows.index_select(0, last)[0], out=distance)
        distance.mul_(-2).add_(squares).add_(squares.index_select(0, last))
        torch.minimum(nearest, distance, out=nearest)
        chosen.append(nearest.argmax(keepdim=True))
    return torch.cat(chosen)
