"""The batcher: what waits for the engine, camera by camera, and which of it goes next.

`latest` keeps one frame per camera and gives the older one back; `every` keeps up to `capacity` and gives
back the one that does not fit. A batch closes when it is full or its oldest frame has waited long enough,
and takes from the cameras in turn.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from inspectd.line.ledger import Entry
from inspectd.line.recipe import Station
from inspectd.records import Frame

Policy = Literal["latest", "every"]


@dataclass(slots=True)
class Job:
    """A frame on its way through the engine, with the promise that it keeps and what it is judged by."""

    frame: Frame
    entry: Entry
    station: Station


@dataclass(slots=True)
class _Lane:
    policy: Policy
    capacity: int
    waiting: deque[Job] = field(default_factory=deque)


class Batcher:
    """Frames go in from any thread; one engine takes them out."""

    def __init__(self, max_batch: int, batch_wait_ms: float, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._max_batch = max_batch
        self._wait_ns = int(batch_wait_ms * 1e6)
        self._clock = clock
        self._changed = threading.Condition()
        self._lanes: dict[str, _Lane] = {}
        self._turn = 0
        self._is_closed = False

    def add_camera(self, name: str, policy: Policy, capacity: int = 1) -> None:
        """Open a lane. `capacity`: how many frames of an `every` camera may wait."""
        with self._changed:
            self._lanes[name] = _Lane(policy, 1 if policy == "latest" else capacity)

    def put(self, job: Job) -> Job | None:
        """Queue a job. Return the one that has to give way: the older (`latest`) or this one (`every`)."""
        with self._changed:
            lane = self._lanes[job.entry.camera]
            gives_way: Job | None = None
            if self._is_closed:
                return job
            if len(lane.waiting) >= lane.capacity:
                if lane.policy == "every":
                    return job
                gives_way = lane.waiting.popleft()
            lane.waiting.append(job)
            self._changed.notify()
            return gives_way

    def take(self, timeout_s: float) -> list[Job]:
        """Wait for a batch, oldest frames first within a camera; empty when none came in `timeout_s`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._is_closed or self._waiting() > 0, timeout_s):
                return []
            while not self._is_closed and self._waiting() < self._full():
                left_ns = self._first_queued_ns() + self._wait_ns - self._clock()
                if left_ns <= 0:
                    break
                self._changed.wait(left_ns / 1e9)
            return self._collect()

    def close(self) -> list[Job]:
        """Take nothing more; return what was waiting."""
        with self._changed:
            self._is_closed = True
            left = [job for lane in self._lanes.values() for job in lane.waiting]
            for lane in self._lanes.values():
                lane.waiting.clear()
            self._changed.notify_all()
            return left

    def _waiting(self) -> int:
        return sum(len(lane.waiting) for lane in self._lanes.values())

    def _full(self) -> int:
        """Return the size beyond which waiting brings nothing."""
        return min(self._max_batch, sum(lane.capacity for lane in self._lanes.values()))

    def _first_queued_ns(self) -> int:
        return min(
            (lane.waiting[0].entry.queued_ns or 0 for lane in self._lanes.values() if lane.waiting),
            default=0,
        )

    def _collect(self) -> list[Job]:
        batch: list[Job] = []
        names = list(self._lanes)
        while len(batch) < self._max_batch and self._waiting():
            lane = self._lanes[names[self._turn % len(names)]]
            self._turn += 1
            if lane.waiting:
                batch.append(lane.waiting.popleft())
        return batch
