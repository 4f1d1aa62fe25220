"""What a journal says: verdicts and changes, read by a connection that is open only meanwhile."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from inspectd.history import database
from inspectd.history.audit import Head, Row

T = TypeVar("T")


def verdicts_after(
    path: Path, camera: str, epoch: str, after: int, limit: int, most_bytes: int
) -> tuple[list[bytes], bool]:
    """Return headers of a camera's verdicts behind `after`, by `seq`, and whether these are all that there are.

    At most `limit`, and so many that they have `most_bytes` together, or one. JournalError: it cannot be read.
    """
    with database.opened_to_read(path) as file:
        rows = file.execute(
            "SELECT header FROM verdicts WHERE camera = ? AND epoch = (SELECT id FROM epochs WHERE epoch = ?)"
            " AND seq > ? ORDER BY seq LIMIT ?",
            (camera, epoch, after, limit + 1),
        )
        return _bounded((header for (header,) in rows), limit, most_bytes, len)


def verdict(path: Path, camera: str, epoch: str, seq: int) -> bytes | None:
    """Return a verdict's header; None: it is not kept. JournalError: the journal cannot be read."""
    with database.opened_to_read(path) as file:
        found = file.execute(
            "SELECT header FROM verdicts WHERE camera = ? AND epoch = (SELECT id FROM epochs WHERE epoch = ?)"
            " AND seq = ?",
            (camera, epoch, seq),
        ).fetchone()
        return bytes(found[0]) if found is not None else None


def latest_verdicts(path: Path, camera: str, count: int) -> list[bytes]:
    """Return the headers of a camera's last verdicts, the newest first; JournalError: it cannot be read."""
    with database.opened_to_read(path) as file:
        rows = file.execute(
            "SELECT header FROM verdicts WHERE camera = ? ORDER BY epoch DESC, seq DESC LIMIT ?", (camera, count)
        )
        return [header for (header,) in rows]


def verdicts_before(path: Path, camera: str | None, before: int | None, limit: int) -> list[tuple[int, bytes]]:
    """Return headers as they were written, the newest first, each with its place; JournalError: it cannot be read.

    `before`: only those with a smaller place; None: all. `camera` None: of all.
    """
    with database.opened_to_read(path) as file:
        rows = file.execute(
            "SELECT n, header FROM verdicts WHERE (?1 IS NULL OR camera = ?1) AND (?2 IS NULL OR n < ?2)"
            " ORDER BY n DESC LIMIT ?3",
            (camera, before, limit),
        )
        return [(n, bytes(header)) for n, header in rows]


def changes_after(path: Path, after: int, limit: int, most_bytes: int) -> tuple[list[Row], bool]:
    """Return rows of the audit behind number `after`, as `verdicts_after` does."""
    with database.opened_to_read(path) as file:
        return _bounded(_changes(file, after, limit + 1), limit, most_bytes, lambda row: len(row.change))


def all_changes(path: Path) -> tuple[list[Row], Head]:
    """Return the whole audit, and what was noted as its head; JournalError: it cannot be read."""
    with database.opened_to_read(path) as file:
        file.execute("BEGIN")  # one moment for both
        return list(_changes(file, -1, -1)), _head(file)


def _bounded(items: Iterable[T], limit: int, most_bytes: int, size_of: Callable[[T], int]) -> tuple[list[T], bool]:
    """Return as many of them as may be, one at least, and whether these are all."""
    found: list[T] = []
    size = 0
    for one in items:
        size += size_of(one)
        if len(found) == limit or (found and size > most_bytes):
            return found, False
        found.append(one)
    return found, True


def _changes(file: sqlite3.Connection, after: int, limit: int) -> Iterator[Row]:
    rows = file.execute("SELECT n, change, hash FROM audit WHERE n > ? ORDER BY n LIMIT ?", (after, limit))
    return (Row(*row) for row in rows)


def _head(file: sqlite3.Connection) -> Head:
    found = file.execute("SELECT n, hash FROM head").fetchone()
    is_whole = found is not None and isinstance(found[0], int) and isinstance(found[1], str)
    return Head(*found) if is_whole else Head(0, "what was noted as the last row is gone")
