"""Whole trainings with published parameters, on real features: what the backbone does, and what is cached."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import mvtec
import numpy as np
import pytest
import torch

from calibrate.data.dataset import add_files, find_class
from calibrate.evaluation.best_on_test import BestOnTest
from calibrate.training import by_epochs, fit
from calibrate.training.features import Embedder
from calibrate.training.fit import learn, pictures_for
from inspectd.engine.choose import choose_backend
from inspectd.errors import UsageError
from inspectd.model.calibration import CameraRecord
from inspectd.simplenet import backbone as backbones
from inspectd.simplenet.bundle import Bundle

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mvtec.write_class(tmp_path_factory.mktemp("data"), "bolt")


class Told(fit.Unwatched):
    """What a training tells its watcher."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.says: list[str] = []

    def scalar(self, name: str, value: float, step: int) -> None:
        self.losses += [value] if name == "loss" else []

    def report(self, text: str) -> None:
        self.says.append(text)


class Model(NamedTuple):
    """A trained model, and how it came about."""

    bundle: Bundle
    losses: list[float]
    says: list[str]
    passes: int
    """Pictures that went through the backbone to train it."""


def learned(data: Path, *net: object, dataset: tuple[object, ...] = ()) -> Model:
    """Train a small model on all ten pictures."""
    embedders: list[Embedder] = []

    class Counted(Embedder):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            embedders.append(self)

    options = mvtec.options((*mvtec.SMALL, *net), (*mvtec.SIZE, *dataset))
    pictures = pictures_for(options)
    add_files(pictures, find_class(data, "bolt").train, 0, lambda: None)
    camera, told = CameraRecord("x", None, *pictures.size), Told()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(by_epochs, "Embedder", Counted)
        model = learn(pictures, options, choose_backend("cpu"), run="x", camera=camera, held_out=[], watcher=told).model
    return Model(model, told.losses, told.says, sum(embedder.passed for embedder in embedders))


def original() -> backbones.Backbone:
    return backbones.pretrained(mvtec.NET[1], ("blocks.2", "blocks.4"), (3, 64, 64))


def test_train_backbone_trains_it(data: Path) -> None:
    frozen, moved = learned(data).bundle.backbone, learned(data, "--train_backbone").bundle.backbone
    assert backbones.digest(frozen) == backbones.digest(original())
    assert backbones.digest(moved) != backbones.digest(original())
    assert not moved.training


def test_backbone_weights_come_from_the_file(data: Path, tmp_path: Path) -> None:
    other = backbones.create(mvtec.NET[1], ("blocks.2", "blocks.4"), (3, 64, 64))
    torch.save(other.model.state_dict(), tmp_path / "weights.pth")
    model = learned(data, "--backbone_weights", tmp_path / "weights.pth").bundle
    assert backbones.digest(model.backbone) == backbones.digest(other) != backbones.digest(original())


def test_layers_decide_what_the_patches_are(data: Path) -> None:
    usual, other = learned(data), learned(data, "-le", "blocks.1")
    assert other.bundle.backbone.layers == ("blocks.2", "blocks.4", "blocks.1")
    assert other.losses != pytest.approx(usual.losses, rel=1e-3)


def test_every_cache_trains_the_same_and_passes_each_picture_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    net = ("--meta_epochs", 3, "--dsc_lr", 0.01)
    fresh = learned(data, *net, "--cache", "none")
    assert len(fresh.losses) == 15
    assert max(fresh.losses) - min(fresh.losses) > 0.1, "a training that goes nowhere proves nothing"
    assert (fresh.passes, fresh.says) == (30, [])
    for cache, where in (("auto", "in memory"), ("memory", "in memory"), ("file", "in a file")):
        cached = learned(data, *net, "--cache", cache)
        assert cached.losses == pytest.approx(fresh.losses, abs=1e-3)
        assert cached.passes == 10
        assert where in cached.says[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("net", "dataset"), [(("--train_backbone",), ()), ((), ("--augment",)), ((), ("--brightness", 0.5))]
)
def test_what_changes_from_epoch_to_epoch_is_not_cached(
    data: Path, net: tuple[object, ...], dataset: tuple[object, ...]
) -> None:
    assert learned(data, "--meta_epochs", 2, "--cache", "memory", *net, dataset=dataset).passes == 20


def test_a_16_bit_and_a_grey_picture_are_pictures_too(tmp_path: Path) -> None:
    root = mvtec.write_class(tmp_path, "bolt")
    cv2.imwrite(str(root / "bolt/train/good/000.png"), np.full((50, 60), 30000, np.uint16))
    cv2.imwrite(str(root / "bolt/train/good/001.png"), np.full((90, 60), 90, np.uint8))
    calibration = learned(root).bundle.calibration
    assert calibration is not None
    assert calibration.pictures == 10


def test_best_on_test_keeps_the_best_meta_epoch(data: Path) -> None:
    options = mvtec.options((*mvtec.SMALL, "--train_backbone"), mvtec.SIZE)
    good = learned(data).bundle.head
    bad = copy.deepcopy(good)
    bad.discriminator.tail.weight.data.neg_()
    backbone = original()
    curve: list[float] = []
    keeper = BestOnTest(find_class(data, "bolt"), options, 0, lambda _, value, __: curve.append(value))
    embedder = Embedder(backbone, options.shape, torch.device("cpu"))
    embedder(torch.zeros(1, 3, 64, 64))
    for number, head in enumerate((bad, good, bad), start=1):
        keeper.on_meta_epoch(number, head.train(), embedder)
        assert head.training
    for parameter in backbone.parameters():
        parameter.data.zero_()  # a training goes on after its best meta epoch
    kept = keeper.choose(bad, backbone)
    assert kept.kept == "best-on-test (meta epoch 2)"
    assert curve[2] == max(curve[::2]) > curve[0] == curve[4]
    assert torch.equal(kept.head.discriminator.tail.weight, good.discriminator.tail.weight)
    assert backbones.digest(kept.backbone) == backbones.digest(original()), "as it was in that meta epoch"


@pytest.mark.parametrize("left", ["good", "dent", None])
def test_best_on_test_needs_something_to_choose_by(data: Path, left: str | None) -> None:
    folder = find_class(data, "bolt")
    folder = dataclasses.replace(folder, test=tuple(test for test in folder.test if test.kind == left))
    with pytest.raises(UsageError, match="nothing to choose a checkpoint by"):
        BestOnTest(folder, mvtec.options((), mvtec.SIZE), 0, lambda *_: None)
