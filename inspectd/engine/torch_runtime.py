"""torch on the CPU or a GPU: needs nothing but torch, and is the reference for the other programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch

from inspectd.engine.runtime import Floats, Form, Head, Trunk
from inspectd.simplenet.folded import FoldedHead
from inspectd.simplenet.fusing import fused

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TorchRuntime:
    """Runs trunks and heads with torch's own operators."""

    def __init__(self, device: torch.device, precision: str) -> None:
        self.form = Form("cpu:torch" if device.type == "cpu" else str(device), precision)
        self._device = device
        self._dtype = DTYPES[precision]
        if device.type == "cuda":  # float32 means float32: TF32 keeps ten bits of the mantissa
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cuda.matmul.allow_tf32 = False

    def compile(self, trunk: Trunk) -> TorchTrunk:
        """Fuse batch norms, and lay the weights out as the device's convolutions want them."""
        return TorchTrunk(trunk, self._device, self._dtype)


class TorchTrunk:
    """One picture after the other: on a CPU, batches save nothing and cost cache."""

    def __init__(self, trunk: Trunk, device: torch.device, dtype: torch.dtype) -> None:
        self._device, self._dtype = device, dtype
        module = fused(trunk, torch.zeros(1, *trunk.input_shape))
        self._module = module.to(device, dtype).to(memory_format=torch.channels_last)

    def add(self, head: FoldedHead) -> FoldedHead:
        """Put a head behind the trunk."""
        return head.to(self._device, self._dtype)

    def score(self, inputs: Floats, heads: Sequence[Head]) -> Floats:
        """Return raw patch scores [B, h, w] of normalised inputs [B, 3, H, W], each by its head."""
        with torch.inference_mode():
            scores = []
            for one, head in zip(inputs, heads, strict=True):
                picture = torch.from_numpy(one)[None].to(self._device, self._dtype, memory_format=torch.channels_last)
                scores.append(cast("FoldedHead", head)(self._module(picture))[0].float())
            return cast("Floats", torch.stack(scores).cpu().numpy())  # the host waits for the device here
