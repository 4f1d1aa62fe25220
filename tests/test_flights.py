"""The GPU's backend on fake streams, which do their work in every order that no event forbids."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from conftest import write_small_model
from fakes.streams import FakeDevice, FakeStream

from inspectd.engine.backend import Request
from inspectd.engine.choose import choose_backend
from inspectd.engine.gpu.backend import MOST_PREPARATIONS, SLOTS, GpuBackend
from inspectd.engine.gpu.networks import BatchLimit, CudaTrunk, Graph
from inspectd.engine.gpu.preprocess import Preparation, preparing
from inspectd.errors import UsageError
from inspectd.model.geometry import Geometry
from inspectd.records import Picture
from inspectd.simplenet import bundle
from inspectd.simplenet.bundle import Bundle
from inspectd.simplenet.preprocess import network_input, resize

pytestmark = pytest.mark.usefixtures("one_thread")
BOUND = 1e-4  # of the largest score


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    folder = tmp_path_factory.mktemp("flights")
    return [bundle.load(write_small_model(folder / name, threshold=10.0 * t)) for t, name in enumerate("abc", 1)]


def backend(models: list[Bundle], seed: int = 0, max_batch: int = 4) -> GpuBackend:
    flights = GpuBackend(FakeDevice(seed), ["float32"], max_batch=max_batch)
    for model in models:
        flights.prepare(model)
    return flights


def requests_for(models: list[Bundle], count: int, seed: int) -> list[Request]:
    draws = np.random.default_rng(seed)
    shapes: list[tuple[int, ...]] = [(48, 64, 3), (70, 40), (64, 64, 3)]
    chosen = [(models[draws.integers(len(models))], shapes[draws.integers(len(shapes))]) for _ in range(count)]
    return [Request(model, model.geometry, draws.integers(0, 255, shape, np.uint8)) for model, shape in chosen]


def on_cpu(requests: list[Request]) -> list[np.ndarray]:
    """Score one after the other in another backend, from the device's own preparation of each picture."""
    torch_backend, found = choose_backend("cpu:torch", "float32"), []
    for request in requests:
        model, picture = cast("Bundle", request.model), request.picture
        torch_backend.prepare(model)
        how = Preparation(picture.shape, False, request.geometry, 255, model.normalisation)
        prepared = torch.zeros(1, *model.params.input_shape)
        preparing(how, torch.device("cpu"))(torch.from_numpy(picture), prepared[0])
        found.append(torch_backend.score_normalised(model, prepared.numpy())[0])
    return found


def check(found: list[np.ndarray], expected: list[np.ndarray], bound: float = BOUND) -> None:
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert np.abs(ours - theirs).max() <= bound * np.abs(theirs).max()


def fly(flights: GpuBackend, models: list[Bundle], seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Keep several batches under way; overwrite each picture as soon as its batch has landed, as a camera does."""
    draws = np.random.default_rng(seed)
    batches = [requests_for(models, int(draws.integers(1, 8)), 100 * seed + i) for i in range(6)]
    expected = [scores for batch in batches for scores in on_cpu(batch)]
    found: list[np.ndarray] = []
    under_way = []
    for batch in batches:
        under_way.append((flights.submit(batch), batch))
        if len(under_way) == flights.depth:
            found += land(*under_way.pop(0))
    for flight, batch in under_way:
        found += land(flight, batch)
    return found, expected


def land(flight: object, batch: list[Request]) -> list[np.ndarray]:
    scores = flight()  # type: ignore[operator]
    for request in batch:
        request.picture[:] = 255
    return list(scores)


@pytest.mark.parametrize("seed", range(8))
def test_scores_are_the_cpus_in_whatever_order_streams_work(models: list[Bundle], seed: int) -> None:
    flights = backend(models, seed)
    check(*fly(flights, models, seed))


@pytest.mark.parametrize("stream", [1, 2])
def test_a_missing_wait_would_be_found(models: list[Bundle], monkeypatch: pytest.MonkeyPatch, stream: int) -> None:
    """The test above can fail: without its waits, compute (1) and download (2) read too early."""
    wrong = 0
    for seed in range(6):
        flights = backend(models, seed)
        deaf = flights._device._streams[stream]  # type: ignore[attr-defined]
        monkeypatch.setattr(deaf, "wait", lambda event: None)
        found, expected = fly(flights, models, seed)
        wrong += any(np.abs(a - b).max() > BOUND * np.abs(b).max() for a, b in zip(found, expected, strict=True))
    assert wrong


def test_nothing_is_taken_once_everything_was_seen(models: list[Bundle], monkeypatch: pytest.MonkeyPatch) -> None:
    flights = backend(models)
    device: FakeDevice = flights._device  # type: ignore[assignment]
    batches = [requests_for(models, 4, seed) for seed in range(SLOTS)]
    for batch in batches:
        flights.score(batch)
    captures, allocations = device.captures, device.allocations

    def never(*_: object, **__: object) -> None:
        raise AssertionError("memory was taken for a batch")

    for batch in batches:
        monkeypatch.setattr(torch, "zeros", never)
        flights.score(batch)
        monkeypatch.undo()
    assert (device.captures, device.allocations) == (captures, allocations)


def test_models_of_one_backbone_share_a_trunk_and_a_pass(models: list[Bundle], monkeypatch: pytest.MonkeyPatch) -> None:
    flights = backend(models)
    passes = []
    run = Graph.run

    def counting(self: Graph, compute: FakeStream) -> None:
        passes.append(len(self.rows))
        run(self, compute)

    monkeypatch.setattr(Graph, "run", counting)
    picture = np.zeros((64, 64, 3), np.uint8)
    flights.score([Request(model, model.geometry, picture) for model in models])
    assert passes == [4], "one pass, of the smallest size that holds three pictures"


def test_a_forgotten_models_row_is_taken_by_the_next(models: list[Bundle], tmp_path: Path) -> None:
    flights = backend(models)
    captures = flights._device.captures  # type: ignore[attr-defined]
    flights.forget(models[1])
    other = bundle.load(write_small_model(tmp_path / "other", threshold=5.0))
    flights.prepare(other)
    assert flights._device.captures == captures, "no graph was captured again"  # type: ignore[attr-defined]
    request = Request(other, other.geometry, np.zeros((64, 64, 3), np.uint8))
    check(flights.score([request]), on_cpu([request]))


@pytest.mark.parametrize("given", [1, 2, 3, 5, 9])
def test_more_pictures_than_fit_are_flown_in_parts(models: list[Bundle], given: int) -> None:
    flights = backend(models, max_batch=2)
    batch = requests_for(models, given, 3)
    check(flights.score(batch), on_cpu(batch))
    assert flights.score([]) == []


def test_more_flights_than_slots_wait_for_the_oldest(models: list[Bundle]) -> None:
    flights = backend(models)
    batches = [requests_for(models, 2, seed) for seed in range(SLOTS + 2)]
    expected = [on_cpu(batch) for batch in batches]
    under_way = [flights.submit(batch) for batch in batches]
    for flight, scores in reversed(list(zip(under_way, expected, strict=True))):
        check(flight(), scores)
        check(flight(), scores)


def test_out_of_memory_makes_the_batch_smaller_and_says_so(
    models: list[Bundle], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    captured = CudaTrunk._capture

    def scarce(self: CudaTrunk, bank: object, size: int) -> object:
        if size > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return captured(self, bank, size)  # type: ignore[arg-type]

    monkeypatch.setattr(CudaTrunk, "_capture", scarce)
    flights = backend(models[:1], max_batch=8)
    assert "Batches hold at most 2 from now on" in caplog.text
    batch = requests_for(models[:1], 7, 0)
    check(flights.score(batch), on_cpu(batch))


def test_no_room_for_one_picture_is_refused(models: list[Bundle], monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(self: CudaTrunk, bank: object, size: int) -> object:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(CudaTrunk, "_capture", none_left)
    with pytest.raises(UsageError, match=r"memory does not suffice for one picture at a time: .* 64x64 does not fit"):
        backend(models[:1])


def test_out_of_memory_for_pictures_makes_the_batch_smaller(
    models: list[Bundle], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from inspectd.engine.gpu.backend import _Slot

    fitted = _Slot.fit

    def scarce(self: _Slot, count: int, picture_bytes: int, scores: int) -> None:
        if count * picture_bytes > 40_000:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        fitted(self, count, picture_bytes, scores)

    monkeypatch.setattr(_Slot, "fit", scarce)
    flights = backend(models, max_batch=8)
    batch = requests_for(models, 7, 0)
    check(flights.score(batch), on_cpu(batch))
    assert "from now on" in caplog.text


def test_pictures_of_all_sizes_do_not_fill_the_device(models: list[Bundle]) -> None:
    flights = backend(models)
    for i in range(MOST_PREPARATIONS + 5):
        request = Request(models[0], models[0].geometry, np.full((20 + i, 30), i, np.uint8))
        check(flights.score([request]), on_cpu([request]))
        assert len(flights._preparations) <= MOST_PREPARATIONS


def test_scores_that_are_no_numbers_stay_none(models: list[Bundle]) -> None:
    broken = np.full((1, *models[0].params.input_shape), np.nan, np.float32)
    assert np.isnan(backend(models[:1]).score_normalised(models[0], broken)).all()


@pytest.mark.parametrize(("largest", "sizes"), [(1, [1]), (2, [1, 2]), (16, [1, 2, 4, 8, 16]), (12, [1, 2, 4, 8, 12])])
def test_batch_sizes(largest: int, sizes: list[int]) -> None:
    assert BatchLimit(largest).sizes == sizes
    assert [BatchLimit(largest).fitting(n) for n in sizes] == sizes


GEOMETRIES = {
    "all": Geometry(64, 96),
    "roi": Geometry(64, 64, (10, 5, 60, 40)),
    "roi of another picture": Geometry(32, 64, (10, 5, 60, 40), (200, 100)),
    "cropped": Geometry(48, 48, resize=56),
    "as it is": Geometry(90, 120),
}


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
