"""How long each stage of the engine takes for a frame, with nothing overlapping."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from inspectd.engine.backend import Backend, Floats, Request
from inspectd.engine.gpu.backend import GpuBackend
from inspectd.engine.workers import Workers
from inspectd.line.judge import Criterion, judge
from inspectd.simplenet.preprocess import network_input

Seconds = dict[str, float]


def stages_ms(backend: Backend, batches: Sequence[list[Request]]) -> dict[str, float]:
    """Return the median time of each stage, in milliseconds for one frame: `network` is backbone and head together."""
    seen: dict[str, list[float]] = {}
    one_core = Workers(1)
    for requests in batches:
        if isinstance(backend, GpuBackend):
            scores, seconds = _on_gpu(backend, requests)
        else:
            scores, seconds = _on_cpu(backend, one_core, requests)
        began = time.perf_counter()
        for request, one in zip(requests, scores, strict=True):
            height, width = request.picture.shape[:2]
            criterion = Criterion(float(np.median(one)), [0.0], "bench")  # half of the picture is a defect
            judge(one, criterion, (width, height), request.geometry.area(width, height))
        seconds["mask"] = time.perf_counter() - began
        for stage, taken in seconds.items():
            seen.setdefault(stage, []).append(taken * 1e3 / len(requests))
    return {stage: statistics.median(values) for stage, values in seen.items()}


def _on_cpu(backend: Backend, one_core: Workers, requests: Sequence[Request]) -> tuple[list[Floats], Seconds]:
    seconds: Seconds = {"preprocess": 0.0, "network": 0.0}
    scores = []
    for request in requests:
        began = time.perf_counter()
        input_ = one_core.map(lambda one: network_input(one.picture, one.geometry), [request])[0]
        resized = time.perf_counter()
        scores.append(backend.score_normalised(request.model, input_[None])[0])
        seconds["preprocess"] += resized - began
        seconds["network"] += time.perf_counter() - resized
    return scores, seconds


def _on_gpu(backend: GpuBackend, requests: Sequence[Request]) -> tuple[list[Floats], Seconds]:
    """Let the host wait after each stage, for as long as one call takes."""
    seconds: Seconds = {}
    names = {
        "upload_rows": "upload",
        "preprocess_rows": "preprocess",
        "run_network": "network",
        "download_scores": "download",
    }
    for method, stage in names.items():
        setattr(backend, method, _timed(getattr(backend, method), stage, seconds))
    try:
        return backend.score(requests), seconds
    finally:
        for method in names:
            delattr(backend, method)


def _timed(stage: Callable[..., None], name: str, seconds: Seconds) -> Callable[..., None]:
    def run(*arguments: object) -> None:
        torch.cuda.synchronize()
        began = time.perf_counter()
        stage(*arguments)
        torch.cuda.synchronize()
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - began

    return run
