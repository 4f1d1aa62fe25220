"""How long a part will take on this machine, before anything is learned."""

from __future__ import annotations

import dataclasses
import statistics
import time

import numpy as np

from calibrate.data.sizing import PIXELS, Size, Sizing
from calibrate.training.crossfit import shape_for
from calibrate.training.options import Options
from inspectd.engine.backend import Backend, Request
from inspectd.errors import UsageError
from inspectd.simplenet import backbone as backbones
from inspectd.simplenet.bundle import Bundle
from inspectd.simplenet.network import Head

ROUNDS = 5
SHARE = 0.8
"""Of a deadline: the camera and the wire want some of it, and no machine is always as fast."""


def fit_deadline(
    options: Options, backend: Backend, picture: Size, deadline_ms: float, *, is_firm: bool
) -> tuple[Options, str]:
    """Return the options with an input that fits pictures of this width and height, and what to say about its time.

    Where nobody asked for a size, it has as many pixels as the deadline allows. What was asked for is kept; UsageError
    when a deadline that `is_firm` is broken.
    """
    fitted, took_ms = _timed(options, backend, picture)
    told = ""
    if options.sizing is not None and not options.sizing.is_asked and took_ms > SHARE * deadline_ms:
        smaller = _smaller(options, options.sizing, fitted, took_ms, backend, picture, SHARE * deadline_ms)
        if smaller[1] <= deadline_ms < took_ms or smaller[1] <= SHARE * deadline_ms:
            whose = "the camera's" if is_firm else "a camera's usual"
            told = (
                f"An input of {fitted.width}x{fitted.height} takes {took_ms:.0f} ms a part, too near to {whose} "
                f"deadline of {deadline_ms:g} ms, so it is made smaller. "
            )
            fitted, took_ms = smaller
    said = f"{told}The network's input is {fitted.width}x{fitted.height}: {took_ms:.0f} ms a part on this machine"
    if took_ms <= deadline_ms:
        return fitted, f"{said}."
    if is_firm:
        raise UsageError(
            f"{said}, more than the camera's deadline of {deadline_ms:g} ms. Give it a longer deadline_ms, or fewer "
            "--pixels (or a larger --smallest-defect)."
        )
    return fitted, f"{said}, more than a camera's usual deadline of {deadline_ms:g} ms: give it a longer deadline_ms."


def _smaller(
    options: Options, sizing: Sizing, fitted: Options, took_ms: float, backend: Backend, picture: Size, wanted_ms: float
) -> tuple[Options, float]:
    """Return the largest step that takes no longer than is wanted, or the smallest, and how long it takes."""
    while took_ms > wanted_ms:
        now = min(sizing.pixels or PIXELS, fitted.width * fitted.height)
        step = sizing.below(now * wanted_ms / took_ms)
        if step is None:
            break
        sizing = step
        fitted, took_ms = _timed(dataclasses.replace(options, sizing=sizing), backend, picture)
    return fitted, took_ms


def _timed(options: Options, backend: Backend, picture: Size) -> tuple[Options, float]:
    fitted = options.fitted(picture)
    return fitted, milliseconds_a_part(fitted, backend, picture)


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
