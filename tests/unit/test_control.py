"""The control socket: real sockets, real frames, one reply to everything."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import zmq
from asked import command_tables

from calibrate.acquire import from_daemon
from calibrate.acquire.from_daemon import find_holder, giving_way_to, is_same_camera
from inspectd.daemon import pictures
from inspectd.daemon.worker import Worker
from inspectd.errors import StartError
from inspectd.line.sinks import RawFrames, Sinks
from inspectd.records import Frame, Stamp
from inspectd.wire.control import Control
from inspectd.wire.sockets import Context


class Daemon:
    """What the control socket asks."""

    def report(self) -> dict[str, Any]:
        return {"version": "x", "cameras": {"top": {"state": "running", "source": "/dev/video3"}}}


class Client:
    """A DEALER, or a REQ, with a patience of five seconds."""

    def __init__(self, endpoint: str, kind: int = zmq.DEALER) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(kind)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(endpoint)

    def send(self, *parts: bytes) -> None:
        self._socket.send_multipart(list(parts))

    def receive(self) -> tuple[dict[str, Any], list[bytes]]:
        assert self._socket.poll(5000), "no reply"
        first, *rest = self._socket.recv_multipart()
        return json.loads(first), rest

    def ask(self, **request: Any) -> tuple[dict[str, Any], list[bytes]]:
        self.send(json.dumps(request).encode())
        return self.receive()

    def close(self) -> None:
        self._socket.close(0)
        self._context.term()


@pytest.fixture
def tap() -> RawFrames:
    return RawFrames()


@pytest.fixture
def control(tap: RawFrames) -> Iterator[Control]:
    context: Context = zmq.Context()
    served = Control(context, "tcp://127.0.0.1:0")
    served.bind()
    worker = Worker("answers")
    worker.start()
    served.start(command_tables(Daemon(), tap, worker).handle)
    yield served
    served.stop()
    worker.stop()
    context.term()


@pytest.fixture
def client(control: Control) -> Iterator[Client]:
    asking = Client(control.endpoint)
    yield asking
    asking.close()


def frame(number: int, picture: np.ndarray[Any, Any]) -> Frame:
    return Frame(Stamp("top", number, number * 1000, f"part-{number}"), picture, lambda: None)


def offer(tap: RawFrames, one: Frame) -> None:
    Sinks([tap]).finish(one, None)


def offer_soon(tap: RawFrames, *pictures: np.ndarray[Any, Any]) -> threading.Thread:
    """Offer pictures from another thread, as a camera does, after the request has arrived."""

    def offer_all() -> None:
        time.sleep(0.2)
        for number, picture in enumerate(pictures, start=1):
            offer(tap, frame(number, picture))

    thread = threading.Thread(target=offer_all)
    thread.start()
    return thread


def test_status(client: Client) -> None:
    reply, rest = client.ask(id="a", cmd="status")
    assert (reply["id"], reply["ok"], rest) == ("a", True, [])
    assert reply["result"] == Daemon().report()


def test_a_command_that_fails_is_refused_and_the_socket_lives(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Daemon, "report", lambda _: 1 / 0)
        reply, _ = client.ask(id=1, cmd="status")
    assert (reply["ok"], reply["error"]["code"]) == (False, "internal")
    assert "division by zero" in caplog.text
    assert client.ask(id=2, cmd="status")[0]["ok"]


def test_a_reply_that_cannot_be_sent_is_a_refusal(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Daemon, "report", lambda _: "odd \udcff")
        reply, _ = client.ask(id=1, cmd="status")
    assert (reply["ok"], reply["error"]["code"]) == (False, "internal")


def test_a_req_socket_gets_its_reply(control: Control) -> None:
    asking = Client(control.endpoint, zmq.REQ)
    assert asking.ask(id=7, cmd="status")[0]["id"] == 7
    asking.close()


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ([b"\xff\x00 not json"], "bad_request"),
        ([b"[1, 2]"], "bad_request"),
        ([b'{"id": 1}'], "bad_request"),
        ([b'{"cmd": 5}'], "bad_request"),
        ([b"[" * 5000], "bad_request"),
        ([b'{"cmd": "status"}', b"more"], "bad_request"),
        ([b'{"id": 1, "cmd": "dance"}'], "unknown_command"),
        ([b'{"id": 1, "cmd": "threshold", "camera": "top"}'], "bad_request"),
        ([b'{"id": 1, "cmd": "threshold", "camera": "top", "value": NaN, "by": "me"}'], "bad_request"),
        ([b'{"id": 1, "cmd": "threshold", "camera": "top", "value": 1e999, "by": "me"}'], "bad_request"),
        *[
            (
                [b'{"id": 1, "cmd": "bypass", "camera": "top", "seconds": 1, "why": "x", "by": "' + by + b'"}'],
                "bad_request",
            )
            for by in (b"", b" ", b"\\u001b", b"ok\\u009b2Jx", b"a\\u202eb", b"a\\nb", b"x" * 65)
        ],
        ([b'{"id": 1, "cmd": "capture", "camera": "side"}'], "unknown_camera"),
        ([b'{"id": 1, "cmd": "capture"}'], "bad_request"),
        ([b'{"id": 1, "cmd": "capture", "camera": "top", "n": 0}'], "bad_request"),
        ([b'{"id": 1, "cmd": "capture", "camera": "top", "n": 1000}'], "bad_request"),
    ],
)
def test_what_cannot_be_gets_one_error_reply_and_the_socket_lives(
    client: Client, request_: list[bytes], code: str
) -> None:
    client.send(*request_)
    reply, _ = client.receive()
    assert reply["ok"] is False
    assert reply["error"]["code"] == code
    assert reply["error"]["message"].endswith((".", "}"))
    assert client.ask(id=2, cmd="status")[0]["ok"]


@pytest.mark.parametrize(
    ("request_", "names"),
    [
        (b'{"id": 4, "cmd": "capture"}', "`camera`"),
        (b'{"id": 4, "cmd": "capture", "camera": 7}', "$.camera"),
        (b'{"id": 4, "cmd": "capture", "camera": "top", "n": "2"}', "$.n"),
        (b'{"id": 4, "cmd": "capture", "camera": "top", "n": 17}', "$.n"),
        (b'{"id": 4, "cmd": "capture", "camera": "top", "count": 2}', "`count`"),
        (b'{"id": 4, "cmd": "status", "camera": "top"}', "`camera`"),
        (b'{"id": [4], "cmd": "status"}', "$.id"),
        (b'{"id": 4, "cmd": 5}', "$.cmd"),
    ],
)
def test_the_field_that_is_wrong_is_named(client: Client, request_: bytes, names: str) -> None:
    client.send(request_)
    error = client.receive()[0]["error"]
    assert error["code"] == "bad_request"
    assert names in error["message"]


def test_capture_gives_the_next_frames_bit_for_bit(client: Client, tap: RawFrames) -> None:
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 255, (4, 6, 3), np.uint8)
    deep = rng.integers(0, 65535, (4, 6), np.uint16)
    offer(tap, frame(99, colour))  # nobody has asked yet
    camera = offer_soon(tap, colour, deep, colour)
    reply, parts = client.ask(id=1, cmd="capture", camera="top", n=2)
    camera.join()
    described = reply["result"]["frames"]
    assert [one["frame"] for one in described] == [1, 2]
    assert [one["dtype"] for one in described] == ["uint8", "uint16"]
    assert (described[0]["w"], described[0]["h"], described[0]["channels"]) == (6, 4, 3)
    assert parts == [colour.tobytes(), deep.tobytes()]


def test_who_waits_for_frames_keeps_nobody_waiting(control: Control, client: Client, tap: RawFrames) -> None:
    client.send(b'{"id": 1, "cmd": "capture", "camera": "top"}')
    other = Client(control.endpoint)
    assert other.ask(id=2, cmd="status")[0]["ok"]
    other.close()
    offer_soon(tap, np.zeros((2, 2), np.uint8)).join()
    assert client.receive()[0]["ok"]


def test_a_camera_that_gives_nothing_is_a_timeout(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "CAPTURE_TIMEOUT_S", 0.2)
    reply, _ = client.ask(id=1, cmd="capture", camera="top")
    assert reply["error"]["code"] == "timeout"
    assert "top gave 0 of 1 frames" in reply["error"]["message"]


def test_captures_that_wait_are_bounded(client: Client) -> None:
    for number in range(pictures.MOST_PENDING + 1):
        client.send(json.dumps({"id": number, "cmd": "capture", "camera": "top"}).encode())
    reply, _ = client.receive()
    assert (reply["id"], reply["error"]["code"]) == (pictures.MOST_PENDING, "busy")


def test_who_still_waits_at_the_end_is_told(control: Control, client: Client) -> None:
    client.send(b'{"id": 1, "cmd": "capture", "camera": "top"}')
    client.ask(id=2, cmd="status")
    control.stop()
    assert client.receive()[0]["error"]["code"] == "shutdown"


def test_a_taken_address_is_one_sentence(control: Control) -> None:
    context: Context = zmq.Context()
    second = Control(context, control.endpoint)
    with pytest.raises(StartError, match=r"control\.bind .* cannot be bound: another program"):
        second.bind()
    context.term()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("0", "/dev/video0", True),
        ("rtsp://a/1", "rtsp://a/1", True),
        ("rtsp://a/1", "rtsp://a/2", False),
        ("rtsp://user:secret@a/1", "rtsp://a/1", True),
        ("0", "1", False),
    ],
)
def test_the_same_camera_under_other_names(one: str, other: str, same: bool) -> None:
    assert is_same_camera(one, other) is same


def test_the_holder_is_found_by_its_source(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_holder(control.endpoint, "3") == "top"
    assert find_holder(control.endpoint, "4") is None
    assert find_holder("tcp://127.0.0.1:1", "3", timeout_s=0.1) is None
    monkeypatch.setattr(from_daemon, "giving_way", nullcontext)  # not the test's own process
    for endpoint, is_said in (
        (control.endpoint, True),
        ("tcp://127.0.0.1:1", False),
        ("tcp://192.0.2.1:5557", False),
        ("ipc:///nowhere/control", False),
    ):
        said: list[str] = []
        with giving_way_to(endpoint, said.append):
            assert bool(said) == is_said
