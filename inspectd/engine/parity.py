"""The parity gate: no variant of a model judges before it was compared with the textbook in float32.

The largest difference of any patch score, on the calibration's own pictures, is the band of that variant: scores
nearer to the threshold than the band could be on the other side of it in the textbook's form. A band that is
wide against what separates good parts from the threshold is refused.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from inspectd.engine.backend import Floats, Parity, Variant
from inspectd.engine.memory import Room
from inspectd.engine.strips import find_strips, known_of
from inspectd.records import Picture
from inspectd.simplenet.bundle import Bundle
from inspectd.simplenet.preprocess import network_input

WIDEST = 0.5
"""Largest band, as a share of the distance from the median good part to the threshold: a typical good part is
good in every variant, and so is the verdict on a part that is one and a half times as far away."""
WIDEST_WITHOUT_THRESHOLD = 0.1
"""Largest band of a model that gives scores and no verdicts, as a share of the spread of its patch scores."""
SYNTHETIC = 4
"""Pictures of noise for a model that came without pictures of its own."""
MOST_PIXELS = 4_000_000
"""Of all pictures that are compared, or one picture: the textbook takes its time."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What every variant of a model is held against."""

    inputs: Floats
    """Normalised pictures [N, 3, H, W]."""
    is_own: bool
    """They are the calibration's own; else noise."""
    scores: Floats
    """Raw patch scores [N, h, w] of the textbook form in float32."""

    @classmethod
    def of(cls, model: Bundle) -> Reference:
        """Compute it, on the CPU."""
        inputs, is_own = parity_inputs(model)
        return cls(inputs, is_own, textbook_scores(model, inputs))


def parity_inputs(model: Bundle) -> tuple[Floats, bool]:
    """Return normalised pictures [N, 3, H, W] to compare forms of this model on, and whether they are its own."""
    own = model.parity()
    pictures = (own or _noise(SYNTHETIC))[: max(1, MOST_PIXELS // (model.geometry.height * model.geometry.width))]
    inputs = [network_input(one, model.geometry, model.white_level, *model.normalisation) for one in pictures]
    return np.stack(inputs), bool(own)


def _noise(count: int) -> list[Picture]:
    """Return soft coloured noise, which looks more like a picture to a backbone than hard noise does."""
    draws = np.random.default_rng(0)
    coarse = [draws.integers(0, 256, (12, 12, 3), np.uint8) for _ in range(count)]
    return [cv2.resize(one, (256, 256)).astype(np.uint8) for one in coarse]


def textbook_scores(model: Bundle, inputs: Floats) -> Floats:
    """Return raw patch scores [N, h, w] of the textbook form in float32, on the CPU."""
    known = known_of(model.backbone, ("textbook", model.head_shape))
    strips = find_strips(lambda: model.network, model.params.input_shape, Room.on_cpu(), known)
    with torch.inference_mode():
        scores = [strips.pass_through(torch.from_numpy(one)[None], model.network)[0] for one in inputs]
    stacked: Floats = torch.stack(scores).numpy()
    return stacked


def compare(model: Bundle, variant: Variant, reference: Reference, scores: Floats, *, is_draft: bool = False) -> Parity:
    """Measure the band of `scores` [N, h, w], of a variant; of a draft any band is narrow that is a number."""
    difference = np.abs(scores - reference.scores)
    band = float(difference.max()) if np.isfinite(difference).all() else float("inf")
    limit = sys.float_info.max if is_draft else _limit(model, reference.scores)
    return Parity(variant, band, limit, len(scores), reference.is_own)


def _limit(model: Bundle, textbook: Floats) -> float:
    calibration = model.calibration
    if calibration is not None and calibration.threshold is not None and calibration.held_out_scores:
        room = calibration.threshold.value - statistics.median(calibration.held_out_scores)
        if room > 0:
            return WIDEST * room
    return WIDEST_WITHOUT_THRESHOLD * float(textbook.std())
