"""The engine: batches in, closed ledger entries out.

Two threads: one begins batches, the other waits for them and judges. A frame that comes while the device works
is on its way at once (uploaded, resized), up to the number of batches that the backend takes at a time.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from inspectd.engine.backend import Flight, Request, Scorer
from inspectd.line.batcher import Batcher, Job
from inspectd.line.judge import judge
from inspectd.line.ledger import Ledger
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
        beginning: Callable[[], None] = lambda: None,
        landing: Callable[[], None] = lambda: None,
        on_lost: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`beginning`, `landing`: called again and again by each thread, as long as it is not stuck."""
        self._scorer = scorer
        self._batcher = batcher
        self._ledger = ledger
        self._beat_beginning, self._beat_landing = beginning, landing
        self._on_lost = on_lost
        self._stop = threading.Event()
        self._places = threading.Semaphore(scorer.depth)
        self._under_way: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._threads = (
            threading.Thread(target=self._begin_batches, name="engine", daemon=True),
            threading.Thread(target=self._land_batches, name="landing", daemon=True),
        )

    def start(self) -> None:
        """Begin to take batches."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish the batches under way and take no other."""
        self._stop.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the threads; False when one is still busy (or hangs) after `timeout_s`."""
        give_up_s = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, give_up_s - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _begin_batches(self) -> None:
        try:
            while not self._stop.is_set():
                self._beat_beginning()
                # First a place, then the frames: the newest at the moment when there is something to do with them.
                if not self._places.acquire(timeout=IDLE_S):
                    continue
                batch = self._begin(self._batcher.take(IDLE_S))
                if batch is None:
                    self._places.release()
                else:
                    self._under_way.put(batch)
        except Exception as error:  # a thread's top: an engine that failed cannot be trusted any more
            LOG.exception("the engine failed")
            self._fail(error)
        finally:
            self._under_way.put(None)

    def _land_batches(self) -> None:
        has_failed = False
        while True:
            self._beat_landing()
            try:
                batch = self._under_way.get(timeout=IDLE_S)
            except queue.Empty:
                continue
            if batch is None:
                break
            if has_failed:
                _release(batch.jobs)
                continue
            try:
                self._finish(batch)
            except Exception as error:  # a thread's top, too
                LOG.exception("the engine failed")
                has_failed = True
                self._fail(error)
            self._places.release()

    def _fail(self, error: Exception) -> None:
        self._stop.set()
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
        """Wait for a batch and judge it. Each frame is held until its verdict is out."""
        try:
            scores = batch.flight()
            scored_ns = time.monotonic_ns()
            for job, patch_scores in zip(batch.jobs, scores, strict=True):
                height, width = job.frame.picture.shape[:2]
                finding = conclude(job, (width, height), patch_scores)
                self._ledger.close(job.entry, replace(finding, started_ns=batch.started_ns, scored_ns=scored_ns))
        finally:
            _release(batch.jobs)

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
