"""The CUDA path in its simplest form; needs an NVIDIA GPU. `tests/gpu/run` runs all of these in one call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_small_model

from inspectd import SimpleNet

pytestmark = pytest.mark.gpu


def test_scores_on_the_gpu_are_those_of_the_cpu(tmp_path: Path) -> None:
    model = write_small_model(tmp_path / "model")
    pictures = [np.random.default_rng(i).integers(0, 255, (70, 90, 3), np.uint8) for i in range(5)]
    expected, _ = SimpleNet("cpu", "float32").load_from_path(model).predict(pictures)
    scores, _ = SimpleNet("cuda", "float32").load_from_path(model).predict(pictures)
    assert np.abs(scores - expected).max() / np.abs(expected).max() < 1e-4


def test_auto_chooses_the_gpu_and_fit_trains_there(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    good = [rng.normal(120, 4, (96, 96, 3)).astype(np.uint8) for _ in range(16)]
    net = SimpleNet().fit(good, imagesize=96, steps=60)
    assert net.model.calibration is not None
    assert net.model.calibration.device.startswith("cuda")
    again = SimpleNet().fit(good, imagesize=96, steps=60)
    assert again.threshold == pytest.approx(net.threshold, rel=1e-3)


def test_memory_does_not_grow_with_batches(tmp_path: Path) -> None:
    net = SimpleNet("cuda").load_from_path(write_small_model(tmp_path / "model"))
    picture = np.zeros((64, 64, 3), np.uint8)
    for _ in range(3):
        net.predict(picture)
    before = torch.cuda.memory_allocated()
    for _ in range(50):
        net.predict(picture)
    assert torch.cuda.memory_allocated() == before
