"""The journal: what is in the file, what is not when it cannot be written, and what is said of it."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from inspectd.errors import StartError
from inspectd.history import audit, database, file, journal, reading
from inspectd.history.audit import Head, Row, find_break
from inspectd.history.database import JournalError
from inspectd.history.file import DAY_NS, JournalFile, Limits
from inspectd.history.journal import Journal
from inspectd.wire.results import AuditChange

PATIENCE_S = 20.0
MANY = Limits(days=30, bytes_=1e9)


def header(seq: int, text: str = "") -> bytes:
    return msgspec.json.encode({"seq": seq, "text": text})


def change(what: str, value: float = 0.0) -> AuditChange:
    return AuditChange(at="2026-01-01T00:00:00.000000Z", epoch="e1", what=what, camera="top", new=value, who="plc7")


def wait(until: Callable[[], object]) -> None:
    give_up_s = time.monotonic() + PATIENCE_S
    while not until():
        assert time.monotonic() < give_up_s
        time.sleep(0.01)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def make() -> Iterator[Callable[..., Journal]]:
    """Start journals that are stopped in the end."""
    made: list[Journal] = []

    def start(path: Path | None, epoch: str = "e1", limits: Limits = MANY, **more: object) -> Journal:
        made.append(Journal(path, epoch, limits, **more))  # type: ignore[arg-type]
        made[-1].start()
        return made[-1]

    yield start
    for one in made:
        one.stop()


def seqs(path: Path, epoch: str = "e1", after: int = 0, limit: int = 10_000, most_bytes: int = 10**9) -> list[int]:
    found, _ = reading.verdicts_after(path, "top", epoch, after, limit, most_bytes)
    return [msgspec.json.decode(one)["seq"] for one in found]


def test_what_was_put_is_there_after_a_flush_as_it_was_published(path: Path, make: Callable[..., Journal]) -> None:
    kept = make(path)
    for seq in range(1, 301):
        kept.put("top", seq, header(seq, "ä"))
        kept.put("side", seq, header(-seq))
    kept.flush(PATIENCE_S)
    assert seqs(path) == list(range(1, 301))
    assert reading.verdicts_after(path, "top", "e1", 298, 10, 1000) == ([header(299, "ä"), header(300, "ä")], True)
    assert reading.verdicts_after(path, "top", "e1", 0, 2, 1000) == ([header(1, "ä"), header(2, "ä")], False)
    assert reading.verdicts_after(path, "top", "e1", 0, 10, 1) == ([header(1, "ä")], False)
    assert reading.verdicts_after(path, "top", "another", 0, 10, 1000) == ([], True)
    assert reading.latest_verdicts(path, "side", 2) == [header(-300), header(-299)]
    assert kept.health == journal.JournalHealth(None, 600, 0, {})


def test_verdicts_are_written_without_being_asked_for(path: Path, make: Callable[..., Journal]) -> None:
    kept = make(path)
    kept.put("top", 1, header(1))
    wait(lambda: kept.health.written == 1)
    assert seqs(path) == [1]


def test_each_start_has_its_own_numbers(path: Path, make: Callable[..., Journal]) -> None:
    for epoch in ("e1", "e2"):
        kept = make(path, epoch)
        kept.put("top", 1, header(1, epoch))
        kept.stop()
    assert reading.verdicts_after(path, "top", "e1", 0, 10, 1000)[0] == [header(1, "e1")]
    assert reading.latest_verdicts(path, "top", 10) == [header(1, "e2"), header(1, "e1")]


def test_a_stop_writes_what_waits(path: Path, make: Callable[..., Journal]) -> None:
    kept = make(path)
    for seq in range(1, 12_001):
        kept.put("top", seq, header(seq))
    kept.note(change("stop"))
    kept.stop()
    assert seqs(path, limit=20_000) == list(range(1, 12_001))
    assert [row.n for row in reading.all_changes(path)[0]] == [1]


def test_a_change_is_on_the_disk_when_it_is_answered_for(path: Path, make: Callable[..., Journal]) -> None:
    kept = make(path)
    kept.put("top", 1, header(1))
    first, second = kept.record(change("threshold", 1.5)), kept.record(change("model"))
    assert seqs(path) == [1], "what was published before a change is written before it"
    rows, head = reading.all_changes(path)
    assert (rows, head) == ([first, second], Head(2, second.hash))
    assert find_break(rows, head) is None
    assert reading.changes_after(path, 1, 10, 10_000) == ([second], True)
    assert reading.changes_after(path, 0, 1, 10_000) == ([first], False)
    kept.stop()
    again = make(path, "e2")
    third = again.record(change("revert"))
    assert (third.n, third.hash) == (3, audit.hash_of(second.hash, third.change))


def test_the_chains_head_is_said_in_the_log(
    path: Path, make: Callable[..., Journal], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(journal, "HEAD_EVERY_S", 0.3)
    row = make(path).record(change("threshold"))
    wait(lambda: caplog.text.count(f"audit: row 1 has the hash {row.hash}") >= 3)


def test_a_backup_that_is_put_in_its_place_goes_on_from_where_it_was(path: Path, make: Callable[..., Journal]) -> None:
    kept = make(path)
    kept.put("top", 1, header(1))
    kept.record(change("model"))
    backup = path.with_name("backup.db")
    with closing(sqlite3.connect(path)) as one, closing(sqlite3.connect(backup)) as other:
        one.backup(other)
    kept.put("top", 2, header(2))
    lost = kept.record(change("threshold"))
    backup.rename(path)
    again = kept.record(change("revert"))
    kept.put("top", 3, header(3))
    kept.flush(PATIENCE_S)
    rows, head = reading.all_changes(path)
    assert find_break(rows, head) is None
    said = [msgspec.json.decode(row.change, type=AuditChange).what for row in rows]
    assert said == ["model", "journal", "revert"]
    assert again.n == 3
    assert lost.hash not in {row.hash for row in rows}
    assert seqs(path) == [1, 3]
    assert kept.health.detail is None


def test_a_file_that_is_moved_away_takes_with_it_all_that_was_answered_for(
    path: Path, make: Callable[..., Journal]
) -> None:
    kept = make(path)
    kept.put("top", 1, header(1))
    first = kept.record(change("model"))
    moved = path.rename(path.with_name("old.db"))
    second = kept.record(change("threshold"))
    assert reading.all_changes(moved)[0] == [first]
    assert seqs(moved) == [1]
    rows, head = reading.all_changes(path)
    assert (rows[-1], len(rows)) == (second, 2)
    assert find_break(rows, head) is None


def test_a_file_that_goes_while_it_could_not_be_written_is_noticed_too(
    path: Path, make: Callable[..., Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.05)
    kept = make(path)
    kept.record(change("model"))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match="locked"):
            kept.flush(PATIENCE_S)
        for one in path.parent.glob("journal.db*"):
            if not one.name.endswith("lock"):
                one.unlink()
    kept.record(change("threshold"))
    rows, _ = reading.all_changes(path)
    assert [msgspec.json.decode(row.change, type=AuditChange).what for row in rows] == ["journal", "threshold"]


def test_two_daemons_do_not_share_a_journal(path: Path, make: Callable[..., Journal]) -> None:
    kept = make(path)
    with pytest.raises(StartError, match=r"in use by another inspectd; give each daemon its own journal\.path"):
        make(path)
    kept.stop()
    make(path)


def test_without_a_journal_nothing_is_kept_and_no_change_is_answered_for(make: Callable[..., Journal]) -> None:
    kept = make(None)
    kept.put("top", 1, header(1))
    kept.note(change("start"))
    for ask in (lambda: kept.flush(1), lambda: kept.record(change("threshold"))):
        with pytest.raises(JournalError, match=r"No journal is kept: journal\.path is null\."):
            ask()
    assert kept.health.detail is None


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("PRAGMA user_version = 2", r"was written by a newer inspectd \(its version is 2, this one knows 1\)"),
        ("PRAGMA application_id = 7", r"is a database of another program; set journal\.path to a file of its own"),
    ],
)
def test_a_file_of_another_kind_is_left_alone(path: Path, make: Callable[..., Journal], what: str, why: str) -> None:
    make(path).stop()
    with closing(sqlite3.connect(path)) as file:
        file.execute(what)
        file.commit()
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = path.read_bytes()
    kept = make(path, "e2")
    kept.put("top", 1, header(1))
    with pytest.raises(JournalError, match=why):
        kept.record(change("threshold"))
    assert database.problem_of(path) is not None
    detail = kept.health.detail
    assert detail is not None
    assert kept.health.waiting == 1
    kept.stop()
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_left_alone(path: Path, make: Callable[..., Journal]) -> None:
    path.write_bytes(b"my notes\n" * 1000)
    kept = make(path)
    with pytest.raises(JournalError, match="file is not a database"):
        kept.flush(PATIENCE_S)
    kept.stop()
    assert path.read_bytes() == b"my notes\n" * 1000


def test_locked_by_another_program_verdicts_wait_and_changes_are_refused(
    path: Path, make: Callable[..., Journal], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.05)
    monkeypatch.setattr(journal, "RETRY_S", 0.05)
    kept = make(path)
    kept.put("top", 1, header(1))
    kept.flush(PATIENCE_S)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        kept.put("top", 2, header(2))
        with pytest.raises(JournalError, match="database is locked"):
            kept.record(change("threshold"))
        assert "locked" in (kept.health.detail or "")
        assert kept.health.waiting == 1
        other.execute("ROLLBACK")
    wait(lambda: kept.health.detail is None)
    assert seqs(path) == [1, 2]
    assert reading.all_changes(path)[0] == [], "what was refused is not written later"
    assert caplog.text.count("database is locked") == 1


def test_what_finds_no_room_is_counted_and_named_when_there_is_room_again(
    path: Path, make: Callable[..., Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.05)
    monkeypatch.setattr(journal, "RETRY_S", 0.05)
    monkeypatch.setattr(journal, "MOST_WAITING_BYTES", 10 * len(header(1)))
    kept = make(path)
    kept.flush(PATIENCE_S)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError):
            kept.flush(PATIENCE_S)
        for seq in range(1, 31):
            kept.put("top", seq, header(seq))
        lost = kept.health.lost["top"]
        assert 0 < lost < 30
        other.execute("ROLLBACK")
    wait(lambda: kept.health.detail is None)
    kept.flush(PATIENCE_S)
    assert seqs(path) == list(range(1, 31 - lost))
    (row,), head = reading.all_changes(path)
    said = msgspec.json.decode(row.change, type=AuditChange)
    assert (said.what, said.camera) == ("lost", "top")
    assert said.new == {"verdicts": lost, "from": 31 - lost, "to": 30}
    assert "locked" in (said.why or "")
    assert find_break([row], head) is None


def test_a_slow_disk_is_told_while_it_is_slow_and_verdicts_wait(
    path: Path, make: Callable[..., Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SLOW_S", 0.05)
    kept = make(path)
    kept.flush(PATIENCE_S)
    goes_on = threading.Event()
    write = JournalFile.write

    def slow(*args: object) -> list[Row]:
        goes_on.wait(PATIENCE_S)
        return write(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(JournalFile, "write", slow)
    kept.put("top", 1, header(1))
    wait(lambda: "is slow" in (kept.health.detail or ""))
    for seq in range(2, 5):
        kept.put("top", seq, header(seq))
    with pytest.raises(JournalError, match="did not answer within"):
        kept.record(change("threshold"), 0.05)
    goes_on.set()
    kept.flush(PATIENCE_S)
    assert seqs(path) == [1, 2, 3, 4]
    assert reading.all_changes(path)[0] == []


def test_the_past_is_given_up_by_age_and_by_size_and_changes_are_not(
    path: Path, make: Callable[..., Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100 * DAY_NS]
    kept = make(path, limits=Limits(days=2, bytes_=1e9), now_ns=lambda: now[0])
    kept.record(change("threshold"))
    for seq in range(1, 11):
        kept.put("top", seq, header(seq))
    kept.flush(PATIENCE_S)
    now[0] += 3 * DAY_NS
    kept.put("top", 11, header(11))
    kept.flush(PATIENCE_S)
    assert seqs(path) == list(range(3, 12)), "a clock that jumps costs twice what is written meanwhile"
    for seq in range(12, 17):
        kept.put("top", seq, header(seq))
        kept.flush(PATIENCE_S)
    assert seqs(path) == list(range(11, 17))
    assert len(reading.all_changes(path)[0]) == 1
    kept.stop()

    monkeypatch.setattr(file, "PRUNE_AT_ONCE", 100)
    small = make(path, "e2", Limits(days=1000, bytes_=400_000))
    for seq in range(1, 1001):
        small.put("top", seq, header(seq, "x" * 1000))
        if seq % 50 == 0:
            small.flush(PATIENCE_S)
    left = seqs(path, "e2")
    assert left == list(range(left[0], 1001))
    assert 100 < len(left) < 400


def test_a_change_is_kept_where_the_wall_clock_jumps(path: Path, make: Callable[..., Journal]) -> None:
    kept = make(path, now_ns=lambda: -(10**18))
    kept.put("top", 1, header(1))
    kept.record(change("threshold"))
    assert seqs(path) == [1]
