"""A model whose input is too tall for the memory that a test leaves it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pytest
import torch
from conftest import small_backbone, small_params
from torch import Tensor

from inspectd.engine import memory, strips
from inspectd.engine.backend import Floats
from inspectd.engine.gpu import networks
from inspectd.engine.memory import SHARE_OF_MEMORY, values_held
from inspectd.engine.strips import PROBED, SPARE
from inspectd.simplenet.bundle import Bundle, head_shape
from inspectd.simplenet.network import Head

EQUAL = 1e-5
"""How far strips may be from the whole, as a share of the largest score."""
TALL = (3, 1056, 64)
ROWS = 608
"""Of a strip of it."""


def tall_model() -> Bundle:
    """The embedded backbone, and a head with everything that a patch is judged by; nothing of it is zero."""
    params = msgspec.structs.replace(
        small_params(), input_shape=TALL, memory_patches=20, memory_width=16, score_window=3
    )
    torch.manual_seed(0)
    head = Head(head_shape(params)).eval()
    assert head.memory is not None
    head.memory.matrix.normal_(std=0.1)
    head.memory.patches.normal_()
    return Bundle(params=params, calibration=None, name="tall", digest="tall", head=head, backbone=small_backbone())


def tall_inputs() -> Floats:
    return np.random.default_rng(0).normal(size=(2, *TALL)).astype(np.float32)


def scores_of_the_whole(model: Bundle) -> Floats:
    with torch.inference_mode():
        return np.asarray(model.network(torch.from_numpy(tall_inputs())))


def held_a_pixel(network: Callable[[Tensor], Tensor]) -> float:
    return values_held(network, torch.zeros(1, 3, PROBED, PROBED)) / PROBED**2


def leave_memory(monkeypatch: pytest.MonkeyPatch, network: Callable[[Tensor], Tensor], rows: int) -> int:
    """Leave memory for so many rows of TALL in a network, and return how much that is."""
    monkeypatch.setattr(strips, "FEW_PIXELS", 0)
    needed = rows * TALL[2] * held_a_pixel(network) * SPARE * 4 / SHARE_OF_MEMORY
    free = int(needed * 1.02)  # the map of the whole wants some too
    for module in (memory, networks):
        monkeypatch.setattr(module, "free_memory", lambda: free)
    return free


def difference(ours: Floats, theirs: Floats) -> float:
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())
