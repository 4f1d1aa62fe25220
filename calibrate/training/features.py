"""Pooled patches of the backbone's features: computed once and kept, or anew for every batch.

A frozen backbone without augmentation gives the same patches in every epoch, so they are cached in half
precision: on the device, in memory, or in a file that is mapped into memory, whichever is the first to hold
them. With augmentation, or a backbone that trains, there is nothing to cache.
"""

from __future__ import annotations

import errno
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from inspectd.engine.memory import free_memory
from inspectd.errors import StartError
from inspectd.simplenet.network import HeadShape, embed
from inspectd.simplenet.preprocess import Normalise

Cache = Literal["auto", "memory", "file", "none"]
SHARE_OF_MEMORY = 0.5
"""Of what is free now: the rest is for the training itself and for everybody else."""
BYTES_PER_VALUE = 2
PICTURES_PER_PASS = {"cuda": 32, "cpu": 1}
"""More at once costs a CPU memory and saves it nothing."""


class Inputs(Protocol):
    """Pictures as the network takes them; a position always means the same picture."""

    def __len__(self) -> int:
        """How many there are."""

    def load(self, positions: Sequence[int]) -> Tensor:
        """Return [b, 3, H, W], 0 … 255, of the pictures at `positions`, in that order."""


class Embeds(Protocol):
    """Pictures to embedded patches."""

    device: torch.device
    pictures_at_once: int
    """As many as one call is best given."""

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return float32 [b, P, D] for pictures [b, 3, H, W], 0 … 255: P patches of D values each."""


def pictures_per_pass(device: torch.device) -> int:
    """Return how many pictures of a usual size a device is best given at once."""
    return PICTURES_PER_PASS.get(device.type, 1)


class Embedder:
    """Pictures to pooled patches; counts the pictures that it passed through the backbone."""

    def __init__(self, backbone: nn.Module, shape: HeadShape, device: torch.device, *, trains: bool = False) -> None:
        # Channels last: convolutions on a CPU take two thirds of the time, on a GPU less.
        self.backbone = backbone.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch types no nn.Module here
        self.shape = shape
        self.device = device
        self.pictures_at_once = pictures_per_pass(device)
        self.passed = 0
        self.grid = (0, 0)
        self._normalise = Normalise(device)
        self._trains = trains

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return float32 [b, P, D] for pictures [b, 3, H, W], 0 … 255: P patches of D values each.

        A backbone that trains is put into training mode, and gradients reach it.
        """
        self.backbone.train(self._trains)
        normalised = self._normalise(pixels.to(self.device)).contiguous(memory_format=torch.channels_last)
        with nullcontext() if self._trains else torch.no_grad():
            rows, self.grid = embed(self.backbone(normalised), self.shape)
        self.passed += len(pixels)
        return rows.view(len(pixels), -1, rows.shape[1])


# The cache


@dataclass(frozen=True, slots=True)
class Place:
    """Where a cache lies, and how large it is."""

    where: Literal["device", "memory", "file"]
    size: int
    """Bytes."""

    @property
    def sentence(self) -> str:
        """Say it before it is filled."""
        where = {"device": "on the GPU", "memory": "in memory", "file": "in a file that goes away by itself"}
        return f"The features take {self.size / 1e6:,.0f} MB, kept {where[self.where]}."


def choose_place(size: int, device: torch.device, wanted: Cache = "auto") -> Place:
    """Return where `size` bytes of features are kept: the GPU if it trains, else memory, else a file."""
    if wanted == "file":
        return Place("file", size)
    if device.type == "cuda" and size <= SHARE_OF_MEMORY * torch.cuda.mem_get_info(device)[0]:
        return Place("device", size)
    if wanted == "memory" or size <= SHARE_OF_MEMORY * free_memory():
        return Place("memory", size)
    return Place("file", size)


def cache_features(
    inputs: Inputs,
    embedder: Embeds,
    *,
    wanted: Cache = "auto",
    folder: Path | None = None,
    report: Callable[[str], None] = lambda _: None,
    on_picture: Callable[[], None] = lambda: None,
) -> Tensor:
    """Return float16 [N, P, D] for all `inputs`, each loaded and embedded exactly once.

    `folder`: where a file would be made; it has no name there, so it is gone with the process, whatever ends
    it. StartError when neither memory nor disk can hold the features.
    """
    features: Tensor | None = None
    batch_size = embedder.pictures_at_once
    for start in range(0, len(inputs), batch_size):
        positions = range(start, min(start + batch_size, len(inputs)))
        rows = embedder(inputs.load(positions))
        if features is None:
            size = len(inputs) * rows[0].numel() * BYTES_PER_VALUE
            place = choose_place(size, embedder.device, wanted)
            report(place.sentence)
            features = _room(place, (len(inputs), *rows.shape[1:]), embedder.device, folder)
        features[start : start + len(rows)] = rows.half()
        for _ in positions:
            on_picture()
    if features is None:
        raise ValueError("no pictures to compute features of")
    return features


def _room(place: Place, shape: tuple[int, ...], device: torch.device, folder: Path | None) -> Tensor:
    if place.where == "file":
        return torch.from_numpy(_mapped_file(place.size, shape, folder or Path()))
    try:
        return torch.empty(shape, dtype=torch.float16, device=device if place.where == "device" else "cpu")
    except RuntimeError:  # torch's allocator; the kernel refused
        raise StartError(
            f"The features of the pictures take {place.size / 1e6:,.0f} MB, which this machine does not have in "
            "memory. Use --cache file, fewer pictures or a smaller --imagesize."
        ) from None


def _mapped_file(size: int, shape: tuple[int, ...], folder: Path) -> np.memmap[tuple[int, ...], np.dtype[np.float16]]:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:  # nameless: nothing is left, however this ends
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk must show here, not as a SIGBUS later
            return np.memmap(file, np.float16, "r+", shape=shape)
    except OSError as error:
        why = "the disk is full" if error.errno in (errno.ENOSPC, errno.EFBIG) else error.strerror
        raise StartError(
            f"The features of the pictures take {size / 1e6:,.0f} MB, and no file for them can be made in "
            f"{folder.resolve()}: {why}. Nothing was changed; free some space, or use fewer pictures or --cache none."
        ) from None


# What a training step takes


class Batches(Protocol):
    """Gives out the training's rows, an epoch at a time."""

    def __len__(self) -> int:
        """Batches in an epoch."""

    def epoch(self) -> Iterator[Tensor]:
        """Yield float32 rows [n, D] on the training's device."""


class CachedPictures:
    """All patches of `batch_size` pictures at a time, shuffled anew in each epoch: the published way."""

    def __init__(self, features: Tensor, batch_size: int, generator: torch.Generator, device: torch.device) -> None:
        self._features = features
        self._batch_size = batch_size
        self._generator = generator
        self._device = device

    def __len__(self) -> int:
        """Batches in an epoch; the last one may be smaller."""
        return math.ceil(len(self._features) / self._batch_size)

    def epoch(self) -> Iterator[Tensor]:
        """Yield [b·P, D]."""
        for chosen in shuffled(len(self._features), self._batch_size, self._generator):
            rows = self._features[chosen.to(self._features.device)].flatten(0, 1)
            yield rows.to(self._device).float()


class FreshPictures:
    """The same batches, loaded and embedded each time: for augmentation and for a backbone that trains."""

    def __init__(self, inputs: Inputs, embedder: Embedder, batch_size: int, generator: torch.Generator) -> None:
        self._inputs = inputs
        self._embedder = embedder
        self._batch_size = batch_size
        self._generator = generator

    def __len__(self) -> int:
        """Batches in an epoch; the last one may be smaller."""
        return math.ceil(len(self._inputs) / self._batch_size)

    def epoch(self) -> Iterator[Tensor]:
        """Yield [b·P, D]."""
        for chosen in shuffled(len(self._inputs), self._batch_size, self._generator):
            yield self._embedder(self._inputs.load(chosen.tolist())).flatten(0, 1)


def shuffled(count: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield the positions 0 … count − 1 in random order, `batch_size` at a time."""
    order = torch.randperm(count, generator=generator)
    yield from torch.split(order, batch_size)
