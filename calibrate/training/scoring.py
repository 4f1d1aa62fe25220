"""Scores of pictures that were resized for the network already, by the engine that will judge."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from inspectd.engine.backend import Backend, Floats
from inspectd.model.artefact import Artefact
from inspectd.simplenet.preprocess import normalised


def score_pixels(backend: Backend, model: Artefact, pixels: Tensor) -> Floats:
    """Return raw patch scores [B, h, w] of resized pictures [B, 3, H, W], 0 … 255."""
    return backend.score_normalised(model, np.stack([normalised(one.cpu(), *model.normalisation) for one in pixels]))
