"""What a camera is judged by, and the interface of the backends that score its pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inspectd.engine.parity import Parity
from inspectd.engine.runtime import Form
from inspectd.judge import Standard
from inspectd.records import Picture
from inspectd.simplenet.bundle import Bundle
from inspectd.simplenet.preprocess import Geometry


@dataclass(frozen=True, slots=True)
class Station:
    """One camera's model, the part of its pictures that is inspected, and the standard they are held to."""

    model: Bundle
    geometry: Geometry
    standard: Standard | None
    """None: the model has no threshold, and nothing may be called ok."""
    parity: Parity | None = None
    """What the gate found: the form that the model is judged in, and its band."""


@dataclass(frozen=True, slots=True)
class Request:
    """One picture to be scored by one model."""

    model: Bundle
    geometry: Geometry
    picture: Picture


Flight = Callable[[], list[NDArray[np.float32]]]
"""A batch under way: calling it, once, waits for it and returns the patch scores [h, w] of each request.

Flights are called in the order in which they were submitted, by one thread, which may be another one."""


class Scorer(Protocol):
    """What the engine needs of a backend. One thread submits, one calls the flights."""

    max_batch: int
    """The most pictures that share a pass. 1: they gain nothing from company, and no frame waits for it."""

    @property
    def depth(self) -> int:
        """How many batches may be under way at once."""

    def submit(self, requests: Sequence[Request]) -> Flight:
        """Begin to score pictures; they must stay as they are until the flight has landed."""


class Backend(Scorer, Protocol):
    """Scores pictures on one device; all backends pass the same tests."""

    form: Form
    """The one it prefers; a model may be judged in another (see `prepare`)."""
    why: str
    """Why this device and precision, in words."""
    torch_device: torch.device
    """Where torch does what belongs to this device, such as training."""

    @property
    def tracks(self) -> int:
        """How many batches are really scored at once, and not one after the other: for benchmarks."""

    def prepare(self, model: Bundle, *, is_draft: bool = False) -> Parity:
        """Make a model ready to judge; UsageError when no form of it agrees with the textbook.

        `is_draft`: its threshold is still to be set, from the scores of the form that it is prepared in.
        """

    def forget(self, model: Bundle) -> None:
        """Give up what is held for a model that is not needed any more."""

    def score(self, requests: Sequence[Request]) -> list[NDArray[np.float32]]:
        """Return raw patch scores [h, w] for each request, in their order; higher is worse."""

    def score_inputs(self, model: Bundle, pixels: Tensor) -> NDArray[np.float32]:
        """Return raw patch scores [B, h, w] of resized pictures [B, 3, H, W], 0 … 255."""

    def score_normalised(self, model: Bundle, inputs: Tensor) -> NDArray[np.float32]:
        """Return raw patch scores [B, h, w] of normalised inputs float32 [B, 3, H, W]."""

    def stages(self, requests: Sequence[Request]) -> dict[str, float]:
        """Score pictures with nothing overlapping; return the seconds that each stage took: for benchmarks."""

    def backbone_alone(self, model: Bundle) -> Callable[[NDArray[np.float32]], None]:
        """Return what passes normalised inputs [B, 3, H, W] through a model's backbone only: for benchmarks."""

    def pin(self, address: int, size: int) -> Callable[[], None]:
        """Make memory that pictures will lie in fit for fast copies; call the result before it is unmapped."""
