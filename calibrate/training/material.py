"""What a training of ours learns from: patches of the good pictures, of varied ones, and of painted defects."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibrate.data.disturbance import Picture
from calibrate.data.painting import paint, paint_one, vary
from calibrate.data.training_set import Chosen, Pictures
from calibrate.training.embedding import FoldedEmbedder
from calibrate.training.features import BYTES_PER_VALUE, Cache, cache_features
from calibrate.training.recipe import BLOCKS, FOLDS, Recipe
from inspectd.engine.memory import free_memory

SHARE_FOR_MADE = 0.25
"""Of the memory that is free when all pictures as they are have been embedded."""
MOST_PATCHES = 16_384
"""Of each varied picture: a million pixels, more or less. Of larger ones some are drawn."""
AHEAD = 4
"""So many pictures are made before they are needed."""
CHANGED = 6.0
"""Grey levels, on the mean over a patch's cell: from here on it shows the painted defect."""


Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Material:
    """Embedded patches, half precision, and the fold of the picture that each comes from."""

    good: Tensor
    """[N, P, D], all pictures as they are."""
    folds: Tensor
    """[N]."""
    usable: Tensor
    """Positions of the pictures that are learned from: what looks unlike the rest is not among them."""
    varied: Tensor
    """[M, P, D]; of large pictures fewer patches."""
    varied_folds: Tensor
    painted: Tensor
    """[K, D]: patches that show a painted defect."""
    painted_folds: Tensor
    grid: tuple[int, int]
    device: torch.device
    """Where patches are wanted; they lie where there was room."""

    def draw_good(self, count: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw patches [count, D] of usable pictures, float32, and their folds."""
        rows, folds = _drawn(self.good, self.folds, self.usable, count, draws)
        return rows.to(self.device).float(), folds

    def draw_varied(self, count: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw patches of varied pictures likewise."""
        rows, folds = _drawn(self.varied, self.varied_folds, torch.arange(len(self.varied)), count, draws)
        return rows.to(self.device).float(), folds

    def draw_painted(self, count: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw patches that show a painted defect."""
        chosen = torch.randint(len(self.painted), (count,), generator=draws)
        return self.painted[chosen.to(self.painted.device)].to(self.device).float(), self.painted_folds[chosen]

    def sample(self, count: int, draws: torch.Generator, folds: Collection[int]) -> Tensor:
        """Return different patches [n, D], half of usable and half of varied pictures: `count` or as many as there are.

        `folds`: those that they may come from.
        """
        usable = [i for i in self.usable.tolist() if int(self.folds[i]) in folds]
        varied = [i for i, fold in enumerate(self.varied_folds.tolist()) if fold in folds]
        parts = ((self.good, usable), (self.varied, varied))
        chosen = [_different(rows, torch.tensor(among, dtype=torch.long), count // 2, draws) for rows, among in parts]
        return torch.cat([rows.to(self.device).float() for rows in chosen])


def _drawn(rows: Tensor, folds: Tensor, among: Tensor, count: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    pictures = among[torch.randint(len(among), (count,), generator=draws)]
    patches = torch.randint(rows.shape[1], (count,), generator=draws)
    return rows[pictures.to(rows.device), patches.to(rows.device)], folds[pictures]


def _different(rows: Tensor, among: Tensor, count: int, draws: torch.Generator) -> Tensor:
    total, each = len(among) * rows.shape[1], rows.shape[1]
    chosen = torch.randperm(total, generator=draws)[:count]
    return rows[among[chosen // each].to(rows.device), (chosen % each).to(rows.device)]


def embed_good(
    pictures: Pictures,
    embedder: FoldedEmbedder,
    wanted: Cache,
    folder: Path | None,
    report: Callable[[str], None],
    on_picture: Callable[[], None],
) -> Tensor:
    """Return the patches of all pictures, float16 [N, P, D]."""
    every = Chosen(pictures, range(len(pictures)))
    return cache_features(every, embedder, wanted=wanted, folder=folder, report=report, on_picture=on_picture)


def fitting(made: int, good: Tensor) -> int:
    """Return how many varied pictures there is memory for beside these patches; at least one for each fold's blocks."""
    patches, width = good.shape[1:]
    size = min(patches, MOST_PATCHES) * width * BYTES_PER_VALUE * 2  # once each, and all together
    free = torch.cuda.mem_get_info(good.device)[0] if good.device.type == "cuda" else free_memory()
    return max(FOLDS * BLOCKS, min(made, int(SHARE_FOR_MADE * free / size)))


def made_from(usable: Sequence[int], recipe: Recipe) -> list[int]:
    """Return which pictures are varied, and painted: a position for each picture that is made."""
    each = min(recipe.made_of_each, max(1, recipe.made // len(usable)))
    count = min(recipe.made, each * len(usable))
    return [usable[i * len(usable) // count] for i in range(count)]


def make_material(
    pictures: Pictures,
    good: Tensor,
    folds: Sequence[int],
    usable: Sequence[int],
    embedder: FoldedEmbedder,
    recipe: Recipe,
    seed: int,
    on_picture: Callable[[], None],
) -> Material:
    """Vary and paint pictures, and embed them: one pass each."""
    draws = np.random.default_rng(seed)

    def make(i: int) -> tuple[Picture, Picture, Picture]:
        picture = _picture(pictures, i)
        # The piece of another part comes from the same fold, so that who may not see the one sees nothing of the other.
        mates = [j for j in usable if folds[j] == folds[i] and j != i] or [i]
        other = _picture(pictures, mates[int(draws.integers(len(mates)))])
        return picture, vary(picture, draws, recipe.variation), paint(picture, other, draws)

    def embed(picture: Picture) -> Tensor:
        return embedder(torch.from_numpy(picture).permute(2, 0, 1)[None])[0].half()

    seen = pictures.seen(embedder.grid)
    patches = torch.Generator().manual_seed(seed)
    varied: list[Tensor] = []
    painted: list[Tensor] = []
    painted_folds: list[int] = []
    positions = made_from(usable, recipe)
    for i, (picture, moved, with_defects) in zip(positions, ahead(make, positions), strict=True):
        varied.append(_some(embed(moved), patches))
        on_picture()
        shown = embed(with_defects)[_changed(picture, with_defects, embedder.grid, seen).to(embedder.device)]
        painted.append(shown)
        painted_folds += [folds[i]] * len(shown)
        on_picture()
    return Material(
        good,
        torch.tensor(folds),
        torch.tensor(usable),
        torch.stack(varied),
        torch.tensor([folds[i] for i in positions]),
        torch.cat(painted),
        torch.tensor(painted_folds, dtype=torch.long),
        embedder.grid,
        embedder.device,
    )


def _some(rows: Tensor, draws: torch.Generator) -> Tensor:
    """Return a picture's patches [P, D], or some where there are more than enough."""
    if len(rows) <= MOST_PATCHES:
        return rows
    return rows[torch.randperm(len(rows), generator=draws)[:MOST_PATCHES].to(rows.device)]


def ahead(make: Callable[[int], Made], positions: Sequence[int]) -> Iterator[Made]:
    """Yield what is made of each position, in order; a thread makes the next ones meanwhile, one after the other."""
    with ThreadPoolExecutor(1, "made up") as pool:
        waiting: deque[Future[Made]] = deque()
        for i in positions:
            waiting.append(pool.submit(make, i))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


PROBED = (1.5, 6.0)
"""Sizes of the defects in probes, in patches of the finest layer."""
TRIES = 10
"""Of painting something that shows: a missing piece of a bare place does not."""


def make_probes(
    pictures: Pictures, folds: Sequence[int], usable: Sequence[int], grid: tuple[int, int], recipe: Recipe, seed: int
) -> list[tuple[int, Tensor]]:
    """Paint one defect into each of some good pictures: the fold that knows it, and uint8 [3, H, W]."""
    draws = np.random.default_rng((seed, 1))  # other defects than those that are learned from
    seen = pictures.seen(grid)
    probes = []
    for n in range(recipe.probes):
        i = usable[n * len(usable) // recipe.probes]
        picture = _picture(pictures, i)
        patch = picture.shape[0] / grid[0]
        mates = [j for j in usable if folds[j] == folds[i] and j != i] or [i]
        other = _picture(pictures, mates[int(draws.integers(len(mates)))])
        for _ in range(TRIES):
            painted = paint_one(picture, other, (PROBED[0] * patch, PROBED[1] * patch), draws)
            if _changed(picture, painted, grid, seen).any():
                break
        probes.append((folds[i], torch.from_numpy(painted.round().astype(np.uint8)).permute(2, 0, 1)))
    return probes


def _picture(pictures: Pictures, position: int) -> Picture:
    return np.ascontiguousarray(pictures.input(position).permute(1, 2, 0).numpy())


def _changed(before: Picture, after: Picture, grid: tuple[int, int], seen: NDArray[np.bool_] | None) -> Tensor:
    """Return which patches that are inspected (None: all) show the difference, bool [P]."""
    cells = cv2.resize(np.abs(after - before).mean(axis=2), grid[::-1], interpolation=cv2.INTER_AREA) > CHANGED
    return torch.from_numpy((cells if seen is None else cells & seen).reshape(-1))
