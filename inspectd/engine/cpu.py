"""The backend of a CPU: small networks run side by side, one picture on each core; large ones one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np

from inspectd.engine.backend import Floats, Parity, Request, Score
from inspectd.engine.idle import IdlePriority
from inspectd.engine.memory import free_memory
from inspectd.engine.prepared import Prepared, PreparedModels
from inspectd.engine.runtime import Runtime, usable_cores
from inspectd.engine.workers import Workers, single_threaded_torch
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
        self.variant = runtimes[0].variant
        self.why = why
        self._models = PreparedModels(runtimes)
        self._workers = Workers(usable_cores(threads))
        self._idle = IdlePriority()

    @property
    def depth(self) -> int:
        """As many pictures as are scored at once, of whichever model; behind one on all cores, the next is resized."""
        return max(2, self._models.tracks)

    def prepare(self, model: Bundle, *, is_draft: bool = False) -> Parity:
        """Make a model ready to judge; UsageError when no variant of it agrees with the textbook."""
        return self._models.prepare(model, is_draft=is_draft).parity

    def forget(self, model: Artefact) -> None:
        """Give up what is held for a model that is not needed any more."""
        self._models.forget(model)

    @contextmanager
    def seat(self) -> Iterator[Score]:
        """Let the calling thread score pictures, one after the other; those of small networks at idle priority."""
        with single_threaded_torch():
            yield self._score_here

    def score(self, requests: Sequence[Request]) -> list[Floats]:
        """Return raw patch scores [h, w] for each request, in their order; higher is worse."""
        return self._workers.map(self._score, requests)

    def score_normalised(self, model: Artefact, inputs: Floats) -> Floats:
        """Return raw patch scores [B, h, w] of normalised inputs [B, 3, H, W]."""
        given = np.ascontiguousarray(inputs.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)  # as a CPU's convolutions want
        scores = np.stack(self._workers.map(partial(_run, self._models.find(model)), given))
        # Some runtimes' activations turn a NaN into a zero, and the score into one that looks like any other.
        scores[~np.isfinite(given).all(axis=(1, 2, 3))] = np.nan
        return scores

    def free_memory(self) -> int:
        """Return what this machine, or the control group, has left."""
        return free_memory()

    def pin(self, _address: int, _size: int) -> Callable[[], None]:
        """Do nothing: a CPU reads a camera's memory as it is."""
        return lambda: None

    def _score_here(self, requests: Sequence[Request]) -> list[Floats]:
        if any(self._models.find(request.model).trunk.tracks == 1 for request in requests):
            return [self._score(request) for request in requests]  # it takes all cores, and long
        with self._idle.scoring():
            return [self._score(request) for request in requests]

    def _score(self, request: Request) -> Floats:
        model = request.model
        prepared = self._models.find(model)
        return _run(prepared, network_input(request.picture, request.geometry, model.white_level, *model.normalisation))


def _run(prepared: Prepared, input_: Floats) -> Floats:
    """Return the scores [h, w] of a normalised picture [3, H, W]."""
    scores: Floats = prepared.trunk.score(input_[None], [prepared.head])[0]
    return scores
