"""What a large input is tried with, before there is a network for it, and what of its patches is kept."""

from __future__ import annotations

import pytest
import torch
from conftest import small_backbone

from calibrate.training import material
from inspectd.errors import UsageError
from inspectd.simplenet import backbone as backbones


@pytest.mark.parametrize("shape", [(3, 5184, 3872), (3, 1000, 1234), (3, 20_000, 128)])
def test_a_backbone_that_takes_any_picture_is_tried_on_a_small_one_that_lies_alike(shape: tuple[int, int, int]) -> None:
    _, down, across = small_backbone().example_of(shape)
    assert down * across < 500_000
    assert (down % 64, across % 64) == (shape[1] % 64, shape[2] % 64)
    assert (down > across) == (shape[1] > shape[2])


def test_a_usual_input_is_tried_as_it_is() -> None:
    assert small_backbone().example_of((3, 704, 704)) == (3, 704, 704)
    fixed = backbones.create("vit_tiny_patch16_224", ("blocks.0",), (3, 64, 64))
    assert fixed.example_of((3, 4096, 4096)) == (3, 4096, 4096)


def test_a_large_input_that_a_backbone_cannot_take_is_refused_before_anything_else() -> None:
    with pytest.raises(UsageError, match=r"cannot take pictures of 1000x1000: .* Choose another --imagesize"):
        backbones.create("dla34", ("level4",), (3, 1000, 1000))


def test_layouts_of_a_large_input_are_those_of_a_small_one() -> None:
    """Channels come last in a part of this network, and as many as the example of a square has rows."""
    for shape in ((3, 1024, 1536), (3, 1536, 1024)):
        large = backbones.create("convnext_base", ("stages.0.blocks.0.mlp",), shape)
        assert large(torch.zeros(1, 3, 64, 96))[0].shape == (1, 128, 16, 24)


def test_of_a_large_varied_picture_some_patches_are_kept() -> None:
    rows, draws = torch.arange(40_000.0)[:, None], torch.Generator().manual_seed(0)
    first, second = (material._some(rows, draws) for _ in range(2))
    assert len(first) == len(first.unique()) == material.MOST_PATCHES
    assert not torch.equal(first, second)
    assert material._some(rows[:100], draws).shape == (100, 1)
