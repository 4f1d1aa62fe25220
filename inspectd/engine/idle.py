"""Scoring at idle priority: it gives way to the short work that brings pictures in and verdicts out."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

LOG = logging.getLogger(__name__)
PATIENCE_S = 0.25
"""Work of a small network that takes longer is not given a core."""


class IdlePriority:
    """Lets threads score under SCHED_IDLE, as long as that does not cost them their core.

    A thread that scores is busy for milliseconds. Linux may leave a camera or the publisher waiting behind it for 4 ms
    where they need microseconds, and may put two such threads on one core while another is idle; under SCHED_IDLE it
    does neither. But a thread under SCHED_IDLE gets next to nothing beside a program of the same session or service
    that wants all cores for itself: as soon as work is not done in time, nobody gives way any more, for good. Where
    the process may not undo it (`RLIMIT_NICE`), nobody begins.
    """

    def __init__(self) -> None:
        self._is_on = _can_return()
        self._began_s: dict[int, float] = {}
        """By native thread id, since when it has been at idle priority."""
        self._lock = threading.Lock()
        self._is_watched = False

    @contextmanager
    def scoring(self) -> Iterator[None]:
        """Have idle priority in the calling thread."""
        if not self._is_on:
            yield
            return
        thread = threading.get_native_id()
        with self._lock:
            if not self._is_watched:
                self._is_watched = True
                threading.Thread(target=self._watch, name="idle priority", daemon=True).start()
            if self._is_on:
                os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
                self._began_s[thread] = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                if self._began_s.pop(thread, None) is not None:
                    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))

    def _watch(self) -> None:
        while self._is_on:
            time.sleep(PATIENCE_S / 2)
            with self._lock:
                oldest_s = min(self._began_s.values(), default=float("inf"))
                if time.monotonic() - oldest_s > PATIENCE_S:
                    self._end()

    def _end(self) -> None:
        self._is_on = False
        for thread in self._began_s:
            os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
        self._began_s.clear()
        LOG.warning(
            "a picture is not scored after %g s: scoring does not give way to other work on this machine any more",
            PATIENCE_S,
        )


def _can_return() -> bool:
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
