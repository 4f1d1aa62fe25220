"""The GPU's backend on fake streams, which do their work in every order that no event forbids."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from batches import BOUND, GEOMETRIES, check_scores, keep_busy, on_cpu, requests_for
from conftest import write_small_model
from fakes.streams import FakeDevice, FakeStream

from inspectd.engine.backend import Request
from inspectd.engine.gpu.backend import MOST_PREPARATIONS, SLOTS, GpuBackend
from inspectd.engine.gpu.networks import BatchLimit, Graph
from inspectd.engine.gpu.preprocess import Preparation, preparing
from inspectd.engine.gpu.streams import unused
from inspectd.errors import UsageError
from inspectd.records import Picture
from inspectd.simplenet import bundle
from inspectd.simplenet.bundle import Bundle
from inspectd.simplenet.preprocess import network_input, resize

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    folder = tmp_path_factory.mktemp("models")
    return [bundle.load(write_small_model(folder / name, threshold=10.0 * t)) for t, name in enumerate("abc", 1)]


def backend(models: list[Bundle], device: FakeDevice | None = None, max_batch: int = 4) -> GpuBackend:
    made = GpuBackend(device or FakeDevice(), ["float32"], max_batch=max_batch)
    for model in models:
        made.prepare(model)
    return made


@pytest.fixture(scope="module")
def device() -> FakeDevice:
    return FakeDevice()


@pytest.fixture(scope="module")
def gpu(models: list[Bundle], device: FakeDevice) -> GpuBackend:
    return backend(models, device)


@pytest.mark.parametrize("seed", range(8))
def test_scores_are_the_cpus_in_whatever_order_streams_work(
    models: list[Bundle], device: FakeDevice, gpu: GpuBackend, seed: int
) -> None:
    device.reseed(seed)
    check_scores(*keep_busy(gpu, models, seed))


def test_a_head_with_a_memory_bank_stands_beside_others(
    models: list[Bundle], tmp_path: Path, device: FakeDevice
) -> None:
    mixed = [models[0], *(bundle.load(write_small_model(tmp_path / name, memory=True)) for name in "xy")]
    device.reseed(0)
    check_scores(*keep_busy(backend(mixed, device), mixed, 0))


@pytest.mark.parametrize("stream", [1, 2])
def test_a_missing_wait_would_be_found(
    models: list[Bundle], device: FakeDevice, gpu: GpuBackend, monkeypatch: pytest.MonkeyPatch, stream: int
) -> None:
    """The test above can fail: without its waits, compute (1) and download (2) read too early."""
    monkeypatch.setattr(device.streams[stream], "wait", lambda event: None)

    def is_wrong(seed: int) -> bool:
        device.reseed(seed)
        found, expected = keep_busy(gpu, models, seed)
        return any(np.abs(a - b).max() > BOUND * np.abs(b).max() for a, b in zip(found, expected, strict=True))

    assert any(map(is_wrong, range(6)))


def test_nothing_is_taken_once_everything_was_seen(models: list[Bundle], monkeypatch: pytest.MonkeyPatch) -> None:
    device = FakeDevice()
    gpu = backend(models, device)
    batches = [requests_for(models, 4, seed) for seed in range(SLOTS)]
    for batch in batches:
        gpu.score(batch)
    captures, allocations = device.captures, device.allocations

    def never(*_: object, **__: object) -> None:
        raise AssertionError("memory was taken for a batch")

    for batch in batches:
        monkeypatch.setattr(torch, "zeros", never)
        gpu.score(batch)
        monkeypatch.undo()
    assert (device.captures, device.allocations) == (captures, allocations)


def test_models_of_one_backbone_share_a_trunk_and_a_pass(
    models: list[Bundle], gpu: GpuBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = []
    run = Graph.run

    def counting(self: Graph, compute: FakeStream) -> None:
        passes.append(len(self.rows))
        run(self, compute)

    monkeypatch.setattr(Graph, "run", counting)
    picture = np.zeros((64, 64, 3), np.uint8)
    gpu.score([Request(model, model.geometry, picture) for model in models])
    assert passes == [4], "one pass, of the smallest size that holds three pictures"


def test_a_forgotten_models_row_is_taken_by_the_next(models: list[Bundle], tmp_path: Path) -> None:
    device = FakeDevice()
    gpu = backend(models, device)
    captures = device.captures
    gpu.forget(models[1])
    other = bundle.load(write_small_model(tmp_path / "other", threshold=5.0))
    gpu.prepare(other)
    assert device.captures == captures, "no graph was captured again"
    request = Request(other, other.geometry, np.zeros((64, 64, 3), np.uint8))
    check_scores(gpu.score([request]), on_cpu([request]))


@pytest.mark.parametrize("given", [1, 2, 3, 5, 9])
def test_more_pictures_than_fit_are_scored_in_parts(models: list[Bundle], given: int) -> None:
    gpu = backend(models, max_batch=2)
    batch = requests_for(models, given, 3)
    check_scores(gpu.score(batch), on_cpu(batch))
    assert gpu.score([]) == []


def test_more_batches_than_slots_wait_for_the_oldest(models: list[Bundle], gpu: GpuBackend) -> None:
    batches = [requests_for(models, 2, seed) for seed in range(SLOTS + 2)]
    expected = [on_cpu(batch) for batch in batches]
    under_way = [gpu.submit(batch) for batch in batches]
    for waiting, scores in reversed(list(zip(under_way, expected, strict=True))):
        check_scores(waiting(), scores)
        check_scores(waiting(), scores)


class Memory:
    """The device's: refuses tensors that are too large, by their shape and number of bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_too_large: Callable[[tuple[int, ...], int], bool] = lambda _shape, _size: False
        zeros = torch.zeros

        def scarce(*shape: int, **more: Any) -> torch.Tensor:
            found = zeros(*shape, **more)
            if "device" in more and self.is_too_large(tuple(found.shape), found.nbytes):
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            return found

        monkeypatch.setattr(torch, "zeros", scarce)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    return Memory(monkeypatch)


def test_out_of_memory_makes_the_batch_smaller_and_says_so(
    models: list[Bundle], memory: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    memory.is_too_large = lambda shape, _size: len(shape) == 4 and shape[0] > 2
    gpu = backend(models[:1], max_batch=8)
    assert "Batches hold at most 2 from now on" in caplog.text
    batch = requests_for(models[:1], 7, 0)
    check_scores(gpu.score(batch), on_cpu(batch))


def test_no_room_for_one_picture_is_refused(models: list[Bundle], memory: Memory) -> None:
    memory.is_too_large = lambda shape, _size: len(shape) == 4
    with pytest.raises(UsageError, match=r"memory does not suffice for one picture at a time: .* 64x64 does not fit"):
        backend(models[:1])


def test_out_of_memory_for_pictures_makes_the_batch_smaller(
    models: list[Bundle], memory: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    gpu = backend(models, max_batch=8)
    memory.is_too_large = lambda shape, size: len(shape) == 2 and size > 40_000
    batch = requests_for(models, 7, 0)
    check_scores(gpu.score(batch), on_cpu(batch))
    assert "from now on" in caplog.text


def test_pictures_of_all_sizes_do_not_fill_the_device(models: list[Bundle], monkeypatch: pytest.MonkeyPatch) -> None:
    kept: weakref.WeakSet[Any] = weakref.WeakSet()

    def counted(how: Preparation, device: torch.device) -> Callable[[torch.Tensor, torch.Tensor], None]:
        made = preparing(how, device)
        kept.add(made)
        return made

    monkeypatch.setattr("inspectd.engine.gpu.backend.preparing", counted)
    gpu = backend(models)
    for i in range(MOST_PREPARATIONS + 5):
        request = Request(models[0], models[0].geometry, np.full((20 + i, 30), i, np.uint8))
        check_scores(gpu.score([request]), on_cpu([request]))
        assert 0 < len(kept) <= MOST_PREPARATIONS


def test_scores_that_are_no_numbers_stay_none(models: list[Bundle]) -> None:
    broken = np.full((1, *models[0].params.input_shape), np.nan, np.float32)
    assert np.isnan(backend(models[:1]).score_normalised(models[0], broken)).all()


@pytest.mark.parametrize(("largest", "sizes"), [(1, [1]), (2, [1, 2]), (16, [1, 2, 4, 8, 16]), (12, [1, 2, 4, 8, 12])])
def test_batch_sizes(largest: int, sizes: list[int]) -> None:
    assert BatchLimit(largest).sizes == sizes
    assert [BatchLimit(largest).fitting(n) for n in sizes] == sizes


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("kind", ["colour", "grey", "deep colour", "deep grey"])
def test_the_devices_pictures_are_the_cpus_within_one_grey_level(name: str, kind: str) -> None:
    geometry, normalisation = GEOMETRIES[name], ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    shape = (90, 120, 3) if "colour" in kind else (90, 120)
    white = 4095
    draws = np.random.default_rng(0)
    picture: Picture = (
        draws.integers(0, 5000, shape, np.uint16) if "deep" in kind else draws.integers(0, 255, shape, np.uint8)
    )
    how = Preparation(shape, "deep" in kind, geometry, white, normalisation)
    top, bottom = how.band
    band = torch.from_numpy(picture[top:bottom])
    assert tuple(band.shape) == how.band_shape
    assert band.nbytes == how.band_bytes
    found = torch.zeros(3, geometry.height, geometry.width)
    prepare = preparing(how, torch.device("cpu"))
    for _ in range(2):
        prepare(band, found)
    expected = network_input(picture, geometry, white, *normalisation)
    levels = np.array(normalisation[1])[:, None, None] * 255
    assert np.abs((found.numpy() - expected) * levels).max() <= 1.001
    assert np.abs((found.numpy() - expected) * levels).mean() < 0.3
    assert resize(picture, geometry, white).shape == found.shape


def test_memory_that_torch_keeps_for_graphs_is_not_free() -> None:
    segments = [
        {"device": 0, "total_size": 100, "allocated_size": 30, "segment_pool_id": (0, 0)},
        {"device": 0, "total_size": 100, "allocated_size": 0, "segment_pool_id": (0, 1)},
        {"device": 1, "total_size": 100, "allocated_size": 0, "segment_pool_id": (0, 0)},
        {"device": 0, "total_size": 100, "allocated_size": 0},
    ]
    assert unused(segments, 0) == 70
