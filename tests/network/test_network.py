"""The product's network and training against tests/reference.py, wherever this runs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import reference
import timm
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import nn

from calibrate.training.loss import NoiseMaker, truncated_l1
from calibrate.training.train import HeadTrainer, Schedule, standardise, train
from inspectd.errors import UsageError
from inspectd.simplenet import backbone as backbones
from inspectd.simplenet.network import Head, HeadShape, MapSmoother, Network, embed, image_scores


def error(ours: object, theirs: object) -> float:
    """max|a−b| / max|b|."""
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert a.shape == b.shape
    return float(np.abs(a - b).max() / np.abs(b).max())


def random_head(shape: HeadShape, seed: int) -> Head:
    """A head in which every number matters, running statistics included."""
    torch.manual_seed(seed)
    head = Head(shape).eval()
    for name, tensor in head.discriminator.state_dict().items():
        if "running" in name or ".1." in name:
            tensor.copy_(torch.rand_like(tensor.float()) + 0.5)
    return head


def checkpoint(head: Head) -> dict[str, dict[str, torch.Tensor]]:
    """As the published code nests it."""
    found = {"discriminator": head.discriminator.state_dict()}
    if head.pre_projection is not None:
        found["pre_projection"] = head.pre_projection.state_dict()
    return found


CASES = [
    pytest.param(
        "tf_efficientnet_lite0", ["blocks.2", "blocks.4"], HeadShape(48, 40, dsc_hidden=24), (64, 64), id="lite0"
    ),
    pytest.param(
        "resnet18",
        ["layer2", "layer3"],
        HeadShape(37, 29, patchsize=5, patchstride=2, pre_proj=2, proj_layer_type=2, dsc_layers=3, dsc_hidden=None),
        (72, 56),
        id="resnet18-uneven",
    ),
]


@pytest.mark.parametrize(("name", "layers", "shape", "size"), CASES)
def test_golden_case_against_the_reference(
    name: str, layers: list[str], shape: HeadShape, size: tuple[int, int]
) -> None:
    torch.manual_seed(3)
    model = timm.create_model(name, pretrained=False)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    if name == backbones.EMBEDDED:
        state = backbones.embedded_weights()
    inputs = np.random.default_rng(1).standard_normal((2, 3, *size))
    head = random_head(shape, 5)
    params = {
        "patchsize": shape.patchsize,
        "patchstride": shape.patchstride,
        "pretrain_embed_dimension": shape.pretrain_embed_dimension,
        "target_embed_dimension": shape.target_embed_dimension,
        "pre_proj": shape.pre_proj,
        "proj_layer_type": shape.proj_layer_type,
        "dsc_layers": shape.dsc_layers,
    }
    features = reference.backbone_features(name, state, layers, inputs)
    rows = np.stack([reference.embed([f[i] for f in features], params) for i in range(2)])
    scores = reference.patch_scores(rows, checkpoint(head), params)

    backbone = backbones.create(name, layers, (3, *size))
    backbones.load_weights(backbone, state, "here")
    with torch.no_grad():
        ours_rows, grid = embed(backbone(torch.from_numpy(inputs).float()), shape)
        ours = Network(backbone, head)(torch.from_numpy(inputs).float())
    assert error(ours_rows.view(2, *grid, -1), rows) < 1e-4
    assert error(ours, scores) < 1e-4
    assert error(image_scores(ours), scores.max((1, 2))) < 1e-4
    maps = np.stack([reference.anomaly_map(s, *size) for s in scores])
    assert error(MapSmoother(grid, size)(ours), maps) < 1e-4


class Once:
    """`features.Batches` of given rows."""

    def __init__(self, rows: list[np.ndarray]) -> None:  # type: ignore[type-arg]
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def epoch(self) -> Iterator[torch.Tensor]:
        return map(torch.from_numpy, self._rows)


def test_golden_training_against_hand_written_gradients() -> None:
    rng = np.random.default_rng(2)
    shape = HeadShape(24, 24, dsc_hidden=16)
    torch.manual_seed(1)
    # In float64: the bias before the batch norm has no gradient but rounding, which Adam would blow up.
    head = Head(shape).double()
    init = {k: {n: v.clone() for n, v in d.items()} for k, d in checkpoint(head).items()}
    rows = [rng.standard_normal((200, 24)) for _ in range(8)]
    noise = [rng.standard_normal((200, 24)) * 0.015 for _ in range(8)]
    losses, weights = reference.train(rows, init, noise)

    drawn = iter(noise)
    trainer = HeadTrainer(head, Schedule(meta_epochs=1, gan_epochs=1), lambda _: torch.from_numpy(next(drawn)))
    seen: list[float] = []
    train(trainer, Once(rows), lambda _, r: seen.append(float(r.loss.detach())))
    assert error(seen, losses) < 1e-6
    for part, state in checkpoint(head).items():
        for name, tensor in state.items():
            if tensor.is_floating_point():
                assert error(tensor.numpy(), weights[f"{part[0]}.{name}"]) < 1e-6, name


@pytest.mark.parametrize("size", [5, 17, 40, 64])
def test_map_smoother_is_scipys_gaussian_also_where_it_is_wider_than_the_picture(size: int) -> None:
    scores: NDArray[np.float32] = np.random.default_rng(size).standard_normal((4, 7)).astype(np.float32)
    expected = gaussian_filter(reference.bilinear(scores.astype(np.float64), size, 2 * size), sigma=4)
    ours = MapSmoother((4, 7), (size, 2 * size))(torch.from_numpy(scores)[None])[0]
    assert error(ours, expected) < 1e-5


def test_standardised_features_have_no_mean_and_unit_spread() -> None:
    head = Head(HeadShape(8, 8, pre_proj=0, dsc_hidden=4))
    rows = torch.randn(500, 8) * torch.arange(8) + 3  # the first one never varies
    standardise(head, rows)
    adapted = head.adapt(rows)
    assert adapted.mean(0).abs().max() < 1e-4
    assert (adapted.std(0)[1:] - 1).abs().max() < 1e-4
    assert adapted.isfinite().all()


def test_mixed_noise_has_several_strengths() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.zeros(4000, 64)
    plain = NoiseMaker(0.5, 1, generator)(rows).std(1)
    mixed = NoiseMaker(0.5, 8, generator)(rows).std(1)
    assert abs(float(plain.mean()) - 0.5) < 0.01
    assert float(mixed.max()) > 0.5 * 1.1**7 * 0.9
    assert float(mixed.std()) > 3 * float(plain.std())


def test_loss_pushes_no_further_than_the_margin() -> None:
    beyond = truncated_l1(torch.tensor([[0.6]]), torch.tensor([[-0.6]]), 0.5)
    assert float(beyond.loss) == 0
    assert (float(beyond.p_true), float(beyond.p_fake)) == (1, 1)
    undecided = truncated_l1(torch.tensor([[0.0]]), torch.tensor([[0.0]]), 0.5)
    assert float(undecided.loss) == 1
    assert (float(undecided.p_true), float(undecided.p_fake)) == (0, 0)


def test_the_backbone_ends_at_the_last_layer_that_is_used() -> None:
    backbone = backbones.create("resnet18", ["layer2", "layer1"], (3, 64, 64))
    names = set(backbone.model.state_dict())
    assert not any(name.startswith(("layer3", "layer4", "fc")) for name in names)
    second, first = backbone(torch.zeros(1, 3, 64, 64))
    assert (second.shape, first.shape) == ((1, 128, 8, 8), (1, 64, 16, 16)), "features come in the order asked for"


def test_transformer_tokens_become_a_grid() -> None:
    backbone = backbones.create("vit_tiny_patch16_224", ["blocks.1"], (3, 64, 64))
    (features,) = backbone(torch.zeros(2, 3, 64, 64))
    assert features.shape == (2, 192, 4, 4)


def test_layers_that_do_not_exist_are_named_and_others_listed() -> None:
    with pytest.raises(UsageError, match=r"no layer 'layer9'.*layer1"):
        backbones.create("resnet18", ["layer1", "layer9"], (3, 64, 64))


@pytest.mark.parametrize(
    ("name", "says"),
    [("resnet81", "near names are.*resnet"), ("bninception", "not provided by anyone"), ("", "no backbone")],
)
def test_unknown_backbones_are_refused_with_near_names(name: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        backbones.resolve(name)


def test_published_names_mean_the_papers_weights() -> None:
    assert backbones.resolve("wideresnet50") == "wide_resnet50_2.tv_in1k"
    known = set(timm.list_models()) | set(timm.list_pretrained())
    assert {name for name in backbones.PUBLISHED_NAMES.values() if name not in known} == set()


def test_weights_of_another_backbone_are_refused() -> None:
    backbone = backbones.create("resnet18", ["layer1"], (3, 64, 64))
    other = nn.Linear(2, 2).state_dict()
    with pytest.raises(UsageError, match=r"lacks 'conv1\.weight'"):
        backbones.load_weights(backbone, other, "elsewhere")


def test_tokens_that_are_no_full_grid_are_refused() -> None:
    backbone = backbones.create("vit_tiny_patch16_224", ["blocks.1"], (3, 64, 64))
    with pytest.raises(UsageError, match="no full grid"):
        backbone.find_layout("blocks.1", torch.zeros(1, 15, 192), (3, 64, 64))
