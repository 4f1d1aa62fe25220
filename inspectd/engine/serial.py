"""The backend of a CPU: pictures are prepared side by side on the CPU, and scored one after another."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from inspectd.engine.library import Library, Prepared
from inspectd.engine.parity import Parity
from inspectd.engine.runtime import Floats, Form, Lap, Runtime, no_lap
from inspectd.engine.station import Flight, Request
from inspectd.simplenet.bundle import Bundle
from inspectd.simplenet.preprocess import network_input, normalised


class SerialBackend:
    """Scores through one runtime. While one picture is in the network, the next ones of its batch are resized."""

    depth = 1
    torch_device = torch.device("cpu")

    def __init__(self, runtimes: Sequence[Runtime], why: str = "", threads: int = 0) -> None:
        """`runtimes`: in the order in which they are tried for a model."""
        self.form: Form = runtimes[0].form
        self.why = why
        self._library = Library(runtimes)
        self._helpers = ThreadPoolExecutor(threads or len(os.sched_getaffinity(0)), thread_name_prefix="preprocess")

    def prepare(self, model: Bundle, *, is_draft: bool = False) -> Parity:
        """Make a model ready to judge; UsageError when no form of it agrees with the textbook."""
        return self._library.prepare(model, is_draft=is_draft).parity

    def forget(self, model: Bundle) -> None:
        """Give up what is held for a model that is not needed any more."""
        self._library.forget(model)

    def submit(self, requests: Sequence[Request]) -> Flight:
        """Score at once; nothing overlaps here."""
        scores = self.score(requests)
        return lambda: scores

    def score(self, requests: Sequence[Request]) -> list[Floats]:
        """Return raw patch scores [h, w] for each request, in their order; higher is worse."""
        prepared = [self._library.prepare(request.model) for request in requests]
        if len(requests) == 1:
            return [_run(prepared[0], _input(requests[0]))]
        inputs = self._helpers.map(_input, requests)
        return [_run(one, input_) for one, input_ in zip(prepared, inputs, strict=True)]

    def score_inputs(self, model: Bundle, pixels: Tensor) -> Floats:
        """Return raw patch scores [B, h, w] of resized pictures [B, 3, H, W], 0 … 255."""
        inputs = np.stack([normalised(one, *model.normalisation) for one in pixels])
        return self.score_normalised(model, torch.from_numpy(inputs))

    def score_normalised(self, model: Bundle, inputs: Tensor) -> Floats:
        """Return raw patch scores [B, h, w] of normalised inputs float32 [B, 3, H, W]."""
        prepared = self._library.prepare(model)
        scores = prepared.trunk.score(inputs.contiguous().numpy(), [prepared.head] * len(inputs))
        # Some runtimes' activations turn a NaN into a zero, and the score into one that looks like any other.
        scores[~inputs.isfinite().flatten(1).all(1).numpy()] = np.nan
        return scores

    def stages(self, requests: Sequence[Request]) -> dict[str, float]:
        """Score one picture after the other and return how long each stage took, in seconds for all of them."""
        seconds: dict[str, float] = {}
        began = time.perf_counter()

        def lap(stage: str) -> None:
            nonlocal began
            now = time.perf_counter()
            seconds[stage] = seconds.get(stage, 0.0) + now - began
            began = now

        for request in requests:
            prepared = self._library.prepare(request.model)
            began = time.perf_counter()
            input_ = _input(request)
            lap("preprocess")
            _run(prepared, input_, lap)
        return seconds

    def pin(self, _address: int, _size: int) -> Callable[[], None]:
        """Do nothing: a CPU reads a camera's memory as it is."""
        return lambda: None


def _input(request: Request) -> Floats:
    """Return a normalised picture, float32 [3, H, W]."""
    model = request.model
    return network_input(request.picture, request.geometry, model.white_level, *model.normalisation)


def _run(prepared: Prepared, input_: Floats, lap: Lap = no_lap) -> Floats:
    scores: Floats = prepared.trunk.score(input_[None], [prepared.head], lap)[0]
    return scores
