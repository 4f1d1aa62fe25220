"""What the feature cache saves: the same training with it, without it, and each of its parts alone.

    python tests/benchmarks/cache.py --data ../shared/data --weights ../shared/weights/resnet50_upto_layer3.pth

Prints a table, and exits with 1 if the losses differ, a picture is seen twice, or the whole takes more than
1.15 times its parts. Everything is measured in the same run; `--epochs` is the number of passes over the data.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from calibrate.data.dataset import add_files, find_class
from calibrate.data.training_set import Pictures
from calibrate.training import features
from calibrate.training.fit import Unwatched, learn, pictures_for
from calibrate.training.options import Options
from calibrate.training.train import HeadTrainer, Schedule, noise_for, train
from inspectd.engine.choose import choose_backend
from inspectd.model.calibration import CameraRecord
from inspectd.simplenet import backbone as backbones
from inspectd.simplenet.network import Head, HeadShape

ALLOWED = 1.15
TOLERANCE = 1e-3


class Counted:
    """Counts calls of a function and the time spent in them."""

    def __init__(self, function: Callable[..., object]) -> None:
        self.calls, self.pictures, self.seconds, self._function = 0, 0, 0.0, function

    def __call__(self, *arguments: object, **named: object) -> object:
        self.calls += 1
        self.pictures += len(arguments[-1]) if isinstance(arguments[-1], torch.Tensor) else 0
        began = time.perf_counter()
        try:
            return self._function(*arguments, **named)
        finally:
            self.seconds += time.perf_counter() - began


class Losses(Unwatched):
    """Notes the loss curve."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def scalar(self, name: str, value: float, step: int) -> None:
        """Keep the losses."""
        if name == "loss":
            self.seen.append(value)


def whole_run(paths: list[Path], options, device: str) -> dict[str, object]:  # type: ignore[no-untyped-def]
    """Train once, from files to a model; return its losses, and how often and how long each part ran."""
    import calibrate.data.dataset as dataset_module

    decode, original = Counted(dataset_module.read_picture), dataset_module.read_picture
    embed, embedded = Counted(features.Embedder.__call__), features.Embedder.__call__
    step, stepped = Counted(HeadTrainer.step), HeadTrainer.step
    dataset_module.read_picture = decode  # type: ignore[assignment]
    features.Embedder.__call__ = lambda self, pixels: embed(self, pixels)  # type: ignore[assignment, method-assign]  # noqa: PLW0108 - it must bind
    HeadTrainer.step = lambda self, rows: step(self, rows)  # type: ignore[assignment, method-assign]  # noqa: PLW0108 - it must bind
    losses = Losses()
    began = time.perf_counter()
    try:
        pictures = pictures_for(options)
        add_files(pictures, paths, 0, lambda: None)
        learn(
            pictures,
            options,
            choose_backend(device),
            run="x",
            camera=CameraRecord("x", None, 0, 0),
            held_out=[],
            watcher=losses,
        )
    finally:
        dataset_module.read_picture = original
        features.Embedder.__call__ = embedded  # type: ignore[method-assign]
        HeadTrainer.step = stepped  # type: ignore[method-assign]
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "losses": losses.seen,
        "decoded": decode.calls,
        "embedded": embed.pictures,
        "parts": {"decode": decode.seconds, "features": embed.seconds, "head steps": step.seconds},
    }


def parts_alone(paths: list[Path], options, device: torch.device) -> tuple[float, float]:  # type: ignore[no-untyped-def]
    """Return the seconds of one feature pass (from the files on) and of the head's steps, each by itself."""
    backbone = backbones.pretrained(options.backbone, options.layers, options.params.input_shape, options.weights)
    began = time.perf_counter()
    pictures: Pictures = pictures_for(options)
    add_files(pictures, paths, 0, lambda: None)
    cached = features.cache_features(pictures, features.Embedder(backbone, options.shape, device))
    feature_s = time.perf_counter() - began
    schedule, draws = options.schedule, torch.Generator().manual_seed(0)
    batches = features.CachedPictures(cached, schedule.batch_size, draws, device)
    noise = noise_for(schedule, torch.Generator(device).manual_seed(0))
    began = time.perf_counter()
    train(HeadTrainer(Head(options.shape).to(device), schedule, noise), batches, lambda _n, _r: None)
    return feature_s, time.perf_counter() - began


def main() -> int:
    """Measure, print, judge."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--data", type=Path, required=True)
    ask.add_argument("--weights", type=Path)
    ask.add_argument("--backbone", default="resnet50")
    ask.add_argument("--layers", default="layer2,layer3")
    ask.add_argument("--class", dest="name", default="bottle")
    ask.add_argument("--epochs", type=int, default=4)
    ask.add_argument("--device", default="cpu")
    given = ask.parse_args()
    paths = list(find_class(given.data, given.name).train)
    cached = Options(
        backbone=given.backbone,
        layers=tuple(given.layers.split(",")),
        weights=given.weights,
        shape=HeadShape(),
        recipe=None,
        schedule=Schedule(meta_epochs=given.epochs, gan_epochs=1),
        clean=False,
    )
    fresh = dataclasses.replace(cached, cache="none")

    with_cache = whole_run(paths, cached, given.device)
    feature_s, head_s = parts_alone(paths, cached, torch.device(given.device))
    without = whole_run(paths, fresh, given.device)
    pairs = zip(with_cache["losses"], without["losses"], strict=True)  # type: ignore[call-overload]
    apart = max(abs(a - b) for a, b in pairs)
    ratio = with_cache["seconds"] / (feature_s + head_s)  # type: ignore[operator]

    print(f"{len(paths)} pictures of {given.name}, {given.backbone}, {given.epochs} epochs, {given.device}")
    for name, run in (("with the cache", with_cache), ("without", without)):
        parts = ", ".join(f"{part} {seconds:.1f} s" for part, seconds in run["parts"].items())  # type: ignore[attr-defined]
        print(f"{name:15} {run['seconds']:7.1f} s whole; {parts}; {run['decoded']} decoded, {run['embedded']} embedded")
    print(f"parts alone     one feature pass {feature_s:.1f} s, head steps {head_s:.1f} s")
    print(f"whole / parts   {ratio:.3f} (allowed {ALLOWED}); losses apart by at most {apart:.2e} (allowed {TOLERANCE})")
    once = with_cache["decoded"] == len(paths) and with_cache["embedded"] == len(paths)
    return 0 if ratio <= ALLOWED and apart <= TOLERANCE and once else 1


if __name__ == "__main__":
    sys.exit(main())
