"""Reading the configuration again while the line runs.

All of it is read, compared, loaded and tried before anything is changed; what fails then is refused as a whole. What
did not change loses no frame; what judges is exchanged between two frames; only a camera whose own settings changed is
opened anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from inspectd.config import CameraConfig, Config
from inspectd.daemon.exporter import Exporter
from inspectd.daemon.guard import guard_of
from inspectd.daemon.roster import Roster
from inspectd.daemon.standing import Standing, load_shadow, products_of
from inspectd.daemon.status import Status
from inspectd.daemon.steps import Steps, steps_between
from inspectd.errors import InspectdError, UsageError
from inspectd.line.camera import Camera
from inspectd.line.products import Products
from inspectd.line.recipe import NoRecipe, Recipe
from inspectd.line.shadow import Shadows
from inspectd.wire.requests import ReloadResult

LOG = logging.getLogger(__name__)

STOP_S = 2.0
"""How long a camera that is stopped may take to give up its device."""
GONE = "the configuration was read again, and has this camera no more"
ANEW = "the configuration was read again, and this camera is opened anew"


@dataclass(frozen=True, slots=True)
class _Ready:
    """What was loaded for a configuration, and tried."""

    products: dict[str, Products]
    """Of each camera that is not as it was."""
    shadows: dict[str, Recipe | NoRecipe | None]
    exchanged: list[CameraConfig]
    """Those that are judged by something else, and stay open."""


class Reloading:
    """Called by one thread at a time: the one that makes all other changes of what judges, too."""

    def __init__(
        self,
        config: Config,
        standing: Standing,
        cameras: Roster,
        shadows: Shadows,
        status: Status,
        exporter: Exporter,
        make: Callable[[CameraConfig, Products], Camera],
    ) -> None:
        """`make`: a camera that is not started yet, with its account in the ledger."""
        self._config = config
        self._standing = standing
        self._cameras = cameras
        self._shadows = shadows
        self._status = status
        self._exporter = exporter
        self._make = make

    def reload(self, read: Callable[[], Config], note: Callable[[ReloadResult], None]) -> ReloadResult:
        """Put in force what `read` returns; UsageError says why not, and then nothing was changed.

        `note`: is told what will be done, before it is.
        """
        new = read()
        steps = steps_between(self._config, new)
        guard = guard_of(new.metrics)  # the files may be others by now
        ready = self._load(steps)
        result = ReloadResult(
            added=[camera.name for camera in steps.added],
            removed=list(steps.removed),
            reopened=[camera.name for camera in steps.reopened],
            judged=[camera.name for camera in ready.exchanged],
            unchanged=sorted({one.name for one in steps.unchanged} - {one.name for one in ready.exchanged}),
        )
        note(result)
        self._exchange(ready)
        self._config = new
        self._status.configure(new)
        self._exporter.use(guard)
        for name in steps.removed:
            self._end(name, GONE)
        for camera in steps.reopened:
            self._reopen(camera, ready.products[camera.name])
        for camera in steps.added:
            self._begin(self._make(camera, ready.products[camera.name]))
        for name, recipe in ready.shadows.items():
            self._shadows.use(name, recipe)
        return result

    def _load(self, steps: Steps) -> _Ready:
        """Load and try what the configuration asks for; UsageError: some of it cannot be used."""
        products = {one.name: self._products(one) for one in (*steps.added, *steps.reopened, *steps.judged)}
        exchanged = list(steps.judged)
        for camera in steps.unchanged:
            found = self._products(camera)
            if not _is_same(self._cameras[camera.name].products, found):
                products[camera.name] = found
                exchanged.append(camera)
        for camera in exchanged:
            for recipe in products[camera.name].all:
                if isinstance(recipe, Recipe):
                    self._cameras[camera.name].check(recipe)
        shadows = {one.name: self._shadow(one) for one in (*steps.added, *steps.reopened, *exchanged)}
        return _Ready(products, {**dict.fromkeys(steps.removed), **shadows}, exchanged)

    def _products(self, camera: CameraConfig) -> Products:
        found = products_of(camera, self._standing.models, self._standing.overrides.of(camera.name))
        running = self._cameras.get(camera.name)
        for name, recipe in found.recipes.items():
            was = running.products.recipes.get(name) if running is not None else None
            if isinstance(recipe, NoRecipe) and not isinstance(was, NoRecipe):  # else it is no worse than before
                raise UsageError(f"Camera {camera.name}: {recipe.why} Nothing was changed.")
        return found

    def _shadow(self, camera: CameraConfig) -> Recipe | NoRecipe | None:
        found = load_shadow(camera, self._standing.models)
        if isinstance(found, NoRecipe):
            raise UsageError(f"Camera {camera.name} has no second model: {found.why} Nothing was changed.")
        return found

    def _exchange(self, ready: _Ready) -> None:
        """Have cameras judged by something else from the next frame on: all of them, or none."""
        done: list[tuple[Camera, CameraConfig, Products]] = []
        for config in ready.exchanged:
            camera = self._cameras[config.name]
            before = (camera, camera.config, camera.products)
            try:
                camera.reconfigure(config, ready.products[config.name])
            except InspectdError:
                for one, old, products in reversed(done):
                    one.reconfigure(old, products)
                raise
            done.append(before)

    def _end(self, name: str, why: str) -> None:
        camera = self._cameras[name]
        self._cameras.drop(name)
        camera.stop()
        if not camera.join(STOP_S):
            LOG.warning("camera %s: its capture does not end", name)
        camera.close(why)

    def _reopen(self, config: CameraConfig, products: Products) -> None:
        pause = self._cameras[config.name].pause_reason
        self._end(config.name, ANEW)
        camera = self._make(config, products)
        if pause is not None:
            camera.pause(pause)
        self._begin(camera)

    def _begin(self, camera: Camera) -> None:
        self._cameras.put(camera)
        camera.start()


def _is_same(one: Products, other: Products) -> bool:
    """Whether two sets of recipes, made from one configuration, have the same models."""
    return {name: _models(recipe) for name, recipe in one.recipes.items()} == {
        name: _models(recipe) for name, recipe in other.recipes.items()
    }


def _models(recipe: Recipe | NoRecipe) -> list[str] | None:
    return [area.model.digest for area in recipe.areas] if isinstance(recipe, Recipe) else None
