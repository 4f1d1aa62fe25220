"""Each published parameter does what its name says; none of these tests passes if it does nothing."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import mvtec
import numpy as np
import pytest
import torch
from PIL import Image

from calibrate.data import dataset as dataset_module
from calibrate.data.augment import Augmentation
from calibrate.data.dataset import add_files, find_class, read_all
from calibrate.published import AUGMENTATIONS
from calibrate.training.features import CachedPictures
from calibrate.training.fit import pictures_for
from calibrate.training.options import Options
from calibrate.training.train import HeadTrainer, noise_for, train
from inspectd.errors import UsageError
from inspectd.simplenet.network import Head, embed
from inspectd.simplenet.preprocess import resize

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mvtec.write_class(tmp_path_factory.mktemp("data"), "bolt")


def rows(count: int = 400, width: int = 32) -> torch.Tensor:
    return torch.randn(4, count // 4, width, generator=torch.Generator().manual_seed(1)).half()


def trained(options: Options, epochs: list[float] | None = None) -> tuple[Head, list[float]]:
    """Train a head on made-up rows; return it and the losses; `epochs` collects the rate after each meta epoch."""
    torch.manual_seed(options.seed)
    head = Head(options.shape)
    draws = torch.Generator().manual_seed(options.seed)
    features = rows(width=options.shape.target_embed_dimension)
    batches = CachedPictures(features, options.schedule.batch_size, draws, torch.device("cpu"))
    trainer = HeadTrainer(head, options.schedule, noise_for(options.schedule, torch.Generator().manual_seed(0)))
    losses: list[float] = []
    train(
        trainer,
        batches,
        lambda _, result: losses.append(float(result.loss.detach())),
        lambda _: None if epochs is None else epochs.append(trainer.learning_rate),
    )
    return head, losses


def test_defaults_are_the_published_ones() -> None:
    left_out = mvtec.options()
    shape, schedule = left_out.shape, left_out.schedule
    assert (shape.pretrain_embed_dimension, shape.target_embed_dimension, shape.patchsize) == (1024, 1024, 3)
    assert (shape.pre_proj, shape.proj_layer_type, shape.dsc_layers, shape.dsc_hidden) == (0, 0, 2, None)
    assert (schedule.meta_epochs, schedule.gan_epochs, schedule.noise_std, schedule.dsc_margin) == (1, 1, 0.05, 0.8)
    assert (schedule.dsc_lr, schedule.mix_noise, schedule.auto_noise, schedule.batch_size) == (2e-4, 1, 0, 2)
    assert (schedule.cos_lr, schedule.train_backbone, schedule.standardise) == (False, False, False)
    assert left_out.recipe is None
    assert (left_out.resize, left_out.width, left_out.height, left_out.seed) == (256, 224, 224, 0)
    assert not left_out.augmentation.is_active


def test_defaults_before_net_are_the_published_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("calibrate.published.run", lambda *line, **main: seen.extend((*line, main)))
    assert mvtec.call("net", "dataset", "mvtec", "x").code == 0
    (_, dataset), target, gpus, main = seen
    assert target == Path("results/project/group/test")
    assert gpus == ()
    drawn = {"test": False, "save_segmentation_images": False}
    assert main == {"seed": 0, "keep": "last", "rate": 0.01, "confidence": 0.95, **drawn}
    assert (dataset.train_val_split, dataset.num_workers, dataset.augment) == (1.0, 2, False)


@pytest.mark.parametrize(
    ("gpus", "device", "looked_for"),
    [((), "auto", []), ((-1,), "cpu", ["cpu"]), ((1, 0), "cuda:1", ["cuda:1", "cuda:0"])],
)
def test_each_gpu_is_looked_for_and_the_first_one_used(
    gpus: tuple[int, ...], device: str, looked_for: list[str], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[str] = []
    names: list[str] = []
    monkeypatch.setattr("inspectd.engine.choose.torch_device", names.append)
    monkeypatch.setattr("calibrate.published_runs.train_run", lambda _, device, **__: used.append(device))
    line = [word for gpu in gpus for word in ("--gpu", gpu)]
    assert mvtec.call(*line, "net", *mvtec.NET, "dataset", "-d", "bolt", "mvtec", data).code == 0
    assert (used, names) == ([device], looked_for)


SMALL = ("--target_embed_dimension", 32)
PROJECTED = (*SMALL, "--pre_proj", 1, "--embedding_size", 9)


@pytest.mark.parametrize(
    ("net", "seen"),
    [
        (("--target_embed_dimension", 20), lambda head: head.discriminator.body.block1[0].in_features == 20),
        ((*SMALL, "--dsc_hidden", 7), lambda head: head.discriminator.tail.in_features == 7),
        ((*SMALL, "--dsc_layers", 4), lambda head: len(head.discriminator.body) == 3),
        ((*SMALL, "--dsc_layers", 3), lambda head: head.discriminator.tail.in_features == 14),  # 32 / 1.5 / 1.5
        ((*SMALL, "--pre_proj", 2), lambda head: len(head.pre_projection.layers) == 2),
        ((*SMALL, "--pre_proj", 2, "--proj_layer_type", 2), lambda head: len(head.pre_projection.layers) == 3),
        (PROJECTED, lambda head: head.pre_projection(rows()[0].float()).shape[1] == 9),
        (PROJECTED, lambda head: head.discriminator.body.block1[0].in_features == 9),
    ],
)
def test_shape_parameters(net: tuple[object, ...], seen: Any) -> None:
    assert seen(Head(mvtec.options(net).shape))


@pytest.mark.parametrize(("name", "value"), [("patchsize", 5), ("pretrain_embed_dimension", 11)])
def test_parameters_of_the_embedding(name: str, value: int) -> None:
    features = [torch.randn(1, 6, 5, 5), torch.randn(1, 8, 3, 3)]
    usual, _ = embed(features, mvtec.options(SMALL).shape)
    other, _ = embed(features, mvtec.options((*SMALL, f"--{name}", value)).shape)
    assert not torch.allclose(usual, other)


@pytest.mark.parametrize(
    ("more", "changes"),
    [
        (("--noise_std", 0.5), True),
        (("--dsc_margin", 0.1), True),
        (("--dsc_lr", 0.01), True),
        (("--mix_noise", 8), True),
        (("--auto_noise", 0.4), True),
        (("--gan_epochs", 2), True),
        (("--meta_epochs", 3), True),
        ((), False),
    ],
)
def test_training_parameters_change_the_training(more: tuple[object, ...], changes: bool) -> None:
    usual, _ = trained(mvtec.options(SMALL))
    other, _ = trained(mvtec.options((*SMALL, *more)))
    assert torch.equal(usual.discriminator.tail.weight, other.discriminator.tail.weight) is not changes


@pytest.mark.parametrize(("meta", "gan", "steps"), [(1, 1, 2), (3, 1, 6), (3, 2, 12)])
def test_epochs_are_counted_as_published(meta: int, gan: int, steps: int) -> None:
    _, losses = trained(mvtec.options((*SMALL, "--meta_epochs", meta, "--gan_epochs", gan)))
    assert len(losses) == steps


@pytest.mark.parametrize(("size", "steps"), [(1, 4), (3, 2), (9, 1)])
def test_batch_size_is_pictures_in_a_step(size: int, steps: int) -> None:
    assert len(trained(mvtec.options(SMALL, ("--batch_size", size)))[1]) == steps


def test_noise_parameters_are_what_they_say() -> None:
    good = rows(4000)[0].float() * torch.arange(1, 33)  # spread 16.5 on average

    def spread(*net: object) -> float:
        noise = noise_for(mvtec.options(net).schedule, torch.Generator().manual_seed(0))
        return float(noise(good).std())

    assert spread("--noise_std", 0.2) == pytest.approx(0.2, rel=0.02)
    assert spread("--auto_noise", 0.1) == pytest.approx(1.65, rel=0.05)
    assert spread("--noise_std", 0.2, "--mix_noise", 9) == pytest.approx(0.2 * 1.1**4.6, rel=0.1)


def test_cos_lr_falls_to_two_fifths_at_the_end() -> None:
    rates: list[float] = []
    trained(mvtec.options((*SMALL, "--meta_epochs", 5, "--gan_epochs", 2, "--cos_lr")), rates)
    assert rates[0] == pytest.approx(2e-4)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0.4 * 2e-4)
    flat: list[float] = []
    trained(mvtec.options((*SMALL, "--meta_epochs", 5)), flat)
    assert set(flat) == {2e-4}


def test_aed_meta_epochs_hold_the_rate_and_then_the_projection() -> None:
    rates: list[float] = []
    net = (*SMALL, "--pre_proj", 1, "--meta_epochs", 4)
    held, _ = trained(mvtec.options((*net, "--aed_meta_epochs", 3, "--cos_lr")), rates)
    assert rates[:3] == [2e-4] * 3
    assert rates[3] == pytest.approx(0.4 * 2e-4)
    free, _ = trained(mvtec.options(net))
    early, _ = trained(mvtec.options((*SMALL, "--pre_proj", 1, "--meta_epochs", 3)))
    for head, is_same in ((held, True), (free, False)):
        assert head.pre_projection is not None
        assert early.pre_projection is not None
        assert torch.equal(head.pre_projection.layers[0].weight, early.pre_projection.layers[0].weight) is is_same
    assert not torch.equal(held.discriminator.tail.weight, early.discriminator.tail.weight)


# Backbones and layers


def test_several_backbones_have_their_own_layers_seeds_and_weights() -> None:
    net = ("-b", "resnet18.seed-7", "-b", "resnet50", "-le", "0.layer1", "-le", "1.layer2", "-le", "0.layer3")
    net += ("--backbone_weights", "-", "--backbone_weights", "r50.pth")
    first, second = (mvtec.options(net, number=i, seed=3) for i in (0, 1))
    assert (first.backbone, first.layers, first.seed, first.weights) == ("resnet18", ("layer1", "layer3"), 7, None)
    assert (second.backbone, second.layers, second.seed) == ("resnet50", ("layer2",), 3)
    assert second.weights == Path("r50.pth")


COUNTS = ("meta_epochs", "gan_epochs", "mix_noise", "dsc_layers", "dsc_hidden", "patchsize", "embedding_size")
COUNTS += ("pretrain_embed_dimension", "target_embed_dimension")


@pytest.mark.parametrize(
    ("net", "says"),
    [
        (("-b", "resnet18", "-b", "resnet50", "-le", "layer2"), "expected INDEX.LAYER"),
        (("-b", "resnet18", "-b", "resnet50", "-le", "2.layer2"), "index from 0 to 1"),
        (("-b", "resnet18.seed-x"), "whole number"),
        (("-b", "resnet18", "--backbone_weights", "a", "--backbone_weights", "b"), "2 times for 1 backbones"),
        (("-b", "resnet81"), "near names"),
        (("--cos_lr",), "no epochs to fall over"),
        (("--cos_lr", "--meta_epochs", 4, "--aed_meta_epochs", 4), "no epochs to fall over"),
        (("--meta_epochs", 4, "--aed_meta_epochs", 5), "expected 1 to 4"),
        (("--embedding_size", 256), "no projection"),
        (("--noise_std", 0), "without noise"),
        (("--noise_std", "nan"), "noise_std"),
        (("--dsc_lr", 0), "dsc_lr"),
        (("--dsc_layers", 60), "dsc_layers is 60.* layer 16 would have none"),
        (("-b", f"resnet18.seed-{2**63}"), "seed is 9223372036854775808"),
        *(((f"--{name}", value), f"{name} is {value}") for name in COUNTS for value in (0, -1)),
        *(((f"--{name}", -1), f"{name} is -1") for name in ("pre_proj", "proj_layer_type")),
    ],
)
def test_nets_that_cannot_be(net: tuple[object, ...], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        mvtec.options(net)


# Pictures


def test_resize_and_imagesize_crop_the_centre_as_published() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (90, 140, 3), np.uint8)
    options = mvtec.options((), ("--resize", 60, "--imagesize", 48))
    ours = resize(picture, options.geometry()).permute(1, 2, 0).numpy()
    theirs = Image.fromarray(picture[:, :, ::-1]).resize((93, 60), Image.Resampling.BILINEAR)
    expected = np.asarray(theirs)[6:54, 22:70]
    assert ours.shape == expected.shape
    assert np.abs(ours.astype(int) - expected.astype(int)).max() <= 1
    assert options.geometry().area(140, 90) == (33, 9, 72, 72)


@pytest.mark.parametrize(
    ("dataset", "says"),
    [
        (("--resize", 60, "--imagesize", 64), "resize is 60, less than imagesize 64"),
        (("--resize", 0), "resize is 0"),
        (("--hflip", 2), "--hflip is 2"),
        *(((f"--{name}", value), f"{name} is {value}") for name in ("imagesize", "batch_size") for value in (0, -1)),
    ],
)
def test_datasets_that_cannot_be(dataset: tuple[object, ...], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        mvtec.options((), dataset)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentations_reach_the_pictures_with_or_without_augment(name: str, data: Path) -> None:
    value = 1.0 if name in ("gray", "hflip", "vflip") else 30.0 if name == "rotate_degrees" else 0.4
    for flag in ((), ("--augment",)):
        options = mvtec.options((), (*mvtec.SIZE, f"--{name}", value, *flag))
        assert options.augmentation == Augmentation(**{name: value})
    pictures = pictures_for(options)
    add_files(pictures, find_class(data, "bolt").train[:1], 0, lambda: None)
    assert not torch.equal(pictures.load([0])[0], pictures.input(0))


def test_augment_alone_is_mild() -> None:
    assert mvtec.options((), ("--augment",)).augmentation == Augmentation.mild()


@pytest.mark.parametrize("workers", [0, 3])
def test_num_workers_threads_decode(data: Path, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[str] = set()
    read = dataset_module.read_picture

    def noting(path: Path) -> Any:
        threads.add(threading.current_thread().name.partition("_")[0])
        return read(path)

    monkeypatch.setattr(dataset_module, "read_picture", noting)
    paths = find_class(data, "bolt").train
    assert [path for path, _ in read_all(paths, workers)] == list(paths)
    assert threads == ({"decode"} if workers else {"MainThread"})


@pytest.mark.parametrize(
    ("share", "held"), [(1.0, []), (0.75, ["007", "008", "009"]), (0.5, ["005", "006", "007", "008", "009"])]
)
def test_train_val_split_holds_the_last_ones_out(data: Path, share: float, held: list[str]) -> None:
    learned_from, held_out = find_class(data, "bolt").split(share)
    assert [path.stem for path in held_out] == held
    assert len(learned_from) + len(held_out) == 10
