"""A camera's products: what each of them is judged by, and which of them is in force."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from inspectd import patterns
from inspectd.errors import UsageError
from inspectd.line.recipe import NoRecipe, Recipe

SHOWN = 6
"""Patterns in a sentence."""


@dataclass(frozen=True, slots=True)
class Products:
    """All recipes of a camera, ready to judge. Immutable: a change is another one."""

    recipes: Mapping[str | None, Recipe | NoRecipe]
    """By product; of a camera with but one product it is None."""
    chosen: str | None = None
    """The product in force."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """By product, the pattern of its parts' ids. No id fits two."""

    @property
    def current(self) -> Recipe | NoRecipe:
        """What is judged by when nobody asks for another product."""
        return self.recipes[self.chosen]

    @property
    def all(self) -> Iterable[Recipe | NoRecipe]:
        """All of them."""
        return self.recipes.values()

    def named(self, name: str | None) -> Recipe | NoRecipe:
        """Return a product's recipe; UsageError: there is none of this name."""
        if name not in self.recipes:
            names = ", ".join(str(one) for one in self.recipes if one is not None)
            there_is = f"there are: {names}" if names else "the camera has no recipes"
            raise UsageError(f"There is no recipe {str(name)[:80]!r}; {there_is}.")
        return self.recipes[name]

    def of_part(self, part: str | None) -> Recipe | NoRecipe:
        """Return what a part is judged by, as its id says.

        Where ids say which product a part is, one that fits none is no product that is known here.
        """
        if part is None or not self.parts:
            return self.current
        for name, pattern in self.parts.items():
            if patterns.matches(pattern, part):
                return self.recipes[name]
        known = ", ".join(f"{name}: {pattern}" for name, pattern in [*self.parts.items()][:SHOWN])
        known += f" and {len(self.parts) - SHOWN} more" if len(self.parts) > SHOWN else ""
        return NoRecipe(f"the part's id {part[:80]!r} belongs to no recipe; their parts are {known}")

    def with_recipe(self, recipe: Recipe) -> Products:
        """Return them with one recipe in the place of that of the same product."""
        return replace(self, recipes={**self.recipes, recipe.name: recipe})

    def chosen_as(self, before: Products, seen: str | None) -> Products:
        """Return them with the product in force that is in force in `before`.

        `seen`: the one that was when they were made. Where another one was chosen since, which is none of theirs,
        nothing is known of the parts that come.
        """
        chosen = before.chosen
        if chosen in self.recipes:
            return self.with_choice(chosen)
        if chosen == seen:
            return self
        why = f"the recipe {chosen} that a command chose is not in the configuration any more; choose another one"
        return replace(self, recipes={**self.recipes, chosen: NoRecipe(why, chosen)}, chosen=chosen)

    def with_choice(self, name: str | None) -> Products:
        """Return them with another product in force; UsageError: there is none of this name."""
        self.named(name)
        return replace(self, chosen=name)
