"""The client, against real sockets: what it hands out, and what it says when nobody or somebody else answers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import zmq
from asked import command_tables

from inspectd.client import Control, ForeignReplyError, NoReplyError, RefusalError, Subscription
from inspectd.line.sinks import RawFrames, Sinks
from inspectd.records import Finding, Frame, Mask, Outcome, Stamp, Verdict
from inspectd.wire import control, topics
from inspectd.wire.messages import verdict_message
from inspectd.wire.sockets import Context


class Report:
    def report(self) -> dict[str, Any]:
        return {"cameras": {"top": {"state": "running"}}}


@pytest.fixture
def context() -> Iterator[Context]:
    made: Context = zmq.Context()
    yield made
    made.term()


@pytest.fixture
def served(context: Context) -> Iterator[tuple[str, RawFrames]]:
    raw_frames = RawFrames()
    socket = control.Control(context, "tcp://127.0.0.1:0")
    socket.bind()
    socket.start(command_tables(Report(), raw_frames).handle)
    yield socket.endpoint, raw_frames
    socket.stop()


def answering(context: Context, tmp_path: Path) -> tuple[zmq.Socket[bytes], str]:
    """Return a socket that answers what a test wants, and its address."""
    socket = context.socket(zmq.ROUTER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.bind(f"ipc://{tmp_path}/foreign")
    return socket, f"ipc://{tmp_path}/foreign"


def test_status_and_raw_frames(served: tuple[str, RawFrames]) -> None:
    address, raw_frames = served
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    with Control(address) as daemon:
        assert daemon.status() == Report().report()

        def show() -> None:
            stamp = Stamp("top", 5, 50, "part-5")
            while not raw_frames.wants(stamp, None):
                time.sleep(0.001)
            Sinks([raw_frames]).finish(Frame(stamp, picture, lambda: None), None)

        camera = threading.Thread(target=show)
        camera.start()
        ((frame, data),) = daemon.capture("top")
        camera.join()
    assert (frame.frame, frame.part, frame.w, frame.h, frame.channels) == (5, "part-5", 4, 2, 3)
    assert data == picture.tobytes()


def test_a_refusal_has_the_daemons_code_and_sentence_and_the_next_request_is_answered(
    served: tuple[str, RawFrames],
) -> None:
    with Control(served[0]) as daemon:
        with pytest.raises(RefusalError, match="There is no camera 'side'") as refused:
            daemon.capture("side")
        assert refused.value.code == "unknown_camera"
        assert daemon.status() == Report().report()


def test_nobody_answers(tmp_path: Path) -> None:
    with Control(f"ipc://{tmp_path}/nobody") as daemon, pytest.raises(NoReplyError, match="nobody answered at ipc"):
        daemon.status(0.05)


def test_a_reply_to_capture_without_its_pictures_is_foreign(context: Context, tmp_path: Path) -> None:
    socket, address = answering(context, tmp_path)
    with Control(address) as daemon:

        def answer() -> None:
            who, _ = socket.recv_multipart()
            frame = {"frame": 1, "captured_ns": 1, "part": None, "w": 4, "h": 2, "channels": 1, "dtype": "uint8"}
            socket.send_multipart([who, json.dumps({"id": 1, "ok": True, "result": {"frames": [frame]}}).encode()])

        foreign = threading.Thread(target=answer)
        foreign.start()
        with pytest.raises(ForeignReplyError, match="the reply to capture is not what was expected"):
            daemon.capture("top")
        foreign.join()
    socket.close()


def test_a_reply_that_comes_too_late_is_not_taken_for_the_next(context: Context, tmp_path: Path) -> None:
    socket, address = answering(context, tmp_path)
    with Control(address) as daemon:
        with pytest.raises(NoReplyError):
            daemon.status(0.05)
        who, _ = socket.recv_multipart()
        for number in (1, 2):
            socket.send_multipart([who, json.dumps({"id": number, "ok": True, "result": {"of": number}}).encode()])
        assert daemon.status() == {"of": 2}
    socket.close()


@pytest.mark.parametrize("reply", [b"hello", b"[]", b'{"ok": true}', b'{"id": 1, "ok": true, "result": 7}'])
def test_what_is_not_inspectd_is_told(context: Context, tmp_path: Path, reply: bytes) -> None:
    socket, address = answering(context, tmp_path)
    with Control(address) as daemon:
        with pytest.raises(NoReplyError):
            daemon.status(0.05)
        who, _ = socket.recv_multipart()
        socket.send_multipart([who, reply.replace(b'"id": 1', b'"id": 2')])
        with pytest.raises(ForeignReplyError):
            daemon.status()
    socket.close()


def test_messages_have_their_topics_type_and_what_is_unknown_is_passed_over(context: Context, tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/published"
    publisher = context.socket(zmq.XPUB)
    publisher.setsockopt(zmq.LINGER, 0)
    publisher.bind(address)
    mask = Mask(np.arange(6, dtype=np.uint8).reshape(2, 3), (0, 0, 30, 20))
    finding = Finding(Outcome.NG, score=2.0, threshold=1.0, mask=mask)
    header = msgspec.json.encode(verdict_message(Verdict("top", 7, finding, 0), "e", 0, True, 99))
    with Subscription(address) as subscription:
        assert publisher.recv() == b"\x01"
        publisher.send_multipart([b"weather/", b"{}"])
        publisher.send_multipart([topics.VERDICT.of("top"), header])
        publisher.send_multipart([topics.MASK.of("top"), header, mask.bytes_.tobytes()])
        publisher.send_multipart([topics.DAEMON.of(), b"no json"])
        first, second, third = (subscription.receive(5) for _ in range(3))
        assert subscription.receive(0) is None
    publisher.close()
    assert first is not None
    assert first.verdict is not None
    assert (first.topic, first.verdict.seq, first.part, first.state, first.daemon) == (
        topics.VERDICT,
        7,
        None,
        None,
        None,
    )
    assert second is not None
    assert (second.topic, second.verdict, second.part) == (topics.MASK, None, mask.bytes_.tobytes())
    assert third is not None
    with pytest.raises(ForeignReplyError):
        _ = third.daemon
