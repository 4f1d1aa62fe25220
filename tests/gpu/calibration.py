"""Times a calibration of the published size by part: 200 pictures of 288x288, WideResNet-50, 40 x 4 epochs.

    python tests/gpu/calibration.py                 on the first GPU; every size can be made smaller for a trial
    python tests/gpu/calibration.py --device cpu --pictures 4 --meta_epochs 1 --gan_epochs 1 --backbone resnet18

Pictures and backbone weights are random: times do not depend on them. Trains twice and says whether the second
time gave the same head.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from calibrate.training.fit import Unwatched, learn, pictures_for
from calibrate.training.options import Options, check
from calibrate.training.threshold import held_out_positions
from calibrate.training.train import Schedule
from inspectd.engine.choose import choose_backend
from inspectd.model.calibration import CameraRecord
from inspectd.simplenet import backbone as backbones
from inspectd.simplenet.network import HeadShape


class Parts(Unwatched):
    """Times the stages of a calibration; the device is waited for at their borders."""

    def __init__(self, device: str) -> None:
        self.seconds: dict[str, float] = {}
        self._device = device
        self._now = "backbone"
        self._began = time.perf_counter()

    def stage(self, name: str, total: int | None) -> None:
        """End the stage before and begin the next."""
        if self._device.startswith("cuda"):
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.seconds[self._now] = self.seconds.get(self._now, 0.0) + now - self._began
        self._now, self._began = name, now

    def report(self, text: str) -> None:
        """Print where the features lie."""
        print(text)


def main() -> None:
    """Print a line for each part."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--device", default="cuda")
    ask.add_argument("--pictures", type=int, default=200)
    ask.add_argument("--size", type=int, default=288)
    ask.add_argument("--backbone", default="wideresnet50")
    ask.add_argument("--meta_epochs", type=int, default=40)
    ask.add_argument("--gan_epochs", type=int, default=4)
    given = ask.parse_args()
    backend = choose_backend(given.device)
    name = torch.cuda.get_device_name() if backend.variant.device.startswith("cuda") else "CPU"
    print(
        f"{given.pictures} pictures, {given.backbone} at {given.size}, {given.meta_epochs} x {given.gan_epochs}: {name}"
    )
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "random.pth"
        torch.manual_seed(0)
        shape = (3, given.size, given.size)
        torch.save(backbones.create(given.backbone, backbones.PUBLISHED_LAYERS, shape).model.state_dict(), weights)
        schedule = Schedule(meta_epochs=given.meta_epochs, gan_epochs=given.gan_epochs)
        options = check(
            Options(
                backbone=given.backbone,
                layers=backbones.PUBLISHED_LAYERS,
                weights=weights,
                height=given.size,
                width=given.size,
                shape=HeadShape(),
                recipe=None,
                schedule=schedule,
                clean=False,
            )
        )
        pictures, draws = pictures_for(options), np.random.default_rng(0)
        for i in range(given.pictures):
            pictures.add(draws.integers(0, 255, (given.size, given.size, 3), np.uint8), str(i))
        tails = []
        for _ in range(2):
            parts, began = Parts(backend.variant.device), time.perf_counter()
            held = held_out_positions(len(pictures))
            camera = CameraRecord("benchmark", None, *pictures.size)
            learned = learn(pictures, options, backend, run="benchmark", camera=camera, held_out=held, watcher=parts)
            parts.stage("end", 0)
            tails.append(learned.model.head.discriminator.tail.weight)
            text = ", ".join(f"{part} {seconds:.1f} s" for part, seconds in parts.seconds.items())
            print(f"{time.perf_counter() - began:.1f} s in all: {text}")
    print(f"the same head twice: {torch.equal(*tails)}")


if __name__ == "__main__":
    main()
