"""torch on the CPU: needs nothing but torch."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from inspectd.engine.runtime import Floats, Form, Head, Lap, Trunk, no_lap
from inspectd.simplenet.folded import FoldedHead
from inspectd.simplenet.fusing import fused

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TorchRuntime:
    """Runs trunks and heads with torch's own operators."""

    def __init__(self, precision: str) -> None:
        self.form = Form("cpu:torch", precision)
        self._dtype = DTYPES[precision]

    def compile(self, trunk: Trunk) -> TorchTrunk:
        """Fuse batch norms, and lay the weights out as a CPU's convolutions want them."""
        return TorchTrunk(trunk, self._dtype)


class TorchTrunk:
    """One picture after the other: on a CPU, batches save nothing and cost cache."""

    def __init__(self, trunk: Trunk, dtype: torch.dtype) -> None:
        self._dtype = dtype
        module = fused(trunk, torch.zeros(1, *trunk.input_shape))
        self._module = module.to(dtype).to(memory_format=torch.channels_last)
        self._one_at_a_time = threading.Lock()

    def add(self, head: FoldedHead) -> FoldedHead:
        """Put a head behind the trunk."""
        return head.like([weight.to(self._dtype) for weight in head.tensors])

    def score(self, inputs: Floats, heads: Sequence[Head], lap: Lap = no_lap) -> Floats:
        """Return raw patch scores [B, h, w] of normalised inputs [B, 3, H, W], each by its head."""
        with torch.inference_mode():
            scores = []
            for one, head in zip(inputs, heads, strict=True):
                pooled = self._pooled(one)
                lap("backbone")
                scores.append(cast("FoldedHead", head).scores(pooled)[0])
                lap("head")
            return cast("Floats", torch.stack(scores).numpy())

    def run(self, inputs: Floats) -> None:
        """Pass inputs through the trunk, and drop what comes out."""
        with torch.inference_mode():
            for one in inputs:
                self._pooled(one)

    def _pooled(self, one: Floats) -> list[Tensor]:
        picture = torch.from_numpy(one)[None].to(self._dtype, memory_format=torch.channels_last)
        with self._one_at_a_time:  # a backbone notes its layers' features while it runs
            return cast("list[Tensor]", self._module(picture))
