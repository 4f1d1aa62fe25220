"""The engine: one thread that owns the device. Batches in, closed ledger entries out."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from inspectd.engine.batcher import Batcher, Job
from inspectd.engine.station import Flight, Request, Scorer
from inspectd.judge import judge
from inspectd.ledger import Ledger
from inspectd.records import Finding, Reason, fault

LOG = logging.getLogger(__name__)
IDLE_S = 0.25


@dataclass(frozen=True, slots=True)
class _Batch:
    """Jobs under way on the device."""

    jobs: list[Job]
    flight: Flight
    started_ns: int


def _release(jobs: list[Job]) -> None:
    for job in jobs:
        job.frame.release()


class Engine:
    """Takes batches, scores them, judges each picture and closes its entry."""

    def __init__(
        self,
        scorer: Scorer,
        batcher: Batcher,
        ledger: Ledger,
        *,
        progress: Callable[[], None] = lambda: None,
        on_lost: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._scorer = scorer
        self._batcher = batcher
        self._ledger = ledger
        self._progress = progress
        self._on_lost = on_lost
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Begin to take batches."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the batch at hand and take no other."""
        self._stop.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread; False when it is still busy (or hangs) after `timeout_s`."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        under_way: deque[_Batch] = deque()
        try:
            while not self._stop.is_set():
                self._progress()
                jobs = self._batcher.take(0 if under_way else IDLE_S)
                batch = self._begin(jobs)
                if batch is not None:
                    under_way.append(batch)
                if under_way and (batch is None or len(under_way) >= self._scorer.depth):
                    self._finish(under_way.popleft())
            while under_way:
                self._finish(under_way.popleft())
        except Exception as error:  # a thread's top: an engine that failed cannot be trusted any more
            for batch in under_way:
                _release(batch.jobs)
            LOG.exception("the engine failed")
            self._on_lost(f"the engine failed: {type(error).__name__}: {error}")

    def _begin(self, jobs: list[Job]) -> _Batch | None:
        """Hand a batch to the device; None when nothing of it is still wanted."""
        jobs = [job for job in jobs if self._is_wanted(job)]
        if not jobs:
            return None
        started_ns = time.monotonic_ns()
        try:
            requests = [Request(job.station.model, job.station.geometry, job.frame.picture) for job in jobs]
            return _Batch(jobs, self._scorer.submit(requests), started_ns)
        except BaseException:
            _release(jobs)
            raise

    def _finish(self, batch: _Batch) -> None:
        """Wait for a batch and judge it; the slots of its frames are given back as soon as they are scored."""
        sizes = [(job.frame.picture.shape[1], job.frame.picture.shape[0]) for job in batch.jobs]
        try:
            scores = batch.flight()
        finally:
            _release(batch.jobs)
        scored_ns = time.monotonic_ns()
        for job, size, patch_scores in zip(batch.jobs, sizes, scores, strict=True):
            finding = conclude(job, size, patch_scores)
            self._ledger.close(job.entry, replace(finding, started_ns=batch.started_ns, scored_ns=scored_ns))

    def _is_wanted(self, job: Job) -> bool:
        """A frame whose deadline has passed has its verdict already: scoring it would only delay others."""
        if job.entry.is_open:
            return True
        job.frame.release()
        return False


def conclude(job: Job, size: tuple[int, int], patch_scores: NDArray[np.float32]) -> Finding:
    """Return the finding for one scored picture of `size` (w, h)."""
    station = job.station
    area = station.geometry.area(*size)
    if station.standard is None:
        score = float(patch_scores.max())
        return fault(
            Reason.NO_THRESHOLD,
            "the model has no threshold: set the camera's `threshold`, or calibrate with inspectd",
            score=score if np.isfinite(score) else None,
            model=station.model.label,
            picture=size,
            roi=area,
        )
    return judge(patch_scores, station.standard, size, area)
