"""Scoring at idle priority: it gives way to the short work that brings pictures in and verdicts out."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOG = logging.getLogger(__name__)
PATIENCE_S = 0.25
"""Work of a small network that takes longer is not given a core."""
WAITING = 0.25
"""Of the time that scoring threads could run, the share that they may wait for a core."""
LEAST_S = 0.1
"""So much of that time is looked at together."""
PAUSE_S = 30.0
"""So long nobody gives way when the share was larger: other work, a calibration perhaps, is at idle priority too."""
TELL_EVERY_S = 3600.0


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
        self._pauses, self._next_told_s = 0, 0.0
        self._paused_until_s = 0.0
        self._seen: dict[int, tuple[float, float]] = {}
        """By native thread id, how long it ran and how long it waited for a core, when that was last judged."""

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
            if self._is_on and time.monotonic() >= self._paused_until_s:
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
            _sleep(PATIENCE_S / 2)
            with self._lock:
                oldest_s = min(self._began_s.values(), default=float("inf"))
                if time.monotonic() - oldest_s > PATIENCE_S:
                    self._end()
                elif self._waits_for_cores():
                    self._paused_until_s = time.monotonic() + PAUSE_S
                    self._seen.clear()
                    self._stop_giving_way()
                    self._pauses += 1
                    if time.monotonic() >= self._next_told_s:  # a busy machine pauses it again and again
                        self._next_told_s = time.monotonic() + TELL_EVERY_S
                        text = "scoring waits for cores: for %g s it does not give way to other work (%d times so far)"
                        LOG.info(text, PAUSE_S, self._pauses)

    def _waits_for_cores(self) -> bool:
        """Return whether the threads that score now have lately waited too much of the time that they could run."""
        now = {thread: times for thread in self._began_s if (times := _ran_and_waited_s(thread)) is not None}
        known = [(times, self._seen[thread]) for thread, times in now.items() if thread in self._seen]
        ran, waited = (sum(times[i] - before[i] for times, before in known) for i in (0, 1))
        self._seen |= {thread: times for thread, times in now.items() if thread not in self._seen}
        if ran + waited < LEAST_S:
            return False
        self._seen = now
        return waited > WAITING * (ran + waited)

    def _stop_giving_way(self) -> None:
        for thread in self._began_s:
            os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
        self._began_s.clear()

    def _end(self) -> None:
        self._is_on = False
        self._stop_giving_way()
        LOG.warning(
            "a picture is not scored after %g s: scoring does not give way to other work on this machine any more",
            PATIENCE_S,
        )


def _sleep(seconds: float) -> None:
    time.sleep(seconds)


def _ran_and_waited_s(thread: int) -> tuple[float, float] | None:
    """Return how long a thread of this process has run and has waited for a core (Linux: schedstat); None: unknown."""
    try:
        ran, waited, _ = Path(f"/proc/self/task/{thread}/schedstat").read_text().split()
    except (OSError, ValueError):
        return None
    return int(ran) / 1e9, int(waited) / 1e9


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
