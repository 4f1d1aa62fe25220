"""The models that the cameras of a daemon are judged by: each is loaded and prepared once, and given up when it is not
needed any more."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from torch import nn

from inspectd.engine.backend import Backend, Parity
from inspectd.engine.workers import single_threaded_torch
from inspectd.history.overrides import CameraOverrides, Override
from inspectd.line.recipe import Recipe, recipe_of
from inspectd.logs import EVIDENCE
from inspectd.model import artefact
from inspectd.plan import AreaPlan, Plan
from inspectd.simplenet import bundle
from inspectd.simplenet.bundle import Bundle

LOG = logging.getLogger(__name__)


MOST_IDLE = 2
"""Models that are kept though nobody uses them."""


class Loaded(NamedTuple):
    """A model that may judge."""

    model: Bundle
    parity: Parity


class Models:
    """Called by one thread at a time, beside those that score."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._loaded: dict[str, Loaded] = {}
        """By digest, in the order in which they were asked for."""
        self._backbones: dict[str, nn.Module] = {}

    def recipe(self, camera: str, plan: Plan, kept: CameraOverrides) -> Recipe:
        """Return what a camera judges a product by; UsageError when that cannot be used.

        A threshold is one of a model's scores: that of a command is in force where its model is, and that of the
        configuration where no command put another model in the place of the configuration's.
        """
        loaded = {area.name: self.load(kept.of(plan.name, area.name).model or area.model) for area in plan.areas}
        areas = tuple(
            replace(area, threshold=_threshold(camera, area, kept.of(plan.name, area.name), loaded[area.name].model))
            for area in plan.areas
        )
        return recipe_of(camera, replace(plan, areas=areas), lambda area: loaded[area.name])

    def load(self, folder: str) -> Loaded:
        """Return the model that lies in a folder now; UsageError: it cannot be used, or not on this device."""
        digest = artefact.read(Path(folder)).artefact.digest
        if (found := self._loaded.pop(digest, None)) is None:
            with single_threaded_torch():  # the cores belong to those that score
                model = bundle.load(Path(folder), shared=self._backbones)
                parity = self._backend.prepare(model)
                LOG.info("model %s: %s", model.label, parity, extra=EVIDENCE)
                found = Loaded(model, parity)
        self._loaded[found.model.digest] = found
        return found

    def keep_only(self, recipes: Iterable[object]) -> None:
        """Give up all models that none of these recipes is of; but the last few that take next to no memory.

        Those have their backbone in common with a model that is used: who returns to one of them is not kept waiting.
        """
        used = {area.model.digest for recipe in recipes if isinstance(recipe, Recipe) for area in recipe.areas}
        backbones = {id(loaded.model.backbone) for digest, loaded in self._loaded.items() if digest in used}
        idle = [digest for digest in self._loaded if digest not in used]
        small = [digest for digest in idle if id(self._loaded[digest].model.backbone) in backbones]
        for digest in [one for one in idle if one not in small[-MOST_IDLE:]]:
            gone = self._loaded.pop(digest)
            self._backend.forget(gone.model)
            LOG.info("model %s is not used any more", gone.model.label, extra=EVIDENCE)
        modules = {id(loaded.model.backbone) for loaded in self._loaded.values()}
        self._backbones = {key: module for key, module in self._backbones.items() if id(module) in modules}


def _threshold(camera: str, area: AreaPlan, override: Override, model: Bundle) -> float | None:
    """Return the threshold that is asked for in an area; None: the calibration's."""
    if override.threshold is not None:
        if override.threshold.digest == model.digest:
            return override.threshold.value
        LOG.warning(
            "camera %s: the threshold %g that a command set was for another model than %s, and is not used",
            camera,
            override.threshold.value,
            model.label,
        )
    return area.threshold if override.model is None else None
