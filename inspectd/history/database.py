"""The journal's file: an SQLite database, its schema, and why it cannot be used.

epochs    every start of a daemon on this journal
verdicts  the header of each verdict as it was published
audit     who changed what, in a chain (`inspectd.history.audit`)
head      the number and the hash of the audit's last row
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from inspectd.errors import InspectdError, StartError

APPLICATION = 0x696E7370
"""SQLite's application_id of our files: `insp`."""
VERSION = 1
BUSY_S = 0.5
"""How long a statement waits for another program that has locked the file."""
SCHEMA = f"""
CREATE TABLE epochs (id INTEGER PRIMARY KEY, epoch TEXT NOT NULL UNIQUE);
CREATE TABLE verdicts (
    n INTEGER PRIMARY KEY,
    at_ns INTEGER NOT NULL,
    epoch INTEGER NOT NULL REFERENCES epochs,
    camera TEXT NOT NULL,
    seq INTEGER NOT NULL,
    header BLOB NOT NULL
);
CREATE UNIQUE INDEX verdicts_by_seq ON verdicts (camera, epoch, seq);
CREATE TABLE audit (n INTEGER PRIMARY KEY, change TEXT NOT NULL, hash TEXT NOT NULL);
CREATE TABLE head (n INTEGER NOT NULL, hash TEXT NOT NULL);
INSERT INTO head VALUES (0, '{"0" * 64}');
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
"""


class JournalError(InspectdError):
    """The journal cannot be written or read now; the message says why."""


class EmptyJournalError(JournalError):
    """Nothing was written yet."""


def open_to_write(path: Path) -> sqlite3.Connection:
    """Open a journal, or make it; JournalError says why it cannot be used."""
    with _in_words(path):
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        try:
            if _is_new(connection, path):
                connection.executescript(f"PRAGMA journal_mode = WAL; BEGIN IMMEDIATE; {SCHEMA} COMMIT;")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            connection.close()
            raise
        return connection


@contextmanager
def opened_to_read(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a journal for reading, and close it; JournalError: there is none, or it cannot be read."""
    with _in_words(path):
        path.stat()
        has_log = path.with_name(path.name + "-wal").exists()
    # Who may not write in the folder cannot make the index of a log; where there is no log, none is needed.
    mode = "mode=ro" if has_log or os.access(path.parent, os.W_OK) else "mode=ro&immutable=1"
    with _in_words(path), closing(sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, timeout=5)) as one:
        one.text_factory = _text
        if _is_new(one, path):
            raise EmptyJournalError(f"The journal {path} is empty: no daemon has written to it yet.")
        yield one


def lock(path: Path) -> int:
    """Take a journal for this process, and return the descriptor that holds it.

    StartError: another daemon has it. JournalError: its folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise JournalError(f"The journal {path} cannot be written: {error.strerror}.") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise StartError(
            f"The journal {path} is in use by another inspectd; give each daemon its own journal.path."
        ) from None
    return fd


def problem_of(path: Path) -> str | None:
    """Return why a file is no journal that this inspectd can use; None: it is one, or is yet to be made."""
    try:
        if not path.exists() or not os.access(path, os.R_OK):
            return None  # the daemon's own user may see it
        with opened_to_read(path):
            pass
    except (EmptyJournalError, PermissionError):
        return None
    except JournalError as error:
        return str(error)
    return None


def can_write(path: Path) -> bool:
    """Whether this user has the permissions that a journal needs."""
    folder = next(one for one in path.absolute().parents if os.path.lexists(one))
    return os.access(folder, os.W_OK | os.X_OK) and (not os.path.lexists(path) or os.access(path, os.W_OK))


def _is_new(connection: sqlite3.Connection, path: Path) -> bool:
    """Return whether a file has no schema yet; JournalError when it has another one than ours."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    is_empty = connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None
    if (application, version) == (0, 0) and is_empty:
        return True
    if application != APPLICATION:
        raise JournalError(f"{path} is a database of another program; set journal.path to a file of its own.")
    if version > VERSION:
        raise JournalError(
            f"The journal {path} was written by a newer inspectd (its version is {version}, this one knows {VERSION}); "
            "install that inspectd, or set journal.path to another file."
        )
    return False


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise JournalError(f"There is no journal {path}.") from None
    except (sqlite3.Error, OSError) as error:
        raise JournalError(words(path, error)) from error


def _text(data: bytes) -> str:
    return data.decode(errors="replace")  # what was tampered with must still be read, to be told


def words(path: Path, error: Exception) -> str:
    """Say what SQLite or the file system says, in a sentence."""
    text = error.strerror if isinstance(error, OSError) else str(error)
    return f"The journal {path} cannot be used: {text}."
