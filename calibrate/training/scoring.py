"""Scores of pictures that were resized for the network already, by the engine that will judge."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from inspectd.engine.backend import Backend, Floats
from inspectd.model.artefact import Artefact
from inspectd.simplenet.preprocess import normalised


def worst(patch_scores: Floats, seen: NDArray[np.bool_] | None) -> list[float]:
    """Return the score of each picture from patch scores [B, h, w]; `seen`: the patches that count, None: all."""
    rows = patch_scores.reshape(len(patch_scores), -1)
    scores: list[float] = (rows if seen is None else rows[:, seen.reshape(-1)]).max(axis=1).tolist()
    return scores


def score_pixels(backend: Backend, model: Artefact, pixels: Tensor) -> Floats:
    """Return raw patch scores [B, h, w] of resized pictures [B, 3, H, W], 0 … 255."""
    return backend.score_normalised(model, np.stack([normalised(one.cpu(), *model.normalisation) for one in pixels]))
