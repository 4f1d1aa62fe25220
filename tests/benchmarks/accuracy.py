"""What `calibrate --camera` is worth on real parts, beside plain distances on the same features.

    python tests/benchmarks/accuracy.py --data ../shared/data --out accuracy
    python tests/benchmarks/accuracy.py --data ../shared/data --out accuracy --backbone resnet50 \
        --weights ../shared/weights/resnet50_upto_layer3.pth

Each class is calibrated with each seed as the command line does it, at its default settings: pictures cleaned,
cross-fitted, scored by the engine that judges, a threshold set. Then the test set is judged: image and pixel
AUROC, PRO, and what counts on a line, the defects found and the good parts rejected *at that threshold*. PatchCore (1 %
and 10 %) and Mahalanobis learn from the same features, pictures that calibrate's cleaning leaves out included, and have
their thresholds from a quarter of the parts that is held out, without painted defects. Nothing that is measured chooses anything.

Every result is a file in `--out`, named by the settings that it was computed with, and is not computed again; so a run that
was stopped goes on, and other settings' results lie beside these. It is not named by the code: after a change of code
take another folder. `accuracy.json` there is the table for programs.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

import msgspec
import numpy as np
import torch
from distances import Distance, mahalanobis, patchcore
from disturbed import Disturbed, disturb, disturbance_table
from real_parts import read_tests
from rich.console import Console
from rich.table import Table
from torch import Tensor

from calibrate.data.dataset import ClassFolder, add_files, find_class
from calibrate.data.sizing import PIXELS, Sizing, typical_size
from calibrate.data.training_set import Chosen, Pictures
from calibrate.evaluation.testset import Evaluation, evaluate, measure, smoothed
from calibrate.training.embedding import FoldedEmbedder
from calibrate.training.features import cache_features
from calibrate.training.fit import learn, pictures_for
from calibrate.training.options import Options, options_for
from calibrate.training.threshold import choose_threshold, held_out_positions
from inspectd.engine.choose import choose_backend
from inspectd.line.judge import exceeds
from inspectd.model.calibration import CameraRecord
from inspectd.simplenet import backbone as backbones

CLASSES = ("bottle", "magnetic_tile", "ball_screw", "screw")
DISTANCES: dict[str, Callable[[Tensor], Distance]] = {
    "PatchCore 1 %": lambda good: patchcore(good, 0.01),
    "PatchCore 10 %": lambda good: patchcore(good, 0.1),
    "Mahalanobis": mahalanobis,
}
PATCHES_PER_PICTURE = 1296
"""So many of each picture's are drawn for the distances to learn from: a coreset of 10 % of more takes an hour."""


class Raw(msgspec.Struct, frozen=True):
    """Scores: of good parts by heads that never saw them, of painted ones likewise, and of the test set."""

    good: list[float]
    painted: list[float]
    test: list[float]
    is_defective: list[bool]


class Result(msgspec.Struct, frozen=True):
    """One method on one class."""

    method: str
    backbone: str
    of: str
    """The class."""
    seed: int
    image_auroc: float
    pixel_auroc: float
    pro: float
    found: int
    defects: int
    rejected: int
    good: int
    threshold: float
    possible: int
    """Defects above the highest good test part: what a threshold that knew them could find without a reject."""
    seconds: float
    """Of learning, with whatever else ran."""
    raw: Raw | None = None
    """What the figures were made of; only of `calibrate`."""
    disturbed: tuple[Disturbed, ...] = ()


class Results:
    """A folder with a file for each result."""

    def __init__(self, folder: Path, data: Path, options: Options, *, with_disturbances: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        settings = repr(dataclasses.replace(options, seed=0, weights=None)) + str(data.resolve())
        settings += "" if with_disturbances else " undisturbed"
        self._settings = hashlib.sha256(settings.encode()).hexdigest()[:10]

    def once(self, method: str, of: str, seed: int, compute: Callable[[], Result]) -> Result:
        """Return a result that is there, or compute it and keep it."""
        path = self._folder / f"{of} {method} {seed} {self._settings}.json".replace(" ", "_").replace("%", "percent")
        if path.exists():
            return msgspec.json.decode(path.read_bytes(), type=Result)
        result = compute()
        scratch = path.with_suffix(".new")
        scratch.write_bytes(msgspec.json.encode(result))
        scratch.rename(path)
        return result


@dataclasses.dataclass(frozen=True)
class Class:
    """One class: what is learned from, and what is tested."""

    folder: ClassFolder
    options: Options

    @property
    def name(self) -> str:
        """Of the class."""
        return self.folder.name

    def good(self) -> Pictures:
        """Read the good parts, as `calibrate --camera` does."""
        pictures = pictures_for(self.options)
        add_files(pictures, self.folder.train, 2, lambda: None)
        return pictures

    def summed(self, method: str, seed: int, evaluation: Evaluation, threshold: float, seconds: float) -> Result:
        """Put one row together."""
        metrics, bad = evaluation.metrics, evaluation.is_defective
        figures = [metrics.image_auroc, metrics.pixel_auroc, metrics.pro]
        highest = max(s for s, b in zip(evaluation.scores, bad, strict=True) if not b)
        return Result(
            method,
            self.options.backbone,
            self.name,
            seed,
            *(float("nan") if figure is None else figure for figure in figures),
            sum(bad) - evaluation.missed(threshold),
            sum(bad),
            evaluation.rejected(threshold),
            len(bad) - sum(bad),
            threshold,
            sum(b and exceeds(s, highest) for s, b in zip(evaluation.scores, bad, strict=True)),
            seconds,
        )


def calibrated(of: Class, seed: int, *, with_disturbances: bool) -> Result:
    """Calibrate and test as the product does."""
    options = dataclasses.replace(of.options, seed=seed)
    backend = choose_backend("auto")
    began = time.perf_counter()
    pictures = of.good()
    camera = CameraRecord("folder", None, *pictures.size)
    learned = learn(pictures, options, backend, run="accuracy", camera=camera)
    seconds = time.perf_counter() - began
    assert learned.threshold is not None
    threshold = learned.threshold.value
    evaluation = evaluate(of.folder, learned.model, backend, workers=2)
    result = of.summed("inspectd", seed, evaluation, threshold, seconds)
    raw = Raw(learned.scores, learned.painted, list(evaluation.scores), list(evaluation.is_defective))
    disturbed = disturb(of.folder, learned.model, backend) if with_disturbances else ()
    return msgspec.structs.replace(result, raw=raw, disturbed=disturbed)


class Distances:
    """The same features once, for all distances of a class."""

    def __init__(self, of: Class) -> None:
        self._of = of
        options = of.options
        backbone = backbones.pretrained(options.backbone, options.layers, options.params.input_shape, options.weights)
        self._embedder = FoldedEmbedder(backbone, options.shape, options.params.input_shape, choose_torch_device())
        good = of.good()
        held = held_out_positions(len(good))
        learned_from = [i for i in range(len(good)) if i not in set(held)]
        train = cache_features(Chosen(good, learned_from), self._embedder)
        chosen = torch.randperm(train.shape[1], generator=torch.Generator().manual_seed(0))[:PATCHES_PER_PICTURE]
        self._train = train[:, chosen.to(train.device)]
        self._held = cache_features(Chosen(good, held), self._embedder)
        tests, self._truths, self._bad = read_tests(of.folder, options)
        self._test = cache_features(tests, self._embedder)

    def result(self, method: str) -> Result:
        """Learn one distance and test it."""
        began = time.perf_counter()
        distance = DISTANCES[method](self._train.flatten(0, 1).float())
        seconds = time.perf_counter() - began
        held = [float(distance(patches.float()).max()) for patches in self._held]
        threshold = choose_threshold(held, self._of.options.rate, self._of.options.confidence).value
        grid = self._embedder.grid
        raw = [distance(patches.float()).view(1, *grid).cpu().numpy() for patches in self._test]
        maps = [smoothed(one, self._of.options.geometry())[0] for one in raw]
        bad = tuple(self._bad)
        scores = [float(one.max()) for one in raw]
        names = tuple(test.name for test in self._of.folder.test)
        evaluation = Evaluation(measure(scores, maps, self._truths, bad), names, tuple(scores), bad, ())
        return self._of.summed(method, 0, evaluation, threshold, seconds)


def say(result: Result) -> None:
    """Tell whoever waits."""
    print(msgspec.json.encode(result).decode(), file=sys.stderr, flush=True)


def choose_torch_device() -> torch.device:
    """Return where features are computed."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def table(results: Sequence[Result]) -> Table:
    """Return a row for each class and method, seeds averaged, and how far they lie apart."""
    shown = Table(title=f"{results[0].backbone}: mean (lowest to highest of the seeds)")
    for column in ("class", "method", "image AUROC", "pixel AUROC", "PRO", "found", "good rejected", "possible", "s"):
        shown.add_column(column, justify="left" if column in ("class", "method") else "right")
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.of, result.method), []).append(result)
    for (of, method), group in groups.items():
        shown.add_row(
            of,
            method,
            *(_spread([getattr(r, name) for r in group], ".3f") for name in ("image_auroc", "pixel_auroc", "pro")),
            f"{_spread([r.found for r in group], '.0f')} of {group[0].defects}",
            f"{_spread([r.rejected for r in group], '.0f')} of {group[0].good}",
            _spread([r.possible for r in group], ".0f"),
            f"{fmean(r.seconds for r in group):.0f}",
        )
    return shown


def _spread(values: Sequence[float], how: str) -> str:
    middle = format(fmean(values), how)
    return middle if np.ptp(values) == 0 else f"{middle} ({min(values):{how}} to {max(values):{how}})"


def main() -> None:
    """Compute what is missing, print the table."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--data", type=Path, required=True, help="Classes in the MVTec layout.")
    ask.add_argument("--out", type=Path, required=True, help="Where results are kept.")
    ask.add_argument("--classes", default=",".join(CLASSES))
    ask.add_argument("--backbone")
    ask.add_argument("--weights", type=Path)
    ask.add_argument("--seeds", default="0,1,2")
    ask.add_argument("--pixels", type=int, default=PIXELS, help="Of the network's input, about.")
    ask.add_argument("--without", default="", help="Methods to leave out, comma between: PatchCore 10 %% takes long.")
    ask.add_argument("--undisturbed", action="store_true", help="Leave out what takes longest: the line's changes.")
    given = ask.parse_args()
    options = options_for(given.backbone, (), weights=given.weights, sizing=Sizing(given.pixels))
    kept = Results(given.out, given.data, options, with_disturbances=not given.undisturbed)
    methods = [method for method in DISTANCES if method not in given.without.split(",")]
    results: list[Result] = []
    for name in given.classes.split(","):
        folder = find_class(given.data, name)
        size = typical_size(folder.train)
        assert size is not None
        of = Class(folder, options.fitted(size))
        for seed in map(int, given.seeds.split(",")):

            def calibrate(of: Class = of, seed: int = seed) -> Result:
                return calibrated(of, seed, with_disturbances=not given.undisturbed)

            results.append(kept.once("inspectd", name, seed, calibrate))
            say(results[-1])
        features: list[Distances] = []  # computed when the first of them is missing
        for method in methods:

            def compute(of: Class = of, method: str = method, features: list[Distances] = features) -> Result:
                if not features:
                    features.append(Distances(of))
                return features[0].result(method)

            results.append(kept.once(method, name, 0, compute))
            say(results[-1])
    figures = [msgspec.structs.replace(r, raw=None, disturbed=()) for r in results]
    (given.out / "accuracy.json").write_text(json.dumps([msgspec.to_builtins(r) for r in figures], indent=1))
    console = Console(width=150)
    console.print(table(results))
    if not given.undisturbed:
        console.print(disturbance_table([(r.of, r.threshold, r.disturbed) for r in results if r.disturbed]))


if __name__ == "__main__":
    main()
