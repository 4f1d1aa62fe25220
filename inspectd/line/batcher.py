"""The batcher: what waits for an engine, camera by camera, and which of it goes next.

`latest` keeps one frame per camera and returns the older one; `every` keeps up to `capacity` and returns the one that
does not fit. A batch closes when it is full or its oldest frame has waited long enough, and takes from the cameras in
turn. Jobs of one camera are finished in the order in which they were taken, however many threads inspect them.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from inspectd.line.entries import Entry
from inspectd.line.looks import Case
from inspectd.line.recipe import Recipe
from inspectd.records import Finding, Frame

Policy = Literal["latest", "every"]


@dataclass(slots=True, eq=False)
class Job:
    """A frame that is to be inspected, the entry that it owes, and the recipe that it was admitted with."""

    frame: Frame
    entry: Entry
    recipe: Recipe
    finding: Finding | None = None
    """Of the inspection, once it is known."""
    is_finished: bool = False
    """Nothing more will be found; it is closed when all earlier jobs of its camera are."""
    queue: _Queue | None = None
    case: Case | None = None
    """Where its entry wants several looks, or one of a part that was found: what was found so far."""


@dataclass(slots=True, eq=False)
class _Queue:
    """One camera's jobs."""

    policy: Policy
    capacity: int
    waiting: deque[Job] = field(default_factory=deque)
    under_way: deque[Job] = field(default_factory=deque)
    closing: threading.Lock = field(default_factory=threading.Lock)

    def is_full_for(self, job: Job) -> bool:
        """Whether as many frames wait as may; parts of one frame hold one slot."""
        if len(self.waiting) < self.capacity:
            return False
        others = {waits.frame.stamp.frame for waits in self.waiting} - {job.frame.stamp.frame}
        return len(others) >= self.capacity


class Batcher:
    """Frames go in from any thread; the threads of one engine take them out."""

    def __init__(self, max_batch: int, batch_wait_ms: float, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._max_batch = max_batch
        self._wait_ns = int(batch_wait_ms * 1e6)
        self._clock = clock
        self._changed = threading.Condition()
        self._queues: dict[str, _Queue] = {}
        self._leaving: list[_Queue] = []
        """Of cameras that were removed: what was under way then is still to be finished."""
        self._turn = 0
        self._is_closed = False

    def add_camera(self, name: str, policy: Policy, capacity: int = 1) -> None:
        """Open a camera's queue; ValueError when it has one. `capacity`: how many frames of `every` may wait."""
        with self._changed:
            if name in self._queues:
                raise ValueError(f"camera {name} has a queue for its frames already; it is not opened twice")
            self._queues[name] = _Queue(policy, 1 if policy == "latest" else capacity)

    def remove_camera(self, name: str) -> list[Job]:
        """Close a camera's queue and return what was waiting; what is under way is finished as usual."""
        with self._changed:
            queue = self._queues.pop(name)
            waiting = list(queue.waiting)
            queue.waiting.clear()
            self._leaving = [*filter(lambda one: one.under_way, self._leaving), queue]
            return waiting

    def put(self, job: Job) -> Job | None:
        """Queue a job. Return the one that has to give way: the older (`latest`) or this one (`every`)."""
        with self._changed:
            queue = self._queues.get(job.entry.camera)
            if self._is_closed or queue is None:
                return job
            gives_way: Job | None = None
            if queue.is_full_for(job):
                if queue.policy == "every":
                    return job
                gives_way = queue.waiting.popleft()
            job.queue = queue
            queue.waiting.append(job)
            self._changed.notify()
            return gives_way

    def take(self, timeout_s: float) -> list[Job]:
        """Wait for a batch, oldest frames first within a camera; empty when none came in `timeout_s`.

        Each job that was taken must be given to `finish`.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._is_closed or self._waiting() > 0, timeout_s):
                return []
            while not self._is_closed and 0 < self._waiting() < self._full():
                left_ns = self._first_queued_ns() + self._wait_ns - self._clock()
                if left_ns <= 0:
                    break
                self._changed.wait(left_ns / 1e9)
            return [] if self._is_closed else self._collect()

    def finish(self, job: Job, close: Callable[[Job], None]) -> None:
        """Note that a job is done with, and `close` all that is at the head of its camera's jobs, in their order."""
        job.is_finished = True
        queue = job.queue
        if queue is None:
            raise ValueError(f"a frame of camera {job.entry.camera} was finished that had not been queued")
        with queue.closing:
            while queue.under_way and queue.under_way[0].is_finished:
                close(queue.under_way.popleft())

    @property
    def is_idle(self) -> bool:
        """Whether no job waits or is under way."""
        return not any(queue.waiting or queue.under_way for queue in tuple(self._queues.values()))

    def holds(self, recipe: Recipe) -> bool:
        """Whether a job that was admitted with this recipe waits or is under way."""
        with self._changed:
            queues = [*self._queues.values(), *self._leaving]
            jobs = [job for queue in queues for job in (*queue.waiting, *queue.under_way)]
        return any(job.recipe is recipe for job in jobs)

    def close(self) -> None:
        """Give out and accept nothing more; what waits stays until its camera is removed."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _waiting(self) -> int:
        return sum(len(queue.waiting) for queue in self._queues.values())

    def _full(self) -> int:
        """Return the size beyond which waiting brings nothing."""
        return min(self._max_batch, sum(queue.capacity for queue in self._queues.values()))

    def _first_queued_ns(self) -> int:
        return min(
            (queue.waiting[0].entry.queued_ns or 0 for queue in self._queues.values() if queue.waiting),
            default=0,
        )

    def _collect(self) -> list[Job]:
        batch: list[Job] = []
        queues = list(self._queues.values())
        while len(batch) < self._max_batch and self._waiting():
            queue = queues[self._turn % len(queues)]
            self._turn += 1
            if queue.waiting:
                job = queue.waiting.popleft()
                queue.under_way.append(job)
                batch.append(job)
        return batch
