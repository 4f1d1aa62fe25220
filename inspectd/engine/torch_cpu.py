"""torch on the CPU: needs nothing but torch."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from queue import SimpleQueue
from typing import cast

import torch
from torch import Tensor, nn

from inspectd.engine.backend import Floats, Variant
from inspectd.engine.memory import Room
from inspectd.engine.runtime import Head, Trunk, tracks_for, usable_cores
from inspectd.simplenet.folded import FoldedHead
from inspectd.simplenet.fusing import fused

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TorchRuntime:
    """Runs trunks and heads with torch's own operators."""

    def __init__(self, precision: str, threads: int = 0) -> None:
        """`threads` 0: one for each core."""
        self.variant = Variant("cpu:torch", precision)
        self._dtype = DTYPES[precision]
        self._cores = usable_cores(threads)

    def room(self) -> Room:
        """Return what memory there is."""
        return Room.on_cpu()

    def compile(self, trunk: Trunk) -> TorchTrunk:
        """Fuse batch norms, and lay the weights out as a CPU's convolutions want them."""
        return TorchTrunk(trunk, self._dtype, tracks_for(trunk, self._cores), self._cores)


class TorchTrunk:
    """One picture after the other: on a CPU, batches save nothing and cost cache.

    A small network runs in the calling thread, on one core. A large one runs in a thread of its own, which has torch's
    helper threads on all cores: every thread that uses them would get others.
    """

    def __init__(self, trunk: Trunk, dtype: torch.dtype, tracks: int, cores: int) -> None:
        self.tracks = tracks
        self._dtype = dtype
        self._strips = trunk.strips
        module = fused(trunk, torch.zeros(1, *trunk.input_shape))
        module = module.to(dtype).to(memory_format=torch.channels_last)
        self._idle: SimpleQueue[nn.Module] = SimpleQueue()
        for _ in range(tracks):  # a backbone notes its layers' features while it runs, so each track has its own
            self._idle.put(sharing_weights(module))
        self._on_all_cores = ThreadPoolExecutor(1, "torch", torch.set_num_threads, (cores,)) if tracks == 1 else None

    def add(self, head: FoldedHead) -> FoldedHead:
        """Put a head behind the trunk."""
        return head.to(self._dtype)

    def score(self, inputs: Floats, heads: Sequence[Head]) -> Floats:
        """Return raw patch scores [B, h, w] of normalised inputs [B, 3, H, W], each by its head."""
        if self._on_all_cores is None:
            return self._score(inputs, heads)
        return self._on_all_cores.submit(self._score, inputs, heads).result()

    def _score(self, inputs: Floats, heads: Sequence[Head]) -> Floats:
        with torch.inference_mode():
            scores = [
                self._strips.pass_through(torch.from_numpy(one), partial(self._scored, cast("FoldedHead", head)))
                for one, head in zip(inputs, heads, strict=True)
            ]
            return cast("Floats", torch.stack(scores).numpy())

    def _scored(self, head: FoldedHead, one: Tensor) -> Tensor:
        """Return the scores [h, w] of a picture [3, H, W], or of a strip of it."""
        picture = one[None].to(self._dtype, memory_format=torch.channels_last)
        module = self._idle.get()
        try:
            pooled = cast("list[Tensor]", module(picture))
        finally:
            self._idle.put(module)
        return head.scores(pooled)[0]


def sharing_weights(module: nn.Module) -> nn.Module:
    """Return a copy of a module with the very same parameters and buffers."""
    shared: dict[int, object] = {id(tensor): tensor for tensor in chain(module.parameters(), module.buffers())}
    return copy.deepcopy(module, shared)
