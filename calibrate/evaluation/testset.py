"""A trained model on a test set: scores, maps, and what they are worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from calibrate.data.dataset import ClassFolder, TestPicture, doubt, input_truth, read_all, read_truth
from calibrate.evaluation.metrics import Metrics, image_auroc, pixel_auroc, pro
from calibrate.training.scoring import score_pixels
from inspectd.engine.backend import Backend
from inspectd.errors import UsageError
from inspectd.line.judge import exceeds
from inspectd.model.geometry import Geometry
from inspectd.records import Picture
from inspectd.simplenet.bundle import Bundle
from inspectd.simplenet.network import MapSmoother
from inspectd.simplenet.preprocess import resize


@dataclass(frozen=True, slots=True)
class Tested:
    """One test picture and what the model says of it."""

    test: TestPicture
    picture: Picture
    truth: NDArray[np.bool_]
    """bool [H, W] of the picture."""
    score: float
    map_: NDArray[np.float32]
    """Smoothed, float32 [H, W] of the picture; NaN outside the inspected part."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A model on a whole test set."""

    metrics: Metrics
    names: tuple[str, ...]
    scores: tuple[float, ...]
    is_defective: tuple[bool, ...]
    left_out: tuple[str, ...]
    """Sentences about pictures that cannot be read, and masks that cannot be right."""
    has_own_good: bool = True
    """False: its good parts are those that were held out of the training."""

    def missed(self, threshold: float) -> int:
        """Defects that score no more than `threshold`."""
        return sum(bad and not exceeds(s, threshold) for s, bad in zip(self.scores, self.is_defective, strict=True))

    def rejected(self, threshold: float) -> int:
        """Good parts that score above `threshold`."""
        return sum(not bad and exceeds(s, threshold) for s, bad in zip(self.scores, self.is_defective, strict=True))


def evaluate(
    folder: ClassFolder,
    model: Bundle,
    backend: Backend,
    *,
    workers: int = 0,
    on_picture: Callable[[Tested], None] = lambda _: None,
) -> Evaluation:
    """Score every test picture by the engine that judges; UsageError when none can be read."""
    geometry = model.geometry
    by_path = {test.path: test for test in folder.test}
    tests: list[TestPicture] = []
    scores, maps, truths, left_out = [], [], [], []
    telling: list[bool] = []
    for path, picture in read_all(list(by_path), workers):
        if isinstance(picture, str):
            left_out.append(picture)
            continue
        test, truth = by_path[path], read_truth(by_path[path], picture)
        pixels = resize(picture, geometry, model.white_level).float()[None]
        patch_scores = score_pixels(backend, model, pixels)
        smooth = smoothed(patch_scores, geometry)[0]
        tests.append(test)
        why = doubt(test, truth)
        left_out += [why] if why else []
        telling.append(why is None)
        scores.append(float(patch_scores.max()))
        maps.append(smooth)
        truths.append(input_truth(truth, geometry))
        on_picture(Tested(test, picture, truth, scores[-1], on_the_picture(smooth, geometry, picture)))
    if not tests:
        raise UsageError(f"The test set of {folder.name} has no picture that can be read; nothing was evaluated.")
    bad = tuple(test.is_defective for test in tests)
    metrics = measure(scores, maps, truths, bad, telling)
    return Evaluation(metrics, tuple(test.name for test in tests), tuple(scores), bad, tuple(left_out))


def measure(
    scores: Sequence[float],
    maps: Sequence[NDArray[np.float32]],
    truths: Sequence[NDArray[np.bool_]],
    is_defective: Sequence[bool],
    telling: Sequence[bool] | None = None,
    *,
    with_pro: bool = True,
) -> Metrics:
    """Return the three figures of a test set; maps and truths at the size of the network's input.

    `telling`: which truths can be believed; without any, there are no figures for pixels.
    """
    chosen = [i for i in range(len(maps)) if telling is None or telling[i]]
    if not chosen:
        return Metrics(image_auroc(scores, is_defective), None, None)
    all_maps, all_truths = np.stack([maps[i] for i in chosen]), np.stack([truths[i] for i in chosen])
    return Metrics(
        image_auroc(scores, is_defective),
        pixel_auroc(all_maps, all_truths),
        pro(all_maps, all_truths) if with_pro else None,
    )


def smoothed(patch_scores: NDArray[np.float32], geometry: Geometry) -> NDArray[np.float32]:
    """Bring patch scores [B, h, w] to smoothed maps [B, H, W] of the network's input."""
    grid = (patch_scores.shape[1], patch_scores.shape[2])
    maps: NDArray[np.float32] = MapSmoother(grid, (geometry.height, geometry.width))(
        torch.from_numpy(patch_scores)
    ).numpy()
    return maps


def on_the_picture(map_: NDArray[np.float32], geometry: Geometry, picture: Picture) -> NDArray[np.float32]:
    """Bring an input-sized map to the inspected rectangle of a picture, NaN outside it: float32 [H, W]."""
    height, width = picture.shape[:2]
    x, y, w, h = geometry.area(width, height)
    result = np.full((height, width), np.nan, np.float32)
    scaled = F.interpolate(torch.from_numpy(map_)[None, None], size=(h, w), mode="bilinear")
    result[y : y + h, x : x + w] = scaled[0, 0].numpy()
    return result
