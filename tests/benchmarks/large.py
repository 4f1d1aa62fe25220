"""What does a large input cost, whole and in strips?

    python tests/benchmarks/large.py --size 5472 3648 --free 24 --free 6 --free 2
    python tests/benchmarks/large.py --backbone resnet50 --layers layer2,layer3 …

For each amount of free memory (GB, pretended), in a process of its own: into how many strips a picture of noise goes, seconds
until the network is ready (compiled, and compared with nothing: the textbook has a gate of its own), seconds a picture, the most
memory that the process held, and the largest difference of a score from the first row's, as a share of the largest score.
The weights are random: only their number decides time and memory.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from dataclasses import dataclass

import numpy as np
import torch

from calibrate.training.crossfit import shape_for
from calibrate.training.recipe import Recipe
from inspectd.engine import strips
from inspectd.engine.backend import Floats
from inspectd.engine.memory import Room
from inspectd.engine.openvino import OpenVinoRuntime
from inspectd.engine.runtime import Trunk
from inspectd.simplenet import backbone as backbones
from inspectd.simplenet.folded import fold_head
from inspectd.simplenet.network import Head, HeadShape


@dataclass(frozen=True)
class Asked:
    """One row."""

    backbone: str
    layers: tuple[str, ...]
    size: tuple[int, int]
    free: float


@dataclass(frozen=True)
class Measured:
    """What it cost."""

    strips: int
    ready: float
    picture: float
    most: float
    scores: Floats


def measure(asked: Asked) -> Measured:
    """Compile a network and score one picture twice."""
    width, height = asked.size
    recipe = Recipe()
    torch.manual_seed(0)
    shape = shape_for(HeadShape(512, 512), recipe, recipe.memory_patches)
    head = Head(shape).eval()
    assert head.memory is not None
    head.memory.matrix.normal_(std=0.1)
    head.memory.patches.normal_()
    backbone = backbones.create(asked.backbone, asked.layers, (3, height, width))
    example = Trunk(backbone, shape, strips.Strips.whole((3, strips.PROBED, strips.PROBED)))
    folded = fold_head(head, example.channels)
    before = peak()
    began = time.perf_counter()
    room = Room(int(asked.free * 1e9))
    cut = strips.find_strips(lambda: lambda some: folded.scores(example(some)), (3, height, width), room)
    compiled = OpenVinoRuntime("float32").compile(Trunk(backbone, shape, cut))
    ours = compiled.add(folded)
    ready = time.perf_counter() - began
    picture = np.random.default_rng(0).normal(size=(1, 3, height, width)).astype(np.float32)
    compiled.score(picture, [ours])
    began = time.perf_counter()
    scores = compiled.score(picture, [ours])
    return Measured(max(1, len(cut.each)), ready, time.perf_counter() - began, peak() - before, scores)


def peak() -> float:
    """Return the most memory that this process held so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    """Print a row for each amount of memory."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--backbone", default=backbones.EMBEDDED)
    ask.add_argument("--layers", default=",".join(backbones.EMBEDDED_LAYERS))
    ask.add_argument("--size", type=int, nargs=2, default=(5472, 3648), metavar=("W", "H"))
    ask.add_argument("--free", type=float, action="append", required=True, help="GB; repeatable.")
    given = ask.parse_args()
    first: Floats | None = None
    for free in given.free:
        asked = Asked(given.backbone, tuple(given.layers.split(",")), tuple(given.size), free)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found = pool.apply(measure, (asked,))
        first = found.scores if first is None else first
        apart = float(np.abs(found.scores - first).max() / np.abs(first).max())
        print(
            f"{free:g} GB free: {found.strips} strips, ready in {found.ready:.1f} s, {found.picture:.1f} s a picture, "
            f"{found.most:.1f} GB more at the most, {apart:.1g} apart",
            flush=True,
        )


if __name__ == "__main__":
    main()
