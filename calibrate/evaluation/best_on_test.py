"""Which checkpoint of a training is kept, when it is chosen by looking at the test set as the paper does."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibrate.data.dataset import ClassFolder, input_truth, read_all, read_truth
from calibrate.data.training_set import Pictures
from calibrate.evaluation.testset import measure, smoothed
from calibrate.training.features import Cache, Embedder, cache_features
from calibrate.training.options import Options
from calibrate.training.trained import Trained
from inspectd.errors import UsageError
from inspectd.simplenet.backbone import Backbone
from inspectd.simplenet.network import Head


class BestOnTest:
    """Keeps the checkpoint with the best image AUROC on the test set, of equals the one with the best pixel AUROC.

    This is how the published numbers came about. It peeks: what it reports is better than what a fresh part
    will see, and every place that shows it says so.
    """

    def __init__(
        self, folder: ClassFolder, options: Options, workers: int, curve: Callable[[str, float, int], None]
    ) -> None:
        self._options = options
        self._curve = curve
        self._geometry = options.geometry()
        self._pictures = Pictures(self._geometry, options.white_level)
        self._truths: list[NDArray[np.bool_]] = []
        self._is_defective: list[bool] = []
        self._features: Tensor | None = None
        self._best: tuple[float, float] | None = None
        self._kept: tuple[Head, dict[str, Tensor] | None, int] | None = None
        by_path = {test.path: test for test in folder.test}
        for path, picture in read_all(list(by_path), workers):
            if not isinstance(picture, str):
                self._pictures.add(picture, path.name)
                self._truths.append(input_truth(read_truth(by_path[path], picture), self._geometry))
                self._is_defective.append(by_path[path].is_defective)
        if len(set(self._is_defective)) < 2:
            raise UsageError(
                f"The test set of {folder.name} lacks good or defective pictures that can be read; there is nothing to "
                "choose a checkpoint by. Use --keep last."
            )

    def on_meta_epoch(self, number: int, head: Head, embedder: Embedder) -> None:
        """Measure the head as it is now, and keep a copy if it is the best so far."""
        patch_scores = self._score(head, embedder)
        scores = patch_scores.reshape(len(patch_scores), -1).max(axis=1).tolist()
        metrics = measure(
            scores, list(smoothed(patch_scores, self._geometry)), self._truths, self._is_defective, with_pro=False
        )
        reached = (metrics.image_auroc or 0.0, metrics.pixel_auroc or 0.0)
        self._curve("i-auroc", reached[0], number)
        self._curve("p-auroc", reached[1], number)
        if self._best is None or reached > self._best:
            self._best = reached
            weights = copy.deepcopy(embedder.backbone.state_dict()) if self._options.schedule.train_backbone else None
            self._kept = (copy.deepcopy(head), weights, number)

    def choose(self, head: Head, backbone: Backbone) -> Trained:
        """Return the best."""
        if self._kept is None:
            return Trained(head, backbone)
        best, weights, number = self._kept
        if weights is not None:
            backbone.load_state_dict(weights)
        return Trained(best.requires_grad_(True), backbone, f"best-on-test (meta epoch {number})")

    @torch.no_grad()
    def _score(self, head: Head, embedder: Embedder) -> NDArray[np.float32]:
        head.eval()
        scores = []
        for rows in self._rows(embedder):
            scores.append(-head.discriminator(head.adapt(rows)).view(embedder.grid))
        head.train()
        stacked: NDArray[np.float32] = torch.stack(scores).cpu().numpy()
        return stacked

    def _rows(self, embedder: Embedder):  # type: ignore[no-untyped-def]
        """Yield the rows [P, D] of each test picture: from the cache if the backbone stays as it is."""
        if self._options.schedule.train_backbone:
            still = Embedder(embedder.backbone, embedder.shape, embedder.device)
            for i in range(len(self._pictures)):
                yield still(self._pictures.load([i]))[0]
            return
        if self._features is None:
            wanted: Cache = "auto" if self._options.cache == "none" else self._options.cache
            self._features = cache_features(self._pictures, embedder, wanted=wanted, folder=self._options.cache_folder)
        for rows in self._features:
            yield rows.to(embedder.device).float()
