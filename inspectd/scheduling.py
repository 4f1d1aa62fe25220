"""Linux's idle priority (SCHED_IDLE): for work that gives way to all other."""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

LOG = logging.getLogger(__name__)


def set_idle() -> None:
    """Have idle priority in the calling thread."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def set_usual(thread: int = 0) -> None:
    """Have the usual priority again in a thread, by its native id; 0: the calling one."""
    os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


@contextmanager
def at_idle_priority() -> Iterator[None]:
    """Have idle priority in the calling thread, where it may return from there.

    For what runs without the GIL: whoever needs that waits for a thread that holds it and gets no core.
    """
    if not _can_return():
        yield
        return
    set_idle()
    try:
        yield
    finally:
        set_usual()


def can_return() -> bool:
    """Try whether threads of this process may return from idle priority (`RLIMIT_NICE`).

    In a thread that is not needed any more: who may not return is caught.
    """
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        return False  # somebody has decided otherwise for this process
    refusals: list[OSError] = []

    def go_and_return() -> None:
        try:
            set_idle()
            set_usual()
        except OSError as error:
            refusals.append(error)

    trial = threading.Thread(target=go_and_return)
    trial.start()
    trial.join()
    if refusals:
        LOG.info("scoring does not give way to cameras and publisher (%s); RLIMIT_NICE of 20 lets it", refusals[0])
    return not refusals


_can_return = functools.cache(can_return)
