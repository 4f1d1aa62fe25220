"""What a camera's pictures are judged by: a recipe of one or several areas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from inspectd.cameras.image_files import read_mask
from inspectd.config import CameraConfig, Ignore
from inspectd.engine.backend import Parity
from inspectd.errors import UsageError
from inspectd.line.judge import Criterion
from inspectd.model.artefact import Artefact
from inspectd.model.calibration import Calibration
from inspectd.model.geometry import Geometry
from inspectd.model.ignored import Ignored
from inspectd.model.presence import Presence
from inspectd.plan import AreaPlan, Plan, plans_of
from inspectd.records import Rect


@dataclass(frozen=True, slots=True)
class Area:
    """A part of the camera's picture, the model that scores it, and the criterion for its scores."""

    model: Artefact
    geometry: Geometry
    criterion: Criterion | None
    """None: the model has no threshold, and nothing may be called ok."""
    parity: Parity | None = None
    """What the parity gate found: the variant that the model is judged in, and its band."""
    name: str | None = None
    """None: the only one, which has no name."""
    ignored: Ignored | None = None
    """What of the picture no verdict depends on."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the verdict on a picture. Immutable: a change is another recipe.

    Each frame carries the recipe that was in force when it was admitted, and is judged by no other.
    """

    areas: tuple[Area, ...]
    """At least one; each is a request of its own to the engine, and the worst of them is the part's verdict."""
    name: str | None = None
    """The product; None: the camera has but one."""

    @property
    def label(self) -> str:
        """Run name and digest of its models, as published."""
        return " + ".join(dict.fromkeys(area.model.label for area in self.areas))

    @property
    def presence(self) -> Presence | None:
        """What a part is, where parts pass freely; None: whole pictures are judged."""
        calibration = self.areas[0].model.calibration
        return calibration.presence if calibration is not None else None

    def area(self, name: str | None) -> Area:
        """Return an area by its name, or (None) the only one; UsageError: it is not clear which one is meant."""
        found = [area for area in self.areas if name is None or area.name == name]
        if len(found) == 1:
            return found[0]
        names = ", ".join(str(area.name) for area in self.areas if area.name is not None)
        there_is = f"there are: {names}" if names else "it has but one, without a name"
        asked = "Which area is meant is not said" if name is None else f"There is no area {name[:80]!r}"
        raise UsageError(f"{asked}; {there_is}.")

    def with_area(self, area: Area) -> Recipe:
        """Return the recipe with one area in the place of that of the same name."""
        return replace(self, areas=tuple(area if one.name == area.name else one for one in self.areas))

    def with_threshold(self, value: float, name: str | None = None) -> Recipe:
        """Return the recipe of the same models with another threshold in one area; UsageError: see `area`."""
        old = self.area(name)
        new = replace(old, criterion=Criterion(value, _held_out(old.model), old.model.label))
        return replace(self, areas=tuple(new if area is old else area for area in self.areas))


@dataclass(frozen=True, slots=True)
class NoRecipe:
    """Stands where a camera's model cannot be used: each frame is `fault: no_model` and says why."""

    why: str
    name: str | None = None
    """The product; None: the camera has but one, or it is not known which one a part is."""


def recipe_for(camera: CameraConfig, model: Artefact, parity: Parity | None = None) -> Recipe:
    """Join the settings of a camera with one product and one area with its model; UsageError: they contradict.

    For pictures as they are judged: those of parts that pass are cut out already.
    """
    (plan,) = plans_of(camera).values()
    is_passing = model.calibration is not None and model.calibration.presence is not None
    plan = replace(plan, is_passing=is_passing)
    return recipe_of(camera.name, plan, lambda _: (model, parity))


def recipe_of(camera: str, plan: Plan, load: Callable[[AreaPlan], tuple[Artefact, Parity | None]]) -> Recipe:
    """Join what is planned for a product with its models; UsageError: one cannot be used, or they contradict.

    `load`: returns the model of an area, and what the parity gate found.
    """
    ignored = _ignored(camera, plan)
    loaded = [(one, *load(one)) for one in plan.areas]
    for area, model, _ in loaded:
        _check_mode(camera, plan, area, model)
    areas = tuple(_area(camera, one, model, parity, ignored) for one, model, parity in loaded)
    return Recipe(areas, plan.name)


def _check_mode(camera: str, plan: Plan, area: AreaPlan, model: Artefact) -> None:
    """Refuse a model of parts that pass for whole pictures, and the reverse (UsageError)."""
    presence = model.calibration.presence if model.calibration is not None else None
    if presence is None and plan.is_passing:
        raise UsageError(
            f"Camera {camera} has mode: part, and its model {model.name} does not know what a part is; calibrate it "
            "with mode: part."
        )
    if presence is not None and not plan.is_passing:
        raise UsageError(
            f"Camera {camera}: its model {model.name} was calibrated on parts that pass freely; set mode: part, or "
            "calibrate again."
        )
    if presence is not None and (why := presence.problem()) is not None:
        raise UsageError(f"Camera {camera}: the model {model.name} cannot be used: {why}. Calibrate again.")
    if presence is not None and area.roi not in (None, presence.window):
        raise UsageError(
            f"Camera {camera} has roi {list(area.roi or ())}, but its model {model.name} was calibrated on parts in "
            f"{list(presence.window)}; calibrate with that roi, or leave it out."
        )


def _area(camera: str, plan: AreaPlan, model: Artefact, parity: Parity | None, ignored: Ignored | None) -> Area:
    calibration, geometry, threshold = model.calibration, model.geometry, plan.threshold
    where = f"Camera {camera}" if plan.name is None else f"Camera {camera}: area {plan.name}"
    if plan.roi is not None and not (calibration is not None and calibration.presence is not None):
        if calibration is not None and plan.roi not in (calibration.roi, *calibration.rois):
            raise UsageError(
                f"{where} has roi {list(plan.roi)}, but its model {model.name} was calibrated on "
                f"{_places(calibration)}; calibrate with that roi, or leave it out."
            )
        geometry = (
            Geometry(geometry.height, geometry.width, plan.roi)
            if calibration is None
            else replace(geometry, roi=plan.roi)
        )
    if threshold is None and calibration is not None and calibration.threshold is not None:
        threshold = calibration.threshold.value
    criterion = None if threshold is None else Criterion(threshold, _held_out(model), model.label)
    if calibration is not None and calibration.ignored is not None:
        ignored = (ignored or Ignored()).and_patches(calibration.ignored)
    area = Area(model, geometry, criterion, parity, plan.name, ignored)
    if calibration is not None and calibration.camera.width > 0 and calibration.statistics.get("sizes", 1) == 1:
        why = place_mismatch(area, calibration.camera.width, calibration.camera.height)
        if why is not None:
            raise UsageError(f"{where}: {why}.")
    return area


def place_mismatch(area: Area, width: int, height: int) -> str | None:
    """Return why an area does not lie inside a picture, or is ignored, as a part of a sentence; None: it is seen."""
    roi, ignored = area.geometry.roi, area.ignored
    if roi is not None and not _is_inside(roi, area.geometry.picture or (width, height)):
        return f"the roi {list(roi)} does not lie inside the picture of {width}x{height}"
    return ignored.problem(area.geometry.area(width, height), width, height) if ignored is not None else None


def _is_inside(roi: Rect, size: tuple[int, int]) -> bool:
    x, y, w, h = roi
    return x + w <= size[0] and y + h <= size[1]


def read_ignored(ignore: Ignore) -> Ignored | None:
    """Return what a configuration says of what is not inspected; None: all is. UsageError: its PNG cannot be read."""
    if not ignore:
        return None
    if isinstance(ignore, str) and not ignore.lower().endswith(".png"):
        raise UsageError(
            f"The mask {ignore[:200]!r} is no PNG; expected one, in which nothing was lost by compression."
        )
    return Ignored(painted=read_mask(Path(ignore))) if isinstance(ignore, str) else Ignored(ignore)


def _ignored(camera: str, plan: Plan) -> Ignored | None:
    try:
        return read_ignored(plan.ignore)
    except UsageError as error:
        raise UsageError(f"Camera {camera}: ignore: {error}") from None


def _places(calibration: Calibration) -> str:
    places = [one for one in (calibration.roi, *calibration.rois) if one is not None]
    return " and ".join(str(list(one)) for one in dict.fromkeys(places)) or "everything"


def _held_out(model: Artefact) -> list[float]:
    return sorted(model.calibration.held_out_scores) if model.calibration is not None else []
