"""What a program that runs networks must be able to do, and what it is given to run."""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from inspectd.engine.backend import Floats, Variant
from inspectd.engine.memory import Room
from inspectd.engine.strips import PROBED, Network, Strips, find_strips, known_of
from inspectd.simplenet import backbone as backbones
from inspectd.simplenet.bundle import Bundle
from inspectd.simplenet.folded import FoldedHead, Pooling, fold_head, fold_pooling
from inspectd.simplenet.network import HeadShape, grid_size


class CannotRunError(Exception):
    """A runtime cannot run this network; the sentence says why."""


SMALL = 1e9
"""A small network multiplies so few numbers that a core gets through them between two pictures of a camera
(EfficientNet-Lite0: 0.3e9, 7 ms on Zen 4 in bfloat16; a WideResNet-50: 12e9). Cores that share a picture wait for each
other after every layer: side by side, each with a picture of its own, they score more."""

Size = tuple[int, int]


class Trunk(nn.Module):
    """What models with one backbone share: normalised pictures [B, 3, H, W] to one pooled map per layer."""

    def __init__(self, backbone: nn.Module, shape: HeadShape, strips: Strips) -> None:
        """`strips`: what goes through at once."""
        super().__init__()
        self.strips = strips
        self.input_shape = strips.shape
        """Channels, height and width of one strip, or of the whole picture."""
        self.backbone = backbone
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            features: list[Tensor] = backbone(torch.zeros(1, *strips.shape))
        self.products = counter.get_total_flops() // 2 * max(1, len(strips.each))
        """How many numbers the backbone multiplies and adds for one picture."""
        self.channels = tuple(x.shape[1] for x in features)
        sizes = [cast("Size", tuple(x.shape[-2:])) for x in features]
        self.grids = tuple(grid_size(size, shape.patchsize, shape.patchstride) for size in sizes)
        """Rows and columns of the pooled maps, by layer; the first is the grid of the scores."""
        self.pooling: Pooling = fold_pooling(shape, self.channels)

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        """Channels, height and width of each map that a pass returns."""
        return [(len(w), *grid) for w, grid in zip(self.pooling.weights, self.grids, strict=True)]

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Return [B, n_l, h_l, w_l] per layer."""
        features: list[Tensor] = self.backbone(pictures)
        pooled: list[Tensor] = self.pooling(features)
        return pooled


def strips_for(model: Bundle, room: Room) -> Strips:
    """Return how a model's pictures go through its folded network where there is so much room."""

    def prepare() -> Network:
        trunk = Trunk(model.backbone, model.head_shape, Strips.whole((3, PROBED, PROBED)))
        head = fold_head(model.head, trunk.channels)
        return lambda pictures: head.scores(trunk(pictures))

    return find_strips(prepare, model.params.input_shape, room, known_of(model.backbone, ("folded", model.head_shape)))


def trunk_key(model: Bundle) -> Hashable:
    """Return what is equal for models that can share a trunk, if they go through it in the same strips."""
    shape = model.head_shape
    pooling = (shape.pretrain_embed_dimension, shape.target_embed_dimension, shape.patchsize, shape.patchstride)
    return backbone_key(model), model.params.input_shape, pooling


def backbone_key(model: Bundle) -> Hashable:
    """Return the digest of a model's backbone; of a foreign module, the module itself."""
    if model.calibration is not None:
        return model.calibration.backbone_digest
    return backbones.digest(model.backbone) if isinstance(model.backbone, backbones.Backbone) else model.backbone


def usable_cores(threads: int) -> int:
    """Return how many of this machine's cores an engine may use; `threads` 0: all that this process may."""
    return threads or len(os.sched_getaffinity(0))


def tracks_for(trunk: Trunk, cores: int) -> int:
    """Return how many pictures are best in the network at once: each on a core of its own, or one on all cores."""
    return cores if trunk.products <= SMALL else 1


class Head(Protocol):
    """A head that stands behind a trunk, ready to run."""


class Compiled(Protocol):
    """A trunk, ready to run, with the heads that stand behind it. Any thread may call it."""

    tracks: int
    """How many pictures are scored at once, if as many threads ask for it; others wait."""

    def add(self, head: FoldedHead) -> Head:
        """Put a head behind the trunk."""

    def score(self, inputs: Floats, heads: Sequence[Head]) -> Floats:
        """Return raw patch scores [B, h, w] of normalised inputs [B, 3, H, W], each by its head."""


class Runtime(Protocol):
    """A program that runs networks in one variant."""

    variant: Variant

    def room(self) -> Room:
        """Return what memory there is now."""

    def compile(self, trunk: Trunk) -> Compiled:
        """Make a trunk ready, and leave the trunk itself as it is; CannotRunError when that is impossible."""
