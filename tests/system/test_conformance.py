"""The protocol's rules, held against our daemon, and against a gateway that breaks them one by one."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq
from conftest import write_small_model
from daemon_process import DaemonProcess
from run_here import run_here

from inspectd.conformance import Rules, ask, listen

LINE = "sim://line?fps=20&width=64&height=64"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    folder = tmp_path_factory.mktemp("daemon")
    model = write_small_model(folder / "model", threshold=1.3)
    cameras = f'{{name: top, source: "{LINE}", model: {model}}}, {{name: dead, source: /dev/video77, model: {model}}}'
    with DaemonProcess(folder / "d", cameras) as one:
        one.listen(lambda d: len(d.verdicts) >= 20)
        yield one


def test_our_daemon_keeps_every_rule(daemon: DaemonProcess) -> None:
    ended = run_here("conformance", daemon.endpoint, "--control", daemon.control, "--seconds", "4")
    assert ended.returncode == 0, ended.stdout
    assert "0 of 28 rules are broken" in ended.stdout, ended.stdout
    for rule in ("ng is score > threshold", "a mask has w × h bytes", "the third part of frame/ is a JPEG"):
        assert f"kept    {rule}" in ended.stdout


def test_where_nobody_speaks_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inspectd.conformance.ANSWER_S", 0.1)
    ended = run_here("conformance", f"ipc://{tmp_path}/nobody", "--control", f"ipc://{tmp_path}/x", "--seconds", "2")
    assert ended.returncode == 2
    assert "broken  daemon/ comes once a second" in ended.stdout
    assert "broken  a DEALER gets one reply" in ended.stdout
    assert run_here("conformance", "http://x").returncode == 2


@contextmanager
def gateway(daemon: DaemonProcess, change: Callable[[str, dict[str, Any], bytes], Any], folder: Path) -> Iterator[str]:
    """Pass on what a daemon says, changed. `change` returns header and bytes, or None to leave the message out."""
    address = f"ipc://{folder}/gateway"
    stop = threading.Event()

    def run() -> None:
        with zmq.Context() as context, context.socket(zmq.SUB) as heard, context.socket(zmq.PUB) as said:
            said.bind(address)
            heard.subscribe(b"")
            heard.connect(daemon.endpoint)
            while not stop.is_set():
                if not heard.poll(50):
                    continue
                topic, header, *rest = heard.recv_multipart()
                changed = change(topic.decode(), json.loads(header), rest[0] if rest else b"")
                if changed is not None:
                    fields, part = changed
                    said.send_multipart(
                        [
                            topic,
                            fields if isinstance(fields, bytes) else json.dumps(fields).encode(),
                            *([part] if part else []),
                        ]
                    )

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield address
    finally:
        stop.set()
        thread.join()


def only(kind: str, **new: Any) -> Callable[[str, dict[str, Any], bytes], Any]:
    """Change fields of one kind of message."""

    def change(topic: str, header: dict[str, Any], part: bytes) -> Any:
        return (header | new if topic.startswith(kind) else header), part

    return change


def dropping(topic: str, header: dict[str, Any], part: bytes) -> Any:
    return None if topic.startswith("verdict/") and header["seq"] % 7 == 0 else (header, part)


def silent(topic: str, header: dict[str, Any], part: bytes) -> Any:
    return None if topic == "daemon/" else (header, part)


def naughty(topic: str, header: dict[str, Any], part: bytes) -> Any:
    return (
        (json.dumps(header | {"score": float("nan")}).encode(), part)
        if topic.startswith("verdict/")
        else (header, part)
    )


def short(topic: str, header: dict[str, Any], part: bytes) -> Any:
    return header, part[:-1] if topic.startswith("mask/") else part


def lying(topic: str, header: dict[str, Any], part: bytes) -> Any:
    is_ng = topic.startswith("verdict/") and header["verdict"] == "ng"
    return (header | {"verdict": "ok", "regions": []} if is_ng else header), part


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        (only("verdict/", v=2), "v is 1"),
        (only("verdict/", verdict="perhaps"), "headers have the fields of the schema"),
        (only("state/", inspecting="yes"), "headers have the fields of the schema"),
        (only("state/", state="lost"), "a camera that is not running is not inspecting"),
        (only("verdict/", reason="deadline", detail=None), "a fault has a reason and a detail, others have no reason"),
        (only("verdict/", regions=[]), "every ng has a region, and no ok has one"),
        (lying, "ng is score > threshold"),
        (dropping, "seq counts by one"),
        (only("state/", last_seq=10**6), "every verdict up to a state's last_seq was sent before it"),
        (silent, "daemon/ comes once a second"),
        (naughty, "headers are JSON without NaN and infinity"),
        (short, "a mask has w × h bytes"),
    ],
)
def test_a_gateway_that_breaks_a_rule_is_told_which(
    daemon: DaemonProcess, tmp_path: Path, change: Callable[[str, dict[str, Any], bytes], Any], broken: str
) -> None:
    rules = Rules()
    with gateway(daemon, change, tmp_path) as address:
        listen(rules, address, 1.7)
    found = {rule.name: rule.broken for rule in rules}
    assert found[broken], found


def test_a_control_socket_that_answers_garbage_with_silence_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inspectd.conformance.ANSWER_S", 0.3)
    address = f"ipc://{tmp_path}/control"
    stop = threading.Event()

    def run() -> None:
        with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
            socket.bind(address)
            while not stop.is_set():
                if socket.poll(50):
                    *address_, body = socket.recv_multipart()
                    if body.startswith(b"{") and b"status" in body:
                        socket.send_multipart([*address_, b'{"id": 5, "ok": true, "result": {}}'])

    thread = threading.Thread(target=run)
    thread.start()
    rules = Rules()
    try:
        time.sleep(0.1)
        ask(rules, address)
    finally:
        stop.set()
        thread.join()
    broken = {rule.name for rule in rules if rule.broken}
    assert broken == {
        "a reply has the id of its request",
        "status gives daemon/ with all camera states",
        "garbage gets one reply, too",
        "what is refused has its code and a sentence",
    }
