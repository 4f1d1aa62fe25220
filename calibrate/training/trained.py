"""What a training leaves, by the recipe or by the published schedule, and how it tells of its steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from calibrate.data.clean import Cleaning
from calibrate.data.disturbance import DISTURBANCES
from calibrate.data.training_set import Pictures
from calibrate.progress import Watcher
from calibrate.training.loss import StepLoss
from calibrate.training.options import Options
from calibrate.training.withstood import disturbed_inputs
from inspectd.simplenet import backbone as backbones
from inspectd.simplenet.network import Head

LOG_LINES = 100
"""How often in a training the loss is looked at: each time the host waits for the device."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a head is tried on that never saw it."""

    head: Head
    positions: tuple[int, ...]
    """Of held-out pictures."""
    painted: tuple[Tensor, ...] = ()
    """Good parts with a painted defect, uint8 [3, H, W]."""
    disturbed: tuple[int, ...] = ()
    """Of the held-out pictures, those that are also tried under each disturbance."""

    def inputs(self, pictures: Pictures) -> Iterator[Tensor]:
        """Yield the held-out pictures, then the painted ones, then each of the disturbed ones in all ways."""
        yield from map(pictures.input, self.positions)
        yield from (pixels.float() for pixels in self.painted)
        for position in self.disturbed:
            yield from disturbed_inputs(pictures, position)

    def __len__(self) -> int:
        """How many inputs there are."""
        return len(self.positions) + len(self.painted) + len(DISTURBANCES) * len(self.disturbed)


@dataclass(frozen=True, slots=True)
class Trained:
    """A head, the backbone it belongs to, and which checkpoint of the training it is."""

    head: Head
    backbone: backbones.Backbone
    kept: str = "last"
    held_out: tuple[int, ...] = ()
    """Positions of the pictures that the threshold rests on."""
    trials: tuple[Trial, ...] = ()
    """Who scores them."""
    cleaning: Cleaning | None = None


def told(watcher: Watcher, steps: int) -> Callable[[int, StepLoss], None]:
    """Return what tells the watcher of each step, and now and then of the loss."""
    log_every = max(1, steps // LOG_LINES)

    def on_step(number: int, result: StepLoss) -> None:
        watcher.step()
        if number % log_every == 0 or number == steps:
            # Where the host waits for the device.
            for name, value in zip(("loss", "p_true", "p_fake"), _read(result), strict=True):
                watcher.scalar(name, value, number)

    return on_step


def confirmed_of(options: Options, pictures: Pictures) -> set[int]:
    """Return the positions of the pictures that a person has confirmed."""
    names, each = set(options.confirmed), max(1, len(pictures.rois))
    return {i for i, name in enumerate(pictures.names) if name in names or pictures.taken[i // each] in names}


def _read(result: StepLoss) -> list[float]:
    values: list[float] = torch.stack([result.loss.detach(), result.p_true, result.p_fake]).tolist()
    return values
