"""The backend of a CPU: small networks run side by side, one picture on each core; large ones one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from inspectd.engine.backend import Flight, Floats, Form, Parity, Request
from inspectd.engine.prepared import Library, Prepared
from inspectd.engine.runtime import Compiled, Lap, Runtime, Stopwatch, no_lap, usable_cores
from inspectd.engine.workers import Helpers
from inspectd.model.artefact import Artefact
from inspectd.simplenet.bundle import Bundle
from inspectd.simplenet.preprocess import network_input


class CpuBackend:
    """Scores through runtimes of the CPU.

    Pictures of a small network are scored side by side, each on one core from its resize to its scores. A large
    network takes all cores for one picture, while the next one is resized.
    """

    max_batch = 1

    def __init__(self, runtimes: Sequence[Runtime], why: str = "", threads: int = 0) -> None:
        """`runtimes`: in the order in which they are tried for a model."""
        self.form: Form = runtimes[0].form
        self.why = why
        self._library = Library(runtimes)
        self._helpers = Helpers(usable_cores(threads))

    @property
    def tracks(self) -> int:
        """How many pictures are scored at once, of whichever model."""
        return self._library.tracks

    @property
    def depth(self) -> int:
        """One picture for each track and one that is ready to follow."""
        return self.tracks + 1

    def prepare(self, model: Bundle, *, is_draft: bool = False) -> Parity:
        """Make a model ready to judge; UsageError when no form of it agrees with the textbook."""
        return self._library.prepare(model, is_draft=is_draft).parity

    def forget(self, model: Artefact) -> None:
        """Give up what is held for a model that is not needed any more."""
        self._library.forget(model)

    def submit(self, requests: Sequence[Request]) -> Flight:
        """Begin to score pictures; those of a large network wait for the flight's caller to pass them through it."""
        begun = [self._begin(request) for request in requests]
        return lambda: [finish() for finish in begun]

    def _begin(self, request: Request) -> Callable[[], Floats]:
        prepared = self._library.find(request.model)
        if prepared.trunk.tracks > 1:
            return self._helpers.submit(lambda: _run(prepared, _input(request)))
        input_ = self._helpers.submit(_input, request)
        return lambda: _run(prepared, input_())

    def score(self, requests: Sequence[Request]) -> list[Floats]:
        """Return raw patch scores [h, w] for each request, in their order; higher is worse."""
        return self.submit(requests)()

    def score_normalised(self, model: Artefact, inputs: Floats) -> Floats:
        """Return raw patch scores [B, h, w] of normalised inputs [B, 3, H, W]."""
        prepared = self._library.find(model)
        given = np.ascontiguousarray(inputs.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)  # as a CPU's convolutions want
        scores = np.stack(list(self._map(prepared.trunk)(partial(_run, prepared), given)))
        # Some runtimes' activations turn a NaN into a zero, and the score into one that looks like any other.
        scores[~np.isfinite(given).all(axis=(1, 2, 3))] = np.nan
        return scores

    def stages(self, requests: Sequence[Request]) -> dict[str, float]:
        """Score one picture after the other and return how long each stage took, in seconds for all of them."""
        prepared = [self._library.find(request.model) for request in requests]
        watch = Stopwatch()
        for one, request in zip(prepared, requests, strict=True):
            input_ = self._helpers.submit(_input, request)()
            watch("preprocess")
            list(self._map(one.trunk)(partial(_run, one, lap=watch), [input_]))
        return watch.seconds

    def backbone_alone(self, model: Bundle) -> Callable[[Floats], None]:
        """Return what passes normalised inputs [B, 3, H, W] through a model's backbone and nothing else."""
        alone = self._library.backbone_alone(model)

        def run(inputs: Floats) -> None:
            list(self._map(alone)(lambda one: alone.run(one[None]), inputs))

        return run

    def _map(self, trunk: Compiled) -> Callable[..., Iterable[Any]]:
        """Return what calls a function with each of several inputs, on as many tracks as there are."""
        return self._helpers.map if trunk.tracks > 1 else map

    def pin(self, _address: int, _size: int) -> Callable[[], None]:
        """Do nothing: a CPU reads a camera's memory as it is."""
        return lambda: None


def _input(request: Request) -> Floats:
    """Return a normalised picture, float32 [3, H, W]."""
    model = request.model
    return network_input(request.picture, request.geometry, model.white_level, *model.normalisation)


def _run(prepared: Prepared, input_: Floats, lap: Lap = no_lap) -> Floats:
    """Return the scores [h, w] of a normalised picture [3, H, W]."""
    scores: Floats = prepared.trunk.score(input_[None], [prepared.head], lap)[0]
    return scores
