"""What every engine backend can do, in arrays: the interface between the line and a device. Never imports torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from inspectd.model.artefact import Artefact
from inspectd.model.geometry import Geometry
from inspectd.records import Picture

if TYPE_CHECKING:
    from inspectd.simplenet.bundle import Bundle

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Variant:
    """How scores come about. Every score, threshold and speed is of one variant."""

    device: str
    """`cpu:openvino`, `cpu:torch` or `cuda:N`."""
    precision: str
    """`float32`, `bfloat16` or `float16`: of weights and activations; scores are float32."""

    def __str__(self) -> str:
        return f"{self.device} {self.precision}"


@dataclass(frozen=True, slots=True)
class Parity:
    """How far a variant is from the textbook on one model."""

    variant: Variant
    band: float
    """Largest difference of a patch score, in the unit of the scores; infinite when a score was no number."""
    limit: float
    pictures: int
    is_own: bool
    """They are the calibration's own; else noise, for a model that came without."""

    @property
    def is_narrow(self) -> bool:
        """Whether this variant may judge."""
        return self.band <= self.limit

    def __str__(self) -> str:
        what = "of its calibration's pictures" if self.is_own else "pictures of noise"
        return (
            f"{self.variant} differs from the textbook in float32 by at most {self.band:.2g} on {self.pictures} "
            f"{what}; {self.limit:.2g} is allowed"
        )


@dataclass(frozen=True, slots=True)
class Request:
    """One picture to be scored by one model."""

    model: Artefact
    geometry: Geometry
    picture: Picture


Score = Callable[[Sequence[Request]], list[Floats]]
"""Scores pictures: raw patch scores [h, w] for each request, in their order; higher is worse.

The pictures must stay as they are until it returns."""


class Scorer(Protocol):
    """What the line needs of a backend."""

    max_batch: int
    """The most pictures that share a pass. 1: they gain nothing from company, and no frame waits for it."""

    @property
    def depth(self) -> int:
        """How many threads should score, each a batch of its own, so that the device is never idle."""

    def seat(self) -> AbstractContextManager[Score]:
        """Make the calling thread one that scores; what is entered is for that thread alone."""


class Backend(Scorer, Protocol):
    """Scores pictures on one device; all backends pass the same tests."""

    variant: Variant
    """The one it prefers; a model may be judged in another (see `prepare`)."""
    why: str
    """Why this device and precision, in words."""

    def prepare(self, model: Bundle, *, is_draft: bool = False) -> Parity:
        """Make a model ready to judge, once; UsageError when no variant of it agrees with the textbook.

        Only what was prepared can be scored: scoring looks it up and compiles nothing.

        `is_draft`: its threshold is still to be set, from the scores of the variant that it is prepared in.
        """

    def forget(self, model: Artefact) -> None:
        """Give up what is held for a model that is not needed any more."""

    def score(self, requests: Sequence[Request]) -> list[Floats]:
        """Score any number of pictures, from any thread, with all that the device has; see `Score`."""

    def score_normalised(self, model: Artefact, inputs: Floats) -> Floats:
        """Return raw patch scores [B, h, w] of normalised inputs [B, 3, H, W]."""

    def free_memory(self) -> int:
        """Return how many bytes of its memory this process may still take; from any thread."""

    def pin(self, address: int, size: int) -> Callable[[], None]:
        """Make memory that pictures will lie in fit for fast copies; call the result before it is unmapped."""
