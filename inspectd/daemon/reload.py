"""Reading the configuration again while the line runs.

All of it is read, compared, loaded and tried before anything is changed; what fails then is refused as a whole. What
did not change loses no frame; what judges is exchanged between two frames; only a camera whose own settings changed is
opened anew.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import repeat

import msgspec

from inspectd.config import CameraConfig, Config
from inspectd.daemon.exporter import Exporter
from inspectd.daemon.guard import Guard, guard_of
from inspectd.daemon.roster import Roster
from inspectd.daemon.standing import Standing, load_shadow, products_of
from inspectd.daemon.status import Status
from inspectd.daemon.steps import Steps, steps_between
from inspectd.errors import UsageError
from inspectd.line.camera import Camera
from inspectd.line.products import Products
from inspectd.line.recipe import Area, NoRecipe, Recipe
from inspectd.line.shadow import Shadows
from inspectd.logs import about
from inspectd.wire.results import ReloadResult

LOG = logging.getLogger(__name__)

STOP_S = 3.0
"""How long a camera that is stopped may take to give up its device: somewhat longer than its child is given."""
GONE = "the configuration was read again, and this camera is not inspected any more"
ANEW = "the configuration was read again, and this camera is opened anew"
STOPPING = "The daemon is stopping; the configuration is not read again."


@dataclass(frozen=True, slots=True)
class _Ready:
    """What was loaded for a configuration, and tried."""

    products: dict[str, Products]
    """Of each camera that is not as it was."""
    shadows: dict[str, Recipe | NoRecipe | None]
    chosen: dict[str, str | None]
    """Of each camera that runs, the product that was in force before they were loaded."""
    exchanged: list[CameraConfig]
    """Those that are judged by something else, and stay open."""


class Reloading:
    """`reload` is called by one thread at a time: the one that makes all other changes of models, too."""

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
        self._step = threading.Lock()
        """Held while a camera is begun, or ended: the stop comes between two steps."""
        self._is_stopping = False
        self.is_under_way = False
        """Whether cameras are just now begun and ended."""

    def stop(self) -> None:
        """Let no camera be begun or ended any more; the step that is under way is finished before this returns."""
        self._is_stopping = True
        with self._step:
            pass

    def reload(self, read: Callable[[], Config], note: Callable[[ReloadResult], None]) -> ReloadResult:
        """Put in force what `read` returns; UsageError says why not, and then nothing was changed.

        `note`: is told what will be done, before it is.
        """
        new = read()
        running = tuple(camera.config for camera in self._cameras.values())
        steps = steps_between(msgspec.structs.replace(self._config, cameras=running), new)
        guard = guard_of(new.metrics)  # the files may be others by now
        ready = self._load(steps)
        result = ReloadResult(
            added=[camera.name for camera in steps.added],
            removed=list(steps.removed),
            reopened=[camera.name for camera in steps.reopened],
            judged=[camera.name for camera in ready.exchanged],
            unchanged=sorted({one.name for one in steps.unchanged} - {one.name for one in ready.exchanged}),
            notes=self._notes((*steps.added, *steps.reopened, *ready.exchanged)),
        )
        if self._is_stopping:
            raise UsageError(STOPPING)
        note(result)
        self.is_under_way = True
        try:
            self._apply(new, steps, ready, guard)
        finally:
            self.is_under_way = False
        return result

    def _apply(self, new: Config, steps: Steps, ready: _Ready, guard: Guard) -> None:
        for camera in ready.exchanged:
            products, chosen = ready.products[camera.name], ready.chosen[camera.name]
            self._cameras[camera.name].reconfigure(camera, products, chosen)
        self._config = new
        self._status.configure(new)
        self._exporter.use(guard)
        for name in steps.removed:
            self._do(partial(self._remove, name))
        for camera in (*steps.reopened, *steps.added):
            self._do(partial(self._open, camera, ready.products[camera.name], ready.chosen.get(camera.name)))
        for name, recipe in ready.shadows.items():
            self._shadows.use(name, recipe)

    # Before anything is changed

    def _load(self, steps: Steps) -> _Ready:
        """Load and try what the configuration asks for; UsageError: some of it cannot be used."""
        chosen = {name: camera.products.chosen for name, camera in self._cameras.items()}
        products = {one.name: self._products(one) for one in (*steps.added, *steps.reopened, *steps.judged)}
        exchanged = list(steps.judged)
        for camera in steps.unchanged:
            found = self._products(camera)
            if any(map(self._is_new, repeat(camera.name), found.all)):
                products[camera.name] = found
                exchanged.append(camera)
        for camera in exchanged:
            for recipe in products[camera.name].all:
                if isinstance(recipe, Recipe) and self._is_new(camera.name, recipe):
                    self._cameras[camera.name].check(recipe)
        shadows = {one.name: self._shadow(one) for one in (*steps.added, *steps.reopened, *exchanged)}
        return _Ready(products, {**dict.fromkeys(steps.removed), **shadows}, chosen, exchanged)

    def _products(self, camera: CameraConfig) -> Products:
        found = products_of(camera, self._standing.models, self._standing.overrides.of(camera.name))
        for recipe in found.all:
            why, was = _why_not(recipe), _why_not(self._before(camera.name, recipe))
            if why is not None and was is None:  # else it is no worse than it was
                raise UsageError(f"{_of(camera, why)} Nothing was changed.")
        return found

    def _shadow(self, camera: CameraConfig) -> Recipe | NoRecipe | None:
        found = load_shadow(camera, self._standing.models)
        if isinstance(found, NoRecipe):
            raise UsageError(f"Camera {camera.name} has no second model: {found.why} Nothing was changed.")
        return found

    def _before(self, camera: str, recipe: Recipe | NoRecipe) -> Recipe | NoRecipe | None:
        """Return what judges the same product now; None: nothing does."""
        running = self._cameras.get(camera)
        return running.products.recipes.get(recipe.name) if running is not None else None

    def _is_new(self, camera: str, recipe: Recipe | NoRecipe) -> bool:
        """Whether this judges by something else than what judges now: another model, threshold, place or mask."""
        before = self._before(camera, recipe)
        if isinstance(recipe, NoRecipe) or not isinstance(before, Recipe):
            return not (isinstance(recipe, NoRecipe) and isinstance(before, NoRecipe))
        return [_basis(area) for area in before.areas] != [_basis(area) for area in recipe.areas]

    def _notes(self, cameras: Iterable[CameraConfig]) -> list[str]:
        """Return what a person should know, in sentences."""
        overrides = {camera.name: self._standing.overrides.of(camera.name) for camera in cameras}
        return [
            f"Camera {name}: what commands changed wins over the configuration; `revert` returns to it."
            for name, kept in overrides.items()
            if kept.areas
        ]

    # Changing

    def _do(self, step: Callable[[], None]) -> None:
        with self._step:
            if self._is_stopping:
                raise UsageError(STOPPING)
            step()

    def _remove(self, name: str) -> None:
        camera = self._halted(name)
        with self._cameras.changing:
            self._cameras.drop(name)
            camera.close(GONE)

    def _open(self, config: CameraConfig, products: Products, chosen: str | None) -> None:
        """Begin a camera, in the place of the one of its name; what commands ask of that one stays in force."""
        before = self._halted(config.name) if config.name in self._cameras else None
        with self._cameras.changing:
            if before is not None:
                before.close(ANEW)
                products = products.chosen_as(before.products, chosen)
            camera = self._make(config, products)
            if before is not None and before.pause_reason is not None:
                camera.pause(before.pause_reason)
            self._cameras.put(camera)
        camera.start()

    def _halted(self, name: str) -> Camera:
        """Stop a camera's capture, and return it: meanwhile it is there, and each of its triggers a fault."""
        camera = self._cameras[name]
        camera.stop()
        if not camera.join(STOP_S):
            LOG.warning("camera %s: its capture does not end", name, extra=about(camera=name))
        return camera


def _why_not(recipe: Recipe | NoRecipe | None) -> str | None:
    """Return why nothing can be judged by a recipe."""
    if isinstance(recipe, NoRecipe):
        return recipe.why
    lacking = [area for area in recipe.areas if area.criterion is None] if recipe is not None else []
    if lacking:
        return f"The model {lacking[0].model.label} has no threshold; set one, or calibrate with inspectd."
    return None


def _of(camera: CameraConfig, why: str) -> str:
    return why if why.startswith(f"Camera {camera.name}") else f"Camera {camera.name}: {why}"


def _basis(area: Area) -> tuple[object, ...]:
    """Return all that a verdict in an area follows from, but for its picture."""
    threshold = area.criterion.threshold if area.criterion is not None else None
    return area.name, area.model.digest, area.geometry, threshold, area.ignored
