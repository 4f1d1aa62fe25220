"""`inspectd status`, `trigger` and `audit`, as somebody on the line types them, right and wrong."""

from __future__ import annotations

import csv
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from conftest import write_small_model
from daemon_process import DaemonProcess
from run_here import run_here

from inspectd.client import Control
from inspectd.history.audit import Row
from inspectd.history.file import Limits
from inspectd.history.journal import Journal
from inspectd.wire.requests import BypassRequest, ThresholdRequest
from inspectd.wire.results import AuditChange

LINE = '"sim://line?fps=10&width=64&height=64"'


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    folder = tmp_path_factory.mktemp("daemon")
    model = write_small_model(folder / "model")
    cameras = f"{{name: top, source: {LINE}, model: {model}}}, {{name: idle, source: 0, model: x, enabled: false}}"
    with DaemonProcess(folder / "d", cameras) as one:
        one.listen(lambda d: len(d.verdicts) >= 3)
        yield one


def test_status_at_a_glance_and_for_programs(daemon: DaemonProcess) -> None:
    well = run_here("status", "--control", daemon.control)
    assert well.returncode == 0, well
    assert re.search(r"top\s+running", well.stdout)
    assert json.loads(run_here("status", "--control", daemon.control, "--json").stdout)["cameras"]["top"]["inspecting"]
    with Control(daemon.control) as control:
        control.ask(ThresholdRequest(camera="top", value=1.5, by="anna"), 10)
        control.ask(BypassRequest(camera="top", seconds=60, by="anna", why="a new lamp"), 10)
        not_inspected = run_here("status", "--control", daemon.control)
        control.ask(BypassRequest(camera="top", seconds=0, by="anna", why="done"), 10)
    assert not_inspected.returncode == 2, "a camera that is not inspected"
    assert re.search(r"top\s+bypass", not_inspected.stdout)
    assert "by command: threshold 1.5" in not_inspected.stdout


def test_a_trigger_that_a_camera_does_not_take_is_refused(daemon: DaemonProcess) -> None:
    ended = run_here("trigger", "top", "--part", "A-1", "--control", daemon.control)
    assert ended.returncode == 2
    assert "unsupported: Camera top inspects by itself (mode: stream); it takes no triggers." in ended.stderr
    unknown = run_here("trigger", "side", "--control", daemon.control)
    assert "unknown_camera: There is no camera 'side'; there are: top." in unknown.stderr


@pytest.mark.parametrize(
    ("line", "code", "why"),
    [
        (["status", "--control", "tcp://nowhere"], 2, "--control is 'tcp://nowhere'; expected tcp://HOST:PORT or ipc"),
        (["status", "--control", "tcp://*:5557"], 2, r"cannot be connected to"),
        (["watch", "--published", "tcp://*:5557"], 2, r"cannot be connected to"),
        (["status", "--key", "x.key_secret"], 2, "Of --server-key and --key one is missing; expected both"),
        (["audit", "--journal", "/nowhere/journal.db"], 3, "There is no journal /nowhere/journal.db."),
        (["audit", "--head", "12"], 2, "--head is '12'; expected N:HASH with --verify"),
    ],
)
def test_what_cannot_be_is_one_sentence(line: list[str], code: int, why: str) -> None:
    ended = run_here(*line)
    assert ended.returncode == code, ended
    assert why in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inspectd.cli.status.TIMEOUT_S", 0.2)
    ended = run_here("status", "--control", f"ipc://{tmp_path}/nobody")
    assert ended.returncode == 3
    assert "Nobody answered at" in ended.stderr
    assert "Does the daemon run?" in ended.stderr


# The audit


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Return a journal with five changes, the last words of a daemon that has ended."""
    path = tmp_path / "journal.db"
    kept = Journal(path, "e1", Limits(30, 1e9))
    kept.start()
    for value in range(5):
        at = f"2026-01-0{value + 1}T00:00:00.000000Z"
        change = AuditChange(
            at=at, epoch="e1", what="threshold", camera="top", old={"threshold": 1}, new={"threshold": value}
        )
        kept.record(
            change if value else AuditChange(at=at, epoch="e1", what="model", who="plc7", by="=anna", why="x\ny")
        )
    kept.stop()
    return path


def rows(path: Path) -> list[Row]:
    with closing(sqlite3.connect(path)) as file:
        return [Row(*row) for row in file.execute("SELECT n, change, hash FROM audit ORDER BY n")]


def test_it_is_printed_exported_and_verified(journal: Path, tmp_path: Path) -> None:
    printed = run_here("audit", "--journal", str(journal))
    assert printed.returncode == 0
    lines = printed.stdout.splitlines()
    assert len(lines) == 5, "a line break that somebody sent begins no line"
    assert "by plc7 (as =anna): x\N{REPLACEMENT CHARACTER}y" in lines[0]
    assert "top          threshold: threshold 1 -> threshold 4" in lines[4]
    head = f"3:{rows(journal)[2].hash}"
    ended = run_here("audit", "--journal", str(journal), "--verify", "--head", head, "--csv", str(tmp_path / "a.csv"))
    assert ended.returncode == 0, ended
    assert f"is whole: 5 rows, the last one's hash is {rows(journal)[-1].hash}." in ended.stdout
    with (tmp_path / "a.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["n"] for row in table] == ["1", "2", "3", "4", "5"]
    assert table[0]["by"] == "'=anna", "a spreadsheet does not compute what somebody calls themselves"


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("UPDATE audit SET change = replace(change, '\"threshold\":3', '\"threshold\":9') WHERE n = 4", "Row 4 is not"),
        ("UPDATE audit SET change = CAST(change AS BLOB) WHERE n = 2", "Row 2 is not what was written"),
        ("UPDATE audit SET change = CAST(x'ff00' AS TEXT) WHERE n = 2", "Row 2 is not what was written"),
        ("DELETE FROM audit WHERE n = 2", "Row 2 is missing."),
        ("DELETE FROM audit WHERE n > 3", "The last 2 rows are missing"),
        ("DELETE FROM audit", "The last 5 rows are missing"),
        ("UPDATE audit SET n = n + 10; UPDATE audit SET n = 14 - n + 2", "is not what was written"),
        ("UPDATE head SET n = 'x'", "its hash is not the one that was noted"),
        ("DELETE FROM head", "its hash is not the one that was noted"),
    ],
)
def test_any_tampering_is_told(journal: Path, statement: str, why: str) -> None:
    with closing(sqlite3.connect(journal)) as file:
        file.executescript(statement)
    ended = run_here("audit", "--journal", str(journal), "--verify")
    assert ended.returncode == 2, ended
    assert "is not whole." in ended.stderr
    assert why in ended.stderr
    assert run_here("audit", "--journal", str(journal)).returncode == 0, "it can still be read"


def test_what_was_written_anew_is_told_by_the_logs_hash(journal: Path) -> None:
    ended = run_here("audit", "--journal", str(journal), "--verify", "--head", f"3:{'a' * 64}")
    assert ended.returncode == 2
    assert "Row 3 has the hash" in ended.stderr
    gone = run_here("audit", "--journal", str(journal), "--verify", "--head", f"9:{'a' * 64}")
    assert "Row 9 is missing." in gone.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize(("mode", "code", "why"), [(0o755, 0, ""), (0o700, 3, "Permission denied")])
def test_somebody_else_may_read_it_where_the_folder_lets_them(
    journal: Path, tmp_path: Path, mode: int, code: int, why: str
) -> None:
    for folder in (tmp_path, *tmp_path.parents):
        if folder.name.startswith(("pytest", "popen")):
            folder.chmod(0o755)
    tmp_path.chmod(mode)
    # Python's own modules may lie where nobody else may read: all that is needed is loaded before.
    script = "import os, sys, inspectd.cli.audit, inspectd.history.reading, inspectd.atomic; "
    script += "from inspectd.cli import main; os.setuid(65534); main(sys.argv[1:])"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", script, "audit", "--journal", str(journal)],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    tmp_path.chmod(0o755)
    assert ended.returncode == code, ended.stderr
    assert why in ended.stderr
    assert "Traceback" not in ended.stderr
