"""SimpleNet in textbook form: the published network, readable on a train.

Liu et al., "SimpleNet: A Simple Network for Image Anomaly Detection and Localization", CVPR 2023. The
steps and their order are those of the published code; sections named below are the paper's.

    pictures [B, 3, H, W]
      -> features of the chosen layers of a frozen backbone            section 3.1
      -> 3x3 neighbourhoods, averaged to a common width, stacked       section 3.1, eq. 1 to 3
      -> (standardised with the training set's mean and spread)        ours; the identity when not trained so
      -> projection ("feature adaptor")                                section 3.2
      -> discriminator; the score of a patch is minus its output       section 3.4
      -> (plus its distance to the nearest patch of a memory bank)     ours; none when not trained so
      -> (averaged over neighbouring patches)                          ours; 1 × 1 when not trained so
      -> score of the picture: the largest patch score                 section 3.6

Only torch; no files, no device choice. Each change of shape ends in a comment with the new one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAP_SIGMA = 4.0  # of the Gaussian that smooths the map, in pixels of the network's input
GAUSSIAN_RADIUS = 4.0  # in sigmas: where the Gaussian is cut off, as scipy.ndimage does


@dataclass(frozen=True, slots=True)
class HeadShape:
    """Everything that decides the head's arithmetic; names are the published parameters.

    `dsc_hidden` None: each hidden layer of the discriminator is the previous one divided by 1.5.
    """

    pretrain_embed_dimension: int = 1536
    target_embed_dimension: int = 1536
    patchsize: int = 3
    patchstride: int = 1
    pre_proj: int = 1
    proj_layer_type: int = 0
    dsc_layers: int = 2
    dsc_hidden: int | None = 1024
    embedding_size: int | None = None
    """What the projection maps to; None: `target_embed_dimension`, and without a projection always that."""
    memory_patches: int = 0
    """How many good patches the memory bank holds; 0: there is none. Not published for SimpleNet."""
    memory_width: int = 128
    """How many values of a patch are compared with them."""
    score_window: int = 1
    """Patch scores are averaged over so many patches down and across; odd. Not published."""

    @property
    def adapted_width(self) -> int:
        """How many values the discriminator sees per patch."""
        width = self.embedding_size if self.pre_proj > 0 else None
        return width or self.target_embed_dimension


def grid_size(size: tuple[int, int], patchsize: int, stride: int) -> tuple[int, int]:
    """Return how many neighbourhoods a feature map of `size` (h, w) has, down and across."""
    padding = (patchsize - 1) // 2
    down, across = ((n + 2 * padding - patchsize) // stride + 1 for n in size)
    return down, across


def neighbourhoods(features: Tensor, patchsize: int, stride: int) -> Tensor:
    """Cut a feature map [B, C, H, W] into zero-padded neighbourhoods [B, C·p·p, h, w] (eq. 1)."""
    size = cast("tuple[int, int]", tuple(features.shape[-2:]))
    columns = F.unfold(features, patchsize, padding=(patchsize - 1) // 2, stride=stride)  # [B, C·p·p, h·w]
    down, across = grid_size(size, patchsize, stride)
    return columns.view(len(columns), -1, down, across)  # [B, C·p·p, h, w]


def embed(features: Sequence[Tensor], shape: HeadShape) -> tuple[Tensor, tuple[int, int]]:
    """Pool the layers' neighbourhoods into one row per patch (eq. 2 and 3).

    Takes [B, C_l, H_l, W_l] per layer. Returns [B·h·w, target_embed_dimension] and the grid (h, w), which is
    the first layer's; the neighbourhoods of the others are brought to it bilinearly.
    """
    grid: tuple[int, int] | None = None
    pooled: list[Tensor] = []
    for layer in features:
        patches = neighbourhoods(layer, shape.patchsize, shape.patchstride)
        if grid is None:
            grid = cast("tuple[int, int]", tuple(patches.shape[-2:]))
        elif tuple(patches.shape[-2:]) != grid:
            patches = F.interpolate(patches, size=grid, mode="bilinear", align_corners=False)
        rows = patches.permute(0, 2, 3, 1).flatten(0, 2)  # [B·h·w, C·p·p]
        pooled.append(_average_to(rows, shape.pretrain_embed_dimension))  # [B·h·w, pretrain]
    if grid is None:
        raise ValueError("embed() needs the features of at least one layer")
    return _average_to(torch.cat(pooled, dim=1), shape.target_embed_dimension), grid


def _average_to(rows: Tensor, width: int) -> Tensor:
    return F.adaptive_avg_pool1d(rows.unsqueeze(1), width).squeeze(1)


class Projection(nn.Module):
    """The feature adaptor: `n_layers` linear layers; `layer_type` > 1 puts LeakyReLU between them."""

    def __init__(self, in_planes: int, out_planes: int, n_layers: int = 1, layer_type: int = 0) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        for i in range(n_layers):
            self.layers.add_module(f"{i}fc", nn.Linear(in_planes if i == 0 else out_planes, out_planes))
            if layer_type > 1 and i < n_layers - 1:
                self.layers.add_module(f"{i}relu", nn.LeakyReLU(0.2))
        self.apply(_init_weight)

    def forward(self, rows: Tensor) -> Tensor:
        """Map [N, in_planes] to [N, out_planes]."""
        return cast("Tensor", self.layers(rows))


class Discriminator(nn.Module):
    """A small perceptron: large where a patch looks good, small where it does not."""

    def __init__(self, in_planes: int, n_layers: int = 2, hidden: int | None = None) -> None:
        super().__init__()
        width = in_planes if hidden is None else hidden
        self.body = nn.Sequential()
        for i in range(n_layers - 1):
            before = in_planes if i == 0 else width
            width = int(width // 1.5) if hidden is None else hidden
            block = nn.Sequential(nn.Linear(before, width), nn.BatchNorm1d(width), nn.LeakyReLU(0.2))
            self.body.add_module(f"block{i + 1}", block)
        self.tail = nn.Linear(width if n_layers > 1 else in_planes, 1, bias=False)
        self.apply(_init_weight)

    def forward(self, rows: Tensor) -> Tensor:
        """Map [N, in_planes] to [N, 1]."""
        return cast("Tensor", self.tail(self.body(rows)))


class MemoryBank(nn.Module):
    """How far a patch is from the nearest of some good ones, in a few dimensions that a matrix chooses.

    The patches are a coreset as PatchCore keeps one (Roth et al., CVPR 2022, section 3.2). The unit of the distance is
    in both.
    """

    matrix: Tensor
    patches: Tensor

    def __init__(self, in_planes: int, width: int, patches: int) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.zeros(width, in_planes))
        self.register_buffer("patches", torch.zeros(patches, width))

    def forward(self, rows: Tensor) -> Tensor:
        """Map [N, in_planes] to [N, 1]."""
        few = rows @ self.matrix.T  # [N, width]
        # |z − p|² = |z|² + 2·(|p|²/2 − z·p), smallest where the bracket is
        smallest = (self.patches.square().sum(1) / 2 - few @ self.patches.T).amin(1)  # [N]
        return (few.square().sum(1) + 2 * smallest).clamp(min=0).sqrt()[:, None]


def _init_weight(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_normal_(module.weight)


class Head(nn.Module):
    """All that is trained: from backbone features to patch scores."""

    feature_mean: Tensor
    feature_spread: Tensor

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.shape = shape
        width = shape.target_embed_dimension
        self.register_buffer("feature_mean", torch.zeros(width))
        self.register_buffer("feature_spread", torch.ones(width))
        self.pre_projection = (
            Projection(width, shape.adapted_width, shape.pre_proj, shape.proj_layer_type)
            if shape.pre_proj > 0
            else None
        )
        self.discriminator = Discriminator(shape.adapted_width, shape.dsc_layers, shape.dsc_hidden)
        self.memory = MemoryBank(width, shape.memory_width, shape.memory_patches) if shape.memory_patches else None

    def standardise(self, rows: Tensor) -> Tensor:
        """Standardise embedded rows [N, target_embed_dimension]."""
        return (rows - self.feature_mean) / self.feature_spread

    def adapt(self, rows: Tensor) -> Tensor:
        """Standardise and project embedded rows [N, target_embed_dimension] -> [N, adapted_width]."""
        rows = self.standardise(rows)
        return rows if self.pre_projection is None else cast("Tensor", self.pre_projection(rows))

    def score(self, rows: Tensor) -> Tensor:
        """Return the scores [N] of embedded rows [N, target_embed_dimension], each by itself; higher is worse."""
        scores = -self.discriminator(self.adapt(rows))  # [N, 1]
        if self.memory is not None:
            scores = scores + self.memory(self.standardise(rows))
        return cast("Tensor", scores[:, 0])

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return raw patch scores [B, h, w]; higher is worse."""
        rows, grid = embed(features, self.shape)
        return average_scores(self.score(rows).view(-1, *grid), self.shape.score_window)  # [B, h, w]


def average_scores(scores: Tensor, window: int) -> Tensor:
    """Average patch scores [B, h, w] over `window` × `window` patches, at the border over those that there are."""
    if window == 1:
        return scores
    averaged = F.avg_pool2d(scores[:, None], window, 1, window // 2, count_include_pad=False)
    return averaged[:, 0]


class Network(nn.Module):
    """Backbone and head together: normalised pictures [B, 3, H, W] to raw patch scores [B, h, w]."""

    def __init__(self, backbone: Callable[[Tensor], list[Tensor]], head: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, pictures: Tensor) -> Tensor:
        """Return raw patch scores [B, h, w]; the score of a picture is their largest."""
        return cast("Tensor", self.head(self.backbone(pictures)))


def image_scores(patch_scores: Tensor) -> Tensor:
    """Return the score of each picture [B]: the largest of its patch scores [B, h, w] (section 3.6)."""
    return patch_scores.flatten(1).amax(1)


class MapSmoother(nn.Module):
    """Patch scores [B, h, w] to maps [B, H, W]: bilinear upsampling, then a Gaussian of `MAP_SIGMA`.

    Both are linear and separable, so each axis is one small matrix. The Gaussian mirrors at the border
    (edge pixel repeated), as the published code's scipy filter does.
    """

    down: Tensor
    across: Tensor

    def __init__(self, grid: tuple[int, int], size: tuple[int, int], sigma: float = MAP_SIGMA) -> None:
        super().__init__()
        self.register_buffer("down", _upsample_and_blur(grid[0], size[0], sigma))  # [H, h]
        self.register_buffer("across", _upsample_and_blur(grid[1], size[1], sigma))  # [W, w]

    def forward(self, patch_scores: Tensor) -> Tensor:
        """Return the maps [B, H, W] in the unit of the scores."""
        return self.down @ patch_scores @ self.across.T


def _upsample_and_blur(cells: int, size: int, sigma: float) -> Tensor:
    unit = torch.eye(cells, dtype=torch.float64)[None]  # [1, cells, cells]: one row for each cell
    upsample = F.interpolate(unit, size=size, mode="linear", align_corners=False)[0].T  # [size, cells]
    radius = int(GAUSSIAN_RADIUS * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    source = (torch.arange(size)[:, None] + offsets.long()) % (2 * size)  # [size, taps]
    source = torch.where(source < size, source, 2 * size - 1 - source)
    blur = torch.zeros(size, size, dtype=torch.float64)
    blur.scatter_add_(1, source, weights.expand(size, -1))
    return (blur @ upsample).float()
