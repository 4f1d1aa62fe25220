"""Which recipe carries over to a class that nobody looked at? Variations of it side by side, on the same patches.

    python tests/benchmarks/recipes.py --data ../shared/data --cache rows --seeds 2
    python tests/benchmarks/recipes.py … --only "as it is" --only "no memory bank"     (some of them)

Each class is embedded once as calibrate does it, beside its test set. Then each variation is cross-fitted on these
patches and measured: image and pixel AUROC, found and rejected where a threshold without painted defects would lie,
and how many defects score above every good part. In the end, for each class, the variation that was best on the mean
of the *others* (image and pixel AUROC together) and what it reached there: what was chosen without looking.

The patches take gigabytes in `--cache`, and results there are not computed again, so a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean

import msgspec
import numpy as np
import torch
from real_parts import read_tests
from torch import Tensor

from calibrate.data.dataset import add_files, find_class
from calibrate.data.sizing import PIXELS, Sizing, typical_size
from calibrate.evaluation.metrics import image_auroc, pixel_auroc
from calibrate.evaluation.testset import smoothed
from calibrate.training.crossfit import CrossFitted, cross_fit
from calibrate.training.embedding import FoldedEmbedder
from calibrate.training.features import cache_features
from calibrate.training.fit import pictures_for
from calibrate.training.material import Material, embed_good, make_material
from calibrate.training.options import Options, options_for
from calibrate.training.recipe import Recipe, folds_of
from calibrate.training.threshold import choose_threshold
from inspectd.simplenet import backbone as backbones
from inspectd.simplenet.network import Head, average_scores

CLASSES = ("bottle", "magnetic_tile", "ball_screw", "screw")


Fit = Callable[[Recipe, int], tuple[CrossFitted, float]]


@dataclass(frozen=True)
class Variation:
    """A recipe, and how much each of the head's two halves counts beside what it usually does."""

    recipe: Recipe = field(default_factory=Recipe)
    ensemble: float = 1.0
    memory: float = 1.0


VARIATIONS: dict[str, Variation] = {
    "as it is": Variation(),
    "no memory bank": Variation(memory=0.0),
    "the memory bank half": Variation(memory=0.5),
    "the memory bank twice": Variation(memory=2.0),
    "the memory bank alone": Variation(ensemble=0.0),
    "bank not whitened": Variation(Recipe(memory_whitening=0.0)),
    "bank half whitened": Variation(Recipe(memory_whitening=0.5)),
    "bank of 500": Variation(Recipe(memory_patches=500)),
    "bank of 2000": Variation(Recipe(memory_patches=2000)),
    "bank of 4000": Variation(Recipe(memory_patches=4000)),
    "bank in 256 dimensions": Variation(Recipe(memory_width=256)),
    "bank in 64 dimensions": Variation(Recipe(memory_width=64)),
    "scores as they are": Variation(Recipe(score_window=1)),
    "no painted defects": Variation(Recipe(painted=0)),
    "nothing varied": Variation(Recipe(varied=0)),
    "200 steps": Variation(Recipe(steps=200)),
    "1200 steps": Variation(Recipe(steps=1200)),
    "hidden 24": Variation(Recipe(hidden=24)),
    "hidden 96": Variation(Recipe(hidden=96)),
    "noise .3 to 2": Variation(Recipe(noise_std=2)),
}


class Measured(msgspec.Struct, frozen=True):
    """What one head reached."""

    image: float
    pixel: float
    found: int
    rejected: int
    possible: int
    seconds: float


@dataclass
class Class:
    """One class: what is learned from, and what is tested."""

    material: Material
    test: Tensor
    truths: np.ndarray  # type: ignore[type-arg]
    is_defective: list[bool]
    options: Options

    def measure(self, variation: Variation, fitted: CrossFitted, seconds: float) -> Measured:
        """Judge."""
        some = self.material
        held = [
            float(scores(fitted.without[int(fold)], rows, some.grid, variation).max())
            for rows, fold in zip(some.good, some.folds, strict=True)
        ]
        raw = torch.stack([scores(fitted.head, rows, some.grid, variation) for rows in self.test])
        image = raw.flatten(1).amax(1).tolist()
        threshold = choose_threshold(held, 0.01, 0.95).value
        best = max(score for score, bad in zip(image, self.is_defective, strict=True) if not bad)
        each = list(zip(image, self.is_defective, strict=True))
        return Measured(
            image_auroc(image, self.is_defective) or 0.0,
            pixel_auroc(smoothed(raw.numpy(), self.options.geometry()), self.truths) or 0.0,
            sum(score > threshold for score, bad in each if bad),
            sum(score > threshold for score, bad in each if not bad),
            sum(score > best for score, bad in each if bad),
            seconds,
        )


@torch.no_grad()
def scores(head: Head, rows: Tensor, grid: tuple[int, int], variation: Variation) -> Tensor:
    """Return patch scores [h, w] of a picture's patches by the halves that judge."""
    assert head.memory is not None
    rows, total = rows.float(), torch.zeros(len(rows))
    if variation.ensemble:
        total = total - variation.ensemble * head.discriminator(head.adapt(rows))[:, 0]
    if variation.memory:
        total = total + variation.memory * head.memory(head.standardise(rows))[:, 0]
    return average_scores(total.view(1, *grid), head.shape.score_window)[0]


def load(data: Path, name: str, pixels: int, cache: Path, given: Options) -> Class:
    """Embed a class, now or before."""
    path = cache / f"{name} {given.backbone} {pixels}.pt"
    if path.exists():
        return torch.load(path, weights_only=False)  # type: ignore[no-any-return]  # written below
    began = time.perf_counter()
    folder = find_class(data, name)
    size = typical_size(folder.train)
    assert size is not None
    options = replace(given, sizing=Sizing(pixels)).fitted(size)
    backbone = backbones.pretrained(options.backbone, options.layers, options.params.input_shape, options.weights)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    embedder = FoldedEmbedder(backbone, options.shape, options.params.input_shape, device)
    pictures = pictures_for(options)
    add_files(pictures, folder.train, 2, lambda: None)
    good = embed_good(pictures, embedder, "memory", None, lambda _: None, lambda: None)
    everyone = range(len(pictures))
    folds = folds_of(len(pictures))
    material = make_material(pictures, good, folds, everyone, embedder, Recipe(), 0, lambda: None)
    tests, truths, bad = read_tests(folder, options)
    found = Class(material, cache_features(tests, embedder), truths, bad, options)
    cache.mkdir(parents=True, exist_ok=True)
    torch.save(found, path)
    print(f"{name}: {options.width}x{options.height}, {time.perf_counter() - began:.0f} s", flush=True)
    return found


def main() -> None:
    """Print a line for each class and variation, and what leaving each class out would have chosen."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--data", type=Path, required=True)
    ask.add_argument("--cache", type=Path, required=True)
    ask.add_argument("--classes", default=",".join(CLASSES))
    ask.add_argument("--only", action="append", help="A variation; repeatable.")
    ask.add_argument("--backbone")
    ask.add_argument("--weights", type=Path)
    ask.add_argument("--pixels", type=int, default=PIXELS, help="Of the network's input, about.")
    ask.add_argument("--seeds", type=int, default=2)
    given = ask.parse_args()
    options = options_for(given.backbone, (), weights=given.weights)
    names = given.classes.split(",")
    variations = {name: one for name, one in VARIATIONS.items() if not given.only or name in given.only}
    reached: dict[str, dict[str, tuple[float, float]]] = {name: {} for name in variations}
    for of in names:
        found = load(given.data, of, given.pixels, given.cache, options)
        fit = functools.lru_cache(maxsize=given.seeds)(functools.partial(timed_fit, found))
        for name, variation in variations.items():
            settings = hashlib.sha256(repr(variation).encode()).hexdigest()[:10]

            def compute(seed: int, found: Class = found, variation: Variation = variation, fit: Fit = fit) -> Measured:
                return found.measure(variation, *fit(variation.recipe, seed))

            each = [
                once(
                    given.cache / f"{of} {options.backbone} {given.pixels} {name} {settings} {seed}.json", compute, seed
                )
                for seed in range(given.seeds)
            ]
            reached[name][of] = fmean(m.image for m in each), fmean(m.pixel for m in each)
            say(of, name, each, found.is_defective)
    if len(names) > 1:
        print("left out: chosen on the others, and what it reaches (image, pixel AUROC)")
        for of in names:
            best = max(variations, key=lambda name: fmean(sum(reached[name][o]) for o in names if o != of))
            print(f"  {of:14s} {best:24s} {reached[best][of][0]:.3f} / {reached[best][of][1]:.3f}")


def timed_fit(found: Class, recipe: Recipe, seed: int) -> tuple[CrossFitted, float]:
    """Cross-fit; return how many seconds it took."""
    began = time.perf_counter()
    fitted = cross_fit(found.material, found.options.shape, recipe, seed, lambda *_: None)
    return fitted, time.perf_counter() - began


def once(path: Path, compute: Callable[[int], Measured], seed: int) -> Measured:
    """Return a result that is there, or compute it and keep it."""
    if path.exists():
        return msgspec.json.decode(path.read_bytes(), type=Measured)
    measured = compute(seed)
    path.write_bytes(msgspec.json.encode(measured))
    return measured


def say(of: str, name: str, each: Sequence[Measured], is_defective: Sequence[bool]) -> None:
    """Print one line."""
    bad = sum(is_defective)

    def seen(values: Sequence[float], how: str) -> str:
        return " ".join(format(value, how) for value in values)

    print(
        f"{of:14s} {name:24s} {seen([m.image for m in each], '.3f')} / {seen([m.pixel for m in each], '.3f')}"
        f"  found {seen([m.found for m in each], 'd')} of {bad}, rejected {seen([m.rejected for m in each], 'd')} of"
        f" {len(is_defective) - bad}, possible {seen([m.possible for m in each], 'd')},"
        f" {fmean(m.seconds for m in each):.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
