"""Held-out parts, as they are, painted and disturbed, scored by heads that never saw them, in the form that judges."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import islice

import torch

from calibrate.data.disturbance import DISTURBANCES
from calibrate.data.training_set import Pictures
from calibrate.progress import Watcher
from calibrate.training.scoring import score_pixels, worst
from calibrate.training.trained import Trained
from calibrate.training.withstood import Withstood, withstood_of
from inspectd.engine.backend import Backend, Variant
from inspectd.errors import StartError
from inspectd.model.calibration import ThresholdRecord
from inspectd.simplenet.bundle import Bundle

TOGETHER = 8
"""Pictures that are given to the engine at once, which scores those of a small network side by side."""


@dataclass(frozen=True, slots=True)
class Tried:
    """Scores of what the trials tried."""

    good: dict[int, float] = field(default_factory=dict)
    """By position."""
    painted: list[float] = field(default_factory=list)
    disturbed: dict[int, list[float]] = field(default_factory=dict)
    """By position: a score for each disturbance."""

    def withstood(self, threshold: ThresholdRecord | None) -> list[Withstood]:
        """Return what a threshold withstands."""
        return [] if threshold is None else withstood_of(threshold.value, self.good, self.disturbed)


def try_out(pictures: Pictures, trained: Trained, like: Bundle, backend: Backend, watcher: Watcher) -> Tried:
    """Return the scores of what the trials try, as `like` is judged."""
    watcher.stage("threshold", sum(map(len, trained.trials)))
    tried = Tried()
    for number, trial in enumerate(trained.trials):
        is_judge = trial.head is trained.head
        model = like if is_judge else replace(like, head=trial.head, digest=f"{like.digest} {number}")
        _check_alike(backend.prepare(model, is_draft=True).variant, backend.prepare(like).variant)
        found: list[float] = []
        inputs = trial.inputs(pictures)
        while some := list(islice(inputs, TOGETHER)):
            scored = score_pixels(backend, model, torch.stack(some))
            found += worst(scored, pictures.seen((scored.shape[1], scored.shape[2])))
            for _ in some:
                watcher.step()
        scores = iter(found)
        tried.good.update(zip(trial.positions, scores, strict=False))
        tried.painted.extend(islice(scores, len(trial.painted)))
        for position in trial.disturbed:
            tried.disturbed[position] = list(islice(scores, len(DISTURBANCES)))
        if not is_judge:
            backend.forget(model)
    return tried


def _check_alike(ours: Variant, judges: Variant) -> None:
    if ours != judges:
        raise StartError(
            f"Heads of one model are scored in {ours} and in {judges}, so no threshold can be set; nothing was "
            "changed. Please report this."
        )
