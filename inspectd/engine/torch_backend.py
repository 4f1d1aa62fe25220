"""The torch backend: the textbook network on the CPU or one GPU, float32, in its simplest correct form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inspectd.engine.station import Request
from inspectd.errors import UsageError
from inspectd.simplenet.bundle import Bundle
from inspectd.simplenet.network import Network, image_scores
from inspectd.simplenet.preprocess import Normalise, resize


class TorchBackend:
    """Owns a torch device. `threads` 0 leaves torch's own number of CPU threads."""

    precision = "float32"

    def __init__(self, device: str = "auto", threads: int = 0) -> None:
        self._device = choose_device(device)
        self.device = str(self._device)
        if self._device.type == "cuda":  # float32 means float32: TF32 keeps ten bits of the mantissa
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cuda.matmul.allow_tf32 = False
        if threads:
            torch.set_num_threads(threads)
        self._networks: dict[str, tuple[Network, Normalise]] = {}

    def prepare(self, model: Bundle) -> None:
        """Bring a model onto the device."""
        if model.digest not in self._networks:
            network = model.network.to(self._device)
            self._networks[model.digest] = (network, Normalise(self._device, *model.normalisation))

    def forget(self, model: Bundle) -> None:
        """Give up what is held for a model that is not needed any more."""
        self._networks.pop(model.digest, None)

    def score(self, requests: Sequence[Request]) -> list[NDArray[np.float32]]:
        """Return raw patch scores [h, w] for each request; one forward pass per model among them."""
        results: list[NDArray[np.float32] | None] = [None] * len(requests)
        for digest in dict.fromkeys(request.model.digest for request in requests):
            chosen = [i for i, request in enumerate(requests) if request.model.digest == digest]
            pixels = torch.stack([self._input(requests[i]) for i in chosen])  # [B, 3, H, W]
            for i, scores in zip(chosen, self.score_inputs(requests[chosen[0]].model, pixels), strict=True):
                results[i] = scores
        return [scores for scores in results if scores is not None]

    def score_inputs(self, model: Bundle, pixels: Tensor) -> NDArray[np.float32]:
        """Return raw patch scores [B, h, w] of resized pictures [B, 3, H, W], 0 … 255."""
        self.prepare(model)
        network, normalise = self._networks[model.digest]
        with torch.inference_mode():
            scores = network(normalise(pixels.to(self._device)))
            return cast("NDArray[np.float32]", scores.cpu().numpy())  # the host waits for the device here

    def score_normalised(self, model: Bundle, inputs: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return image scores [B] and patch scores [B, h, w] of normalised inputs [B, 3, H, W]."""
        self.prepare(model)
        network, _ = self._networks[model.digest]
        with torch.inference_mode():
            scores = network(inputs.to(self._device))
            return image_scores(scores).cpu().numpy(), scores.cpu().numpy()

    def _input(self, request: Request) -> Tensor:
        return resize(request.picture, request.geometry, request.model.white_level).float()


def choose_device(name: str) -> torch.device:
    """Return the torch device that `auto`, `cpu`, `cuda` or `cuda:N` means; UsageError when it is absent."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda"):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        index = int(name.partition(":")[2] or 0)
        if index >= count:
            raise UsageError(
                f"The device {name!r} does not exist: this machine has {count} usable NVIDIA GPUs. "
                "Use device: auto, or cpu."
            )
    return torch.device(name)
