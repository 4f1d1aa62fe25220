"""How the daemon logs: one line for each event, with its level and what it is about.

`text` for people, `json` for collectors, `journal` for systemd: there with fields, so that `journalctl -u inspectd
INSPECTD_CAMERA=top -p warning` finds what it is asked for. What a call knows beside its text is given as
`extra=about(camera=…)`.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

JOURNAL = Path("/run/systemd/journal/socket")
FORMATS = ("auto", "text", "journal", "json")
LONGEST = 64_000
"""Bytes of a line that still fits a datagram; nobody reads more."""
BURST, WINDOW_S = 10, 60.0
"""So many lines that differ only in figures may come in so long; the rest is counted."""
_FIELDS = ("camera", "alarm")
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
"""syslog's, which the journal has."""


def about(**what: str | None) -> dict[str, str]:
    """Return what a line is about, for `extra`: `camera`, `alarm`."""
    return {name: str(value) for name, value in what.items() if value is not None}


EVIDENCE = {"is_evidence": True}
"""For `extra`: each such line is written, however many there are."""


def begin(form: str, journal: Path = JOURNAL) -> None:
    """Send everything that is logged from now on where it belongs. `auto`: the journal where systemd has started us."""
    if form == "auto":
        form = "journal" if _is_journals(os.environ.get("JOURNAL_STREAM", "")) and journal.exists() else "text"
    handler = JournalHandler(journal) if form == "journal" else logging.StreamHandler()
    handler.setFormatter(JsonLines() if form == "json" else logging.Formatter("%(levelname)s %(message)s"))
    handler.addFilter(RateLimit())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)


class JsonLines(logging.Formatter):
    """One JSON object in a line: time, level, logger, message, and what it is about."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        said: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_about(record),
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False)


class JournalHandler(logging.Handler):
    """The journal's own protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL), and never a wait for it.

    Where the journal takes nothing, lines are lost and counted: a line of parts must not stand still for its log. What
    reads `text` or `json` from a pipe must go on reading.
    """

    def __init__(self, path: Path = JOURNAL) -> None:
        super().__init__()
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Send a line, or lose it."""
        try:
            text = record.getMessage()
            if record.exc_info:
                text += "\n" + logging.Formatter().formatException(record.exc_info)
        except Exception:  # noqa: BLE001 - as every handler: a call that is wrong must not end who made it
            self.handleError(record)
            return
        if self._lost:
            text += f" ({self._lost} lines before this one were lost: the journal took none)"
        fields = {
            "MESSAGE": text.encode(errors="replace")[:LONGEST].decode(errors="ignore"),
            "PRIORITY": str(_PRIORITIES.get(record.levelno, 5)),
            "SYSLOG_IDENTIFIER": "inspectd",
            "LOGGER": record.name,
            **{f"INSPECTD_{name.upper()}": value for name, value in _about(record).items()},
        }
        try:
            self._socket.sendto(b"".join(_field(name, value) for name, value in fields.items()), self._path)
        except OSError:
            self._lost += 1
        else:
            self._lost = 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        super().close()


@dataclass(slots=True)
class _Kind:
    """Lines that differ only in figures."""

    since_s: float
    said: int = 0
    left_out: int = 0


class RateLimit(logging.Filter):
    """Lets so many lines of a kind pass in a while; the first one after that says how many there were."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._kinds: dict[tuple[str, ...], _Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is to be written; a handler calls this under its lock."""
        if getattr(record, "is_evidence", False):
            return True
        now_s = self._clock()
        key = (record.name, str(record.msg), *(str(getattr(record, name, "")) for name in _FIELDS))
        kind = self._kinds.setdefault(key, _Kind(now_s))
        if now_s - kind.since_s > WINDOW_S:
            if kind.left_out:
                _append(record, f" ({kind.left_out} more like it were left out)")
            self._kinds[key] = _Kind(now_s, said=1)
            return True
        kind.said += 1
        if kind.said == BURST:
            _append(record, f" (for up to {WINDOW_S:g} s no more like it are written)")
        kind.left_out += kind.said > BURST
        return kind.said <= BURST


def _append(record: logging.LogRecord, text: str) -> None:
    record.msg, record.args = record.getMessage() + text, None


def _about(record: logging.LogRecord) -> dict[str, str]:
    return {name: value for name in _FIELDS if (value := getattr(record, name, None)) is not None}


def _field(name: str, value: str) -> bytes:
    data = value.encode(errors="replace")
    if b"\n" in data:
        return name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
    return name.encode() + b"=" + data + b"\n"


def _is_journals(stream: str) -> bool:
    """Whether our stderr is the stream that systemd says leads to the journal (systemd.exec, $JOURNAL_STREAM)."""
    with suppress(OSError, ValueError):
        status = os.fstat(sys.stderr.fileno())
        return stream == f"{status.st_dev}:{status.st_ino}"
    return False
