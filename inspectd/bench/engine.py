"""The engine by itself: forms of one network take turns, so that a noisy machine disturbs all of them alike."""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor

from inspectd.bench.backbone import backbone_alone
from inspectd.bench.models import Kind, random_models
from inspectd.bench.rows import Row
from inspectd.bench.stages import stages_ms
from inspectd.engine.backend import Backend, Request, Variant
from inspectd.engine.choose import torch_device
from inspectd.engine.runtime import Trunk, tracks_for, usable_cores
from inspectd.engine.strips import Strips
from inspectd.percentiles import percentile
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
    begin: Callable[[], object] = lambda: None
    end: Callable[[], object] = lambda: None
    """Before and after the calls of a round; their time does not count."""
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
    with _pictures(backend, max(job.batches), job.picture) as pictures:
        yield from _measure(backend, job, pictures)


@contextmanager
def _pictures(backend: Backend, count: int, size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """Yield noise [count, h, w, 3] in memory as a camera's ring is: page-locked for a GPU."""
    width, height = size
    pictures = np.random.default_rng(0).integers(0, 255, (count, height, width, 3), np.uint8)
    unpin = backend.pin(pictures.ctypes.data, pictures.nbytes)
    try:
        yield pictures
    finally:
        unpin()


def _measure(backend: Backend, job: Job, pictures: NDArray[np.uint8]) -> Iterator[Row]:
    models = random_models(job.kind, max(job.models))
    textbook = _Textbook(models[0], torch_device(backend.variant.device)) if job.with_textbook else None
    variant = backend.prepare(models[0], is_draft=True).variant
    tracks = _tracks(models[0]) if variant.device.startswith("cpu") else 1
    alone = backbone_alone(models[0], variant, tracks)
    prepared = 1
    for count in sorted(job.models):
        for model in models[prepared:count]:
            backend.prepare(model, is_draft=True)
        prepared = count
        for batch in job.batches:
            turn = itertools.cycle(models[:count])
            # Each call has the next models of the list: 32 models at batch 1 take turns.
            requests = itertools.cycle(
                [
                    [Request(model, model.geometry, pictures[i]) for i, model in zip(range(batch), turn, strict=False)]
                    for _ in range(max(1, -(-count // batch)))
                ]
            )
            whole = _Flow(backend, requests)
            inputs = np.stack([network_input(one, models[0].geometry) for one in pictures[:batch]])
            many = np.concatenate([inputs] * tracks)
            network = _Contender(partial(backend.score_normalised, models[0], many), len(many))
            flow = _Contender(partial(alone, many), len(many))
            single = flow if tracks == 1 else _Contender(partial(alone, inputs), batch)
            forms = {
                "backbone": _Form(flow, single),
                "folded": _Form(
                    _Contender(whole, batch, whole.begin, whole.end),
                    _Contender(lambda requests=requests: backend.score(next(requests)), batch),  # type: ignore[misc]
                ),
            }
            if textbook is not None:
                first = [Request(models[0], models[0].geometry, one) for one in pictures[:batch]]
                plain = _Contender(partial(textbook, first), batch)
                forms = {"textbook": _Form(plain, plain)} | forms
            with closing(whole):  # its threads must not read pictures that are unpinned already
                _take_turns(
                    {network, *(one for form_ in forms.values() for one in (form_.flow, form_.single))}, job.seconds
                )
            stages = stages_ms(backend, [next(requests) for _ in range(max(1, STAGED_FRAMES // batch))])
            stages = _parted(stages, statistics.median(single.calls_s) * 1e3 / batch)
            memory = (psutil.Process().memory_info().rss / 1e6, _device_mb(torch_device(backend.variant.device)))
            yield from _rows(forms, network, job, variant, batch, count, stages, memory)


def _tracks(model: Bundle) -> int:
    """Return how many pictures of a model a CPU scores at once."""
    return tracks_for(Trunk(model.backbone, model.head_shape, Strips.whole(model.params.input_shape)), usable_cores(0))


def trace(backend: Backend, job: Job, path: Path) -> None:
    """Write what happens in a few batches as a trace for chrome://tracing or Perfetto."""
    from torch.profiler import ProfilerActivity, profile

    model = random_models(job.kind, 1)[0]
    backend.prepare(model, is_draft=True)
    activities = [ProfilerActivity.CPU]
    if backend.variant.device.startswith("cuda"):
        activities.append(ProfilerActivity.CUDA)
    with _pictures(backend, max(job.batches), job.picture) as pictures:
        requests = [Request(model, model.geometry, one) for one in pictures]
        backend.score(requests)
        with closing(_Flow(backend, itertools.repeat(requests))) as flow, profile(activities=activities) as profiler:
            flow.begin()
            for _ in range(backend.depth):
                flow()
            flow.end()
    profiler.export_chrome_trace(str(path))


class _Flow:
    """Keeps as many batches under way as the engine does, by threads of the same kind; a call waits for one.

    One more is always wanted, as in a daemon where frames wait: no thread waits for whoever counts the batches.
    """

    def __init__(self, backend: Backend, batches: Iterator[list[Request]]) -> None:
        self._backend, self._batches = backend, batches
        self._next = threading.Lock()
        self._wanted = threading.Semaphore(0)
        self._done: SimpleQueue[Exception | None] = SimpleQueue()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._score, daemon=True) for _ in range(backend.depth)]
        for thread in self._threads:
            thread.start()

    def begin(self) -> None:
        """Have all threads at work, each in the middle of a batch of its own."""
        for _ in range(self._ahead):
            self._wanted.release()
        for _ in self._threads:
            self()

    def __call__(self) -> None:
        """Ask for one more batch and wait for one."""
        self._wanted.release()
        self._collect()

    def end(self) -> None:
        """Wait for what is under way: the next contender has the machine to itself."""
        for _ in range(self._ahead):
            self._collect()

    def close(self) -> None:
        """End the threads."""
        self._stop.set()
        for _ in self._threads:
            self._wanted.release()
        for thread in self._threads:
            thread.join()

    @property
    def _ahead(self) -> int:
        return len(self._threads) + 1

    def _collect(self) -> None:
        error = self._done.get()
        if error is not None:
            raise error

    def _score(self) -> None:
        try:
            with self._backend.seat() as score:
                while True:
                    self._wanted.acquire()
                    if self._stop.is_set():
                        return
                    with self._next:
                        requests = next(self._batches)
                    score(requests)
                    self._done.put(None)
        except Exception as error:  # noqa: BLE001 - a thread's top: it is the caller's
            self._done.put(error)


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
        one.begin()
        one.call()  # the first is another one: memory is taken, algorithms are chosen
        one.end()
    while any(sum(one.calls_s) < seconds or len(one.calls_s) < LEAST_CALLS for one in contenders):
        for one in contenders:
            one.begin()
            start = began = time.perf_counter()
            calls = 0
            while calls == 0 or began - start < min(ROUND_S, seconds):
                one.call()
                now = time.perf_counter()
                one.calls_s.append(now - began)
                began, calls = now, calls + 1
            one.rounds_s.append((began - start) / calls)
            one.end()


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
    variant: Variant,
    batch: int,
    models: int,
    stages: dict[str, float],
    memory: tuple[float, float | None],
) -> Iterator[Row]:
    for name, one in forms.items():
        times_s = one.single.calls_s
        is_whole = name == "folded"
        yield Row(
            device=variant.device.partition(":")[0] if name == "textbook" else variant.device,
            precision="float32" if name == "textbook" else variant.precision,
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


def _device_mb(device: torch.device) -> float | None:
    return torch.cuda.memory_allocated(device) / 1e6 if device.type == "cuda" else None
