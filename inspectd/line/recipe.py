"""What a camera's pictures are judged by: a recipe of one or several areas."""

from __future__ import annotations

from dataclasses import dataclass, replace

from inspectd.config import CameraConfig
from inspectd.engine.backend import Parity
from inspectd.errors import UsageError
from inspectd.line.judge import Criterion
from inspectd.model.artefact import Artefact
from inspectd.model.geometry import Geometry


@dataclass(frozen=True, slots=True)
class Area:
    """A part of the camera's picture, the model that scores it, and the criterion for its scores."""

    model: Artefact
    geometry: Geometry
    criterion: Criterion | None
    """None: the model has no threshold, and nothing may be called ok."""
    parity: Parity | None = None
    """What the parity gate found: the variant that the model is judged in, and its band."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the verdict on a picture. Immutable: a change is another recipe.

    Each frame carries the recipe that was in force when it was admitted, and is judged by no other.
    """

    areas: tuple[Area, ...]
    """At least one; each is a request of its own to the engine, and the worst of them is the part's verdict."""

    @property
    def label(self) -> str:
        """Run name and digest of its models, as published."""
        return " + ".join(dict.fromkeys(area.model.label for area in self.areas))

    def with_threshold(self, value: float) -> Recipe:
        """Return the recipe of the same models with another threshold; ValueError when it has several areas."""
        (area,) = self.areas
        return Recipe((replace(area, criterion=Criterion(value, _held_out(area.model), area.model.label)),))


@dataclass(frozen=True, slots=True)
class NoRecipe:
    """Stands where a camera's model cannot be used: each frame is `fault: no_model` and says why."""

    why: str


def recipe_for(camera: CameraConfig, model: Artefact, parity: Parity | None = None) -> Recipe:
    """Join a camera's settings with its model; UsageError when they contradict each other."""
    calibration = model.calibration
    geometry = model.geometry
    if camera.roi is not None:
        if calibration is not None and calibration.roi != camera.roi:
            seen = "everything" if calibration.roi is None else str(list(calibration.roi))
            raise UsageError(
                f"Camera {camera.name} has roi {list(camera.roi)}, but its model {model.name} was calibrated on "
                f"{seen}; calibrate with that roi, or leave it out."
            )
        if calibration is None:
            geometry = Geometry(geometry.height, geometry.width, camera.roi)
    threshold = camera.threshold
    if threshold is None and calibration is not None and calibration.threshold is not None:
        threshold = calibration.threshold.value
    criterion = None if threshold is None else Criterion(threshold, _held_out(model), model.label)
    return Recipe((Area(model, geometry, criterion, parity),))


def _held_out(model: Artefact) -> list[float]:
    return sorted(model.calibration.held_out_scores) if model.calibration is not None else []
