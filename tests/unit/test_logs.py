"""A line for each event: for people, for collectors, for systemd's journal; rare enough, and never waited for."""

from __future__ import annotations

import json
import logging
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from inspectd import logs
from inspectd.logs import BURST, EVIDENCE, WINDOW_S, JournalHandler, JsonLines, RateLimit, about

LOG = logging.getLogger("inspectd.test")


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, put back afterwards."""
    one = logging.getLogger()
    handlers, level = one.handlers[:], one.level
    yield one
    for handler in set(one.handlers) - set(handlers):
        handler.close()
    one.handlers[:], one.level = handlers, level


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[socket.socket]:
    """What listens where the journal would."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind(str(tmp_path / "socket"))
        one.settimeout(5)
        yield one


def fields(packet: bytes) -> dict[str, str]:
    """Read what the journal is sent, as its protocol says."""
    found, at = {}, 0
    while at < len(packet):
        end = packet.index(b"\n", at)
        name, is_plain, value = packet[at:end].partition(b"=")
        at = end + 1
        if not is_plain:
            (length,) = struct.unpack_from("<Q", packet, at)
            value = packet[at + 8 : at + 8 + length]
            at += 8 + length + 1
        found[name.decode()] = value.decode()
    return found


def fail() -> None:
    """Log what failed."""
    try:
        int("of the engine")
    except ValueError:
        LOG.exception("the engine failed")


def test_the_journal_has_levels_and_fields(root: logging.Logger, journal: socket.socket) -> None:
    logs.begin("journal", Path(journal.getsockname()))
    LOG.error("camera %s gives no pictures", "top", extra=about(camera="top", alarm="camera_lost"))
    assert fields(journal.recv(65536)) == {
        "MESSAGE": "camera top gives no pictures",
        "PRIORITY": "3",
        "SYSLOG_IDENTIFIER": "inspectd",
        "LOGGER": "inspectd.test",
        "INSPECTD_CAMERA": "top",
        "INSPECTD_ALARM": "camera_lost",
    }
    LOG.info("two\nlines = one \N{WARNING SIGN}", extra=about(camera=None))
    said = fields(journal.recv(65536))
    assert (said["MESSAGE"], said["PRIORITY"]) == ("two\nlines = one \N{WARNING SIGN}", "6")
    assert "INSPECTD_CAMERA" not in said


def test_what_failed_is_there_with_where(root: logging.Logger, journal: socket.socket) -> None:
    logs.begin("journal", Path(journal.getsockname()))
    fail()
    said = fields(journal.recv(65536))["MESSAGE"]
    assert said.startswith("the engine failed\nTraceback")
    assert said.endswith("invalid literal for int() with base 10: 'of the engine'")


def test_a_line_that_is_too_long_is_cut(root: logging.Logger, journal: socket.socket) -> None:
    logs.begin("journal", Path(journal.getsockname()))
    LOG.info("%s", "\N{GREEK SMALL LETTER ALPHA}" * 1_000_000)
    assert 0 < len(fields(journal.recv(1 << 20))["MESSAGE"].encode()) <= logs.LONGEST


def test_a_journal_that_takes_nothing_costs_lines_and_no_time(journal: socket.socket) -> None:
    handler = JournalHandler(Path(journal.getsockname()))
    for number in range(10_000):  # far more than a socket holds
        handler.emit(logging.makeLogRecord({"name": "n", "msg": f"line {number}", "levelno": logging.INFO}))
    journal.setblocking(False)
    had = 0
    try:
        while journal.recv(65536):
            had += 1
    except BlockingIOError:
        pass
    assert 0 < had < 10_000
    handler.emit(logging.makeLogRecord({"name": "n", "msg": "again", "levelno": logging.INFO}))
    assert fields(journal.recv(65536))["MESSAGE"] == (
        f"again ({10_000 - had} lines before this one were lost: the journal took none)"
    )
    handler.close()


def test_a_journal_that_is_started_anew_gets_what_comes_then(tmp_path: Path) -> None:
    handler = JournalHandler(tmp_path / "socket")
    handler.emit(logging.makeLogRecord({"name": "n", "msg": "nobody listens", "levelno": logging.INFO}))
    for word in ("first", "second"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
            one.bind(str(tmp_path / "socket"))
            handler.emit(logging.makeLogRecord({"name": "n", "msg": word, "levelno": logging.INFO}))
            assert fields(one.recv(65536))["MESSAGE"].startswith(word)
        (tmp_path / "socket").unlink()
    handler.close()


def test_json_is_a_line_each(root: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    logs.begin("json")
    LOG.warning("camera %s: two\nlines", "top", extra=about(camera="top"))
    (line,) = capsys.readouterr().err.splitlines()
    said = json.loads(line)
    assert said.pop("time").endswith("Z")
    assert said == {"level": "warning", "logger": "inspectd.test", "message": "camera top: two\nlines", "camera": "top"}
    fail()
    (line,) = capsys.readouterr().err.splitlines()
    assert "'of the engine'" in json.loads(line)["exception"]
    assert JsonLines().format(logging.makeLogRecord({"name": "n", "msg": "ü", "levelname": "INFO"})).count("\n") == 0


def test_people_read_text(
    root: logging.Logger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:12345")  # of whoever started us, not ours
    logs.begin("auto")
    LOG.info("ready: %s", "top running", extra=about(camera="top"))
    assert capsys.readouterr().err == "INFO ready: top running\n"


class Clock:
    """A clock that is set."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def passed(limit: RateLimit, text: str, *arguments: object, **more: object) -> str | None:
    """Return the line if it is written."""
    record = logging.makeLogRecord({"name": "n", "msg": text, "args": arguments, **more})
    return record.getMessage() if limit.filter(record) else None


def test_lines_that_differ_only_in_figures_are_limited_and_said_to_be() -> None:
    limit = RateLimit(clock := Clock())
    said = [passed(limit, "camera %s is back %d", "top", number, camera="top") for number in range(50)]
    written = [line for line in said if line is not None]
    assert len(written) == BURST
    assert written[0] == "camera top is back 0"
    assert written[-1].endswith("is back 9 (for up to 60 s no more like it are written)")
    assert passed(limit, "camera %s is back %d", "side", 1, camera="side") == "camera side is back 1"
    assert passed(limit, "camera %s is back %d", "top", 1, camera="top", alarm="other") is not None
    clock.now_s = WINDOW_S + 1
    assert passed(limit, "camera %s is back %d", "top", 50, camera="top") == (
        "camera top is back 50 (40 more like it were left out)"
    )
    assert passed(limit, "camera %s is back %d", "top", 51, camera="top") == "camera top is back 51"


def test_evidence_is_written_however_much_there_is() -> None:
    limit = RateLimit(Clock())
    assert all(passed(limit, "audit: row %d has the hash %s", number, "00", **EVIDENCE) for number in range(1000))
