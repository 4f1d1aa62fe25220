"""The CUDA path on a real GPU. `tests/gpu/run` runs all of these in one call, and measures."""

from __future__ import annotations

import mmap
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from batches import GEOMETRIES, check_scores, keep_busy, requests_for
from conftest import write_small_model
from tall import EQUAL, ROWS, TALL, difference, leave_memory, scores_of_the_whole, tall_inputs, tall_model

from calibrate.training.embedding import FoldedEmbedder
from inspectd import SimpleNet
from inspectd.cameras.ring import Ring
from inspectd.engine.backend import Request
from inspectd.engine.choose import choose_backend
from inspectd.engine.gpu.backend import SLOTS, GpuBackend
from inspectd.engine.gpu.preprocess import Preparation, preparing
from inspectd.engine.gpu.streams import CudaDevice
from inspectd.simplenet import bundle
from inspectd.simplenet.bundle import Bundle
from inspectd.simplenet.preprocess import network_input

pytestmark = pytest.mark.gpu
BOUNDS = {"float32": 1e-4, "float16": 0.02, "bfloat16": 0.1}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    folder = tmp_path_factory.mktemp("cuda")
    return [bundle.load(write_small_model(folder / name, threshold=1e3 * t)) for t, name in enumerate("abc", 1)]


def gpu(precision: str = "float32", max_batch: int = 4) -> GpuBackend:
    return GpuBackend(CudaDevice(torch.device("cuda:0")), [precision], max_batch=max_batch)


@pytest.mark.parametrize("precision", BOUNDS)
def test_scores_are_the_textbooks(models: list[Bundle], precision: str) -> None:
    backend, draws = gpu(precision, 8), np.random.default_rng(0)
    for model in models:
        backend.prepare(model)
    inputs = torch.from_numpy(draws.normal(size=(7, 3, 64, 64)).astype(np.float32))
    for model in models:
        with torch.inference_mode():
            expected = model.network(inputs).numpy()
        difference = np.abs(backend.score_normalised(model, inputs.numpy()) - expected).max() / np.abs(expected).max()
        print(f"{precision}: {difference:.2g} of the largest patch score")
        assert difference <= BOUNDS[precision]


@pytest.mark.parametrize("seed", range(4))
def test_batches_in_flight_are_scored_as_on_the_cpu(models: list[Bundle], seed: int) -> None:
    backend = gpu()
    for model in models:
        backend.prepare(model)
    check_scores(
        *keep_busy(backend, models, seed), bound=5e-3
    )  # a grey level may be rounded the other way on the device


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("kind", ["colour", "grey", "deep colour", "deep grey"])
def test_pictures_are_the_cpus_within_one_grey_level(name: str, kind: str) -> None:
    geometry, normalisation, white = GEOMETRIES[name], ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)), 4095
    shape = (90, 120, 3) if "colour" in kind else (90, 120)
    draws = np.random.default_rng(0)
    is_deep = "deep" in kind
    picture = draws.integers(0, 5000 if is_deep else 255, shape).astype(np.uint16 if is_deep else np.uint8)
    how = Preparation(shape, is_deep, geometry, white, normalisation)
    found = torch.zeros(3, geometry.height, geometry.width, device="cuda")
    preparing(how, found.device)(torch.from_numpy(picture[slice(*how.band)]).cuda(), found)
    expected = network_input(picture, geometry, white, *normalisation)
    levels = np.array(normalisation[1])[:, None, None] * 255
    assert np.abs((found.cpu().numpy() - expected) * levels).max() <= 1.001


def test_nothing_is_allocated_once_everything_was_seen(models: list[Bundle]) -> None:
    backend = gpu()
    for model in models:
        backend.prepare(model)
    batches = [requests_for(models, 4, seed) for seed in range(2 * SLOTS)]
    for _ in range(2):
        for batch in batches:
            backend.score(batch)
    before = torch.cuda.memory_stats()["allocation.all.allocated"]
    for batch in batches:
        backend.score(batch)
    assert torch.cuda.memory_stats()["allocation.all.allocated"] == before


def test_a_cameras_ring_is_page_locked_until_it_is_unmapped() -> None:
    backend = gpu()
    maker, fd = Ring.create(2, mmap.PAGESIZE * 8)
    ring = Ring.attach(fd, 2, mmap.PAGESIZE * 8, backend.pin)
    picture = ring.view(1, (64, 64, 3), "uint8")
    assert torch.from_numpy(picture).is_pinned()
    again = Ring.attach(fd, 2, mmap.PAGESIZE * 8, backend.pin)
    assert torch.from_numpy(again.view(0, (8, 8), "uint8")).is_pinned(), "another mapping of the same memory"
    del maker, ring, picture, again


def test_out_of_memory_makes_the_batch_smaller_and_goes_on(
    models: list[Bundle], caplog: pytest.LogCaptureFixture
) -> None:
    backend = gpu(max_batch=64)
    backend.prepare(models[0])
    total = torch.cuda.get_device_properties(0).total_memory
    picture = np.zeros((2000, 3000, 3), np.uint8)
    try:
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 5e8) / total)
        found = backend.score([Request(models[0], models[0].geometry, picture)] * 64)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "Batches hold at most" in caplog.text
    assert len(found) == 64
    assert all(np.isfinite(scores).all() for scores in found)


def test_strips_on_the_device_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    one = tall_model()
    whole = scores_of_the_whole(one)
    device = CudaDevice(torch.device("cuda:0"))
    free = leave_memory(monkeypatch, one.network, ROWS)
    monkeypatch.setattr(device, "free_memory", lambda: free)
    backend = GpuBackend(device, ["float32"], max_batch=2)
    backend.prepare(one)
    (prepared,) = backend._models._prepared.values()
    assert len(prepared.key.strips.each) > 1
    from_whole = difference(backend.score_normalised(one, tall_inputs()), whole)
    embedders = [FoldedEmbedder(one.backbone, one.head_shape, TALL, torch.device("cuda:0"))]
    monkeypatch.undo()
    embedders.append(FoldedEmbedder(one.backbone, one.head_shape, TALL, torch.device("cuda:0")))
    assert [bool(embedder._strips.each) for embedder in embedders] == [True, False]
    pixels = torch.randint(0, 256, (2, *TALL)).float()
    strips, at_once = (embedder(pixels).cpu().numpy() for embedder in embedders)
    print(f"strips: {from_whole:.2g} of the largest score; {difference(strips, at_once):.2g} of the largest value")
    assert from_whole <= EQUAL
    assert difference(strips, at_once) <= EQUAL


BREAKING = """
import sys, torch
from inspectd.engine.gpu.networks import Graph
run, calls = Graph.run, 0
def breaking(self, compute):
    global calls
    calls += 1
    if calls > 20:
        compute.run(lambda: self.scores.flatten()[torch.tensor([10**9], device="cuda")])
    run(self, compute)
Graph.run = breaking
from inspectd.cli import main
main(["run", "--config", sys.argv[1]])
"""


def test_a_kernel_that_fails_ends_the_daemon_with_exit_code_4(tmp_path: Path) -> None:
    model = write_small_model(tmp_path / "model", threshold=1e6)
    config = tmp_path / "inspectd.yaml"
    config.write_text(
        "engine: {device: cuda}\n"
        f'cameras: [{{name: top, source: "sim://line?fps=30&width=64&height=64", model: {model}}}]\n'
        f'publish: {{bind: "ipc://{tmp_path}/verdicts"}}\ncontrol: {{bind: "ipc://{tmp_path}/control"}}\n'
        'metrics: {listen: "127.0.0.1:0"}\njournal: {path: null}\narchive: {max_gb: 0}\n'
    )
    done = subprocess.run(
        [sys.executable, "-c", BREAKING, str(config)], capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 4, done.stderr
    assert "the engine failed" in done.stderr


def test_auto_is_the_gpu_in_half_precision_and_fit_trains_there(tmp_path: Path) -> None:
    assert str(choose_backend().variant) == "cuda:0 float16"
    rng = np.random.default_rng(0)
    good = [rng.normal(120, 4, (96, 96, 3)).astype(np.uint8) for _ in range(16)]
    net = SimpleNet().fit(good, imagesize=96, steps=60)
    assert net.model.calibration is not None
    assert net.model.calibration.device.startswith("cuda")
    again = SimpleNet().fit(good, imagesize=96, steps=60)
    assert again.threshold == pytest.approx(net.threshold, rel=1e-3)
