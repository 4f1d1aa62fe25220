"""What judges when the daemon starts: the configuration, and what commands changed since it was written."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from inspectd.config import CameraConfig, Config
from inspectd.daemon.models import Models
from inspectd.errors import UsageError
from inspectd.history.challenged import Challenged
from inspectd.history.overrides import NOTHING, CameraOverrides, Overrides
from inspectd.line.products import Products
from inspectd.line.recipe import NoRecipe, Recipe
from inspectd.plan import AreaPlan, Plan, plans_of

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Standing:
    """What judges at the start, and what may change it."""

    models: Models
    overrides: Overrides
    products: dict[str, Products]
    """By enabled camera."""
    shadows: dict[str, Recipe | NoRecipe]
    """By camera that has a second model."""
    challenged: Challenged
    """Which known parts were told."""


def load_products(config: Config, models: Models, overrides: Overrides) -> dict[str, Products]:
    """Load every enabled camera's models; one that cannot be used costs its product only, if others can."""
    products = {}
    for camera in config.enabled_cameras:
        kept = overrides.of(camera.name)
        if kept != NOTHING:
            LOG.warning("camera %s: what commands changed wins over the configuration: %s", camera.name, kept)
        products[camera.name] = products_of(camera, models, kept)
    for name, one in products.items():
        for recipe in one.all:
            if isinstance(recipe, NoRecipe):
                LOG.error(
                    "camera %s%s has no model: %s", name, f", recipe {recipe.name}" if recipe.name else "", recipe.why
                )
    recipes = [recipe for one in products.values() for recipe in one.all]
    refusals = [recipe.why for recipe in recipes if isinstance(recipe, NoRecipe)]
    may_be_reverted = any(
        overrides.of(camera.name).of(plan.name, area.name).model
        for camera in config.enabled_cameras
        for plan in plans_of(camera).values()
        for area in plan.areas
    )
    if len(refusals) == len(recipes) and not may_be_reverted:
        raise UsageError("\n".join(dict.fromkeys(refusals)))
    return products


def products_of(camera: CameraConfig, models: Models, kept: CameraOverrides) -> Products:
    """Load what a camera is judged by; a model that cannot be used costs its product."""
    plans = plans_of(camera)
    recipes = {name: _recipe(camera.name, plan, models, kept) for name, plan in plans.items()}
    chosen = kept.recipe if camera.recipes and kept.recipe is not None else next(iter(plans))
    if chosen not in recipes:
        why = f"the recipe {chosen} that a command chose is not in the configuration any more; choose another one"
        recipes[chosen] = NoRecipe(why, chosen)
    return Products(recipes, chosen, {str(name): plan.parts for name, plan in plans.items() if plan.parts is not None})


def _recipe(camera: str, plan: Plan, models: Models, kept: CameraOverrides) -> Recipe | NoRecipe:
    try:
        return models.recipe(camera, plan, kept)
    except UsageError as error:
        is_chosen = any(kept.of(plan.name, area.name).model for area in plan.areas)
        why = (
            f"{error} A command chose this model; `revert` returns to the configuration's." if is_chosen else str(error)
        )
        return NoRecipe(why, plan.name)


def load_shadows(config: Config, models: Models) -> dict[str, Recipe | NoRecipe]:
    """Load the second models of enabled cameras; one that cannot be used costs nothing but what it would have said."""
    found = {camera.name: load_shadow(camera, models) for camera in config.enabled_cameras}
    for name, one in found.items():
        if isinstance(one, NoRecipe):
            LOG.error("camera %s has no second model: %s", name, one.why)
    return {name: one for name, one in found.items() if one is not None}


def load_shadow(camera: CameraConfig, models: Models) -> Recipe | NoRecipe | None:
    """Load a camera's second model, or say why it cannot be used; None: it has none."""
    if camera.shadow is None:
        return None
    plan = Plan(None, (AreaPlan(None, camera.shadow, None, camera.roi),), camera.ignore, None)
    try:
        recipe = models.recipe(camera.name, plan, NOTHING)
    except (UsageError, RuntimeError, MemoryError) as error:  # of the last two, the device has no room
        return NoRecipe(str(error))
    if recipe.areas[0].criterion is None:
        return NoRecipe(f"The model {camera.shadow} has no threshold; calibrate with inspectd.")
    return recipe
