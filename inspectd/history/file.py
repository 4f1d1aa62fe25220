"""The journal's file while a daemon writes it: one transaction after the other, by one thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from inspectd.history import database
from inspectd.history.audit import Head, Row, next_row
from inspectd.history.database import JournalError
from inspectd.wire.results import AuditChange

PRUNE_AT_ONCE = 500
"""Verdicts that are given up where there are too many bytes: never so many that writing waits."""
DAY_NS = 86_400_000_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of the past is kept."""

    days: float
    bytes_: float


class Said(NamedTuple):
    """A verdict on its way to the file."""

    at_ns: int
    """Wall clock."""
    camera: str
    seq: int
    header: bytes
    """As it was published."""


class JournalFile:
    """An open journal, and one epoch in it."""

    def __init__(self, path: Path, epoch: str, limits: Limits, now_ns: Callable[[], int]) -> None:
        """Open it, or make it; JournalError or sqlite3.Error: it cannot be used. `now_ns`: the wall clock."""
        self._path = path
        self._limits = limits
        self._now_ns = now_ns
        self._file = database.open_to_write(path)
        try:
            with self._file:
                self._file.execute("INSERT OR IGNORE INTO epochs (epoch) VALUES (?)", (epoch,))
                (self._epoch,) = self._file.execute("SELECT id FROM epochs WHERE epoch = ?", (epoch,)).fetchone()
            self.head = self._read_head()
        except BaseException:
            self._file.close()
            raise
        self.identity = identity_of(path)
        self._log_identity = identity_of(_log_of(path))

    def close(self) -> None:
        """Let it go."""
        self._file.close()

    def leave(self) -> None:
        """Let a file go that is not at its path any more: its log is written into it, and not into what lies there now.

        Where that fails, the log is put aside.
        """
        try:
            self._file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            is_written = True
        except sqlite3.Error:
            is_written = False
        self._file.close()
        log = _log_of(self._path)
        if self._log_identity is not None and identity_of(log) == self._log_identity:
            if is_written:
                log.unlink()
            else:
                log.rename(log.with_name(f"{log.name}.left"))
            self._path.with_name(f"{self._path.name}-shm").unlink(missing_ok=True)

    def write(self, said: Sequence[Said], changes: Sequence[AuditChange]) -> list[Row]:
        """Write verdicts and changes in one transaction, and return the rows of the changes.

        sqlite3.Error: nothing of it was written. What has changes in it survives the loss of power, too.
        """
        head, rows = self.head, []
        for change in changes:
            rows.append(next_row(head, change))
            head = Head(rows[-1].n, rows[-1].hash)
        if rows:
            self._file.execute("PRAGMA synchronous = FULL")
        try:
            with self._file:
                self._file.execute("BEGIN IMMEDIATE")
                self._file.executemany(
                    "INSERT OR IGNORE INTO verdicts (at_ns, epoch, camera, seq, header) VALUES (?, ?, ?, ?, ?)",
                    [(one.at_ns, self._epoch, one.camera, one.seq, one.header) for one in said],
                )
                self._file.executemany("INSERT INTO audit (n, change, hash) VALUES (?, ?, ?)", rows)
                if rows:
                    self._file.execute("UPDATE head SET n = ?, hash = ?", head)
                if said:
                    self._prune(2 * len(said))
        finally:
            if rows:
                self._file.execute("PRAGMA synchronous = NORMAL")
        self.head = head
        return rows

    def _prune(self, most: int) -> None:
        """Give up the oldest verdicts beyond what is to be kept; the audit stays.

        By age twice as many at most as are written: a clock that jumps for a while does not cost the whole past.
        """
        first = self._file.execute("SELECT n, at_ns FROM verdicts ORDER BY n LIMIT 1").fetchone()
        if first is None:
            return
        oldest_ns = self._now_ns() - int(self._limits.days * DAY_NS)
        if self._used_bytes() > self._limits.bytes_:
            self._file.execute("DELETE FROM verdicts WHERE n < ?", (first[0] + max(most, PRUNE_AT_ONCE),))
        elif first[1] < oldest_ns:
            self._file.execute("DELETE FROM verdicts WHERE n < ? AND at_ns < ?", (first[0] + most, oldest_ns))

    def _used_bytes(self) -> int:
        pages, free, size = (
            self._file.execute(f"PRAGMA {what}").fetchone()[0] for what in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def _read_head(self) -> Head:
        found = self._file.execute("SELECT n, hash FROM head").fetchone()
        if found is None or not (isinstance(found[0], int) and isinstance(found[1], str)):
            raise JournalError(
                f"The journal {self._path} is damaged: the last row of its audit is not noted. Move it away."
            )
        return Head(*found)


Identity = tuple[int, int]


def identity_of(path: Path) -> Identity | None:
    """Return what tells a file from any other; None: there is none. OSError: it cannot be looked at."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")
