"""Batches for the GPU's backend, on fake streams and on a real GPU, and what a CPU says of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import cast

import numpy as np
import torch

from inspectd.engine.backend import Backend, Floats, Request
from inspectd.engine.choose import choose_backend
from inspectd.engine.gpu.backend import GpuBackend
from inspectd.engine.gpu.preprocess import Preparation, preparing
from inspectd.model.geometry import Geometry
from inspectd.simplenet.bundle import Bundle

BOUND = 1e-4  # of the largest score
GEOMETRIES = {
    "all": Geometry(64, 96),
    "roi": Geometry(64, 64, (10, 5, 60, 40)),
    "roi of another picture": Geometry(32, 64, (10, 5, 60, 40), (200, 100)),
    "cropped": Geometry(48, 48, resize=56),
    "as it is": Geometry(90, 120),
}


@functools.cache
def _cpu() -> Backend:
    return choose_backend("cpu:torch", "float32")


def requests_for(models: list[Bundle], count: int, seed: int) -> list[Request]:
    draws = np.random.default_rng(seed)
    shapes: list[tuple[int, ...]] = [(48, 64, 3), (70, 40), (64, 64, 3)]
    chosen = [(models[draws.integers(len(models))], shapes[draws.integers(len(shapes))]) for _ in range(count)]
    return [Request(model, model.geometry, draws.integers(0, 255, shape, np.uint8)) for model, shape in chosen]


def on_cpu(requests: list[Request]) -> list[np.ndarray]:
    """Score one after the other in another backend, from the device's own preparation of each picture."""
    found = []
    for request in requests:
        model, picture = cast("Bundle", request.model), request.picture
        _cpu().prepare(model)
        how = Preparation(picture.shape, False, request.geometry, 255, model.normalisation)
        prepared = torch.zeros(1, *model.params.input_shape)
        preparing(how, torch.device("cpu"))(torch.from_numpy(picture), prepared[0])
        found.append(_cpu().score_normalised(model, prepared.numpy())[0])
    return found


def check_scores(found: list[np.ndarray], expected: list[np.ndarray], bound: float = BOUND) -> None:
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert np.abs(ours - theirs).max() <= bound * np.abs(theirs).max()


def keep_busy(backend: GpuBackend, models: list[Bundle], seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Keep several batches under way; overwrite each picture as soon as its scores are there, as a camera does."""
    draws = np.random.default_rng(seed)
    batches = [requests_for(models, int(draws.integers(1, 8)), 100 * seed + i) for i in range(6)]
    expected = [scores for batch in batches for scores in on_cpu(batch)]
    found: list[np.ndarray] = []
    under_way = []
    for batch in batches:
        under_way.append((backend.submit(batch), batch))
        if len(under_way) == backend.depth:
            found += collect(*under_way.pop(0))
    for waiting, batch in under_way:
        found += collect(waiting, batch)
    return found, expected


def collect(waiting: Callable[[], list[Floats]], batch: list[Request]) -> list[np.ndarray]:
    scores = waiting()
    for request in batch:
        request.picture[:] = 255
    return list(scores)
