"""Streams and events of a GPU, as far as the engine needs them, and CUDA's own behind that interface.

Work on one stream is done in the order in which it was given; work on different streams is done in any order
that their events allow. The tests put streams in CUDA's place that use every freedom this leaves
(`tests/fakes/streams.py`), so that an event that is missing shows as a wrong score.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, cast

import torch
from torch import Tensor

LOG = logging.getLogger(__name__)
COMMON_POOL = (0, 0)
"""How torch calls the memory that everything may use."""
GRAPHS_POOL = (-1, -1)
"""Stands for any other, where torch does not say."""
WARM_UP_RUNS = 3
"""Before a capture: libraries choose their algorithms and take their workspaces in the first runs."""


class Event(Protocol):
    """A moment on a stream."""

    def wait(self) -> None:
        """Let the host wait until it has come."""


class Stream(Protocol):
    """A queue of work on the device."""

    def run(self, work: Callable[[], object]) -> None:
        """Queue what `work` does with tensors."""

    def record(self) -> Event:
        """Mark the moment when everything queued so far is done."""

    def wait(self, event: Event) -> None:
        """Let what is queued from now on wait for an event; the host goes on."""


class Device(Protocol):
    """A GPU."""

    torch_device: torch.device

    def stream(self) -> Stream:
        """Return a new stream."""

    def pinned(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return page-locked host memory."""

    def graph(self, stream: Stream, work: Callable[[], object]) -> Callable[[], object]:
        """Record what `work` does, once; the result does it again, on the same memory, in one launch."""

    def free_memory(self) -> int:
        """Return how many bytes of the device nobody has taken."""

    def synchronise(self) -> None:
        """Let the host wait for all that is queued."""

    def pin(self, address: int, size: int) -> Callable[[], None]:
        """Page-lock memory that exists already; call the result before it is unmapped."""


def free_memory_of(device: torch.device) -> int:
    """Return how many bytes of a GPU this process may still take, from the driver and from torch's own reserve."""
    free, _ = torch.cuda.mem_get_info(device)
    index = torch.cuda.current_device() if device.index is None else device.index
    return free + unused(torch.cuda.memory_snapshot(), index)  # type: ignore[no-untyped-call]


def unused(segments: Sequence[dict[str, Any]], device: int) -> int:
    """Return how many bytes torch holds on a GPU and does not use, but for what it keeps for captured graphs."""
    return sum(
        one["total_size"] - one["allocated_size"]
        for one in segments
        if one["device"] == device and tuple(one.get("segment_pool_id", GRAPHS_POOL)) == COMMON_POOL
    )


class CudaDevice:
    """An NVIDIA GPU through torch."""

    def __init__(self, device: torch.device) -> None:
        self.torch_device = device
        self._pool = torch.cuda.graph_pool_handle()  # graphs run one after the other: they share scratch memory
        # float32 means float32: TF32 keeps ten bits of the mantissa.
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
        # Sums of products stay in float32 where a long one is split over several units.
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False

    def stream(self) -> CudaStream:
        """Return a new stream."""
        return CudaStream(torch.cuda.Stream(self.torch_device))  # type: ignore[no-untyped-call]

    def pinned(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return page-locked host memory."""
        return torch.empty(*shape, dtype=dtype, pin_memory=True)

    def graph(self, stream: Stream, work: Callable[[], object]) -> Callable[[], object]:
        """Run `work` a few times, then capture it."""
        raw = cast("CudaStream", stream).raw
        with _fastest_convolutions():
            for _ in range(WARM_UP_RUNS):
                stream.run(work)
            raw.synchronize()
            graph = torch.cuda.CUDAGraph()
            # Only this thread's calls are part of the capture: cameras may page-lock their memory meanwhile.
            with torch.inference_mode(), torch.cuda.graph(graph, self._pool, raw, capture_error_mode="thread_local"):
                work()
        return graph.replay

    def free_memory(self) -> int:
        """Return what the driver has, and what torch holds and does not use."""
        return free_memory_of(self.torch_device)

    def synchronise(self) -> None:
        """Wait for all streams of the device."""
        torch.cuda.synchronize(self.torch_device)

    def pin(self, address: int, size: int) -> Callable[[], None]:
        """Register the memory with the driver; without that, copies work, but the host has a part in each."""
        runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
        with torch.cuda.device(self.torch_device):
            code = int(runtime.cudaHostRegister(address, size, 0))
        if code:
            LOG.warning("a camera's memory could not be page-locked (CUDA error %d): its copies are slower", code)
            return lambda: None

        def unpin() -> None:
            runtime.cudaHostUnregister(address)

        return unpin


@contextmanager
def _fastest_convolutions() -> Iterator[None]:
    """Let cuDNN try its algorithms on each new shape; not elsewhere: training must be the same twice."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


class CudaStream:
    """A stream of its own; work that is queued here never waits for the default stream."""

    def __init__(self, raw: torch.cuda.Stream) -> None:
        self.raw = raw

    def run(self, work: Callable[[], object]) -> None:
        """Queue kernels and copies."""
        with torch.inference_mode(), torch.cuda.stream(self.raw):
            work()

    def record(self) -> CudaEvent:
        """Mark a moment."""
        event = CudaEvent()
        event.raw.record(self.raw)
        return event

    def wait(self, event: Event) -> None:
        """Wait for a moment on another stream, on the device."""
        self.raw.wait_event(cast("CudaEvent", event).raw)


class CudaEvent:
    """A moment; a host that waits for it sleeps, and leaves its core to the cameras."""

    def __init__(self) -> None:
        self.raw = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]

    def wait(self) -> None:
        """Wait; errors of all work before it are raised here."""
        self.raw.synchronize()
