"""The audit: who changed what, each row bound to the one before it by a hash. Pure.

A row's hash is the SHA-256 of the hash before it (64 zeros before the first) and of the change as it is written down.
Whoever changes, removes or moves a row must write all later ones anew, and the hash of the last one, which the log was
told, will be another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from inspectd.wire.results import AuditChange

GENESIS = "0" * 64
"""Stands before the first row."""


class Row(NamedTuple):
    """One row as it is stored."""

    n: int
    change: str
    """An AuditChange, JSON."""
    hash: str


class Head(NamedTuple):
    """The last row's number and hash."""

    n: int
    hash: str


FIRST = Head(0, GENESIS)


def next_row(head: Head, change: AuditChange) -> Row:
    """Return the row that follows `head`."""
    text = msgspec.json.encode(change).decode()
    return Row(head.n + 1, text, hash_of(head.hash, text))


def hash_of(before: str, change: str) -> str:
    """Return the hash of a row, in hex."""
    return hashlib.sha256(before.encode() + change.encode()).hexdigest()


def find_break(rows: Iterable[Row], noted: Head) -> str | None:
    """Return the first thing that is wrong with a chain, in one sentence; None: it is whole.

    `noted`: what was noted beside the chain as its last row.
    """
    head = FIRST
    for row in rows:
        if not (isinstance(row.n, int) and isinstance(row.change, str) and isinstance(row.hash, str)):
            return f"Row {row.n} is not what was written: its columns are of another kind."
        if row.n != head.n + 1:
            missing = f"{head.n + 1}" if row.n == head.n + 2 else f"{head.n + 1} to {row.n - 1}"
            return f"Row {missing} is missing." if row.n > head.n else f"Row {row.n} stands twice."
        if row.hash != hash_of(head.hash, row.change):
            return f"Row {row.n} is not what was written: it, or a row before it, was changed, removed or moved."
        head = Head(row.n, row.hash)
    if head.n < noted.n:
        return f"The last {noted.n - head.n} rows are missing: row {noted.n} was written, and row {head.n} is the last."
    if head != noted:
        return f"Row {head.n} is the last, and its hash is not the one that was noted when it was written."
    return None
