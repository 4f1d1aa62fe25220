"""What a frame is held against at the moment when it comes. Immutable: a change is another one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from inspectd.cameras.protocol import Opened
from inspectd.cameras.sources import Source
from inspectd.line.fitness import find_mismatch
from inspectd.line.products import Products
from inspectd.line.recipe import NoRecipe, Recipe, place_mismatch
from inspectd.records import Finding, Reason, fault


@dataclass(frozen=True, slots=True)
class Duty:
    """Products, and why they cannot be judged on what a camera shows."""

    source: Source
    products: Products
    opened: Opened | None = None
    """The camera as it was opened; None: it was not yet."""
    mismatches: Mapping[str | None, str] = field(default_factory=dict)
    """By product, why the camera, as it was opened, is not one that its recipe was made for."""
    refusal: str | None = None
    """Why nothing that the camera, as it was opened, shows can be matched to triggers."""
    pause: str | None = None
    """Why nothing is inspected at present."""

    def with_opened(self, opened: Opened, refusal: str | None) -> Duty:
        """Return it with the camera as it was opened now."""
        found = {
            recipe.name: why
            for recipe in self.products.all
            if isinstance(recipe, Recipe) and (why := find_mismatch(recipe, self.source, opened)) is not None
        }
        return replace(self, opened=opened, mismatches=found, refusal=refusal)

    def with_recipe(self, recipe: Recipe) -> Duty:
        """Return it with another recipe, which fits, of one product."""
        mismatches = {name: why for name, why in self.mismatches.items() if name != recipe.name}
        return replace(self, products=self.products.with_recipe(recipe), mismatches=mismatches)

    def with_products(self, products: Products) -> Duty:
        """Return it with other products, whether they fit or not."""
        recipes = [one for one in products.all if isinstance(one, Recipe)]
        found = {one.name: why for one in recipes if (why := self.mismatch(one)) is not None}
        return replace(self, products=products, mismatches=found)

    def bypass(self) -> Finding | None:
        """Return the fault of everything while nothing is inspected; None: it is."""
        return None if self.pause is None else fault(Reason.BYPASS, self.pause)

    def unjudged(self, recipe: object) -> Finding | None:
        """Return why no picture would be judged by a recipe at present; None: it would."""
        if (bypass := self.bypass()) is not None:
            return bypass
        if isinstance(recipe, NoRecipe):
            return fault(Reason.NO_MODEL, recipe.why)
        assert isinstance(recipe, Recipe)
        why = self.mismatches.get(recipe.name)
        if self.products.recipes.get(recipe.name) is not recipe:  # it was replaced since its trigger came
            why = self.mismatch(recipe)
        why = why or self.refusal
        return None if why is None else fault(Reason.IDENTITY, why, model=recipe.label)

    def mismatch(self, recipe: Recipe) -> str | None:
        """Return why the camera, as it was opened, is not one that a recipe was made for; None: it is."""
        opened = self.opened
        if opened is None:
            return None  # looked at when it is opened
        if recipe.presence is not None:  # where parts are found, everything is known to lie in the picture
            return find_mismatch(recipe, self.source, opened)
        sizes = (place_mismatch(area, opened.width, opened.height) for area in recipe.areas)
        return find_mismatch(recipe, self.source, opened) or next(filter(None, sizes), None)
