"""The models of a daemon: each is loaded and prepared once, and given up when nobody needs it and it costs memory."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import write_small_model

from inspectd.daemon import models as daemon_models
from inspectd.daemon.models import Models
from inspectd.engine.backend import Parity, Variant
from inspectd.history.overrides import NOTHING, Override
from inspectd.line.recipe import Recipe
from inspectd.model.artefact import Artefact
from inspectd.plan import AreaPlan, Plan
from inspectd.simplenet.bundle import Bundle


class Backend:
    """Notes what is asked of it."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def prepare(self, model: Bundle, *, is_draft: bool = False) -> Parity:
        self.said.append(f"prepare {model.calibration.threshold.value:g}")  # type: ignore[union-attr]
        return Parity(Variant("cpu:torch", "float32"), 0.0, 1.0, 4, is_own=True)

    def forget(self, model: Artefact) -> None:
        self.said.append(f"forget {model.calibration.threshold.value:g}")  # type: ignore[union-attr]


@pytest.fixture
def backend() -> Backend:
    return Backend()


def plan(folder: Path) -> Plan:
    return Plan(None, (AreaPlan(None, str(folder), None, None),), (), None)


def recipe(models: Models, folder: Path) -> Recipe:
    return models.recipe("top", plan(folder), NOTHING)


def test_the_last_models_of_the_same_backbone_are_kept_for_who_returns_to_them(
    tmp_path: Path, backend: Backend
) -> None:
    folders = [write_small_model(tmp_path / str(i), threshold=float(i)) for i in range(1, 6)]
    models = Models(backend)  # type: ignore[arg-type]
    for folder in folders:
        models.keep_only([recipe(models, folder)])
    assert backend.said == ["prepare 1", "prepare 2", "prepare 3", "prepare 4", "forget 1", "prepare 5", "forget 2"]
    backend.said.clear()
    models.keep_only([recipe(models, folders[2])])
    models.keep_only([recipe(models, folders[4])])
    assert backend.said == [], "they are at hand"
    models.keep_only([recipe(models, folders[0])])
    assert backend.said == ["prepare 1", "forget 4"], "the one that was not asked for the longest"


def test_a_model_of_another_backbone_is_given_up_at_once(
    tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (write_small_model(tmp_path / str(i), threshold=float(i)) for i in (1, 2))
    load = daemon_models.bundle.load
    monkeypatch.setattr(daemon_models.bundle, "load", lambda folder, shared: load(folder))  # none is shared
    models = Models(backend)  # type: ignore[arg-type]
    recipe(models, first)
    models.keep_only([recipe(models, second)])
    assert backend.said == ["prepare 1", "prepare 2", "forget 1"]


def test_a_folder_that_holds_another_model_now_is_another_model(tmp_path: Path, backend: Backend) -> None:
    folder, other = (write_small_model(tmp_path / str(i), threshold=float(i)) for i in (1, 2))
    models = Models(backend)  # type: ignore[arg-type]
    before = recipe(models, folder)
    shutil.rmtree(folder)
    other.rename(folder)
    after = models.recipe("top", plan(Path("nowhere")), NOTHING.replaced(None, None, Override(model=str(folder))))
    assert backend.said == ["prepare 1", "prepare 2"]
    assert before.label != after.label
