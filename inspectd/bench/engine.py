"""The engine by itself: forms of one network take turns, so that a noisy machine disturbs all of them alike."""

from __future__ import annotations

import itertools
import resource
import statistics
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from inspectd.bench.models import Kind, random_models
from inspectd.bench.rows import Row, percentile
from inspectd.engine.backend import Backend, Form, Request
from inspectd.engine.choose import torch_device
from inspectd.line.judge import Standard, judge
from inspectd.simplenet.bundle import Bundle
from inspectd.simplenet.preprocess import network_input

ROUND_S = 0.5
STAGED_FRAMES = 16
LEAST_CALLS = 5


@dataclass(frozen=True, slots=True)
class Job:
    """What is measured."""

    kind: Kind
    picture: tuple[int, int]
    """Width, height."""
    batches: Sequence[int]
    models: Sequence[int]
    seconds: float
    """For each form."""
    with_textbook: bool = True


@dataclass(slots=True, eq=False)
class _Contender:
    call: Callable[[], object]
    pictures: int
    """In each call."""
    calls_s: list[float] = field(default_factory=list)
    rounds_s: list[float] = field(default_factory=list)
    """Seconds a call, on average over each round."""

    @property
    def frame_s(self) -> float:
        """Seconds a frame in the median round: calls that overlap end unevenly."""
        return statistics.median(self.rounds_s) / self.pictures


@dataclass(frozen=True, slots=True)
class _Form:
    """A form of the network: as many pictures as it takes at once, and one batch with nothing else under way."""

    flow: _Contender
    single: _Contender


def measure(backend: Backend, job: Job) -> Iterator[Row]:
    """Yield a row for each form, batch and number of models."""
    models = random_models(job.kind, max(job.models))
    draws = np.random.default_rng(0)
    width, height = job.picture
    pictures = [draws.integers(0, 255, (height, width, 3), np.uint8) for _ in range(max(job.batches))]
    textbook = _Textbook(models[0], torch_device(backend.form.device)) if job.with_textbook else None
    form = backend.prepare(models[0], is_draft=True).form
    alone = backend.backbone_alone(models[0])
    prepared = 1
    for count in sorted(job.models):
        for model in models[prepared:count]:
            backend.prepare(model, is_draft=True)
        prepared = count
        for batch in job.batches:
            turn = itertools.cycle(models[:count])
            # Each call has the next models of the list: 32 models at batch 1 take turns.
            flights = itertools.cycle(
                [
                    [Request(model, model.geometry, pictures[i]) for i, model in zip(range(batch), turn, strict=False)]
                    for _ in range(max(1, -(-count // batch)))
                ]
            )
            whole = _Pipelined(backend, flights)
            inputs = np.stack([network_input(one, models[0].geometry) for one in pictures[:batch]])
            many = np.concatenate([inputs] * backend.tracks)
            network = _Contender(partial(backend.score_normalised, models[0], many), len(many))
            flow = _Contender(partial(alone, many), len(many))
            single = flow if backend.tracks == 1 else _Contender(partial(alone, inputs), batch)
            forms = {
                "backbone": _Form(flow, single),
                "folded": _Form(
                    _Contender(whole, batch),
                    _Contender(lambda flights=flights: backend.score(next(flights)), batch),  # type: ignore[misc]
                ),
            }
            if textbook is not None:
                first = [Request(models[0], models[0].geometry, one) for one in pictures[:batch]]
                plain = _Contender(partial(textbook, first), batch)
                forms = {"textbook": _Form(plain, plain)} | forms
            _take_turns(
                {network, *(one for form_ in forms.values() for one in (form_.flow, form_.single))}, job.seconds
            )
            whole.land()
            stages = _stages(backend, [next(flights) for _ in range(max(1, STAGED_FRAMES // batch))])
            stages = _parted(stages, statistics.median(single.calls_s) * 1e3 / batch)
            memory = (_host_mb(), _device_mb(torch_device(backend.form.device)))
            yield from _rows(forms, network, job, form, batch, count, stages, memory)


def trace(backend: Backend, job: Job, path: Path) -> None:
    """Write what happens in a few batches as a trace for chrome://tracing or Perfetto."""
    from torch.profiler import ProfilerActivity, profile

    model = random_models(job.kind, 1)[0]
    backend.prepare(model, is_draft=True)
    width, height = job.picture
    picture = np.zeros((height, width, 3), np.uint8)
    requests = [Request(model, model.geometry, picture)] * max(job.batches)
    activities = [ProfilerActivity.CPU]
    if backend.form.device.startswith("cuda"):
        activities.append(ProfilerActivity.CUDA)
    backend.score(requests)
    with profile(activities=activities) as profiler:
        under_way = [backend.submit(requests) for _ in range(backend.depth)]
        for flight in under_way:
            flight()
    profiler.export_chrome_trace(str(path))


class _Pipelined:
    """Keeps as many batches under way as the engine does; a call begins one and ends one."""

    def __init__(self, backend: Backend, flights: Iterator[list[Request]]) -> None:
        self._backend, self._flights = backend, flights
        self._under_way = [backend.submit(next(flights)) for _ in range(backend.depth - 1)]

    def __call__(self) -> None:
        self._under_way.append(self._backend.submit(next(self._flights)))
        self._under_way.pop(0)()

    def land(self) -> None:
        """End what is still under way."""
        for flight in self._under_way:
            flight()


class _Textbook:
    """The published operations in the published order, float32, without streams: what a plain script would run."""

    def __init__(self, model: Bundle, device: torch.device) -> None:
        self._network = deepcopy(model.network).to(device)
        self._device = device

    def __call__(self, requests: Sequence[Request]) -> list[Tensor]:
        inputs = [torch.from_numpy(network_input(one.picture, one.geometry)) for one in requests]
        with torch.inference_mode():
            if self._device.type == "cpu":  # one after the other: batches only cost cache there
                return [self._network(one[None].contiguous())[0] for one in inputs]
            return list(self._network(torch.stack(inputs).contiguous().to(self._device)).cpu())


def _take_turns(contenders: Collection[_Contender], seconds: float) -> None:
    """Give each contender rounds of its own until it had its time."""
    for one in contenders:
        one.call()  # the first is another one: memory is taken, algorithms are chosen
    while any(sum(one.calls_s) < seconds or len(one.calls_s) < LEAST_CALLS for one in contenders):
        for one in contenders:
            start = began = time.perf_counter()
            calls = 0
            while calls == 0 or began - start < min(ROUND_S, seconds):
                one.call()
                now = time.perf_counter()
                one.calls_s.append(now - began)
                began, calls = now, calls + 1
            one.rounds_s.append((began - start) / calls)


def _stages(backend: Backend, batches: Sequence[list[Request]]) -> dict[str, float]:
    """Return the median time of each stage, in milliseconds for one frame."""
    seen: dict[str, list[float]] = {}
    for requests in batches:
        for stage, seconds in backend.stages(requests).items():
            seen.setdefault(stage, []).append(seconds * 1e3 / len(requests))
        scores = backend.score(requests)
        began = time.perf_counter()
        for request, one in zip(requests, scores, strict=True):
            height, width = request.picture.shape[:2]
            standard = Standard(float(np.median(one)), [0.0], "bench")  # half of the picture is a defect
            judge(one, standard, (width, height), request.geometry.area(width, height))
        seen.setdefault("mask", []).append((time.perf_counter() - began) * 1e3 / len(requests))
    return {stage: statistics.median(values) for stage, values in seen.items()}


def _parted(stages_ms: dict[str, float], backbone_ms: float) -> dict[str, float]:
    """Return stages with the network as its backbone, as that was timed alone, and the rest: the head."""
    parted: dict[str, float] = {}
    for stage, ms in stages_ms.items():
        if stage == "network":
            parted |= {"backbone": min(backbone_ms, ms), "head": max(0.0, ms - backbone_ms)}
        else:
            parted[stage] = ms
    return parted


def _rows(
    forms: dict[str, _Form],
    network: _Contender,
    job: Job,
    form: Form,
    batch: int,
    models: int,
    stages: dict[str, float],
    memory: tuple[float, float | None],
) -> Iterator[Row]:
    for name, one in forms.items():
        times_s = one.single.calls_s
        is_whole = name == "folded"
        yield Row(
            device=form.device.partition(":")[0] if name == "textbook" else form.device,
            precision="float32" if name == "textbook" else form.precision,
            form=name,
            backbone=job.kind.backbone,
            size=f"{job.kind.width}x{job.kind.height}",
            picture="" if name == "backbone" else f"{job.picture[0]}x{job.picture[1]}",
            batch=batch,
            models=models if is_whole else 1,
            cameras=0,
            frames_per_s=1 / one.flow.frame_s,
            p50_ms=statistics.median(times_s) * 1e3,
            p95_ms=percentile(times_s, 0.95) * 1e3,
            p99_ms=percentile(times_s, 0.99) * 1e3,
            stages_ms=stages if is_whole else {},
            host_mb=memory[0] if is_whole else None,
            device_mb=memory[1] if is_whole else None,
            to_textbook=forms["textbook"].flow.frame_s / one.flow.frame_s if is_whole and "textbook" in forms else None,
            to_backbone=network.frame_s / forms["backbone"].flow.frame_s if is_whole else None,
        )


def _host_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def _device_mb(device: torch.device) -> float | None:
    return torch.cuda.memory_allocated(device) / 1e6 if device.type == "cuda" else None
