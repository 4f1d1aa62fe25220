"""Threads that score, each on one core; they give way to the short work that brings pictures in and verdicts out."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import torch

LOG = logging.getLogger(__name__)
PATIENCE_S = 0.25
"""Work that takes longer is either very large or is not given a core."""

T = TypeVar("T")


class Helpers:
    """A pool of threads in which torch starts no others.

    A thread that scores is busy for milliseconds. Linux may leave a camera or the publisher waiting behind it for 4 ms
    where they need microseconds, and may put two such threads on one core while another is idle; under SCHED_IDLE
    it does neither. But a thread under SCHED_IDLE gets next to nothing beside a program of the same session or service
    that wants all cores for itself: as soon as work is not done in time, the threads stop giving way, for good. Where
    the process may not undo it (`RLIMIT_NICE`), they do not begin.
    """

    def __init__(self, count: int) -> None:
        self._threads: list[int] = []
        self._lock = threading.Lock()
        self._gives_way = _can_give_way_and_return()
        self._pool = self._start(count)

    def submit(self, work: Callable[..., T], *args: Any) -> Callable[[], T]:
        """Begin work; the result waits for what it returns."""
        future = self._pool.submit(work, *args)
        return lambda: self._result(future)

    def map(self, work: Callable[[Any], T], items: Iterable[Any]) -> list[T]:
        """Do work on each item, side by side."""
        begun = [self.submit(work, item) for item in items]
        return [finish() for finish in begun]

    def _result(self, future: Future[T]) -> T:
        if self._gives_way:
            try:
                return future.result(PATIENCE_S)
            except TimeoutError:
                if not future.done():
                    self._insist()
        return future.result()

    def _insist(self) -> None:
        with self._lock:
            if not self._gives_way:
                return
            self._gives_way = False
            for thread in self._threads:
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
        LOG.warning(
            "a picture is not scored after %g s: scoring does not give way to other work on this machine any more",
            PATIENCE_S,
        )

    def _start(self, count: int) -> ThreadPoolExecutor:
        """Return a pool whose threads all run.

        torch's own threads go on spinning for a while after each operation, on cores that the network needs next:
        with them a small network behind OpenVINO took twice as long.
        """
        threads = torch.get_num_threads()
        all_here = threading.Barrier(count + 1)

        def begin() -> None:
            torch.set_num_threads(1)  # of this thread, and of threads that are yet to use torch
            torch.get_num_threads()  # from here on this thread's number is its own
            self._threads.append(threading.get_native_id())
            if self._gives_way:
                os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            all_here.wait()

        pool = ThreadPoolExecutor(count, "scoring", initializer=begin)
        for _ in range(count):
            pool.submit(int)
        all_here.wait()
        torch.set_num_threads(threads)
        return pool


def _can_give_way_and_return() -> bool:
    """Try it, in a thread that is not needed any more: who may not return is caught."""
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        return False  # somebody has decided otherwise for this process
    refusals: list[OSError] = []

    def go_and_return() -> None:
        try:
            for policy in (os.SCHED_IDLE, os.SCHED_OTHER):
                os.sched_setscheduler(0, policy, os.sched_param(0))
        except OSError as error:
            refusals.append(error)

    trial = threading.Thread(target=go_and_return)
    trial.start()
    trial.join()
    if refusals:
        LOG.info("scoring does not give way to cameras and publisher (%s); RLIMIT_NICE of 20 lets it", refusals[0])
    return not refusals
