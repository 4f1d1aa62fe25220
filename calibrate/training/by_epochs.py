"""A training by the published schedule: pictures in, a head out, its checkpoint chosen by a keeper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from calibrate.data.clean import Cleaning, find_unlike
from calibrate.data.training_set import Chosen, Pictures
from calibrate.progress import Watcher
from calibrate.training.features import CachedPictures, Embedder, FreshPictures, cache_features
from calibrate.training.options import Options
from calibrate.training.train import HeadTrainer, noise_for, standardise, train
from calibrate.training.trained import Trained, Trial, confirmed_of, told
from inspectd.simplenet import backbone as backbones
from inspectd.simplenet.network import Head


class Keeper(Protocol):
    """Sees the network after every meta epoch and says in the end which checkpoint is kept."""

    def on_meta_epoch(self, number: int, head: Head, embedder: Embedder) -> None:
        """Meta epoch `number` (from 1) has ended; the head is in training mode and must be left so."""

    def choose(self, head: Head, backbone: backbones.Backbone) -> Trained:
        """Return what is kept of a training that ended with `head`."""


class KeepLast:
    """The last checkpoint, which nobody has chosen."""

    def on_meta_epoch(self, number: int, head: Head, embedder: Embedder) -> None:
        """Look at nothing."""

    def choose(self, head: Head, backbone: backbones.Backbone) -> Trained:
        """Keep what there is."""
        return Trained(head, backbone)


class EpochTraining:
    """One model's training: from pictures to a head, on one device."""

    def __init__(
        self,
        pictures: Pictures,
        held_out: set[int],
        options: Options,
        backbone: backbones.Backbone,
        device: torch.device,
        watcher: Watcher,
    ) -> None:
        self.cleaning: Cleaning | None = None
        self._pictures = pictures
        self._held_out = sorted(held_out)
        self._positions = [i for i in range(len(pictures)) if i not in held_out]
        self._options = options
        self._watcher = watcher
        self._device = device
        self._backbone = backbone
        trains = options.schedule.train_backbone
        self._embedder = Embedder(backbone, options.shape, device, trains=trains)
        self._head = Head(options.shape).to(device)
        self._draws = torch.Generator().manual_seed(options.seed)
        is_fresh = trains or options.augmentation.is_active or options.cache == "none"
        self._batches = self._fresh() if is_fresh else self._cached()

    def run(self, keeper: Keeper) -> Trained:
        """Train; what is kept comes back on the CPU, in evaluation mode."""
        schedule = self._options.schedule
        meta_epochs, gan_epochs = schedule.epochs
        steps = meta_epochs * gan_epochs * len(self._batches)
        self._watcher.stage("training", steps)

        def on_meta_epoch(number: int) -> None:
            keeper.on_meta_epoch(number, self._head, self._embedder)

        draws = torch.Generator(self._device).manual_seed(self._options.seed)
        noise = noise_for(schedule, draws)
        trainer = HeadTrainer(self._head, schedule, noise, self._backbone if schedule.train_backbone else None)
        train(trainer, self._batches, told(self._watcher, steps), on_meta_epoch)
        kept = keeper.choose(self._head, self._backbone)
        backbone = kept.backbone.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        head, held_out = kept.head.cpu().eval(), tuple(self._held_out)
        return Trained(head, backbone.eval(), kept.kept, held_out, (Trial(head, held_out),), self.cleaning)

    def _fresh(self) -> FreshPictures:
        chosen, size = Chosen(self._pictures, self._positions), self._options.schedule.batch_size
        if self._options.schedule.standardise:  # with draws of its own: the training's are the cached one's
            once = FreshPictures(chosen, self._embedder, size, torch.Generator())
            with torch.no_grad():
                standardise(self._head, torch.cat(list(once.epoch())))
        return FreshPictures(chosen, self._embedder, size, self._draws)

    def _cached(self) -> CachedPictures:
        schedule = self._options.schedule
        inputs = Chosen(self._pictures, range(len(self._pictures)) if self._options.clean else self._positions)
        self._watcher.stage("features", len(inputs))
        features = cache_features(
            inputs,
            self._embedder,
            wanted=self._options.cache,
            folder=self._options.cache_folder,
            report=self._watcher.report,
            on_picture=self._watcher.step,
        )
        if self._options.clean:
            confirmed = confirmed_of(self._options, self._pictures)
            self.cleaning = find_unlike(features, self._positions, self._held_out, confirmed)
            self._positions = [i for i in self._positions if i not in self.cleaning.unlike]
            features = _only(features, self._positions)
        if schedule.standardise:
            standardise(self._head, features.flatten(0, 1).to(self._device).float())
        return CachedPictures(features, schedule.batch_size, self._draws, self._device)


def _only(features: Tensor, positions: Sequence[int]) -> Tensor:
    """Move the pictures at `positions` (ascending) to the front, in place, and return that part."""
    for to, i in enumerate(positions):
        if to != i:
            features[to] = features[i]
    return features[: len(positions)]
