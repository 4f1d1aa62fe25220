"""Inspection: jobs of the batcher are scored on one engine, judged, and their ledger entries closed.

As many threads as the engine scores batches at once. Each does everything for its batch, from taking the frames to
closing their entries, so that a frame changes threads as seldom as possible. A thread takes frames when it is free to
score them: the newest of that moment.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from inspectd.engine.backend import Floats, Request, Score, Scorer
from inspectd.line.batcher import Batcher, Job
from inspectd.line.judge import MAX_REGIONS, judge
from inspectd.line.ledger import Ledger
from inspectd.line.looks import Case
from inspectd.line.recipe import Area, Recipe
from inspectd.line.sinks import Sinks
from inspectd.records import AreaFinding, Finding, Outcome, Reason, fault

LOG = logging.getLogger(__name__)
IDLE_S = 0.25

SEVERITY = (Outcome.OK, Outcome.FAULT, Outcome.NG)
"""A defect that was found stays one, whatever could not be inspected beside it."""


class Inspection:
    """The threads of one engine. `start`, `stop` and `join` are called once each, from one thread."""

    def __init__(
        self,
        scorer: Scorer,
        batcher: Batcher,
        ledger: Ledger,
        sinks: Sinks,
        *,
        heartbeat: Callable[[str], Callable[[], None]] = lambda _: lambda: None,
        on_lost: Callable[[str], None] = lambda _: None,
        on_batch: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`heartbeat`: registers a thread by name, and returns what it calls as long as it is not stuck.

        `on_batch`: called with the number of pictures of each batch that was scored.
        """
        self._scorer = scorer
        self._batcher = batcher
        self._ledger = ledger
        self._sinks = sinks
        self._on_lost = on_lost
        self._on_batch = on_batch
        self._stop = threading.Event()
        names = [f"inspection {i + 1}" for i in range(scorer.depth)]
        self._threads = [
            threading.Thread(target=self._run, args=[heartbeat(name)], name=name, daemon=True) for name in names
        ]

    def start(self) -> None:
        """Begin to take batches."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish the batches under way and take no other."""
        self._stop.set()
        self._batcher.close()

    def join(self, timeout_s: float) -> bool:
        """Wait for the threads; False when one is still busy (or hangs) after `timeout_s`."""
        give_up_s = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, give_up_s - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self, beat: Callable[[], None]) -> None:
        try:
            with self._scorer.seat() as score:
                while not self._stop.is_set():
                    beat()
                    jobs = self._batcher.take(IDLE_S)
                    if jobs:
                        self.inspect(jobs, score)
        except Exception as error:  # a thread's top: an engine that failed cannot be trusted any more
            LOG.exception("the engine failed")
            self.stop()
            self._on_lost(f"the engine failed: {type(error).__name__}: {error}")

    def inspect(self, jobs: Sequence[Job], score: Score) -> None:
        """Score and judge a batch that was taken, and close its entries; each frame is held until then."""
        # A frame whose deadline has passed has its verdict already: to score it would only delay others.
        wanted = [job for job in jobs if job.entry.is_open]
        try:
            if wanted:
                self._find(wanted, score)
        finally:
            for job in jobs:
                self._batcher.finish(job, self._close)

    def _find(self, jobs: Sequence[Job], score: Score) -> None:
        """Note the finding of each job."""
        started_ns = time.monotonic_ns()
        areas = [(job, area) for job in jobs for area in job.recipe.areas]
        scores = iter(score([Request(area.model, area.geometry, job.frame.picture) for job, area in areas]))
        scored_ns = time.monotonic_ns()
        self._on_batch(len(areas))
        for job in jobs:
            height, width = job.frame.picture.shape[:2]
            finding = conclude(job.recipe, (width, height), [next(scores) for _ in job.recipe.areas])
            if job.frame.place is not None:
                height, width = job.frame.whole.shape[:2]
                finding = finding.moved(*job.frame.place[:2], (width, height))
            job.finding = replace(finding, started_ns=started_ns, scored_ns=scored_ns)

    def _close(self, job: Job) -> None:
        """Close a job's entry; a job without a finding keeps it open, or has lost it to the deadline."""
        if job.case is not None:
            self._close_look(job, job.case)
            return
        if job.finding is not None:
            self._ledger.close(job.entry, job.finding)
        self._sinks.finish(job.frame, job.entry.verdict)

    def _close_look(self, job: Job, case: Case) -> None:
        frame = job.frame
        if job.finding is not None:
            decided = case.add(frame, job.finding)
            if decided is None:
                return
            finding, frame = decided
            self._ledger.close(job.entry, finding, frame.stamp)
        self._sinks.finish_look(frame, job.entry.verdict)


def conclude(recipe: Recipe, size: tuple[int, int], scores: Iterable[Floats]) -> Finding:
    """Return the finding on a picture of `size` (w, h) from the patch scores [h, w] of each of the recipe's areas."""
    found = [(area, _judge(area, size, one)) for area, one in zip(recipe.areas, scores, strict=True)]
    if len(found) == 1:
        return found[0][1]
    found.sort(key=_severity, reverse=True)
    regions = [(_excess(area, region.score), region) for area, finding in found for region in finding.regions]
    regions.sort(key=lambda one: -one[0])  # scores of two models cannot be compared
    each = tuple(AreaFinding(area.name or "", finding) for area, finding in found)
    return replace(found[0][1], regions=tuple(region for _, region in regions[:MAX_REGIONS]), areas=each)


def _severity(found: tuple[Area, Finding]) -> tuple[int, float]:
    area, finding = found
    return SEVERITY.index(finding.outcome), _excess(area, finding.score)


def _excess(area: Area, score: float | None) -> float:
    return area.criterion.excess(score) if area.criterion is not None and score is not None else 0.0


def _judge(area: Area, size: tuple[int, int], patch_scores: Floats) -> Finding:
    rectangle = area.geometry.area(*size)
    grid = (patch_scores.shape[0], patch_scores.shape[1])
    seen = area.ignored.seen(rectangle, grid, size) if area.ignored is not None else None
    if area.criterion is not None:
        form = str(area.parity.variant) if area.parity is not None else None
        return replace(judge(patch_scores, area.criterion, size, rectangle, seen), form=form)
    score = float(patch_scores.max() if seen is None else patch_scores.max(where=seen, initial=-np.inf))
    return fault(
        Reason.NO_THRESHOLD,
        "the model has no threshold: set the camera's `threshold`, or calibrate with inspectd",
        score=score if np.isfinite(score) else None,
        model=area.model.label,
        picture=size,
        roi=rectangle,
    )
