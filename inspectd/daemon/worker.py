"""A thread that does what requests ask for and the control socket must not wait for: one thing after the other."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, NoReturn

from inspectd.errors import InspectdError
from inspectd.history.database import JournalError
from inspectd.wire.control import Answer
from inspectd.wire.requests import RefusedError

LOG = logging.getLogger(__name__)

MOST_WAITING = 16
STOP_S = 2.0


class Reply(NamedTuple):
    """What a request gets: a result, and further parts."""

    result: Any
    parts: Sequence[bytes] = ()


class Worker:
    """Does work in the order in which it was given."""

    def __init__(self, name: str) -> None:
        self._jobs: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what is under way, if that takes no longer than two seconds, and begin nothing more."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(STOP_S)

    def answer(self, answer: Answer, work: Callable[[], Reply], afterwards: Callable[[], None] = lambda: None) -> None:
        """Answer a request with what `work` returns or raises; `afterwards` is done in any case, when it is on its way.

        RefusedError: too much waits already.
        """

        def do() -> None:
            try:
                reply = work()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
                answer.soon(partial(_refuse, error))
            else:
                answer.soon(lambda: answer.reply(*reply))
            afterwards()

        with self._changed:
            if len(self._jobs) >= MOST_WAITING:
                raise RefusedError("busy", f"{MOST_WAITING} requests wait already; ask again in a moment.")
            self._jobs.append(do)
            self._changed.notify_all()

    def do(self, work: Callable[[], None]) -> None:
        """Do something that nobody waits for, when its turn has come."""
        with self._changed:
            self._jobs.append(work)
            self._changed.notify_all()

    def _run(self) -> None:
        while (work := self._next()) is not None:
            try:
                work()
            except Exception:  # what failed must not keep the rest from being done
                LOG.exception("what a request asked for failed")

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_stopped or self._jobs)
            return None if self._is_stopped else self._jobs.popleft()


def _refuse(error: Exception) -> NoReturn:
    """Raise an error as the refusal that it is; others are told in the log (`Answer.attempt`)."""
    if isinstance(error, JournalError):
        raise RefusedError("journal", str(error)) from error
    if isinstance(error, InspectdError):
        raise RefusedError("failed", str(error)) from error
    raise error
