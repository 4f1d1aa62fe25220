"""What a model says of known defects, where some are at hand. It reports; nothing is chosen by it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibrate.data.dataset import add_files
from calibrate.data.training_set import Pictures
from calibrate.evaluation.figures import segmentation_figure
from calibrate.evaluation.metrics import Metrics, image_auroc
from calibrate.evaluation.testset import Evaluation, smoothed
from calibrate.training.fit import Learned, pictures_for
from calibrate.training.options import Options
from calibrate.training.scoring import score_pixels, worst
from inspectd.cameras.image_files import list_pictures
from inspectd.engine.backend import Backend
from inspectd.errors import UsageError

EXAMPLES = 3
"""Of each kind in the report: the held-out good parts that look worst, the defects that look best."""


def find_defects(folder: Path) -> list[Path]:
    """Return the pictures below `--defects`; UsageError when there are none."""
    found = list_pictures(folder) if folder.exists() else []
    if not found:
        raise UsageError(f"--defects {folder} holds no pictures; expected a folder with pictures of defective parts.")
    return found


def test_defects(
    paths: list[Path], learned: Learned, options: Options, backend: Backend, on_picture: Callable[[], None]
) -> tuple[Evaluation, Pictures]:
    """Score the defects beside the held-out good parts; without masks there is an image AUROC only."""
    defects = pictures_for(options)  # which leaves out what the good ones leave out
    left_out = add_files(defects, paths, 0, lambda: None)
    each = max(1, len(defects.rois))
    scores = []
    for i in range(0, len(defects), each):  # a picture is as bad as the worst of its places
        scored = score_pixels(backend, learned.model, torch.stack([defects.input(i + j) for j in range(each)]))
        scores.append(max(worst(scored, defects.seen((scored.shape[1], scored.shape[2])))))
        on_picture()
    both = [*learned.scores, *scores]
    is_defective = [False] * len(learned.scores) + [True] * len(scores)
    names = [f"held out {i}" for i in learned.held_out] + defects.taken
    metrics = Metrics(image_auroc(both, is_defective), None, None)
    return Evaluation(metrics, tuple(names), tuple(both), tuple(is_defective), tuple(left_out), False), defects


test_defects.__test__ = False  # type: ignore[attr-defined]  # not a test, whatever pytest thinks of its name


def draw_examples(
    pictures: Pictures, learned: Learned, backend: Backend, defects: Pictures | None, tested: Evaluation | None
) -> list[NDArray[np.uint8]]:
    """Draw the good parts that look worst to the model, and the defects that look best to it."""
    highest = sorted(zip(learned.scores, learned.held_out, strict=True), reverse=True)[:EXAMPLES]
    drawn = [_draw(pictures, i, learned, backend, is_good=True) for _, i in highest]
    if defects is not None and tested is not None:
        scores = tested.scores[len(learned.scores) :]
        missed = sorted(range(len(scores)), key=lambda i: scores[i])[:EXAMPLES]
        drawn += [
            _draw(defects, _worst_place(defects, i, learned, backend), learned, backend, is_good=False) for i in missed
        ]
    return drawn


def _worst_place(defects: Pictures, picture: int, learned: Learned, backend: Backend) -> int:
    """Return the position of the place of a picture that scores highest."""
    each = max(1, len(defects.rois))
    positions = range(picture * each, (picture + 1) * each)
    scored = score_pixels(backend, learned.model, torch.stack([defects.input(i) for i in positions]))
    return positions[int(np.argmax(worst(scored, defects.seen((scored.shape[1], scored.shape[2])))))]


def _draw(pictures: Pictures, i: int, learned: Learned, backend: Backend, *, is_good: bool) -> NDArray[np.uint8]:
    pixels = pictures.input(i)
    patch_scores = score_pixels(backend, learned.model, pixels[None])
    seen = pictures.seen((patch_scores.shape[1], patch_scores.shape[2]))
    if seen is not None:
        patch_scores = np.where(seen, patch_scores, patch_scores[:, seen].min())
    truth = np.zeros(tuple(pixels.shape[1:]), np.bool_) if is_good else None
    return segmentation_figure(
        _bgr(pixels),
        truth,
        smoothed(patch_scores, pictures.geometry)[0],
        score=float(patch_scores.max()),
        threshold=learned.threshold.value if learned.threshold else None,
        title=f"{'good' if is_good else 'defect'}: {pictures.names[i]}",
    )


def _bgr(pixels: Tensor) -> NDArray[np.uint8]:
    rgb = pixels.permute(1, 2, 0).clamp(0, 255).byte().numpy()
    return np.ascontiguousarray(rgb[:, :, ::-1])
