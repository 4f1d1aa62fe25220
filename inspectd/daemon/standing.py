"""What judges when the daemon starts: the configuration, and what commands changed since it was written."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from inspectd.config import Config
from inspectd.daemon.models import Models
from inspectd.errors import UsageError
from inspectd.history.overrides import NONE, Override, Overrides
from inspectd.line.recipe import NoRecipe, Recipe

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Standing:
    """What judges at the start, and what may change it."""

    models: Models
    overrides: Overrides
    recipes: dict[str, Recipe | NoRecipe]
    """By enabled camera."""
    shadows: dict[str, Recipe | NoRecipe]
    """By camera that has a second model."""


def load_recipes(config: Config, models: Models, overrides: Overrides) -> dict[str, Recipe | NoRecipe]:
    """Load every enabled camera's model; one that cannot be used costs its camera only, if others can."""
    recipes: dict[str, Recipe | NoRecipe] = {}
    for camera in config.enabled_cameras:
        override = overrides.of(camera.name)
        if override != NONE:
            LOG.warning("camera %s: what commands changed wins over the configuration: %s", camera.name, override)
        try:
            recipes[camera.name] = models.recipe(camera, override)
        except UsageError as error:
            why = f"{error} A command chose this model; `revert` returns to the configuration's."
            recipes[camera.name] = NoRecipe(why if override.model else str(error))
            LOG.error("camera %s has no model: %s", camera.name, why if override.model else error)
    refusals = [recipe.why for recipe in recipes.values() if isinstance(recipe, NoRecipe)]
    may_be_reverted = any(overrides.of(name).model for name in recipes)
    if len(refusals) == len(recipes) and not may_be_reverted:
        raise UsageError("\n".join(dict.fromkeys(refusals)))
    return recipes


def load_shadows(config: Config, models: Models) -> dict[str, Recipe | NoRecipe]:
    """Load the second models of enabled cameras; one that cannot be used costs nothing but what it would have said."""
    shadows: dict[str, Recipe | NoRecipe] = {}
    for camera in config.enabled_cameras:
        if camera.shadow is None:
            continue
        try:
            recipe = models.recipe(camera, Override(model=camera.shadow))
        except (UsageError, RuntimeError, MemoryError) as error:  # of the last two, the device has no room
            shadows[camera.name] = NoRecipe(str(error))
        else:
            has_threshold = recipe.areas[0].criterion is not None
            why = f"The model {camera.shadow} has no threshold; calibrate with inspectd."
            shadows[camera.name] = recipe if has_threshold else NoRecipe(why)
        if isinstance(found := shadows[camera.name], NoRecipe):
            LOG.error("camera %s has no second model: %s", camera.name, found.why)
    return shadows
