"""Networks on a GPU: trunks and heads in captured graphs, one per batch size, with many heads in one pass.

Everything here is queued on one stream, the compute stream, and so happens in order.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from inspectd.engine.backend import Floats, Variant
from inspectd.engine.gpu.streams import Device, Event, Stream
from inspectd.engine.memory import Room, free_memory
from inspectd.engine.runtime import Head, Trunk
from inspectd.engine.torch_cpu import DTYPES
from inspectd.errors import UsageError
from inspectd.simplenet.folded import FoldedHead
from inspectd.simplenet.fusing import fused

LOG = logging.getLogger(__name__)
CAPACITIES = (1, 4, 16, 64, 256, 1024, 4096)
"""Sizes of a bank of heads: it grows seldom, because its graphs must be captured again when it does."""


class BatchLimit:
    """The largest batch that the device's memory holds; powers of two below it have a graph of their own."""

    def __init__(self, largest: int) -> None:
        self.largest = largest

    @property
    def sizes(self) -> list[int]:
        """The batch sizes that are captured, ascending."""
        sizes = [1]
        while sizes[-1] * 2 < self.largest:
            sizes.append(sizes[-1] * 2)
        return sizes if self.largest in sizes else [*sizes, self.largest]

    def fitting(self, count: int) -> int:
        """Return the smallest captured size that holds `count` pictures."""
        return next(size for size in self.sizes if size >= count)

    def halve(self, what: str) -> None:
        """Take smaller batches from now on, and say so; UsageError when one picture is too much."""
        if self.largest == 1:
            raise UsageError(
                f"The GPU's memory does not suffice for one picture at a time: {what}. Use a smaller --imagesize or "
                "backbone, fewer models, or another device."
            )
        self.largest //= 2
        LOG.warning("the GPU's memory does not suffice: %s. Batches hold at most %d from now on.", what, self.largest)


class CudaRuntime:
    """Runs trunks and heads in one precision on one GPU."""

    def __init__(self, device: Device, precision: str, limit: BatchLimit, compute: Stream) -> None:
        self.variant = Variant(str(device.torch_device), precision)
        self.device = device
        self.dtype = DTYPES[precision]
        self.limit = limit
        self.compute = compute

    def room(self) -> Room:
        """Return what memory there is: on the device, and for one pass of what goes through at once on the CPU."""
        values = min(self.device.free_memory() // self.dtype.itemsize, free_memory() // 4)
        return Room(values * self.dtype.itemsize, self.dtype.itemsize)

    def compile(self, trunk: Trunk) -> CudaTrunk:
        """Fuse batch norms, and bring the weights onto the device in the layout of its matrix units."""
        return CudaTrunk(trunk, self)


@dataclass(slots=True, weakref_slot=True, eq=False)
class CudaHead:
    """A row of a bank; it is free for another head when nobody holds this object."""

    bank: HeadBank
    row: int


@dataclass(slots=True, eq=False)
class Graph:
    """One captured batch size. Its tensors stay where they are: others copy into and out of them."""

    inputs: Tensor
    """Normalised pictures [B, 3, H, W]."""
    rows: Tensor
    """Which row of the bank scores which picture, int64 [B]."""
    scores: Tensor
    """Raw patch scores, float32 [B, h, w]."""
    replay: Callable[[], object]
    downloaded: Event | None = None
    """When the last scores were copied away, and may be overwritten."""

    def run(self, compute: Stream) -> None:
        """Queue a pass over what lies in `inputs` and `rows`."""
        if self.downloaded is not None:
            compute.wait(self.downloaded)
        compute.run(self.replay)


class CudaTrunk:
    """A trunk and the banks of heads behind it."""

    tracks = 1

    def __init__(self, trunk: Trunk, runtime: CudaRuntime) -> None:
        self.input_shape = trunk.strips.picture
        self.grid = trunk.strips.whole_grid(trunk.grids[0])
        self._strips = trunk.strips
        self._runtime = runtime
        module = fused(trunk, torch.zeros(1, *trunk.input_shape))
        target = runtime.device.torch_device
        self._module = module.to(target, runtime.dtype).to(memory_format=torch.channels_last)
        self._banks: dict[Hashable, HeadBank] = {}

    def add(self, head: FoldedHead) -> CudaHead:
        """Put a head into the bank of its kind."""
        if head.kind not in self._banks:
            self._banks[head.kind] = HeadBank(head, self._runtime)
        bank = self._banks[head.kind]
        row = bank.add(head)
        ours = CudaHead(bank, row)
        weakref.finalize(ours, bank.free, row)
        return ours

    def score(self, inputs: Floats, heads: Sequence[Head]) -> Floats:
        """Return raw patch scores [B, h, w] of normalised inputs [B, 3, H, W], each by its head."""
        found = np.empty((len(inputs), *self.grid), np.float32)
        ours, begin = cast("Sequence[CudaHead]", heads), 0
        while begin < len(inputs):
            bank, count = ours[begin].bank, 1
            while (
                begin + count < len(ours) and ours[begin + count].bank is bank and count < self._runtime.limit.largest
            ):
                count += 1
            graph = self.graph(bank, count)
            end = begin + min(count, len(graph.rows))
            found[begin:end] = self._pass(graph, inputs[begin:end], [head.row for head in ours[begin:end]])
            begin = end
        return found

    def _pass(self, graph: Graph, inputs: Floats, rows: Sequence[int]) -> Floats:
        """Run one batch and wait for it: for calibration and `predict`, where nothing else is under way."""
        compute, count = self._runtime.compute, len(inputs)
        pictures, indices = torch.from_numpy(inputs), torch.tensor(rows)
        scores = torch.empty(count, *self.grid)
        compute.run(lambda: (graph.inputs[:count].copy_(pictures), graph.rows[:count].copy_(indices)))
        graph.run(compute)
        compute.run(lambda: scores.copy_(graph.scores[:count]))
        compute.record().wait()
        return cast("Floats", scores.numpy())

    def graph(self, bank: HeadBank, count: int) -> Graph:
        """Return the graph for `count` pictures or the most that fit; captured when it is asked for first."""
        limit = self._runtime.limit
        while True:
            size = limit.fitting(min(count, limit.largest))
            try:
                if size not in bank.graphs:
                    bank.graphs[size] = self._capture(bank, size)
                return bank.graphs[size]
            except torch.cuda.OutOfMemoryError:
                limit.halve(f"a batch of {size} of {self.input_shape[2]}x{self.input_shape[1]} does not fit")
            torch.cuda.empty_cache()  # outside the handler: the error holds what did not fit

    def _capture(self, bank: HeadBank, size: int) -> Graph:
        runtime, target = self._runtime, self._runtime.device.torch_device
        inputs = torch.zeros(size, *self.input_shape, dtype=runtime.dtype, device=target)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        rows = torch.zeros(size, dtype=torch.int64, device=target)
        scores = torch.zeros(size, *self.grid, device=target)
        runtime.device.synchronise()  # the zeros were written on another stream

        def work() -> None:
            scores.copy_(self._strips.pass_through(inputs, lambda some: bank(self._module(some), rows)))

        return Graph(inputs, rows, scores, runtime.device.graph(runtime.compute, work))


class HeadBank:
    """Heads of one shape in stacked matrices; each picture of a batch is scored by the row that it names."""

    def __init__(self, head: FoldedHead, runtime: CudaRuntime) -> None:
        self.graphs: dict[int, Graph] = {}
        self._runtime = runtime
        typed = head.to(runtime.dtype)
        self._stacks = typed.like([self._stack(weight, CAPACITIES[0]) for weight in typed.tensors])
        self._free = list(range(CAPACITIES[0]))

    def add(self, head: FoldedHead) -> int:
        """Copy a head into a free row, and return the row."""
        if not self._free:
            self._grow()
        row = self._free.pop(0)

        def write() -> None:
            for stack, weight in zip(self._stacks.tensors, head.tensors, strict=True):
                stack[row].copy_(weight)

        self._runtime.compute.run(write)  # behind every batch that still reads the row's last head
        self._runtime.compute.record().wait()
        return row

    def free(self, row: int) -> None:
        """Let another head have the row."""
        self._free.append(row)

    def _grow(self) -> None:
        """Take the next capacity; graphs hold the old matrices and are captured again."""
        self._runtime.device.synchronise()
        old = len(self._stacks.bias)
        new = next(capacity for capacity in CAPACITIES if capacity > old)
        self.graphs.clear()
        grown = self._stacks.like([self._stack(stack[0], new) for stack in self._stacks.tensors])
        for stack, larger in zip(self._stacks.tensors, grown.tensors, strict=True):
            larger[:old].copy_(stack)
        self._stacks = grown
        self._free += range(old, new)
        self._runtime.device.synchronise()

    def _stack(self, like: Tensor, capacity: int) -> Tensor:
        target = self._runtime.device.torch_device
        return torch.zeros(capacity, *like.shape, dtype=like.dtype, device=target)

    def __call__(self, pooled: Sequence[Tensor], rows: Tensor) -> Tensor:
        """Return float32 scores [B, h, w] of pooled maps [B, n_l, h_l, w_l], each by the row that it names."""

        def linear(x: Tensor, matrices: Tensor, biases: Tensor | None) -> Tensor:
            patches = x.permute(0, 2, 3, 1).flatten(1, 2)  # [B, h·w, n]; a view where the maps are channels-last
            if len(matrices) == 1:  # a single head needs no copies of itself
                z = F.linear(patches, matrices[0])
            else:
                z = torch.bmm(patches, matrices.index_select(0, rows).transpose(1, 2))
            if biases is not None:
                z = z + biases.index_select(0, rows)[:, None]
            return z.view(len(x), *x.shape[-2:], -1).permute(0, 3, 1, 2)  # [B, o, h, w]

        return self._stacks.scores(pooled, linear)
