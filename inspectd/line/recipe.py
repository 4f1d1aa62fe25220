"""What a camera is judged by."""

from __future__ import annotations

from dataclasses import dataclass

from inspectd.config import CameraConfig
from inspectd.engine.backend import Parity
from inspectd.errors import UsageError
from inspectd.line.judge import Standard
from inspectd.model.artefact import Artefact
from inspectd.model.geometry import Geometry


@dataclass(frozen=True, slots=True)
class Station:
    """One camera's model, the part of its pictures that is inspected, and the standard they are held to."""

    model: Artefact
    geometry: Geometry
    standard: Standard | None
    """None: the model has no threshold, and nothing may be called ok."""
    parity: Parity | None = None
    """What the gate found: the form that the model is judged in, and its band."""


def make_station(camera: CameraConfig, model: Artefact, parity: Parity | None = None) -> Station:
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
    held_out = sorted(calibration.held_out_scores) if calibration is not None else []
    standard = None if threshold is None else Standard(threshold, held_out, model.label)
    return Station(model, geometry, standard, parity)
