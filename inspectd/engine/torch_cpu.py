"""torch on the CPU: needs nothing but torch."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import chain
from queue import SimpleQueue
from typing import cast

import torch
from torch import Tensor, nn

from inspectd.engine.backend import Floats, Form
from inspectd.engine.runtime import Head, Lap, Trunk, no_lap, tracks_for, usable_cores
from inspectd.simplenet.folded import FoldedHead
from inspectd.simplenet.fusing import fused

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TorchRuntime:
    """Runs trunks and heads with torch's own operators."""

    def __init__(self, precision: str, threads: int = 0) -> None:
        """`threads` 0: one for each core."""
        self.form = Form("cpu:torch", precision)
        self._dtype = DTYPES[precision]
        self._cores = usable_cores(threads)

    def compile(self, trunk: Trunk) -> TorchTrunk:
        """Fuse batch norms, and lay the weights out as a CPU's convolutions want them."""
        return TorchTrunk(trunk, self._dtype, tracks_for(trunk, self._cores))


class TorchTrunk:
    """One picture after the other in each call: on a CPU, batches save nothing and cost cache.

    A call takes as many cores as its thread leaves to torch (`torch.set_num_threads`).
    """

    def __init__(self, trunk: Trunk, dtype: torch.dtype, tracks: int) -> None:
        self.tracks = tracks
        self._dtype = dtype
        module = fused(trunk, torch.zeros(1, *trunk.input_shape))
        module = module.to(dtype).to(memory_format=torch.channels_last)
        self._idle: SimpleQueue[nn.Module] = SimpleQueue()
        for _ in range(tracks):  # a backbone notes its layers' features while it runs, so each track has its own
            self._idle.put(_sharing_weights(module))

    def add(self, head: FoldedHead) -> FoldedHead:
        """Put a head behind the trunk."""
        return head.like([weight.to(self._dtype) for weight in head.tensors])

    def score(self, inputs: Floats, heads: Sequence[Head], lap: Lap = no_lap) -> Floats:
        """Return raw patch scores [B, h, w] of normalised inputs [B, 3, H, W], each by its head."""
        with torch.inference_mode():
            scores = []
            for one, head in zip(inputs, heads, strict=True):
                scores.append(cast("FoldedHead", head).scores(self._pooled(one))[0])
                lap("network")
            return cast("Floats", torch.stack(scores).numpy())

    def run(self, inputs: Floats) -> None:
        """Pass inputs through the trunk, and drop what comes out."""
        with torch.inference_mode():
            for one in inputs:
                self._pooled(one)

    def _pooled(self, one: Floats) -> list[Tensor]:
        picture = torch.from_numpy(one)[None].to(self._dtype, memory_format=torch.channels_last)
        module = self._idle.get()
        try:
            return cast("list[Tensor]", module(picture))
        finally:
            self._idle.put(module)


def _sharing_weights(module: nn.Module) -> nn.Module:
    """Return a copy of a module with the very same parameters and buffers."""
    shared: dict[int, object] = {id(tensor): tensor for tensor in chain(module.parameters(), module.buffers())}
    return copy.deepcopy(module, shared)
