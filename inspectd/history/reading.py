"""What a journal says: verdicts and changes, read by a connection that is open only meanwhile."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from inspectd.history import database
from inspectd.history.audit import Head, Row


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
        found: list[bytes] = []
        size = 0
        for (header,) in rows:
            size += len(header)
            if len(found) == limit or (found and size > most_bytes):
                return found, False
            found.append(header)
    return found, True


def latest_verdicts(path: Path, camera: str, count: int) -> list[bytes]:
    """Return the headers of a camera's last verdicts, the newest first; JournalError: it cannot be read."""
    with database.opened_to_read(path) as file:
        rows = file.execute(
            "SELECT header FROM verdicts WHERE camera = ? ORDER BY epoch DESC, seq DESC LIMIT ?", (camera, count)
        )
        return [header for (header,) in rows]


def changes_after(path: Path, after: int, limit: int) -> tuple[list[Row], bool]:
    """Return rows of the audit behind number `after`, and whether these are all; JournalError: it cannot be read."""
    with database.opened_to_read(path) as file:
        rows = list(_changes(file, after, limit + 1))
    return rows[:limit], len(rows) <= limit


def all_changes(path: Path) -> tuple[list[Row], Head]:
    """Return the whole audit, and what was noted as its head; JournalError: it cannot be read."""
    with database.opened_to_read(path) as file:
        file.execute("BEGIN")  # one moment for both
        return list(_changes(file, -1, -1)), _head(file)


def _changes(file: sqlite3.Connection, after: int, limit: int) -> Iterator[Row]:
    rows = file.execute("SELECT n, change, hash FROM audit WHERE n > ? ORDER BY n LIMIT ?", (after, limit))
    return (Row(*row) for row in rows)


def _head(file: sqlite3.Connection) -> Head:
    found = file.execute("SELECT n, hash FROM head").fetchone()
    return Head(*found) if found is not None else Head(0, "")
