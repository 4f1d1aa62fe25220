"""What several areas on one picture cost beside one of the same total area.

    python tests/benchmarks/areas.py                      # this machine's CPU
    python tests/benchmarks/areas.py --device cuda

One area of 1024×768 pixels with an input of 512×384, and four of 512×384 with an input of 256×192 each, which share one
model, or have one each. They are scored and judged in turns, as the daemon does it with one picture.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np

from inspectd.bench.models import Kind, random_models
from inspectd.engine.backend import Request, Score
from inspectd.engine.choose import choose_backend
from inspectd.line.fitness import find_problem
from inspectd.line.inspection import conclude
from inspectd.line.judge import Criterion
from inspectd.line.recipe import Area, Recipe
from inspectd.percentiles import percentile
from inspectd.records import Picture, Rect
from inspectd.sim.line import Line
from inspectd.simplenet.bundle import Bundle

ONE: tuple[Rect, ...] = ((0, 0, 1024, 768),)
FOUR: tuple[Rect, ...] = tuple((x, y, 512, 384) for x in (0, 512) for y in (0, 384))


def recipe_of(models: list[Bundle], rois: tuple[Rect, ...]) -> Recipe:
    """Return a recipe with an area for each; a single model is shared."""
    shared = models * len(rois) if len(models) == 1 else models
    return Recipe(
        tuple(
            Area(model, replace(model.geometry, roi=roi), Criterion(1e3, [0.0], model.label), name=str(i))
            for i, (model, roi) in enumerate(zip(shared, rois, strict=True))
        )
    )


def inspect(score: Score, recipe: Recipe, picture: Picture) -> float:
    """Return how long one picture takes, in ms."""
    began_s = time.monotonic()
    find_problem(recipe, picture, is_camera=True)
    scores = score([Request(area.model, area.geometry, picture) for area in recipe.areas])
    conclude(recipe, (picture.shape[1], picture.shape[0]), scores)
    return (time.monotonic() - began_s) * 1000


def main() -> None:
    """Print a row for each kind of recipe."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--device", default="auto")
    ask.add_argument("--precision", default="auto")
    ask.add_argument("--rounds", type=int, default=200)
    given = ask.parse_args()
    backend = choose_backend(given.device, given.precision)
    layers = ("blocks.2", "blocks.4")
    large = random_models(Kind("tf_efficientnet_lite0", layers, 512, 384), 1)
    small = random_models(Kind("tf_efficientnet_lite0", layers, 256, 192), 5)
    for i, model in enumerate(small):
        small[i] = replace(model, digest=f"{i + 100:064x}")
    for model in (*large, *small):
        backend.prepare(model)
    recipes = {
        "one area": recipe_of(large, ONE),
        "four areas, one model": recipe_of(small[:1], FOUR),
        "four areas, four models": recipe_of(small[1:], FOUR),
    }
    line = Line(0, width=1280, height=960)
    pictures = [np.ascontiguousarray(line.render(i)) for i in range(8)]
    found: dict[str, list[float]] = {name: [] for name in recipes}
    with backend.seat() as score:  # as an inspection thread has it
        for i in range(given.rounds):
            for name, recipe in recipes.items():
                found[name].append(inspect(score, recipe, pictures[i % len(pictures)]))
    print(f"{backend.variant}: {backend.why}")
    usual = percentile(found["one area"], 0.5)
    for name, times in found.items():
        p50 = percentile(times, 0.5)
        print(f"{name:24} median {p50:6.1f} ms, {p50 / usual:.2f} of one area; p99 {percentile(times, 0.99):6.1f} ms")


if __name__ == "__main__":
    main()
