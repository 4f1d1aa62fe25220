"""Streams that do their work as late, and in as odd an order, as CUDA's rules allow.

Work is kept until the host waits for an event; then a random stream that may go on does its next piece, until
the event has come. Whatever no event orders happens in another order under another seed.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class FakeEvent:
    """Has come when its stream has worked up to it."""

    def __init__(self, device: FakeDevice) -> None:
        self._device = device
        self.has_come = False

    def wait(self) -> None:
        """Let the streams work until it has come."""
        while not self.has_come:
            self._device.step()


class FakeStream:
    """A queue of work, records and waits."""

    def __init__(self, device: FakeDevice) -> None:
        self._device = device
        self.queue: deque[Callable[[], object] | FakeEvent] = deque()

    def run(self, work: Callable[[], object]) -> None:
        """Keep work for later."""
        self.queue.append(work)

    def record(self) -> FakeEvent:
        """Mark a moment."""
        event = FakeEvent(self._device)
        self.queue.append(lambda: setattr(event, "has_come", True))
        return event

    def wait(self, event: FakeEvent) -> None:
        """Go no further before the event."""
        self.queue.append(event)

    @property
    def can_go_on(self) -> bool:
        """Whether there is a next piece of work, and nothing to wait for before it."""
        while self.queue and isinstance(self.queue[0], FakeEvent) and self.queue[0].has_come:
            self.queue.popleft()
        return bool(self.queue) and not isinstance(self.queue[0], FakeEvent)


class FakeDevice:
    """A device without one: a CPU, with CUDA's freedom."""

    torch_device = torch.device("cpu")

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self.streams: list[FakeStream] = []
        self.captures = 0
        self.allocations = 0
        """Of page-locked memory."""
        self.memory = 1 << 40

    def reseed(self, seed: int) -> None:
        """Let the streams take other turns from now on."""
        self._random.seed(seed)

    def stream(self) -> FakeStream:
        """Return a new stream; each has its own speed."""
        self.streams.append(FakeStream(self))
        return self.streams[-1]

    def pinned(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return host memory, full of what was there before."""
        self.allocations += 1
        return torch.full(tuple(shape), 77, dtype=dtype)

    def graph(self, stream: FakeStream, work: Callable[[], object]) -> Callable[[], object]:
        """Run it once, as a capture does."""
        del stream
        self.synchronise()
        with torch.inference_mode():
            work()
        self.captures += 1
        return work

    def free_memory(self) -> int:
        """Return what a test says."""
        return self.memory

    def synchronise(self) -> None:
        """Work off everything."""
        while any(stream.queue for stream in self.streams):
            self.step()

    def pin(self, address: int, size: int) -> Callable[[], None]:
        """Do nothing: it is a CPU's memory."""
        del address, size
        return lambda: None

    def step(self) -> None:
        """Let one stream do one piece of work."""
        ready = [stream for stream in self.streams if stream.can_go_on]
        assert ready, "the streams wait for each other, or for work that nobody queued"
        work = self._random.choice(ready).queue.popleft()
        assert not isinstance(work, FakeEvent)
        with torch.inference_mode():
            work()
