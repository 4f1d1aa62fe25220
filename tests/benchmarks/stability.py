"""Is the last checkpoint of `calibrate --camera` as good as the best one, and as good as a plain PatchCore?

    python tests/benchmarks/stability.py --data ../shared/data --seeds 5
    python tests/benchmarks/stability.py --data ../shared/data --seeds 3 --backbone resnet50 \
        --weights ../shared/weights/resnet50_upto_layer3.pth
    python tests/benchmarks/stability.py … --published --classes bottle      (the published schedule, for comparison)

Each class is embedded once (the pictures that `calibrate --camera` would learn from, and the test set); then the
head is trained with each seed and measured on the test set at some points of its schedule. Nothing that is
measured is used to choose anything. PatchCore (`distances.py`): a coreset of 1 % of the same features, the picture's
score the largest of its patches, its map smoothed as ours.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

import numpy as np
import torch
from distances import patchcore
from real_parts import read_tests
from torch import Tensor

from calibrate.data.dataset import add_files, find_class
from calibrate.data.training_set import Chosen
from calibrate.evaluation.metrics import image_auroc, pixel_auroc
from calibrate.evaluation.testset import smoothed
from calibrate.training.features import CachedPatches, CachedPictures, Embedder, cache_features
from calibrate.training.fit import pictures_for
from calibrate.training.options import Options, options_for
from calibrate.training.threshold import held_out_positions
from calibrate.training.train import HeadTrainer, Schedule, noise_for, standardise, train
from inspectd.simplenet import backbone as backbones
from inspectd.simplenet.network import Head

CORESET = 0.01


@dataclasses.dataclass
class Class:
    """Features and truths of one class."""

    train: Tensor  # float16 [N, P, D]
    test: Tensor
    truths: np.ndarray  # type: ignore[type-arg]  # bool [N, H, W]
    is_defective: list[bool]
    grid: tuple[int, int]
    options: Options
    seconds: float

    def measure(self, patch_scores: Tensor) -> tuple[float, float]:
        """Return image and pixel AUROC of raw patch scores [N, h, w]."""
        maps = smoothed(patch_scores.numpy(), self.options.geometry())
        scores = patch_scores.flatten(1).amax(1).tolist()
        return image_auroc(scores, self.is_defective) or 0.0, pixel_auroc(maps, self.truths) or 0.0


def load(data: Path, name: str, options: Options) -> Class:
    """Embed one class."""
    began = time.perf_counter()
    folder = find_class(data, name)
    backbone = backbones.pretrained(options.backbone, options.layers, options.params.input_shape, options.weights)
    embedder = Embedder(backbone, options.shape, torch.device("cpu"))
    good = pictures_for(options)
    add_files(good, folder.train, 2, lambda: None)
    held = set(held_out_positions(len(good)))
    learned_from = cache_features(Chosen(good, [i for i in range(len(good)) if i not in held]), embedder)
    seconds = time.perf_counter() - began
    tests, truths, bad = read_tests(folder, options)
    test = cache_features(tests, embedder)
    return Class(learned_from, test, truths, bad, embedder.grid, options, seconds)


def train_and_measure(of: Class, seed: int, points: int) -> tuple[list[tuple[float, float]], float]:
    """Train once; return what it reaches at each point, and the seconds of the training alone."""
    schedule = of.options.schedule
    torch.manual_seed(seed)
    head = Head(of.options.shape)
    if schedule.standardise:
        standardise(head, of.train.flatten(0, 1).float())
    draws = torch.Generator().manual_seed(seed)
    batches: CachedPatches | CachedPictures
    if schedule.patches_per_step is not None and schedule.steps is not None:
        batches = CachedPatches(of.train, schedule.patches_per_step, schedule.steps, draws, torch.device("cpu"))
    else:
        batches = CachedPictures(of.train, schedule.batch_size, draws, torch.device("cpu"))
    steps = schedule.epochs[0] * schedule.epochs[1] * len(batches)
    reached: list[tuple[float, float]] = []
    measuring_s = 0.0

    def on_step(number: int, _: object) -> None:
        nonlocal measuring_s
        if number * points // steps != (number - 1) * points // steps:
            began = time.perf_counter()
            reached.append(of.measure(score(head, of)))
            measuring_s += time.perf_counter() - began

    noise = noise_for(schedule, torch.Generator().manual_seed(seed))
    began = time.perf_counter()
    train(HeadTrainer(head, schedule, noise, steps), batches, on_step)
    return reached, time.perf_counter() - began - measuring_s


@torch.no_grad()
def score(head: Head, of: Class) -> Tensor:
    """Return raw patch scores [N, h, w] of the test set; leaves the head in training mode."""
    head.eval()
    scores = torch.stack([-head.discriminator(head.adapt(rows.float())).view(of.grid) for rows in of.test])
    head.train()
    return scores


def plain(of: Class) -> tuple[float, float]:
    """A plain PatchCore on the same features."""
    distance = patchcore(of.train.flatten(0, 1).float(), CORESET)
    return of.measure(torch.stack([distance(picture.float()).view(of.grid) for picture in of.test]))


def main() -> None:
    """Print a line for each class and seed, and a summary."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--data", type=Path, required=True)
    ask.add_argument("--classes", default="bottle,magnetic_tile,ball_screw")
    ask.add_argument("--backbone")
    ask.add_argument("--weights", type=Path)
    ask.add_argument("--seeds", type=int, default=3)
    ask.add_argument("--points", type=int, default=10, help="How often in a training it is measured.")
    ask.add_argument("--published", action="store_true")
    given = ask.parse_args()
    options = options_for(given.backbone, (), weights=given.weights)
    if given.published:
        options = dataclasses.replace(options, schedule=Schedule())
    print(options.backbone, options.shape, options.schedule)
    for name in given.classes.split(","):
        of = load(given.data, name, options)
        print(f"{name}: {len(of.train)} pictures embedded in {of.seconds:.0f} s", flush=True)
        print("  PatchCore  image {:.4f}  pixel {:.4f}".format(*plain(of)), flush=True)
        runs = []
        for seed in range(given.seeds):
            reached, seconds = train_and_measure(of, seed, given.points)
            runs.append(np.array(reached))
            images = " ".join(f"{image:.3f}" for image, _ in reached)
            print(
                f"  seed {seed}: {seconds:.0f} s, image AUROC {images}; pixel at the end {reached[-1][1]:.4f}",
                flush=True,
            )
        curves = np.stack(runs)  # [seeds, points, 2]
        for i, what in enumerate(("image", "pixel")):
            last, best = curves[:, -1, i], curves[:, :, i].max(axis=1)
            print(
                f"  {what}: last {last.mean():.4f} ± {last.std():.4f} ({last.min():.4f} to {last.max():.4f}), "
                f"best {best.mean():.4f}, second half of the training varies by {np.ptp(curves[:, given.points // 2 :, i], axis=1).mean():.4f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
