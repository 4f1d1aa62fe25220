"""What a camera is judged by, and the interface of the backends that score its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

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


@dataclass(frozen=True, slots=True)
class Request:
    """One picture to be scored by one model."""

    model: Bundle
    geometry: Geometry
    picture: Picture


class Backend(Protocol):
    """Scores pictures on one device. Used by one thread at a time; all backends pass the same tests."""

    device: str
    precision: str

    def prepare(self, model: Bundle) -> None:
        """Bring a model onto the device; UsageError when it cannot run there."""

    def score(self, requests: Sequence[Request]) -> list[NDArray[np.float32]]:
        """Return raw patch scores [h, w] for each request, in their order; higher is worse."""
