"""A daemon that is commanded: what tests ask of it, and what it kept of that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from daemon_process import DaemonProcess

from inspectd.client import Control, RefusalError
from inspectd.history import reading
from inspectd.history.audit import find_break
from inspectd.wire.requests import Request
from inspectd.wire.results import AuditChange

LINE = '"sim://line?fps=20&width=64&height=64"'
PATIENCE_S = 30.0


def camera_of(model: Path, name: str = "top", more: str = "") -> str:
    return f"{{name: {name}, source: {LINE}, model: {model}, deadline_ms: 5000{more}}}"


def ask(control: Control, request: Request) -> Any:
    return control.ask(request, PATIENCE_S)[0]


def refused(control: Control, request: Request) -> RefusalError:
    with pytest.raises(RefusalError) as refusal:
        control.ask(request, PATIENCE_S)
    return refusal.value


def changes(daemon: DaemonProcess) -> list[AuditChange]:
    rows, head = reading.all_changes(daemon.journal)
    assert find_break(rows, head) is None
    return [msgspec.json.decode(row.change, type=AuditChange) for row in rows]


def judged(daemon: DaemonProcess, count: int = 5) -> None:
    """Listen until so many more verdicts have come."""
    had = len(daemon.verdicts)
    daemon.listen(lambda d: len(d.verdicts) >= had + count)
