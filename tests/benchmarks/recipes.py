"""Which recipe carries over to a class that nobody looked at? Ideas side by side on cached features.

    python tests/benchmarks/recipes.py --data ../shared/data --cache rows --seeds 2
    python tests/benchmarks/recipes.py … --only "today" --only "whitened"     (some of them)

Each class is embedded once at each size: its good pictures as they are, varied as a line varies them, and painted with
defects (`painting.py`; of those the patches whose pixels changed), the held-out ones and the test set. Then each recipe
trains a head on these rows and is measured: image and pixel AUROC, and found and rejected at calibrate's own
threshold. In the end, for each class, the recipe that was best on the mean of the *others* (image and pixel AUROC
together) and what it reached there: what was chosen without looking.

The rows take gigabytes in `--cache`, and results there are not computed again, so a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import cv2
import msgspec
import numpy as np
import torch
import torch.nn.functional as F
from distances import patchcore
from painting import paint, vary
from real_parts import read_tests
from torch import Tensor, nn

from calibrate.data.dataset import add_files, find_class
from calibrate.data.training_set import Chosen, Pictures
from calibrate.evaluation.metrics import image_auroc, pixel_auroc
from calibrate.evaluation.testset import smoothed
from calibrate.training.features import Embedder, cache_features
from calibrate.training.fit import pictures_for
from calibrate.training.options import Options, options_for
from calibrate.training.threshold import choose_threshold, held_out_positions
from inspectd.simplenet import backbone as backbones

CLASSES = ("bottle", "magnetic_tile", "ball_screw", "screw")
VARIED, PAINTED = 2, 2
"""How often each picture is varied, and painted."""
CHANGED = 6.0
"""Grey levels, on the mean over a patch's cell: from here on it shows the defect."""
MULTIPLE = 32
"""Sides of the network's input, in pixels."""
PATCHES_FOR_STATISTICS = 100_000
PATCHES_OF_PATCHCORE = 1296
"""Of each picture: its coreset is 1 % of these."""


@dataclass(frozen=True)
class Recipe:
    """How a head is trained, and what its score is."""

    whiten: float | None = 0.05
    """Added to the covariance's eigenvalues before their root is divided by; None: features are standardised only."""
    noise: str = "gaussian"
    scale: tuple[float, float] = (0.15, 1.0)
    """Strengths, drawn evenly on a logarithmic scale."""
    painted: float = 0.5
    """Share of the negatives."""
    varied: float = 0.5
    """Share of the good patches."""
    loss: str = "logistic"
    steps: int = 600
    hidden: int = 512
    distance: float = 1.0
    """Mahalanobis beside the discriminator, both in units of their spread over held-out patches."""
    pooled: bool = False
    """Whether patch scores are averaged over 3 × 3 before the largest is taken."""


WHITENED = Recipe()
RECIPES: dict[str, Recipe] = {
    "today": Recipe(None, "differences", (0.6, 0.6), 0, 0, "hinge", 2000, distance=0),
    "today, painted": Recipe(None, "differences", (0.6, 0.6), 0.5, 0, "hinge", 2000, distance=0),
    "today, painted, varied": Recipe(None, "differences", (0.6, 0.6), 0.5, 0.5, "hinge", 2000, distance=0),
    "whitened, no distance": replace(WHITENED, distance=0),
    "whitened": WHITENED,
    "whitened, pooled": replace(WHITENED, pooled=True),
    "whitened, hidden 128, pooled": replace(WHITENED, hidden=128, pooled=True),
    "whitened, 1500 steps, pooled": replace(WHITENED, steps=1500, pooled=True),
    "whitened, hinge, pooled": replace(WHITENED, loss="hinge", pooled=True),
    "whitened, no paint, pooled": replace(WHITENED, painted=0, pooled=True),
    "whitened, not varied, pooled": replace(WHITENED, varied=0, pooled=True),
    "distance alone, pooled": replace(WHITENED, steps=0, pooled=True),
}


class Measured(msgspec.Struct, frozen=True):
    """What one head reached."""

    image: float
    pixel: float
    found: int
    rejected: int
    seconds: float


@dataclass
class Rows:
    """One class at one size: half-precision patches, and truths."""

    clean: Tensor  # [N, P, D]
    varied: Tensor  # [M, P, D]
    painted: Tensor  # [K, D]
    held: Tensor
    test: Tensor
    truths: np.ndarray  # type: ignore[type-arg]
    is_defective: list[bool]
    grid: tuple[int, int]
    options: Options

    def measure(self, test: Tensor, held: Tensor, seconds: float) -> Measured:
        """Judge raw patch scores [n, h, w]."""
        scores = test.flatten(1).amax(1).tolist()
        threshold = choose_threshold(held.flatten(1).amax(1).tolist(), 0.01, 0.95).value
        above = [s > threshold for s in scores]
        maps = smoothed(test.numpy(), self.options.geometry())
        return Measured(
            image_auroc(scores, self.is_defective) or 0.0,
            pixel_auroc(maps, self.truths) or 0.0,
            sum(a and b for a, b in zip(above, self.is_defective, strict=True)),
            sum(a and not b for a, b in zip(above, self.is_defective, strict=True)),
            seconds,
        )


def size_for(picture: tuple[int, int], pixels: int) -> tuple[int, int]:
    """Return height and width of an input of about so many pixels that keeps the shape of a picture (w, h)."""
    width, height = picture
    scale = math.sqrt(pixels / (width * height))
    h, w = (max(MULTIPLE, round(side * scale / MULTIPLE) * MULTIPLE) for side in (height, width))
    return h, w


def rows_of(data: Path, name: str, pixels: int, cache: Path, given: Options) -> Rows:
    """Return a class's rows, embedded now or before."""
    path = cache / f"{name} {given.backbone} {pixels}.pt"
    if path.exists():
        return torch.load(path, weights_only=False)  # type: ignore[no-any-return]  # written below
    began = time.perf_counter()
    folder = find_class(data, name)
    first = cv2.imread(str(folder.train[0]))
    height, width = size_for((first.shape[1], first.shape[0]), pixels)
    options = replace(given, height=height, width=width)
    backbone = backbones.pretrained(options.backbone, options.layers, options.params.input_shape, options.weights)
    embedder = Embedder(backbone, options.shape, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    good = pictures_for(options)
    add_files(good, folder.train, 2, lambda: None)
    held = held_out_positions(len(good))
    learned_from = [i for i in range(len(good)) if i not in set(held)]
    clean = cache_features(Chosen(good, learned_from), embedder)
    varied, painted = _made(good, learned_from, embedder)
    tests, truths, bad = read_tests(folder, options)
    held_out, test = cache_features(Chosen(good, held), embedder), cache_features(tests, embedder)
    rows = Rows(clean, varied, painted, held_out, test, truths, bad, embedder.grid, options)
    cache.mkdir(parents=True, exist_ok=True)
    torch.save(rows, path)
    print(f"{name}: {height} × {width}, embedded in {time.perf_counter() - began:.0f} s", flush=True)
    return rows


def _made(good: Pictures, positions: Sequence[int], embedder: Embedder) -> tuple[Tensor, Tensor]:
    draws = np.random.default_rng(0)
    pictures = [good.input(i).permute(1, 2, 0).contiguous().numpy() for i in positions]

    def embedded(picture: np.ndarray) -> Tensor:  # type: ignore[type-arg]
        return embedder(torch.from_numpy(picture).permute(2, 0, 1)[None])[0].half().cpu()

    varied, painted = [], []
    for picture in pictures:
        varied += [embedded(vary(picture, draws)) for _ in range(VARIED)]
        for _ in range(PAINTED):
            with_defects = paint(picture, pictures[int(draws.integers(len(pictures)))], draws)
            change = np.abs(with_defects - picture).mean(axis=2)
            height, width = embedder.grid
            cells = cv2.resize(change, (width, height), interpolation=cv2.INTER_AREA).reshape(-1)
            painted.append(embedded(with_defects)[torch.from_numpy(cells > CHANGED)])
    return torch.stack(varied), torch.cat(painted)


def _some(rows: Tensor) -> Tensor:
    chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:PATCHES_FOR_STATISTICS]
    return rows[chosen].float()


def whitening(rows: Tensor, eps: float | None) -> Callable[[Tensor], Tensor]:
    """Return what standardises patches, and with `eps` divides them by the root of their covariance."""
    mean, spread = rows.mean(0), rows.std(0).clamp(min=1e-6)
    if eps is None:
        return lambda patches: (patches.float() - mean) / spread
    standard = (rows - mean) / spread
    values, vectors = torch.linalg.eigh(standard.T @ standard / len(standard))
    matrix = vectors / (values.clamp(min=0) + eps).sqrt()
    return lambda patches: ((patches.float() - mean) / spread) @ matrix


def train(recipe: Recipe, of: Rows, adapt: Callable[[Tensor], Tensor], seed: int) -> nn.Module:
    """Train a discriminator; large is good."""
    torch.manual_seed(seed)
    draws = torch.Generator().manual_seed(seed)
    good, varied = of.clean.flatten(0, 1), of.varied.flatten(0, 1)
    net = nn.Sequential(
        nn.Linear(good.shape[1], recipe.hidden),
        nn.BatchNorm1d(recipe.hidden),
        nn.LeakyReLU(0.2),
        nn.Linear(recipe.hidden, 1, bias=False),
    )
    optimiser = torch.optim.Adam(net.parameters(), 1e-3, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, recipe.steps))
    count = 1024
    from_varied, from_painted = int(count * recipe.varied), int(count * recipe.painted)
    low, high = map(math.log, recipe.scale)

    def some(rows: Tensor, number: int) -> Tensor:
        return adapt(rows[torch.randint(len(rows), (number,), generator=draws)])

    for _ in range(recipe.steps):
        rows = torch.cat([some(good, count - from_varied), some(varied, from_varied)])
        noise = torch.randn(rows.shape, generator=draws)
        if recipe.noise == "differences":
            one, other = (torch.randperm(count, generator=draws) for _ in range(2))
            noise = (rows[one] - rows[other]) / math.sqrt(2)
        noise *= (low + (high - low) * torch.rand(count, 1, generator=draws)).exp()
        noisy = (rows + noise)[torch.randperm(count, generator=draws)[: count - from_painted]]
        scores = net(torch.cat([rows, noisy, some(of.painted, from_painted)]))
        right, wrong = scores[:count], scores[count:]
        if recipe.loss == "hinge":
            loss = (0.5 - right).clamp(min=0).mean() + (0.5 + wrong).clamp(min=0).mean()
        else:
            loss = F.softplus(-right).mean() + F.softplus(wrong).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return net.eval()


@torch.no_grad()
def scores_of(pictures: Tensor, score: Callable[[Tensor], Tensor], grid: tuple[int, int]) -> Tensor:
    """Return raw patch scores [n, h, w]."""
    return torch.stack([score(patches.float()).view(grid) for patches in pictures])


def run(recipe: Recipe, of: Rows, seed: int) -> Measured:
    """Train and measure."""
    began = time.perf_counter()
    total_test, total_held = torch.zeros(()), torch.zeros(())
    parts: list[tuple[float, Callable[[Tensor], Tensor]]] = []
    if recipe.steps:
        adapt = whitening(_some(of.clean.flatten(0, 1)), recipe.whiten)
        net = train(recipe, of, adapt, seed)
        parts.append((1.0, lambda patches: -net(adapt(patches))[:, 0]))
    if recipe.distance:
        everything = torch.cat([_some(of.clean.flatten(0, 1)), _some(of.varied.flatten(0, 1))])
        whiten = whitening(everything, 0.05)
        parts.append((recipe.distance, lambda patches: whiten(patches).norm(dim=1)))
    seconds = time.perf_counter() - began
    for weight, score in parts:
        held, test = scores_of(of.held, score, of.grid), scores_of(of.test, score, of.grid)
        total_held, total_test = total_held + weight * held / held.std(), total_test + weight * test / held.std()
    if recipe.pooled:
        total_test, total_held = (
            F.avg_pool2d(s[:, None], 3, 1, 1, count_include_pad=False)[:, 0] for s in (total_test, total_held)
        )
    return of.measure(total_test, total_held, seconds)


def run_patchcore(of: Rows) -> Measured:
    """What is to be reached."""
    chosen = torch.randperm(of.clean.shape[1], generator=torch.Generator().manual_seed(0))[:PATCHES_OF_PATCHCORE]
    began = time.perf_counter()
    distance = patchcore(of.clean[:, chosen].flatten(0, 1).float(), 0.01)
    seconds = time.perf_counter() - began
    return of.measure(scores_of(of.test, distance, of.grid), scores_of(of.held, distance, of.grid), seconds)


def main() -> None:
    """Print a line for each class, recipe and seed, and what leaving each class out would have chosen."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--data", type=Path, required=True)
    ask.add_argument("--cache", type=Path, required=True)
    ask.add_argument("--classes", default=",".join(CLASSES))
    ask.add_argument("--only", action="append", help="A recipe; repeatable.")
    ask.add_argument("--backbone")
    ask.add_argument("--weights", type=Path)
    ask.add_argument("--pixels", type=int, default=448 * 448, help="Of the network's input, about.")
    ask.add_argument("--seeds", type=int, default=2)
    given = ask.parse_args()
    options = options_for(given.backbone, (), weights=given.weights)
    names = given.classes.split(",")
    recipes = {name: recipe for name, recipe in RECIPES.items() if not given.only or name in given.only}
    reached: dict[str, dict[str, tuple[float, float]]] = {name: {} for name in recipes}
    for of in names:
        rows = rows_of(given.data, of, given.pixels, given.cache, options)

        def once(what: str, compute: Callable[[], Measured], of: str = of) -> Measured:
            path = given.cache / f"{of} {options.backbone} {given.pixels} {what}.json".replace("/", "-")
            if path.exists():
                return msgspec.json.decode(path.read_bytes(), type=Measured)
            measured = compute()
            path.write_bytes(msgspec.json.encode(measured))
            return measured

        bad = sum(rows.is_defective)
        lines = [("PatchCore 1 %", [once("PatchCore", lambda rows=rows: run_patchcore(rows))])]  # type: ignore[misc]
        for name, recipe in recipes.items():
            each = [
                once(f"{recipe} {seed}", lambda rows=rows, recipe=recipe, seed=seed: run(recipe, rows, seed))  # type: ignore[misc]
                for seed in range(given.seeds)
            ]
            reached[name][of] = fmean(m.image for m in each), fmean(m.pixel for m in each)
            lines.append((name, each))
            _print(of, name, each, bad, len(rows.is_defective) - bad)
        _print(of, *lines[0], bad, len(rows.is_defective) - bad)
    if len(names) > 1:
        print("left out: chosen on the others, and what it reaches (image, pixel AUROC)")
        for of in names:
            best = max(recipes, key=lambda name: fmean(sum(reached[name][o]) for o in names if o != of))
            print(f"  {of:14s} {best:30s} {reached[best][of][0]:.3f} / {reached[best][of][1]:.3f}")


def _print(of: str, name: str, each: Sequence[Measured], bad: int, good: int) -> None:
    def seen(values: Sequence[float], how: str) -> str:
        return " ".join(format(value, how) for value in values)

    print(
        f"{of:14s} {name:30s} {seen([m.image for m in each], '.3f')} / {seen([m.pixel for m in each], '.3f')}"
        f"  found {seen([m.found for m in each], 'd')} of {bad}, rejected {seen([m.rejected for m in each], 'd')} of"
        f" {good}, {fmean(m.seconds for m in each):.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
