"""What a camera's configuration asks for: its products and their areas, with all that one inherits filled in.

A threshold is one of a model's scores: it is inherited with the model that stands beside it, and never without.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inspectd.config import CameraConfig, Ignore, RecipeConfig


@dataclass(frozen=True, slots=True)
class AreaPlan:
    """A part of the picture, the folder of the model for it, and the threshold."""

    name: str | None
    """None: the only one, which has no name."""
    model: str
    """Empty: the configuration lacks it."""
    threshold: float | None
    """None: the calibration's."""
    roi: tuple[int, int, int, int] | None
    """None: what the model was calibrated on."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One product."""

    name: str | None
    """None: the camera has but one."""
    areas: tuple[AreaPlan, ...]
    ignore: Ignore
    """Polygons, or the path of a PNG."""
    parts: str | None
    """Pattern of the ids of its parts."""
    is_passing: bool = False
    """Parts are looked for in each picture (mode: part)."""


def plans_of(camera: CameraConfig) -> Mapping[str | None, Plan]:
    """Return a camera's products by name, in the order of the configuration."""
    plans: dict[str | None, Plan] = {None: _plan(camera, None, camera)}
    if camera.recipes:
        plans = {name: _plan(camera, name, recipe) for name, recipe in camera.recipes.items()}
    return {name: replace(plan, is_passing=camera.mode == "part") for name, plan in plans.items()}


def _plan(camera: CameraConfig, name: str | None, recipe: RecipeConfig | CameraConfig) -> Plan:
    own = AreaPlan(None, recipe.model or "", recipe.threshold, recipe.roi)
    whole = _filled(own, AreaPlan(None, camera.model or "", camera.threshold, None))
    areas, roi = recipe.areas, recipe.roi
    if areas is None and roi is None:
        areas, roi = camera.areas, camera.roi
    ignore = camera.ignore if recipe.ignore is None else recipe.ignore
    parts = getattr(recipe, "parts", None)
    if not areas:
        return Plan(name, (AreaPlan(None, whole.model, whole.threshold, roi),), ignore, parts)
    named = (AreaPlan(key, area.model or "", area.threshold, area.roi) for key, area in areas.items())
    return Plan(name, tuple(_filled(area, whole) for area in named), ignore, parts)


def _filled(area: AreaPlan, outer: AreaPlan) -> AreaPlan:
    """Return an area with the model and threshold that it inherits."""
    model, threshold = area.model or outer.model, area.threshold
    if threshold is None and model == outer.model:
        threshold = outer.threshold
    return AreaPlan(area.name, model, threshold, area.roi)
