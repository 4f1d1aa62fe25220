"""The published SimpleNet command line: `[main options] net [options] dataset [options] mvtec DATA_PATH`.

Names, defaults and order are those of the published code; README lists where a parameter that it ignores
has been given the meaning of its name. Each part only collects its values; `run` does the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from inspectd.errors import UsageError

if TYPE_CHECKING:
    from calibrate.training.options import Options

AUGMENTATIONS = (
    "rotate_degrees",
    "translate",
    "scale",
    "brightness",
    "contrast",
    "saturation",
    "gray",
    "hflip",
    "vflip",
)
DATASETS = ("mvtec",)
NO_WEIGHTS = "-"


@dataclass(frozen=True, slots=True)
class NetPart:
    """What stands behind `net`."""

    backbones: tuple[str, ...]
    layers: tuple[str, ...]
    weights: tuple[str, ...]
    cache: str
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class DatasetPart:
    """What stands behind `dataset`."""

    name: str
    path: Path
    classes: tuple[str, ...]
    train_val_split: float
    batch_size: int
    num_workers: int
    resize: int
    imagesize: int
    augment: bool
    augmentations: dict[str, float]


@click.command("net")
@click.option("-b", "--backbone_names", "backbones", multiple=True, help="Backbone; repeatable. NAME.seed-N: its seed.")
@click.option("-le", "--layers_to_extract_from", "layers", multiple=True, help="Layer; with several -b: INDEX.LAYER.")
@click.option("--pretrain_embed_dimension", type=int, default=1024, show_default=True)
@click.option("--target_embed_dimension", type=int, default=1024, show_default=True)
@click.option("--patchsize", type=int, default=3, show_default=True)
@click.option("--embedding_size", type=int, help="Width behind the projection. [target_embed_dimension]")
@click.option("--meta_epochs", type=int, default=1, show_default=True)
@click.option("--aed_meta_epochs", type=int, help="Meta epochs in which the projection learns. [all]")
@click.option("--gan_epochs", type=int, default=1, show_default=True)
@click.option("--dsc_layers", type=int, default=2, show_default=True)
@click.option("--dsc_hidden", type=int, help="Width of hidden layers. [each 1.5 times narrower]")
@click.option("--noise_std", type=float, default=0.05, show_default=True)
@click.option("--dsc_margin", type=float, default=0.8, show_default=True)
@click.option("--dsc_lr", type=float, default=0.0002, show_default=True)
@click.option("--auto_noise", type=float, default=0.0, show_default=True, help="Noise as a share of the spread.")
@click.option("--train_backbone", is_flag=True, help="Train the backbone too.")
@click.option("--cos_lr", is_flag=True, help="Let the discriminator's rate fall along a cosine.")
@click.option("--pre_proj", type=int, default=0, show_default=True, help="Layers of the projection.")
@click.option("--proj_layer_type", type=int, default=0, show_default=True, help="Above 1: LeakyReLU between them.")
@click.option("--mix_noise", type=int, default=1, show_default=True, help="How many noise strengths are mixed.")
@click.option("--backbone_weights", "weights", multiple=True, metavar="FILE", help="One for each -b; - for none.")
@click.option(
    "--cache",
    type=click.Choice(["auto", "memory", "file", "none"]),
    default="auto",
    show_default=True,
    help="Where the features of a frozen backbone are kept.",
)
def net(
    backbones: tuple[str, ...], layers: tuple[str, ...], weights: tuple[str, ...], cache: str, **parameters: Any
) -> NetPart:
    """Say which network is trained, and how."""
    return NetPart(backbones, layers, weights, cache, parameters)


@click.command("dataset")
@click.argument("name")
@click.argument("path", metavar="DATA_PATH", type=click.Path(path_type=Path))
@click.option("-d", "--subdatasets", "classes", multiple=True, help="Class; repeatable.")
@click.option("--train_val_split", type=float, default=1.0, show_default=True, help="Share that is learned from.")
@click.option("--batch_size", type=int, default=2, show_default=True)
@click.option("--num_workers", type=int, default=2, show_default=True, help="Threads that decode pictures.")
@click.option("--resize", type=int, default=256, show_default=True, help="Shorter side of the picture.")
@click.option("--imagesize", type=int, default=224, show_default=True, help="Side of the centre that is used.")
@click.option("--rotate_degrees", type=float, default=0.0)
@click.option("--translate", type=float, default=0.0)
@click.option("--scale", type=float, default=0.0)
@click.option("--brightness", type=float, default=0.0)
@click.option("--contrast", type=float, default=0.0)
@click.option("--saturation", type=float, default=0.0)
@click.option("--gray", type=float, default=0.0)
@click.option("--hflip", type=float, default=0.0)
@click.option("--vflip", type=float, default=0.0)
@click.option("--augment", is_flag=True, help="Mild augmentation where none of the nine above is given.")
def dataset(**values: Any) -> DatasetPart:
    """Say which pictures: NAME is mvtec, DATA_PATH holds <class>/train/good, test and ground_truth."""
    augmentations = {name: values.pop(name) for name in AUGMENTATIONS}
    return DatasetPart(**values, augmentations=augmentations)


def run(parts: Sequence[NetPart | DatasetPart], target: Path, gpus: Sequence[int], **main: Any) -> None:
    """Train (or test) what the parts say; called when the whole line has been read."""
    nets = [part for part in parts if isinstance(part, NetPart)]
    datasets = [part for part in parts if isinstance(part, DatasetPart)]
    if len(nets) != 1 or len(datasets) != 1:
        raise UsageError(
            "The published command line has one `net` and one `dataset`: inspectd calibrate [options] net -b NAME -le "
            "LAYER [options] dataset -d CLASS [options] mvtec DATA_PATH. For a camera, use --camera SOURCE."
        )
    data = datasets[0]
    _check_dataset(data)
    _backbones(nets[0])

    from calibrate.published_runs import (  # loads torch: a slip of the keyboard need not wait for it
        Plan,
        test_run,
        train_run,
    )
    from inspectd.atomic import check_can_write

    check_can_write(target)
    options = [options_of(nets[0], data, i, **main) for i in range(len(_backbones(nets[0])))]
    plan = Plan(target, data.name, data.path, data.classes, options, data.train_val_split, data.num_workers)
    device = _device(gpus)
    if main["test"]:
        test_run(plan, device, draws=main["save_segmentation_images"])
    else:
        train_run(plan, device, keep=main["keep"], draws=main["save_segmentation_images"])


def options_of(net_part: NetPart, data: DatasetPart, number: int, *, seed: int, **main: Any) -> Options:
    """Return the settings of the `number`-th backbone; UsageError in one sentence when they cannot be."""
    from calibrate.data.augment import Augmentation
    from calibrate.training.options import Options, check
    from calibrate.training.train import Schedule
    from inspectd.simplenet.network import HeadShape

    name, own_seed = _seed_of(_backbones(net_part)[number])
    given = dict(net_part.parameters)
    shape = HeadShape(**{key: given.pop(key) for key in HeadShape.__dataclass_fields__ if key in given})
    schedule = Schedule(**given, batch_size=data.batch_size)
    augmentation = Augmentation(**data.augmentations)
    if data.augment and not augmentation.is_active:
        augmentation = Augmentation.mild()
    return check(
        Options(
            backbone=name,
            title=_backbones(net_part)[number],
            layers=_layers_of(net_part, number),
            weights=_weights_of(net_part, number),
            height=data.imagesize,
            width=data.imagesize,
            resize=data.resize,
            shape=shape,
            recipe=None,
            schedule=schedule,
            augmentation=augmentation,
            cache=net_part.cache,  # type: ignore[arg-type]  # click has checked it
            clean=False,
            seed=seed if own_seed is None else own_seed,
            rate=main["rate"],
            confidence=main["confidence"],
        )
    )


def _backbones(part: NetPart) -> tuple[str, ...]:
    if not part.backbones:
        raise UsageError(
            "No backbone is given; expected -b NAME behind net, for instance wideresnet50, resnet50, resnet18, or "
            "tf_efficientnet_lite0, which needs no download."
        )
    return part.backbones


def _seed_of(name: str) -> tuple[str, int | None]:
    """Split `NAME.seed-N`."""
    plain, marker, seed = name.partition(".seed-")
    if not marker:
        return name, None
    if not seed.isdecimal():
        raise UsageError(f"The backbone {name!r} ends in .seed-{seed}; expected a whole number there.")
    return plain, int(seed)


def _layers_of(part: NetPart, number: int) -> tuple[str, ...]:
    """Return the layers of a backbone: all of them for a single one, else those that carry its index."""
    if len(part.backbones) == 1:
        return part.layers
    layers = []
    for text in part.layers:
        index, dot, layer = text.partition(".")
        if not dot or not index.isdecimal() or int(index) >= len(part.backbones):
            raise UsageError(
                f"-le is {text!r}; with {len(part.backbones)} backbones expected INDEX.LAYER with an index from 0 to "
                f"{len(part.backbones) - 1}, for instance 0.layer2."
            )
        if int(index) == number:
            layers.append(layer)
    return tuple(layers)


def _weights_of(part: NetPart, number: int) -> Path | None:
    if part.weights and len(part.weights) != len(part.backbones):
        raise UsageError(
            f"--backbone_weights is given {len(part.weights)} times for {len(part.backbones)} backbones; expected one "
            f"for each, in their order, with {NO_WEIGHTS} for those that need none."
        )
    text = part.weights[number] if part.weights else NO_WEIGHTS
    return None if text == NO_WEIGHTS else Path(text)


def _check_dataset(data: DatasetPart) -> None:
    if data.name not in DATASETS:
        raise UsageError(
            f"The dataset is {data.name!r}; expected {' or '.join(DATASETS)}: it names the folders' layout."
        )
    if not data.path.is_dir():
        raise UsageError(f"There is no folder {data.path}; expected the one that holds the classes' folders.")
    if not data.classes:
        raise UsageError(f"No class is given; expected -d CLASS behind dataset, a folder of {data.path}.")
    if not 0 < data.train_val_split <= 1:
        raise UsageError(f"train_val_split is {data.train_val_split:g}; expected a share above 0 and up to 1.")
    if data.num_workers < 0:
        raise UsageError(f"num_workers is {data.num_workers}; expected 0 or more threads.")


def _device(gpus: Sequence[int]) -> str:
    """Return the torch device: each GPU that is named must exist, and the first one is used (as published)."""
    from inspectd.engine.choose import torch_device

    names = ["cpu" if gpu < 0 else f"cuda:{gpu}" for gpu in gpus]
    for name in names:
        torch_device(name)
    return names[0] if names else "auto"
