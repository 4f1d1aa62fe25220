"""sd_notify over real datagram sockets."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from inspectd.daemon.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """As systemd writes it into NOTIFY_SOCKET."""
    return str(tmp_path / "notify") if request.param == "path" else f"@inspectd-test-{uuid4()}"


@pytest.fixture
def systemd(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        receiver.setblocking(False)
        yield receiver


@pytest.fixture
def notifier(address: str, systemd: socket.socket) -> Iterator[Notifier]:
    notifier = Notifier({"NOTIFY_SOCKET": address})
    yield notifier
    notifier.close()


def test_every_message_arrives_as_systemd_expects_it(notifier: Notifier, systemd: socket.socket) -> None:
    notifier.status("loading the models")
    notifier.ready("2 cameras")
    notifier.watchdog()
    notifier.stopping("shutting down")
    assert [systemd.recv(4096) for _ in range(4)] == [
        b"STATUS=loading the models",
        b"READY=1\nSTATUS=2 cameras",
        b"WATCHDOG=1",
        b"STOPPING=1\nSTATUS=shutting down",
    ]


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("one\ntwo\r\nthree", "one two three"),
        ("fine\nWATCHDOG=trigger", "fine WATCHDOG=trigger"),
        ("a\0b", "a b"),
        ("5 µm – größer", "5 µm – größer"),
        ("not UTF-8: \udcff", "not UTF-8: ?"),
        ("", ""),
    ],
)
def test_a_status_is_one_assignment_whatever_it_holds(
    notifier: Notifier, systemd: socket.socket, text: str, sent: str
) -> None:
    notifier.status(text)
    assert systemd.recv(4096) == f"STATUS={sent}".encode()


def test_a_long_status_does_not_cost_the_readiness(notifier: Notifier, systemd: socket.socket) -> None:
    notifier.ready("𝄞" * 5000)  # four bytes each
    message = systemd.recv(65536)
    assert message.startswith(b"READY=1\nSTATUS=")
    assert len(message) <= 4096


def test_without_systemd_nothing_happens(caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier({})
    notifier.ready("ready")
    notifier.watchdog()
    notifier.close()
    assert not caplog.records


def test_a_dead_socket_is_logged_once_per_outage(
    address: str, systemd: socket.socket, notifier: Notifier, caplog: pytest.LogCaptureFixture
) -> None:
    systemd.close()
    for _ in range(3):
        notifier.watchdog()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert address.removeprefix("@") in caplog.text

    Path(address).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as revived:
        revived.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        notifier.watchdog()
        assert revived.recv(4096, socket.MSG_DONTWAIT) == b"WATCHDOG=1"
    notifier.watchdog()
    assert len(caplog.records) == 2


def test_a_systemd_that_does_not_read_blocks_nobody(
    notifier: Notifier, systemd: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5000):  # more than any queue between two datagram sockets holds
        notifier.watchdog()
    assert len(caplog.records) == 1
    assert systemd.recv(4096) == b"WATCHDOG=1"


def test_a_socket_of_another_kind_is_told_and_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    Notifier({"NOTIFY_SOCKET": "vsock:2:1234"}).ready("ready")
    assert "vsock:2:1234" in caplog.text


def test_a_closed_notifier_is_silent(notifier: Notifier, systemd: socket.socket) -> None:
    notifier.close()
    notifier.close()
    notifier.watchdog()
    with pytest.raises(BlockingIOError):
        systemd.recv(4096)


def test_capture_processes_do_not_inherit_the_socket(address: str) -> None:
    def descriptors() -> set[int]:
        return {int(path.name) for path in Path("/proc/self/fd").iterdir() if path.exists() or path.is_symlink()}

    before = descriptors()
    notifier = Notifier({"NOTIFY_SOCKET": address})
    (opened,) = descriptors() - before
    assert not os.get_inheritable(opened)
    notifier.close()


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid() + 1)}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_for_this_process_or_for_none(environ: dict[str, str], seconds: float | None) -> None:
    assert Notifier(environ).watchdog_s == seconds
