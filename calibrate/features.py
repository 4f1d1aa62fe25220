"""Embedded patches of a frozen backbone: computed once per picture and kept in half precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from inspectd.simplenet.network import HeadShape, embed
from inspectd.simplenet.preprocess import Normalise


def cache_features(
    inputs: Sequence[Tensor],
    backbone: nn.Module,
    shape: HeadShape,
    normalise: Normalise,
    device: torch.device,
    on_picture: Callable[[], None],
) -> Tensor:
    """Return float16 [N, P, D] for resized pictures [3, H, W], 0 … 255: P patches of D values each."""
    features: Tensor | None = None
    for i, pixels in enumerate(inputs):
        with torch.inference_mode():
            rows, _ = embed(backbone(normalise(pixels[None].to(device))), shape)  # [P, D]
        if features is None:
            features = torch.empty(len(inputs), *rows.shape, dtype=torch.float16)
        features[i] = rows.half()
        on_picture()
    if features is None:
        raise ValueError("no pictures to compute features of")
    return features


def picture_batches(features: Tensor, batch_size: int, epochs: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield float32 rows [b·P, D] of batches of pictures, shuffled anew in each epoch: the published way."""
    for _ in range(epochs):
        order = torch.randperm(len(features), generator=generator)
        for start in range(0, len(order), batch_size):
            yield features[order[start : start + batch_size]].flatten(0, 1).float()


def patch_batches(features: Tensor, patches: int, steps: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield `steps` times float32 rows [patches, D], drawn from all patches of all pictures."""
    rows = features.flatten(0, 1)  # [N·P, D]
    for _ in range(steps):
        yield rows[torch.randint(len(rows), (patches,), generator=generator)].float()
