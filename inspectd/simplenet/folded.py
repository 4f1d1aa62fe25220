"""SimpleNet for inference: everything that is linear behind the backbone, folded into one thin map per layer.

Between the backbone and the first LeakyReLU the textbook form (`network.py`) does nothing that is not linear
and fixed: neighbourhoods, two average poolings, standardisation, projection, the discriminator's first layer
and its batch norm in evaluation mode. All of it works on each patch alone, so it commutes with the bilinear
upsampling of the coarser layers, whose weights sum to one. Therefore

    z = Σ_l upsample(mix_l · pool_l(features_l)) + bias        one value per hidden unit and patch
    score = stages(LeakyReLU(z))                               1×1 maps with a LeakyReLU before each

Where there is a memory bank, its few dimensions are more values of z, and one product finds the nearest patch:

    score += √(|z'|² + 2·min_j(|p_j|²/2 − z'·p_j))

where `pool_l` holds the two average poolings of layer l's neighbourhoods: the rows of the embedding that this
layer reaches, as one small grouped convolution at the layer's own resolution. It does not depend on what was
trained: heads of one shape share it, and the backbone before it. `mix_l` is all that was trained up to the
first LeakyReLU, in one matrix.

Only torch; no files, no device choice. Folding is done in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inspectd.simplenet.network import Head, HeadShape, average_scores

SLOPE = 0.2
MIN_GROUP_CHANNELS = 4
"""Convolutions with very narrow groups are slow; blocks are joined up to this width. On a CPU 4 beats 2 and 8."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How the pooling of one shape of head on layers with so many channels is laid out."""

    rows: tuple[tuple[int, ...], ...]
    """Per layer: which rows of the embedding it reaches."""
    poolings: tuple[Tensor, ...]
    """Per layer: weights of the grouped convolution, float64 [n, C / groups, p, p]."""
    shares: tuple[Tensor | None, ...]
    """Per layer: what turns the convolution's outputs into those rows, float64 [rows, n]; None: they are them."""


class Pooling(nn.Module):
    """Layers' features [B, C_l, H_l, W_l] to pooled maps [B, n_l, h_l, w_l], each at its layer's resolution."""

    def __init__(self, plan: Plan, shape: HeadShape) -> None:
        super().__init__()
        self._padding = (shape.patchsize - 1) // 2
        self._stride = shape.patchstride
        self.weights = nn.ParameterList(nn.Parameter(w.float(), requires_grad=False) for w in plan.poolings)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return one map per layer."""
        return [
            F.conv2d(x, w, stride=self._stride, padding=self._padding, groups=x.shape[1] // w.shape[1])
            for x, w in zip(features, self.weights, strict=True)
        ]


class Embedding(nn.Module):
    """Pooled maps to the rows of `network.embed`: one map [B, target_embed_dimension, h, w] on the first one's grid."""

    def __init__(self, plan: Plan, shape: HeadShape) -> None:
        super().__init__()
        self._margins = [(rows[0], shape.target_embed_dimension - 1 - rows[-1]) for rows in plan.rows]  # without gaps
        self._shares = [None if share is None else share.float() for share in plan.shares]

    def forward(self, pooled: Sequence[Tensor]) -> Tensor:
        """Take what `Pooling` returns."""
        size = pooled[0].shape[-2:]
        total = None
        for x, share, (before, behind) in zip(pooled, self._shares, self._margins, strict=True):
            y = x if share is None else convolved(x, share.to(x), None)
            if y.shape[-2:] != size:
                y = F.interpolate(y, size=size, mode="bilinear", align_corners=False)
            y = F.pad(y, (0, 0, 0, 0, before, behind))
            total = y if total is None else total + y
        return cast("Tensor", total)


Linear = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""Applies a matrix and a bias to each patch of a map [B, n, h, w], and returns [B, o, h, w]."""


def convolved(x: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    """Apply a matrix [o, n] and a bias [o] as a 1×1 convolution."""
    return F.conv2d(x, matrix[:, :, None, None], bias)


@dataclass(frozen=True, slots=True, eq=False)
class FoldedHead:
    """What was trained, as a few matrices; a runtime may hold them in another type, or stacks of many heads'."""

    mixes: tuple[Tensor, ...]
    """Per layer, [o, n_l]."""
    bias: Tensor
    """[o]."""
    matrices: tuple[Tensor, ...]
    """One for each LeakyReLU, [o', o]."""
    biases: tuple[Tensor, ...]
    """[o'] each. What comes out last is added up to the score: trained heads have one row there."""
    memory: tuple[Tensor, ...] = ()
    """Minus the patches of the memory bank [m, k], and half their squared lengths [m]; or nothing. Its dimensions are
    the last k of `o`."""
    window: int = 1
    """Scores are averaged over so many patches down and across."""

    @property
    def tensors(self) -> list[Tensor]:
        """All of it in one list."""
        return [*self.mixes, self.bias, *self.matrices, *self.biases, *self.memory]

    @property
    def sizes(self) -> list[tuple[int, ...]]:
        """The shapes in that list."""
        return [tuple(tensor.shape) for tensor in self.tensors]

    @property
    def kind(self) -> Hashable:
        """What is equal for heads that can take each other's place."""
        return (*self.sizes, self.window)

    def like(self, tensors: Sequence[Tensor]) -> FoldedHead:
        """Return a head of this kind that consists of other `tensors`, in the order of that list."""
        each = iter(tensors)
        mixes, (bias,), matrices, biases, memory = (
            tuple(islice(each, len(part)))
            for part in (self.mixes, (self.bias,), self.matrices, self.biases, self.memory)
        )
        return FoldedHead(mixes, bias, matrices, biases, memory, self.window)

    def to(self, dtype: torch.dtype) -> FoldedHead:
        """Return the head in another type, but for the memory bank: squared lengths need float32's range and bits."""
        kept = {id(tensor) for tensor in self.memory}
        return self.like([tensor if id(tensor) in kept else tensor.to(dtype) for tensor in self.tensors])

    def scores(self, pooled: Sequence[Tensor], linear: Linear = convolved) -> Tensor:
        """Return raw patch scores float32 [B, h, w] of pooled maps [B, n_l, h_l, w_l], on the first layer's grid."""
        last = len(pooled) - 1  # the coarsest: upsampling leaves a bias as it is, and there it costs least
        z, *others = [
            linear(x, mix, self.bias if i == last else None)  # [B, o, h_l, w_l]
            for i, (x, mix) in enumerate(zip(pooled, self.mixes, strict=True))
        ]
        for coarse in others:
            if coarse.shape[-2:] != z.shape[-2:]:
                coarse = F.interpolate(coarse, size=z.shape[-2:], mode="bilinear", align_corners=False)  # noqa: PLW2901
            z = z + coarse  # [B, o, h, w]
        near = None
        if self.memory:
            width = self.memory[0].shape[-1]
            z, near = z[:, :-width], z[:, -width:]
        for i, (matrix, bias) in enumerate(zip(self.matrices, self.biases, strict=True), 1):
            z = F.leaky_relu(z, SLOPE)
            if i == len(self.matrices):  # one number per patch: it costs next to nothing to keep all its bits
                z, matrix, bias = z.float(), matrix.float(), bias.float()  # noqa: PLW2901
            z = linear(z, matrix, bias)  # [B, o', h, w]
        scores = z.float().sum(1)  # [B, h, w]
        if near is not None:
            scores = scores + self._distances(near.float(), linear)
        return average_scores(scores, self.window)

    def _distances(self, near: Tensor, linear: Linear) -> Tensor:
        """Return the distance [B, h, w] of each patch [B, k, h, w] to the nearest one in the memory bank."""
        patches, halves = (tensor.float() for tensor in self.memory)
        smallest = linear(near, patches, halves).amin(1)
        return (near.square().sum(1) + 2 * smallest).clamp(min=0).sqrt()


def fold_pooling(shape: HeadShape, channels: Sequence[int]) -> Pooling:
    """Return what heads of one shape share behind layers with so many `channels`."""
    return Pooling(_plan_of(shape, channels), shape).eval()


def fold_embedding(shape: HeadShape, channels: Sequence[int]) -> Embedding:
    """Return what turns that into the embedding, for who wants to learn from it."""
    return Embedding(_plan_of(shape, channels), shape)


def fold_head(head: Head, channels: Sequence[int]) -> FoldedHead:
    """Return what a trained head adds to that; it is read in evaluation mode, and not changed."""
    plan = _plan_of(head.shape, channels)
    stages = list(_affine_stages(head))
    (matrix, bias), rest = stages[0], stages[1:]
    memory: tuple[Tensor, ...] = ()
    if head.memory is not None:
        few = head.memory.matrix.double() / head.feature_spread.double()
        matrix, bias = torch.cat([matrix, few]), torch.cat([bias, -few @ head.feature_mean.double()])
        patches = head.memory.patches.double()
        memory = _single((-patches, patches.square().sum(1) / 2))
    mixes = []
    for rows, share in zip(plan.rows, plan.shares, strict=True):
        mix = matrix[:, list(rows)]
        mixes.append(mix if share is None else mix @ share)
    matrices, biases = _single(m for m, _ in rest), _single(b for _, b in rest)
    return FoldedHead(_single(mixes), bias.float(), matrices, biases, memory, head.shape.score_window)


def _plan_of(shape: HeadShape, channels: Sequence[int]) -> Plan:
    return _plan(tuple(channels), shape.patchsize, shape.pretrain_embed_dimension, shape.target_embed_dimension)


@lru_cache(maxsize=8)
def _plan(channels: tuple[int, ...], p: int, width: int, target: int) -> Plan:
    """Lay out both average poolings of the embedding (network.embed) as one convolution per layer."""
    outer = averaging(width * len(channels), target)  # [target, width·layers]
    all_rows, poolings, shares = [], [], []
    for i, count in enumerate(channels):
        block = outer[:, i * width : (i + 1) * width]
        rows = block.abs().sum(1).nonzero()[:, 0]
        matrix = torch.sparse.mm(block[rows].to_sparse(), averaging(count * p * p, width))  # [rows, C·p·p]
        all_rows.append(tuple(rows.tolist()))
        if len(rows) > count * p * p:  # more averages than values: take the values, and average while mixing
            poolings.append(torch.eye(p * p, dtype=torch.float64).view(-1, 1, p, p).repeat(count, 1, 1, 1))
            shares.append(matrix)
            continue
        groups = _groups(matrix, count, p * p)
        blocks = matrix.view(groups, len(rows) // groups, groups, count // groups, p, p)
        each = torch.arange(groups)
        poolings.append(blocks[each, :, each].flatten(0, 1))  # [rows, C / groups, p, p]
        shares.append(None)
    return Plan(tuple(all_rows), tuple(poolings), tuple(shares))


def averaging(size: int, bins: int) -> Tensor:
    """Return what adaptive average pooling of `size` values to `bins` does, as a float64 matrix [bins, size]."""
    matrix = torch.zeros(bins, size, dtype=torch.float64)
    for i in range(bins):
        begin, end = i * size // bins, -(-(i + 1) * size // bins)
        matrix[i, begin:end] = 1 / (end - begin)
    return matrix


def _groups(matrix: Tensor, channels: int, positions: int) -> int:
    """Return the most groups of channels and rows, alike in size, that [rows, C·p·p] couples only within."""
    rows = len(matrix)
    for groups in range(math.gcd(rows, channels), 1, -1):
        if rows % groups or channels % groups or min(rows, channels) < groups * MIN_GROUP_CHANNELS:
            continue
        blocks = matrix.view(groups, rows // groups, groups, channels // groups * positions)
        each = torch.arange(groups)
        if blocks[each, :, each].count_nonzero() == matrix.count_nonzero():
            return groups
    return 1


def _affine_stages(head: Head) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield matrix and bias of what lies between one LeakyReLU and the next; the last gives minus the output."""
    matrix, bias = torch.diag(1 / head.feature_spread.double()), -head.feature_mean.double() / head.feature_spread
    for module in _layers(head):
        if isinstance(module, nn.Linear):
            weight = module.weight.detach().double()
            matrix, bias = weight @ matrix, weight @ bias
            if module.bias is not None:
                bias = bias + module.bias.detach()
        elif isinstance(module, nn.BatchNorm1d):
            mean, variance = cast("Tensor", module.running_mean), cast("Tensor", module.running_var)
            gain = module.weight.detach().double() / (variance.double() + module.eps).sqrt()
            matrix, bias = gain[:, None] * matrix, gain * (bias - mean) + module.bias.detach()
        elif isinstance(module, nn.LeakyReLU) and module.negative_slope == SLOPE:
            yield matrix, bias
            matrix, bias = torch.eye(len(bias), dtype=torch.float64), torch.zeros(len(bias), dtype=torch.float64)
        else:
            raise TypeError(f"{module} in a head cannot be folded.")
    yield -matrix, -bias


def _layers(head: Head) -> Iterator[nn.Module]:
    """Yield what a row of the embedding passes, in order."""
    if head.pre_projection is not None:
        yield from head.pre_projection.layers
    for block in head.discriminator.body:
        yield from cast("nn.Sequential", block)
    yield head.discriminator.tail


def _single(tensors: Iterable[Tensor]) -> tuple[Tensor, ...]:
    return tuple(tensor.float().contiguous() for tensor in tensors)
