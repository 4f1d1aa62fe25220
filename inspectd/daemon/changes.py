"""What commands change at cameras while they inspect: model, threshold, product; and what people say of parts.

Each change is written to the audit before it is made: none is made that cannot be found out about later.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import msgspec

from inspectd.daemon.asking import Asker, change_of
from inspectd.daemon.described import all_or_one, described, in_force, judges, of_place, threshold_of
from inspectd.daemon.roster import Roster
from inspectd.daemon.standing import Standing
from inspectd.daemon.thresholds import check_threshold, try_threshold
from inspectd.daemon.worker import Reply
from inspectd.errors import InspectdError, StartError, UsageError
from inspectd.history import pictures, reading
from inspectd.history.archive import Archive
from inspectd.history.journal import Journal
from inspectd.history.overrides import NONE, NOTHING, CameraOverrides, Override, ThresholdOverride
from inspectd.line.camera import Camera
from inspectd.line.recipe import Area, NoRecipe, Recipe
from inspectd.line.shadow import Shadows
from inspectd.logs import EVIDENCE, about
from inspectd.plan import AreaPlan, Plan, plans_of
from inspectd.wire.requests import (
    MarkRequest,
    ModelRequest,
    RecipeRequest,
    RefusedError,
    RevertRequest,
    ThresholdRequest,
)
from inspectd.wire.results import (
    AreaOverrideMessage,
    AuditChange,
    ChangeResult,
    MarkResult,
    OverrideMessage,
    RecipeResult,
    TrialMessage,
)

LOG = logging.getLogger(__name__)

FLUSH_S = 5.0
OLD_FRAMES_S, LOOK_S = 60.0, 0.02
"""How long, and how often, it is looked whether frames of a model that was replaced are still under way."""


class Changes:
    """Makes changes. Each method is called by one thread at a time, and may take its time."""

    def __init__(
        self,
        cameras: Roster,
        standing: Standing,
        shadows: Shadows,
        journal: Journal,
        archive: Archive,
        epoch: str,
    ) -> None:
        self._cameras = cameras
        self._models = standing.models
        self._overrides = standing.overrides
        self._shadows = shadows
        self._journal = journal
        self._archive = archive
        self._epoch = epoch
        self._is_stopping = False

    # What is asked for

    def threshold(self, request: ThresholdRequest, user: str | None) -> Reply:
        """Judge by another threshold; or only say what it would have done."""
        camera, recipe, area = self._judging(request)
        check_threshold(request.value, area)
        now = threshold_of(area)
        if request.instead_of not in (None, now):
            raise RefusedError(
                "changed",
                f"The threshold of camera {camera.name} is {now} by now, not {request.instead_of}: somebody else has "
                "changed it. Nothing was done; look at the new one and ask again.",
            )
        self._journal.flush(FLUSH_S)
        assert self._journal.path is not None
        trial = try_threshold(self._journal.path, camera.name, request.value, recipe, area)
        if request.dry_run:
            return self._reply(camera, recipe, area, trial)
        override = msgspec.structs.replace(
            self._overrides.of(camera.name).of(recipe.name, area.name),
            threshold=ThresholdOverride(request.value, area.model.digest),
        )
        changed = recipe.with_threshold(request.value, area.name)
        self._make(
            "threshold",
            camera,
            lambda kept: kept.replaced(recipe.name, area.name, override),
            [changed],
            Asker(user, request.by, request.why),
            old=described(recipe, area),
            new=described(changed, changed.area(area.name)),
        )
        return self._reply(camera, changed, changed.area(area.name), trial)

    def model(self, request: ModelRequest, user: str | None) -> Reply:
        """Judge by another model, with its own threshold."""
        camera, plan, place = self._place(request)
        if not request.path.startswith("/"):
            raise RefusedError("bad_value", f"path is {request.path[:80]!r}; expected an absolute path of a folder.")
        override = Override(model=None if request.path == place.model else request.path)
        kept = self._overrides.of(camera.name).replaced(plan.name, place.name, override)
        current = camera.products.named(plan.name)
        if isinstance(current, Recipe):  # what lies in the folders of the other areas by now is none of this change
            only = self._recipe(camera, replace(plan, areas=(place,)), kept)
            recipe = current.with_area(only.areas[0])
        else:
            recipe = self._recipe(camera, plan, kept)
        area = recipe.area(place.name)
        if area.criterion is None:
            raise RefusedError("bad_model", f"The model {area.model.label} has no threshold; calibrate with inspectd.")
        self._make(
            "model",
            camera,
            lambda kept: kept.replaced(plan.name, place.name, override),
            [recipe],
            Asker(user, request.by, request.why),
            old=of_place(camera.products.named(plan.name), place.name),
            new={**described(recipe, area), "path": request.path},
        )
        return self._reply(camera, recipe, area)

    def revert(self, request: RevertRequest, user: str | None) -> Reply:
        """Return to what the configuration says, in all areas of all products."""
        camera = self._cameras.find(request.camera)
        kept, plans = self._overrides.of(camera.name), plans_of(camera.config)
        if request.recipe is not None and request.recipe not in plans:
            raise RefusedError(
                "bad_value", f"The configuration of camera {camera.name} has no recipe {request.recipe[:80]!r}."
            )
        changed = [plan for plan in plans.values() if any(kept.of(plan.name, area.name) != NONE for area in plan.areas)]
        if request.recipe in plans:
            changed = [plans[request.recipe]]
        elif not changed:  # what judges now is told, and read anew
            changed = [plans.get(camera.products.chosen, next(iter(plans.values())))]
        recipes = [self._recipe(camera, plan, NOTHING) for plan in changed]
        self._make(
            "revert",
            camera,
            lambda kept: kept.without(camera.config.recipes or (), request.recipe),
            recipes,
            Asker(user, request.by, request.why),
            old=all_or_one(
                [of_place(camera.products.named(one.name), area.name) for one in recipes for area in one.areas]
            ),
            new=all_or_one([described(recipe, area) for recipe in recipes for area in recipe.areas]),
        )
        return self._reply(camera, recipes[0], recipes[0].areas[0])

    def recipe(self, request: RecipeRequest, user: str | None) -> Reply:
        """Take the parts that come for another product. This does not wait for the journal: a line must go on."""
        camera = self._cameras.find(request.camera)
        if self._is_stopping:
            raise RefusedError("shutdown", "The daemon is stopping; nothing was changed.")
        recipe = _named(camera, request.name)
        old = camera.products.chosen
        detail = recipe.why if isinstance(recipe, NoRecipe) else None
        try:
            self._overrides.change(camera.name, lambda kept: msgspec.structs.replace(kept, recipe=request.name))
        except InspectdError as error:
            detail = f"{error} After a restart the recipe {old} would be in force again."
            LOG.error("camera %s: the choice of recipe %s could not be kept: %s", camera.name, request.name, error)
        with self._cameras.changing:  # whatever became of the rest: the parts that come are not of the old one
            self._cameras.find(request.camera).choose(request.name)
        asker = Asker(user, request.by, request.why)
        self._journal.note(self._change("recipe", camera.name, asker, {"recipe": old}, {"recipe": request.name}))
        LOG.info("camera %s: recipe %s instead of %s, by %s", camera.name, request.name, old, user or request.by)
        label = recipe.label if isinstance(recipe, Recipe) else None
        result = RecipeResult(recipe=request.name, model=label, detail=detail)
        return Reply(msgspec.to_builtins(result))

    def mark(self, request: MarkRequest, user: str | None) -> Reply:
        """Note what a person says of a part, and put its picture where it stays."""
        epoch = request.epoch or self._epoch
        self._journal.flush(FLUSH_S)
        assert self._journal.path is not None
        header = reading.verdict(self._journal.path, request.camera, epoch, request.seq)
        name = (
            pictures.name_of(header)
            if header is not None
            else self._archive.find(request.camera, epoch, request.seq)  # which keeps some longer than the journal
        )
        if header is None and name is None:
            raise RefusedError(
                "bad_value",
                f"There is no verdict {request.seq} of camera {request.camera} in the epoch {epoch} in the journal; "
                "expected one that was published and is still kept.",
            )
        said = {"epoch": epoch, "seq": request.seq, "say": request.say}
        asker = Asker(user, request.by, request.why)
        self._journal.record(self._change("mark", request.camera, asker, new=said))
        try:
            picture = self._archive.mark(request.camera, name, request.say) if name is not None else None
        except InspectdError as error:
            undone = Asker(user, request.by, f"mark failed: {error}")
            self._journal.note(self._change("undone", request.camera, undone, old=said))
            raise
        return Reply(msgspec.to_builtins(MarkResult(epoch=epoch, picture=str(picture) if picture else None)))

    def give_up_unused(self) -> None:
        """Wait until no frame needs what was replaced, and give up the models that nobody uses."""
        give_up_s = time.monotonic() + OLD_FRAMES_S
        while not self._cameras.is_settled:
            if time.monotonic() > give_up_s:
                LOG.warning("frames of a model that was replaced are still under way; it stays in memory")
                return
            time.sleep(LOOK_S)
        self._models.keep_only(
            [*(recipe for camera in self._cameras.values() for recipe in camera.products.all), *self._shadows.recipes]
        )

    def stop(self) -> None:
        """Begin no change any more. From any thread."""
        self._is_stopping = True

    # What is in force

    def overrides(self, camera: str) -> OverrideMessage:
        """Return what commands changed at a camera, as far as it is in force. From any thread."""
        kept = self._overrides.of(camera)
        running = self._cameras.get(camera)
        recipe = running.recipe if running is not None else None
        areas = recipe.areas if isinstance(recipe, Recipe) else ()
        product = running.products.chosen if running is not None else None
        found = {area.name: in_force(kept.of(product, area.name), area) for area in areas}
        if not areas and (one := kept.of(product, None)) != NONE:
            found[None] = AreaOverrideMessage(model=one.model)
        whole = found.pop(None, AreaOverrideMessage())
        named = {str(name): one for name, one in found.items() if one != AreaOverrideMessage()}
        others = sorted({key.partition("/")[0] for key in kept.areas} - {product or ""})
        return OverrideMessage(
            model=whole.model,
            threshold=whole.threshold,
            recipe=kept.recipe,
            areas=named or None,
            others=others or None,
        )

    def standing(self) -> dict[str, Any]:
        """Return by camera what judges, for the audit."""
        return {name: judges(camera) for name, camera in self._cameras.items()}

    def note(self, what: str, new: Any, who: str | None = None) -> None:
        """Write down what happened to the daemon. `who`: name of the key of the client that asked for it."""
        self._journal.note(self._change(what, None, Asker(who, None, None), new=new))

    # The rest

    def _place(self, request: ThresholdRequest | ModelRequest) -> tuple[Camera, Plan, AreaPlan]:
        """Return which area of which product a request is about; RefusedError: that is not clear."""
        camera = self._cameras.find(request.camera)
        product = request.recipe if request.recipe is not None else camera.products.chosen
        plans = plans_of(camera.config)
        if product not in plans:
            _named(camera, product)  # a command chose it, and it is not in the configuration any more
            raise RefusedError("no_model", f"The configuration of camera {camera.name} has no recipe {product}.")
        plan = plans[product]
        found = [area for area in plan.areas if request.area is None or area.name == request.area]
        if len(found) != 1:
            names = ", ".join(area.name for area in plan.areas if area.name is not None) or "none"
            raise RefusedError(
                "bad_value",
                f"area is {request.area!r}; camera {camera.name} has the areas {names}: expected one of them.",
            )
        return camera, plan, found[0]

    def _judging(self, request: ThresholdRequest) -> tuple[Camera, Recipe, Area]:
        camera, plan, place = self._place(request)
        recipe = camera.products.named(plan.name)
        if not isinstance(recipe, Recipe):
            raise RefusedError("no_model", f"Camera {camera.name} has no model: {recipe.why}")
        return camera, recipe, recipe.area(place.name)

    def _recipe(self, camera: Camera, plan: Plan, kept: CameraOverrides) -> Recipe:
        try:
            recipe = self._models.recipe(camera.name, plan, kept)
            camera.check(recipe)
        except UsageError as error:
            raise RefusedError("bad_model", str(error)) from None
        return recipe

    def _make(
        self,
        what: str,
        camera: Camera,
        override: Callable[[CameraOverrides], CameraOverrides],
        recipes: Sequence[Recipe],
        asker: Asker,
        *,
        old: Any,
        new: Any,
    ) -> None:
        """Write a change down, keep it, and make it."""
        if self._is_stopping:
            raise RefusedError("shutdown", "The daemon is stopping; nothing was changed.")
        before = self._overrides.of(camera.name)
        self._journal.record(self._change(what, camera.name, asker, old, new))
        try:
            if self._is_stopping:
                raise StartError("the daemon is stopping.")
            self._overrides.change(camera.name, override)
            for recipe in recipes:
                camera.use(recipe)
        except InspectdError as error:
            with suppress(InspectdError):
                self._overrides.change(camera.name, lambda kept: CameraOverrides(kept.recipe, before.areas))
            undone = Asker(asker.who, asker.by, f"{what} failed: {error}")
            self._journal.note(self._change("undone", camera.name, undone, new, old))
            raise
        extra = {**about(camera=camera.name), **EVIDENCE}
        LOG.info(
            "camera %s: %s by %s: %s instead of %s", camera.name, what, asker.who or asker.by, new, old, extra=extra
        )

    def _change(self, what: str, camera: str | None, asker: Asker, old: Any = None, new: Any = None) -> AuditChange:
        return change_of(self._epoch, what, camera, asker, old, new)

    def _reply(self, camera: Camera, recipe: Recipe, area: Area, trial: TrialMessage | None = None) -> Reply:
        result = ChangeResult(
            model=area.model.label,
            threshold=threshold_of(area),
            overrides=self.overrides(camera.name),
            trial=trial,
            recipe=recipe.name,
            area=area.name,
        )
        return Reply(msgspec.to_builtins(result))


def _named(camera: Camera, product: str | None) -> Recipe | NoRecipe:
    try:
        return camera.products.named(product)
    except UsageError as error:
        raise RefusedError("bad_value", f"Camera {camera.name}: {error}") from None
