"""A journal that cannot be used: inspection goes on, it is said, and nothing is changed."""

from __future__ import annotations

import json
import re
import resource
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from commanded import ask, camera_of, changes, judged, refused
from daemon_process import DaemonProcess

from inspectd.client import Control
from inspectd.history import reading
from inspectd.wire.requests import AuditRequest, BypassRequest, ThresholdRequest, VerdictsRequest


def test_a_journal_that_is_taken_away_is_begun_anew_and_that_is_said(tmp_path: Path, models: tuple[Path, Path]) -> None:
    with DaemonProcess(tmp_path / "daemon", camera_of(models[0])) as daemon, Control(daemon.control) as control:
        judged(daemon)
        for path in daemon.journal.parent.glob("journal.db*"):
            path.unlink()
        ask(control, ThresholdRequest(camera="top", value=2.0, by="anna"))
        judged(daemon)
        daemon.stop()
    assert "was removed or replaced while it was written; another one is begun" in daemon.log
    assert [c.what for c in changes(daemon)] == ["journal", "threshold", "stop"]


def broken_journals() -> list[tuple[str, Callable[[Path], object], str]]:
    def newer(path: Path) -> None:
        with closing(sqlite3.connect(path)) as file:
            file.executescript("CREATE TABLE x (y); PRAGMA application_id = 1768846192; PRAGMA user_version = 9;")

    return [
        ("newer", newer, "was written by a newer inspectd"),
        ("no database", lambda path: path.write_bytes(b"hello" * 1000), "file is not a database"),
        ("a folder", lambda path: path.mkdir(), "unable to open database file"),
    ]


@pytest.mark.parametrize(
    ("kind", "make", "why"), broken_journals(), ids=lambda one: one if isinstance(one, str) else ""
)
def test_with_a_journal_that_cannot_be_used_inspection_goes_on_and_says_so(
    tmp_path: Path, models: tuple[Path, Path], kind: str, make: Callable[[Path], object], why: str
) -> None:
    assert kind
    (tmp_path / "daemon").mkdir()
    make(tmp_path / "daemon" / "journal.db")
    with DaemonProcess(tmp_path / "daemon", camera_of(models[0])) as daemon, Control(daemon.control) as control:
        judged(daemon, 20)
        assert {v["reason"] for v in daemon.verdicts} == {None}
        daemon.listen(lambda d: why in (d.states[-1]["detail"] or ""))
        assert daemon.states[-1]["inspecting"]
        assert not daemon.daemon_states[-1]["journal"]["ok"]
        for request in (
            VerdictsRequest(camera="top", after=0),
            AuditRequest(),
            ThresholdRequest(camera="top", value=2.0, by="anna"),
            BypassRequest(camera="top", seconds=10, by="anna", why="x"),
        ):
            error = refused(control, request)
            assert error.code == "journal"
            assert why in str(error)
        had = len(daemon.verdicts)
        judged(daemon, 5)
        assert {(v["threshold"], v["reason"]) for v in daemon.verdicts[had:]} == {(1.0, None)}
        assert daemon.stop() == 0
    assert why in daemon.log


def test_overrides_that_cannot_be_read_end_the_start(tmp_path: Path, models: tuple[Path, Path]) -> None:
    (tmp_path / "daemon").mkdir()
    (tmp_path / "daemon" / "journal.db.overrides.json").write_text(
        '{"version": 1, "cameras": {"top": {"threshold": 3}}}'
    )
    with DaemonProcess(tmp_path / "daemon", camera_of(models[0])) as daemon:
        assert daemon.listen_to_the_end() == 2
    assert re.search(r"what commands changed at the cameras, cannot be read: .*Restore it, remove it", daemon.log)
    assert not daemon.verdicts


def test_two_daemons_on_one_journal(tmp_path: Path, models: tuple[Path, Path]) -> None:
    with DaemonProcess(tmp_path / "daemon", camera_of(models[0])) as daemon:
        judged(daemon)
        extra = f"journal: {{path: {daemon.journal}}}\n"
        with DaemonProcess(tmp_path / "second", camera_of(models[0]), extra=extra) as second:
            assert second.listen_to_the_end() == 3
        assert "is in use by another inspectd; give each daemon its own journal.path." in second.log
        judged(daemon)
        assert daemon.stop(signal.SIGTERM) == 0


def test_on_a_disk_that_is_full_inspection_goes_on_and_later_all_is_written(
    tmp_path: Path, models: tuple[Path, Path]
) -> None:
    """RLIMIT_FSIZE stands for the disk: what is written beyond it fails."""
    with DaemonProcess(tmp_path / "daemon", camera_of(models[0])) as daemon, Control(daemon.control) as control:
        judged(daemon)
        before = resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (8_000, before[1]))  # two pages of a log
        daemon.listen(lambda d: not d.daemon_states[-1]["journal"]["ok"])
        judged(daemon, 20)
        assert refused(control, ThresholdRequest(camera="top", value=2.0, by="anna")).code == "journal"
        assert daemon.states[-1]["inspecting"]
        assert "The journal" in daemon.states[-1]["detail"]
        resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, before)
        daemon.listen(lambda d: d.daemon_states[-1]["journal"]["ok"])
        assert daemon.stop() == 0
    assert {v["reason"] for v in daemon.verdicts} <= {None, "shutdown"}
    assert {v["threshold"] for v in daemon.verdicts if v["reason"] is None} == {1.0}
    assert re.search(r"The journal \S+ cannot be used: .*Inspection goes on; \d+ verdicts wait", daemon.log)
    headers, _ = reading.verdicts_after(daemon.journal, "top", daemon.verdicts[0]["epoch"], 0, 10_000, 10**9)
    assert [json.loads(one) for one in headers] == daemon.verdicts
    assert [c.what for c in changes(daemon)] == ["start", "stop"]
