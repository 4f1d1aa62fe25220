"""How long a part will take on this machine, before anything is learned."""

from __future__ import annotations

import statistics
import time

import numpy as np

from calibrate.training.crossfit import shape_for
from calibrate.training.options import Options
from inspectd.engine.backend import Backend, Request
from inspectd.simplenet import backbone as backbones
from inspectd.simplenet.bundle import Bundle
from inspectd.simplenet.network import Head

ROUNDS = 5


def milliseconds_a_part(options: Options, backend: Backend, picture: tuple[int, int]) -> float:
    """Return the median time from a picture of this width and height to its scores, by a network of this size."""
    shape = options.shape
    if options.recipe is not None:
        shape = shape_for(shape, options.recipe, options.recipe.memory_patches)
    params = options.with_shape(shape).params
    backbone = backbones.pretrained(options.backbone, options.layers, params.input_shape, options.weights)
    model = Bundle(
        params=params, calibration=None, name="timing", digest="timing", head=Head(shape).eval(), backbone=backbone
    )
    backend.prepare(model, is_draft=True)
    width, height = picture
    request = Request(model, options.geometry(picture), np.full((height, width, 3), 128, np.uint8))
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        backend.score([request])
        took.append((time.perf_counter() - began) * 1e3)
    backend.forget(model)
    return statistics.median(took)
