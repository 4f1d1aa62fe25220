"""The journal: what was published and what was changed, written by one thread that nobody waits for.

Verdicts are put down where they are published and written ten times a second, all in one transaction. A process that is
killed loses what came since the last one; a machine that loses its power, a little more, but no change that was
answered for. While the file cannot be written, verdicts wait in memory as far as there is room for them; what is lost
beyond that is counted, and named in the audit as soon as something can be written again.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from inspectd.errors import InspectdError
from inspectd.history import database
from inspectd.history.audit import Head, Row
from inspectd.history.database import JournalError
from inspectd.history.file import Identity, JournalFile, Limits, Said, identity_of
from inspectd.logs import EVIDENCE
from inspectd.wire.messages import rfc3339
from inspectd.wire.results import AuditChange

LOG = logging.getLogger(__name__)

COMMIT_S = 0.1
MOST_NOTES = 1_000
"""Changes that may wait for a file that cannot be written."""
RETRY_S = 1.0
"""After a failure; a change that somebody waits for is tried at once."""
SLOW_S = 1.0
"""A transaction that takes longer is told of."""
MOST_WAITING_BYTES = 24_000_000
"""Of headers that wait for the file: some 30,000 verdicts."""
MOST_AT_ONCE = 5_000
"""Verdicts in one transaction."""
HEAD_EVERY_S = 86_400.0
SAY_EVERY_S = 60.0
STOP_S = 2.0


@dataclass(frozen=True, slots=True)
class JournalHealth:
    """How the journal is."""

    detail: str | None
    """What is wrong, one sentence; None: nothing."""
    written: int
    waiting: int
    lost: dict[str, int]
    """By camera, verdicts that could not be kept."""


@dataclass(slots=True, eq=False)
class _Order:
    """Something that somebody waits for: a change, or (None) that all before it is written."""

    change: AuditChange | None
    done: Future[Row | None] = field(default_factory=Future)
    given_up: str | None = None
    """Why nobody waits for it any more."""


@dataclass(slots=True)
class _Lost:
    """Verdicts of one camera that could not be kept, since that was last written down."""

    first: int
    last: int
    count: int


class Journal:
    """One epoch of one daemon. `put` never waits; `flush` and `record` wait for the file."""

    def __init__(
        self,
        path: Path | None,
        epoch: str,
        limits: Limits,
        *,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """`path` None: nothing is kept. `now_ns`: the wall clock."""
        self.path = path
        self._epoch = epoch
        self._limits = limits
        self._now_ns = now_ns
        self._incoming: deque[Said | _Order | AuditChange] = deque()
        self._put_bytes = self._done_bytes = 0  # each is written by one thread
        self._waiting: list[Said] = []
        self._notes: list[AuditChange] = []
        self._dropped = 0
        """Notes for which there was no room."""
        self._orders: list[_Order] = []
        self._written = 0
        self._lost: dict[str, int] = {}
        self._unnamed: dict[str, _Lost] = {}
        self._losing = threading.Lock()
        """Held while something is lost, or given up."""

        self._file: JournalFile | None = None
        self._identity: Identity | None = None
        """Of the file that was written last, open or not."""
        self._lock: int | None = None
        self._failure: str | None = None
        self._slowness: str | None = None
        self._began_s: float | None = None
        self._retry_s = self._say_s = self._head_s = 0.0

        self._urgent = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)

    # For everybody

    def start(self) -> None:
        """Take the file and begin to write; StartError when another daemon has it.

        Whatever else is wrong with it is no reason not to inspect: `health` tells.
        """
        if self.path is None:
            return
        try:
            self._lock = database.lock(self.path)
        except JournalError as error:
            self._fail(error)
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, as far as that is possible within two seconds, and let the file go."""
        self._stop.set()
        self._urgent.set()
        if self._thread.ident is not None:
            self._thread.join(STOP_S)
            if left := len(self._waiting) + len(self._incoming):
                LOG.error("%d verdicts were not written to the journal %s", left, self.path)
        if self._lock is not None and not self._thread.is_alive():
            os.close(self._lock)
            self._lock = None

    def put(self, camera: str, seq: int, header: bytes) -> None:
        """Keep a verdict's header as it was published. Never waits; called from one thread."""
        if self.path is None:
            return
        if self._put_bytes - self._done_bytes > MOST_WAITING_BYTES:
            self._lose(camera, seq)
            return
        self._put_bytes += len(header)
        self._incoming.append(Said(self._now_ns(), camera, seq, header))

    def flush(self, timeout_s: float) -> None:
        """Wait until all that was put is in the file; JournalError when that fails."""
        self._order(None, timeout_s)

    def record(self, change: AuditChange, timeout_s: float = 5.0) -> Row:
        """Write a change down, and return its row when it is on the disk.

        JournalError: it is not, and will not be; or it took so long that a row follows which says that it was `undone`.
        """
        row = self._order(change, timeout_s)
        assert row is not None
        return row

    def note(self, change: AuditChange) -> None:
        """Write a change down as soon as that is possible; nobody waits for it."""
        if self.path is not None:
            self._incoming.append(change)

    @property
    def health(self) -> JournalHealth:
        """How it is now. From any thread."""
        began_s = self._began_s
        busy_s = 0.0 if began_s is None else time.monotonic() - began_s
        slow = f"The journal {self.path} is slow: it has been writing for {busy_s:.0f} s." if busy_s > SLOW_S else None
        waiting = len(self._waiting) + len(self._incoming)
        return JournalHealth(self._failure or slow or self._slowness, self._written, waiting, dict(self._lost))

    # The rest

    def _order(self, change: AuditChange | None, timeout_s: float) -> Row | None:
        if self.path is None:
            raise JournalError("No journal is kept: journal.path is null.")
        order = _Order(change)
        self._incoming.append(order)
        self._urgent.set()
        try:
            return order.done.result(timeout_s)
        except TimeoutError:
            why = f"The journal {self.path} did not answer within {timeout_s:g} s."
            if order.done.cancel():
                raise JournalError(why) from None
        try:  # it is being written at this moment
            return order.done.result(timeout_s)
        except TimeoutError:
            with self._losing:
                if not order.done.done():
                    order.given_up = why
                    raise JournalError(why) from None
            return order.done.result()

    def _lose(self, camera: str, seq: int) -> None:
        with self._losing:
            self._lost[camera] = self._lost.get(camera, 0) + 1
            lost = self._unnamed.setdefault(camera, _Lost(seq, seq, 0))
            lost.last, lost.count = seq, lost.count + 1

    def _run(self) -> None:
        while True:
            is_last = self._stop.is_set()
            if not is_last:
                self._urgent.wait(COMMIT_S)
            self._urgent.clear()
            self._collect()
            is_due = self._failure is None or bool(self._orders) or is_last or time.monotonic() >= self._retry_s
            is_wanted = self._waiting or self._notes or self._orders or self._failure or self._slowness
            if is_due and (is_wanted or self._file is None):
                self._attempt()
            if is_last:
                break
            self._tell_head()
        self._close()

    def _collect(self) -> None:
        while self._incoming:
            one = self._incoming.popleft()
            if isinstance(one, Said):
                self._waiting.append(one)
            elif isinstance(one, AuditChange):
                if len(self._notes) < MOST_NOTES:
                    self._notes.append(one)
                else:
                    self._dropped += 1
            else:
                self._orders.append(one)

    def _attempt(self) -> None:
        """Write what there is; a failure costs those who wait their order, and nobody else anything."""
        began_s = self._began_s = time.monotonic()
        try:
            file = self._opened()
            while len(self._waiting) > MOST_AT_ONCE:
                self._write(file, self._waiting[:MOST_AT_ONCE], [])
            self._write(file, self._waiting, [one for one in self._orders if one.done.set_running_or_notify_cancel()])
            self._recover(time.monotonic() - began_s)
        except (sqlite3.Error, OSError, InspectdError) as error:
            self._fail(error)
        except Exception as error:  # a thread's top: what nobody thought of must not end the journal for good
            LOG.exception("the journal failed")
            self._fail(error)
        finally:
            self._began_s = None
            self._orders.clear()

    def _opened(self) -> JournalFile:
        assert self.path is not None
        if self._lock is None:
            self._lock = database.lock(self.path)
        if self._identity is not None and identity_of(self.path) != self._identity:
            LOG.error("The journal %s was removed or replaced while it was written; another one is begun.", self.path)
            file, self._file, self._identity = self._file, None, None
            self._notes.append(self._change("journal", why="the one before was removed or replaced"))
            if file is not None:
                file.leave()
        if self._file is None:
            self._file = JournalFile(self.path, self._epoch, self._limits, self._now_ns)
            self._identity = self._file.identity
        return self._file

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, file: JournalFile, said: Sequence[Said], orders: Sequence[_Order]) -> None:
        """Write verdicts and changes in one transaction: all of it, or nothing."""
        with self._losing:
            unnamed, self._unnamed = self._unnamed, {}
        notes = tuple(self._notes)
        before = [*(self._named(camera, lost) for camera, lost in unnamed.items()), *notes]
        if dropped := self._dropped:
            before.append(self._change("lost", new={"changes": dropped}, why=self._failure))
        ordered = [order for order in orders if order.change is not None]
        try:
            rows = file.write(said, [*before, *(order.change for order in ordered if order.change is not None)])
        except BaseException:
            with self._losing:
                for camera, lost in unnamed.items():
                    later = self._unnamed.get(camera, _Lost(lost.last, lost.last, 0))
                    self._unnamed[camera] = _Lost(lost.first, later.last, lost.count + later.count)
            raise
        self._written += len(said)
        self._done_bytes += sum(len(one.header) for one in said)
        self._dropped -= dropped
        del self._waiting[: len(said)], self._notes[: len(notes)]
        if rows:
            self._say_head(file.head)
        answers = dict(zip(map(id, ordered), rows[len(before) :], strict=True))
        with self._losing:
            for order in orders:
                order.done.set_result(answers.get(id(order)))
                if order.given_up is not None and (change := order.change) is not None:  # nobody will make it
                    why = f"{change.what}: {order.given_up}"
                    self._notes.append(msgspec.structs.replace(change, what="undone", why=why))

    def _named(self, camera: str, lost: _Lost) -> AuditChange:
        new = {"verdicts": lost.count, "from": lost.first, "to": lost.last}
        return self._change("lost", camera=camera, new=new, why=self._failure)

    def _change(self, what: str, **more: Any) -> AuditChange:
        return AuditChange(at=rfc3339(self._now_ns()), epoch=self._epoch, what=what, **more)

    def _recover(self, took_s: float) -> None:
        was, self._failure = self.health.detail, None
        self._slowness = (
            f"The journal {self.path} is slow: it took {took_s:.1f} s to write." if took_s > SLOW_S else None
        )
        if self._slowness is not None:
            self._say(self._slowness)
        if was is not None and self._slowness is None:
            LOG.info("the journal %s is written again", self.path)

    def _fail(self, error: Exception) -> None:
        self._close()
        self._failure = _words(self.path, error)
        self._retry_s = time.monotonic() + RETRY_S
        for order in self._orders:
            if not order.done.done() and (order.done.running() or order.done.set_running_or_notify_cancel()):
                order.done.set_exception(JournalError(self._failure))
        self._say(self._failure)

    def _say(self, text: str) -> None:
        if (now_s := time.monotonic()) >= self._say_s:
            self._say_s = now_s + SAY_EVERY_S
            lost = sum(self._lost.values())
            LOG.error("%s Inspection goes on; %d verdicts wait, %d are lost.", text, len(self._waiting), lost)

    def _tell_head(self) -> None:
        if self._file is not None and time.monotonic() >= self._head_s:
            self._say_head(self._file.head)

    def _say_head(self, head: Head) -> None:
        self._head_s = time.monotonic() + HEAD_EVERY_S
        LOG.info("audit: row %d has the hash %s", *head, extra=EVIDENCE)


def _words(path: Path | None, error: BaseException) -> str:
    if isinstance(error, sqlite3.Error | OSError) and path is not None:
        return database.words(path, error)
    return str(error)
