"""Backbones of many kinds from timm: whatever they talk in, features are maps, or are refused in a sentence."""

from __future__ import annotations

import pytest
import torch

from inspectd.errors import UsageError
from inspectd.simplenet import backbone as backbones


@pytest.mark.parametrize(
    ("name", "layers", "size", "grid"),
    [
        ("vit_small_patch16_dinov3", ("blocks.2", "blocks.5"), 96, 6),
        ("eva02_tiny_patch14_224", ("blocks.2",), 112, 8),
        ("cait_xxs24_224", ("blocks.2",), 224, 14),
        ("xcit_nano_12_p16_224", ("blocks.2",), 224, 14),
        ("volo_d1_224", ("network.0",), 224, 28),
        ("swin_tiny_patch4_window7_224", ("layers.1",), 224, 28),
        ("mixer_s16_224", ("blocks.1",), 224, 14),
    ],
)
def test_backbones_that_talk_in_something_else_give_maps(
    name: str, layers: tuple[str, ...], size: int, grid: int
) -> None:
    torch.manual_seed(0)
    backbone = backbones.create(name, layers, (3, size, size))
    picture = torch.zeros(1, 3, size, size)
    with torch.no_grad():
        before = backbone(picture)
        picture[:, :, : size // 4, -size // 4 :] = 1.0  # only the upper right corner differs
        after = backbone(picture)
    for one, other in zip(before, after, strict=True):
        assert one.shape[2:] == (grid, grid)
        change = (other - one).abs().mean(dim=(0, 1))
        row, column = divmod(int(change.argmax()), grid)
        assert row < grid // 2 <= column, "the map lies as the picture does"


@pytest.mark.parametrize(
    ("name", "layers", "says"),
    [
        ("hrnet_w18", ("stage2",), "gives a list"),
        ("resnet50", ("fc",), "no map of a picture"),
        ("resnet50", ("global_pool",), "no map of a picture"),
        ("tnt_s_patch16_224", ("blocks.1",), "gives a tuple"),
        ("twins_pcpvt_small", ("blocks.1",), "never calls its layer"),
        ("eva02_tiny_patch14_224", ("blocks.20",), "no layer"),
    ],
)
def test_layers_that_are_no_map_are_refused_in_a_sentence(name: str, layers: tuple[str, ...], says: str) -> None:
    with pytest.raises(UsageError, match=says) as error:
        backbones.create(name, layers, (3, 224, 224))
    assert len(str(error.value)) < 2500
