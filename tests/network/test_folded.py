"""The folded form is the textbook's, for whatever shape of head; fused batch norms change nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from inspectd.simplenet import backbone as backbones
from inspectd.simplenet.folded import averaging, fold_embedding, fold_head, fold_pooling
from inspectd.simplenet.fusing import fused
from inspectd.simplenet.network import Head, HeadShape, embed


def lived_in(head: Head, features: Sequence[Tensor]) -> Head:
    """Give a head the statistics that a training on these features would."""
    rows, _ = embed(features, head.shape)
    head.feature_mean.copy_(rows.mean(0))
    head.feature_spread.copy_(rows.std(0))
    for module in head.modules():
        if isinstance(module, nn.BatchNorm1d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    if head.memory is not None:
        head.memory.matrix.normal_()
        chosen = torch.randint(len(rows), (head.shape.memory_patches,))
        near = head.standardise(rows[chosen]) @ head.memory.matrix.T
        head.memory.patches.copy_(near + near.std() * torch.randn_like(near))  # a distance of nearly 0 is all rounding
    return head.eval()


def error(ours: Tensor, theirs: Tensor) -> float:
    """max|a−b| / max|b|."""
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize("seed", range(40))
def test_folded_is_textbook(seed: int) -> None:
    draw = random.Random(seed)
    shape = HeadShape(
        pretrain_embed_dimension=draw.choice([5, 64, 100, 192, 512]),
        target_embed_dimension=draw.choice([3, 64, 150, 192]),
        patchsize=draw.choice([1, 2, 3, 5]),
        patchstride=draw.choice([1, 2]),
        pre_proj=draw.randrange(4),
        proj_layer_type=draw.randrange(3),
        dsc_layers=draw.choice([1, 2, 3]),
        dsc_hidden=draw.choice([None, 16, 50]),
        embedding_size=draw.choice([None, 20]),
        memory_patches=draw.choice([0, 1, 30]),
        memory_width=draw.choice([8, 32]),
        score_window=draw.choice([1, 3, 5]),
    )
    channels = [draw.choice([7, 16, 24, 40, 112, 128]) for _ in range(draw.choice([1, 2, 3]))]
    torch.manual_seed(seed)
    features = [torch.randn(2, c, *((12, 9) if i == 0 else (6, 7))).relu() for i, c in enumerate(channels)]
    head = lived_in(Head(shape), features)
    with torch.inference_mode():
        folded = fold_head(head, channels).scores(fold_pooling(shape, channels)(features))
        assert error(folded, head(features)) <= 1e-5, f"{shape} on {channels}"
        rows, grid = embed(features, shape)
        ours = fold_embedding(shape, channels)(fold_pooling(shape, channels)(features))
        assert error(ours, rows.view(2, *grid, -1).permute(0, 3, 1, 2)) <= 1e-5


@pytest.mark.parametrize(
    ("shape", "channels"),
    [(HeadShape(), (512, 1024)), (HeadShape(1024, 1024), (512, 1024)), (HeadShape(512, 512), (40, 112))],
)
def test_folded_is_textbook_at_published_sizes(shape: HeadShape, channels: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    features = [torch.randn(1, c, side, side).relu() for c, side in zip(channels, (16, 8), strict=True)]
    head = lived_in(Head(shape), features)
    with torch.inference_mode():
        pooling = fold_pooling(shape, channels)
        assert error(fold_head(head, channels).scores(pooling(features)), head(features)) <= 1e-5
    dense = shape.target_embed_dimension * sum(channels) * shape.patchsize**2
    assert sum(w.numel() for w in pooling.weights) < 0.2 * dense, "the pooling is thin"


def test_averaging_is_torchs_adaptive_pooling() -> None:
    for size, bins in ((10, 3), (3, 10), (360, 512), (7, 7)):
        rows = torch.randn(4, size, dtype=torch.float64)
        theirs = torch.nn.functional.adaptive_avg_pool1d(rows[:, None], bins)[:, 0]
        assert torch.allclose(rows @ averaging(size, bins).T, theirs)


def test_a_layer_that_cannot_be_folded_is_an_error_and_not_left_out() -> None:
    head = Head(HeadShape(8, 8, dsc_hidden=4))
    head.discriminator.body.block1.append(nn.Tanh())  # type: ignore[operator,union-attr]
    with pytest.raises(TypeError, match="Tanh"):
        fold_head(head, [4])


@pytest.mark.parametrize(
    ("name", "layers", "left"),
    [
        ("tf_efficientnet_lite0", ("blocks.2", "blocks.4"), 0),
        ("tf_efficientnet_lite0", ("blocks.3.0.bn1", "blocks.5.0.bn1"), 2),  # behind what is read, and never called
        ("tf_efficientnet_lite0", ("blocks.3.0.conv_pw", "blocks.4"), 1),  # what it reads is not fused away
        ("resnet18", ("layer2", "layer3"), 0),
        ("vgg19_bn", ("features.12",), 0),
        ("densenet121", ("features.denseblock1",), 6),  # these stand before a convolution, not behind one
    ],
)
def test_fused_batch_norms_change_nothing_but_their_number(name: str, layers: tuple[str, ...], left: int) -> None:
    torch.manual_seed(0)
    backbone = backbones.create(name, layers, (3, 64, 64))
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.5, 2)
    before = backbones.digest(backbone)
    pictures = torch.randn(2, 3, 64, 64)
    faster = fused(backbone, pictures)
    with torch.inference_mode():
        for ours, theirs in zip(faster(pictures), backbone(pictures), strict=True):
            assert error(ours, theirs) <= 1e-5
    assert sum(isinstance(module, nn.BatchNorm2d) for module in faster.modules()) == left
    assert backbones.digest(backbone) == before, "the original stays as it was"
