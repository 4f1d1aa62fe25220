"""Pictures to embedded patches as fast as the engine has them: the numbers of the textbook, to rounding."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from calibrate.data.sizing import PIXELS
from calibrate.training.features import pictures_per_pass
from inspectd.engine import devices
from inspectd.engine.gpu.streams import free_memory_of
from inspectd.engine.memory import Room
from inspectd.engine.openvino import OpenVinoRuntime
from inspectd.engine.runtime import CannotRunError, Trunk
from inspectd.engine.strips import PROBED, Strips, find_strips, known_of
from inspectd.errors import UsageError
from inspectd.simplenet.folded import fold_embedding
from inspectd.simplenet.fusing import fused
from inspectd.simplenet.network import HeadShape
from inspectd.simplenet.preprocess import Normalise


class FoldedEmbedder:
    """A frozen backbone and the folded pooling behind it, in float32."""

    def __init__(
        self, backbone: nn.Module, shape: HeadShape, input_shape: tuple[int, int, int], device: torch.device
    ) -> None:
        self.device = device
        pixels = max(PIXELS, input_shape[1] * input_shape[2])
        room, known = _room(device), known_of(backbone, ("embedding", shape))
        strips = find_strips(
            lambda: _Network(backbone, shape, Strips.whole((3, PROBED, PROBED))), input_shape, room, known
        )
        self.pictures_at_once = known.at_once(strips, room, max(1, pictures_per_pass(device) * PIXELS // pixels))
        network = _Network(backbone, shape, strips)
        self.grid = strips.whole_grid(network.trunk.grids[0])
        self._strips = strips
        self._stand_in: Tensor | None = None
        """[P]: for each patch, the one that is taken for it."""
        self._normalise = Normalise(device)
        self._embed = _compiled(network, device)

    def leave_out(self, seen: NDArray[np.bool_] | None) -> None:
        """Put the nearest inspected patch of the same picture in the place of each that is not; `seen`: [h, w].

        Nothing is learned from what is ignored then, and no picture is odd or scores high because of it.
        """
        if seen is None:
            return
        if not seen.any():
            raise UsageError("--ignore leaves no patch of the pictures to be inspected; leave more of them free.")
        _, nearest = cv2.distanceTransformWithLabels(
            (~seen).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
        )
        by_label = {int(label): place for place, label in enumerate(nearest.reshape(-1)) if seen.reshape(-1)[place]}
        self._stand_in = torch.tensor([by_label[int(label)] for label in nearest.reshape(-1)], device=self.device)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return float32 [b, P, D] for pictures [b, 3, H, W], 0 … 255: P patches of D values each."""
        with torch.no_grad():
            pictures = self._normalise(pixels.to(self.device))
            patches = self._strips.pass_through(pictures, self._embed).flatten(2).transpose(1, 2)
            return patches if self._stand_in is None else patches[:, self._stand_in]


def _room(device: torch.device) -> Room:
    """Return what memory there is: there, and on the CPU, where pictures are prepared."""
    on_cpu = Room.on_cpu()
    return Room(min(on_cpu.free, free_memory_of(device))) if device.type == "cuda" else on_cpu


class _Network(nn.Module):
    def __init__(self, backbone: nn.Module, shape: HeadShape, strips: Strips) -> None:
        super().__init__()
        self.trunk = Trunk(backbone, shape, strips)
        self.embedding = fold_embedding(shape, self.trunk.channels)

    def forward(self, pictures: Tensor) -> Tensor:
        embedded: Tensor = self.embedding(self.trunk(pictures))
        return embedded


def _compiled(network: _Network, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return what maps normalised pictures to [b, D, h, w] there."""
    shape = (1, *network.trunk.input_shape)
    if device.type == "cpu" and devices.has_openvino():
        try:
            (request,) = OpenVinoRuntime("float32").requests(network, [shape])
        except CannotRunError:
            pass  # torch can

        else:
            return lambda pictures: torch.stack(
                [torch.from_numpy(np.array(request.infer({0: one[None].numpy()})[0]))[0] for one in pictures]
            )
    module = fused(network, torch.zeros(shape)).to(device).to(memory_format=torch.channels_last)
    return lambda pictures: module(pictures.contiguous(memory_format=torch.channels_last))
