"""What judges at a camera, and what commands changed of that, in the words of the audit and the protocol."""

from __future__ import annotations

from typing import Any

from inspectd.history.overrides import Override
from inspectd.line.camera import Camera
from inspectd.line.recipe import Area, NoRecipe, Recipe
from inspectd.wire.results import AreaOverrideMessage


def threshold_of(area: Area) -> float | None:
    """Return the threshold in an area; None: its model has none."""
    return area.criterion.threshold if area.criterion is not None else None


def described(recipe: Recipe, area: Area) -> dict[str, Any]:
    """Return what judges in an area, for the audit."""
    names = {"recipe": recipe.name, "area": area.name}
    named = {key: name for key, name in names.items() if name is not None}
    return {**named, "model": area.model.label, "threshold": threshold_of(area)}


def of_place(recipe: Recipe | NoRecipe, area: str | None) -> dict[str, Any]:
    """Return what judges in the area of this name; nothing where the recipe cannot be used."""
    if not isinstance(recipe, Recipe):
        return {"model": None, "threshold": None}
    return described(recipe, recipe.area(area))


def judges(camera: Camera) -> dict[str, Any] | list[dict[str, Any]]:
    """Return what judges the parts of a camera that come now, for the audit."""
    recipe = camera.recipe
    if not isinstance(recipe, Recipe):
        return {"model": None, "threshold": None}
    return all_or_one([described(recipe, area) for area in recipe.areas])


def all_or_one(found: list[dict[str, Any]]) -> dict[str, Any] | list[dict[str, Any]]:
    """Return what was found; where it is but one, without the list."""
    return found[0] if len(found) == 1 else found


def in_force(kept: Override, area: Area) -> AreaOverrideMessage:
    """Return what commands changed in an area, as far as it is in force."""
    is_own = kept.threshold is not None and kept.threshold.digest == area.model.digest
    return AreaOverrideMessage(
        model=kept.model, threshold=kept.threshold.value if kept.threshold is not None and is_own else None
    )
