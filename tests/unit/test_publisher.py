"""The publisher, heard by real subscribers."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from inspectd.errors import StartError
from inspectd.records import Finding, Mask, Outcome, Reason, Verdict, fault
from inspectd.wire import publisher as module
from inspectd.wire.messages import CountsMessage, DaemonMessage, JournalMessage, StateMessage
from inspectd.wire.publisher import Publisher
from inspectd.wire.sockets import Context

PATIENCE_MS = 20_000
GRID = np.arange(12, dtype=np.uint8).reshape(3, 4)
JOURNAL = JournalMessage(True, None, 0, 0, {})
OK = Finding(Outcome.OK, score=0.5, threshold=1.0, mask=Mask(GRID, (0, 0, 40, 30)))
NG = Finding(Outcome.NG, score=1.5, threshold=1.0, mask=Mask(GRID + 100, (0, 0, 40, 30)))
FAULT = fault(Reason.DEADLINE, "too late")


def verdict(camera: str, seq: int, finding: Finding = OK) -> Verdict:
    return Verdict(camera, seq, finding, 0)


class States:
    """Says what a daemon with two cameras would say; `then` runs when a camera is asked."""

    then: Callable[[], object] = staticmethod(lambda: None)
    last_seq = 0

    def cameras(self) -> tuple[str, ...]:
        return ("cam1", "cam10")

    def camera(self, name: str) -> StateMessage:
        self.then()
        counts = CountsMessage(*[0] * 10)
        return StateMessage(
            1, "e1", name, "running", True, None, None, self.last_seq, None, None, {}, counts, *[None] * 4, [], None
        )  # fmt: skip

    def daemon(self) -> DaemonMessage:
        cameras: Any = {"cam1": "running", "cam10": "running"}
        return DaemonMessage(1, "e1", "0", 1.0, True, "cpu", "float32", cameras, {}, JOURNAL, None, [])


class Ear:
    """A subscriber."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, *topics: str, kind: int = zmq.SUB
    ) -> None:
        self.socket = context.socket(kind)
        self.socket.setsockopt(zmq.RCVTIMEO, PATIENCE_MS)
        self.socket.set_hwm(0)
        for topic in topics:
            self.socket.subscribe(topic)
        self.socket.connect(endpoint)

    def hear(self) -> list[bytes]:
        return self.socket.recv_multipart()

    def header(self) -> tuple[str, dict[str, Any]]:
        topic, header, *_ = self.hear()
        return topic.decode(), json.loads(header)

    def ready(self) -> Ear:
        """Wait until all that was subscribed to is known: an answer to a later subscription proves it."""
        self.socket.subscribe("daemon/")
        assert self.header()[0] == "daemon/"
        self.socket.unsubscribe("daemon/")
        return self


class Station:
    """A running publisher that says its states only when it is asked, and what it reports."""

    def __init__(self, bind: str, masks: Any = "all") -> None:
        self.lost: list[str] = []
        self.published: list[tuple[int, int]] = []
        self.states = States()
        self.is_stopped = False
        self.context: Context = zmq.Context()
        self.publisher = Publisher(
            self.context,
            bind,
            masks,
            "e1",
            on_lost=self.lost.append,
        )

    def stop(self) -> None:
        if not self.is_stopped:
            self.is_stopped = True
            self.publisher.stop()
            self.context.term()


@pytest.fixture
def listen() -> Iterator[Callable[..., Ear]]:
    """Make subscribers that are closed in the end."""
    ears: list[Ear] = []
    with zmq.Context() as context:

        def subscriber(station: Station, *topics: str, kind: int = zmq.SUB) -> Ear:
            ears.append(Ear(context, station.publisher.endpoint, *topics, kind=kind))
            return ears[-1]

        yield subscriber
        for ear in ears:
            ear.socket.close(0)


@pytest.fixture
def stations(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Station]]:
    """Start publishers that are stopped in the end; `states` come once at the start and then only on request."""
    monkeypatch.setattr(module, "STATE_EVERY_S", 3600.0)
    made: list[Station] = []

    def start(masks: str = "all", bind: str | None = None) -> Station:
        station = Station(bind or f"ipc://{tmp_path}/p{len(made)}", masks)
        station.publisher.bind()
        made.append(station)
        station.publisher.start(station.states, lambda v, ns: station.published.append((v.seq, ns)))
        return station

    yield start
    for station in made:
        station.stop()


def test_a_verdict_is_followed_by_its_mask_with_the_same_header(stations: Any, listen: Any) -> None:
    station = stations(bind="tcp://127.0.0.1:0")
    ear = listen(station, "verdict/cam1/", "mask/cam1/").ready()
    station.publisher.put(verdict("cam1", 1, NG))
    topic, header = ear.hear()
    assert topic == b"verdict/cam1/"
    assert ear.hear() == [b"mask/cam1/", header, (GRID + 100).tobytes()]
    said = json.loads(header)
    assert (said["seq"], said["epoch"], said["mask"]["w"], said["mask"]["h"]) == (1, "e1", 4, 3)
    station.stop()
    assert station.published == [(1, said["t"]["published"])]
    assert station.lost == []


def test_topics_end_in_a_slash(stations: Any, listen: Any) -> None:
    station = stations()
    one = listen(station, "verdict/cam1/").ready()
    both = listen(station, "verdict/").ready()
    for camera in ("cam10", "cam1", "cam10"):
        station.publisher.put(verdict(camera, 1))
    station.publisher.put(verdict("cam1", 2))
    assert [(t, h["camera"], h["seq"]) for t, h in (one.header(), one.header())] == [
        ("verdict/cam1/", "cam1", 1),
        ("verdict/cam1/", "cam1", 2),
    ]
    assert [both.header()[0] for _ in range(4)] == [f"verdict/{c}/" for c in ("cam10", "cam1", "cam10", "cam1")]


@pytest.mark.parametrize(
    ("masks", "followed"),
    [("all", {"ok": True, "ng": True}), ("ng", {"ok": False, "ng": True}), ("none", {"ok": False, "ng": False})],
)
def test_the_mask_field_is_null_exactly_when_no_mask_follows(
    stations: Any, listen: Any, masks: str, followed: dict[str, bool]
) -> None:
    station = stations(masks)
    ear = listen(station, "verdict/cam1/", "mask/cam1/").ready()
    for seq, finding in enumerate((OK, NG, FAULT), 1):
        station.publisher.put(verdict("cam1", seq, finding))
    for outcome in ("ok", "ng", "fault"):
        topic, header = ear.header()
        assert (topic, header["verdict"]) == ("verdict/cam1/", outcome)
        assert (header["mask"] is not None) == followed.get(outcome, False)
        if header["mask"] is not None:
            assert ear.hear()[0] == b"mask/cam1/"


@pytest.mark.parametrize(
    ("subscription", "answer"),
    [
        ("state/cam1/", {"state/cam1/"}),
        ("state/cam10/", {"state/cam10/"}),
        ("state/", {"state/cam1/", "state/cam10/"}),
        ("daemon/", {"daemon/"}),
        ("", {"state/cam1/", "state/cam10/", "daemon/"}),
    ],
)
def test_a_new_subscription_is_answered_at_once(
    stations: Any, listen: Any, subscription: str, answer: set[str]
) -> None:
    station = stations()
    listen(station).ready()
    for _ in range(2):  # the second subscriber of a topic is answered like the first
        ear = listen(station, subscription)
        assert {ear.header()[0] for _ in answer} == answer


def test_a_change_is_told_without_being_asked(stations: Any, listen: Any) -> None:
    station = stations()
    ear = listen(station, "state/cam10/")
    assert ear.header()[0] == "state/cam10/"
    station.states.last_seq = 5
    station.publisher.changed("cam10")
    assert any(ear.header()[1]["last_seq"] == 5 for _ in range(2)), "one that was due may come between"


def test_a_verdict_is_never_sent_twice(stations: Any, listen: Any) -> None:
    station = stations()
    early = listen(station, "verdict/").ready()
    station.publisher.put(verdict("cam1", 1))
    assert early.header()[1]["seq"] == 1
    late = listen(station, "verdict/").ready()
    station.publisher.put(verdict("cam1", 2))
    station.stop()
    assert early.header()[1]["seq"] == 2
    assert late.header()[1]["seq"] == 2, "the first verdict was said before"
    assert station.published[-1][0] == 2


def test_stop_sends_what_is_queued_and_the_last_state(stations: Any, listen: Any) -> None:
    station = stations()
    ear = listen(station, "verdict/cam1/").ready()
    ear.socket.subscribe("state/cam1/")
    assert ear.header()[1]["last_seq"] == 0, "the answer to the subscription"
    station.states.last_seq = 3000
    for seq in range(1, 3001):
        station.publisher.put(verdict("cam1", seq, FAULT))
    station.stop()
    heard = [ear.header() for _ in range(3001)]
    assert [h["seq"] for t, h in heard if t.startswith("verdict")] == list(range(1, 3001))
    assert [h["last_seq"] for t, h in heard if t.startswith("state")] == [3000]


def test_a_state_never_speaks_of_a_verdict_that_was_not_sent(stations: Any, listen: Any) -> None:
    station = stations()
    ear = listen(station, "verdict/cam1/").ready()
    ear.socket.subscribe("state/cam1/")
    assert ear.header()[1]["last_seq"] == 0

    def close_one() -> None:  # the ledger closes an entry just before it is asked for its counts
        station.states.then = lambda: None
        station.publisher.put(verdict("cam1", 1))
        station.states.last_seq = 1

    station.states.then = close_one
    station.publisher.changed("cam1")
    assert [ear.header()[0] for _ in range(2)] == ["verdict/cam1/", "state/cam1/"]


def test_an_address_in_use_is_a_sentence(stations: Any) -> None:
    endpoint = stations(bind="tcp://127.0.0.1:0").publisher.endpoint
    second = Station(endpoint)
    with pytest.raises(StartError, match=r"publish\.bind tcp://127.* cannot be bound: another program uses it"):
        second.publisher.bind()
    second.stop()


def test_an_ipc_address_in_use_is_refused_too(stations: Any) -> None:
    second = Station(stations().publisher.endpoint)
    try:
        with pytest.raises(StartError):
            second.publisher.bind()
    finally:
        second.stop()


@pytest.mark.parametrize("bind", ["ipc:///nowhere/at/all", "tcp://127.0.0.1:http"])
def test_an_address_that_cannot_be_had_is_a_sentence(bind: str) -> None:
    station = Station(bind)
    with pytest.raises(StartError, match=f"publish.bind {bind} cannot be bound"):
        station.publisher.bind()
    station.stop()


def test_a_queue_that_nobody_empties_means_that_the_publisher_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUEUE_LIMIT", 3)
    station = Station("tcp://127.0.0.1:0")
    for seq in range(1, 4):
        station.publisher.put(verdict("cam1", seq))
    assert station.lost == []
    station.publisher.put(verdict("cam1", 4))
    assert station.lost == ["the publisher left 3 verdicts unsent"]
    station.stop()


def test_a_publisher_that_fails_says_that_it_is_lost(stations: Any, listen: Any) -> None:
    station = stations()
    listen(station).ready()
    station.states.then = lambda: 1 / 0
    station.publisher.changed("cam1")
    give_up_s = time.monotonic() + PATIENCE_MS / 1000
    while not station.publisher.is_closed and time.monotonic() < give_up_s:
        time.sleep(0.001)
    assert station.lost == ["the publisher failed: ZeroDivisionError: division by zero"]


def test_a_camera_that_ends_late_does_no_harm_after_the_stop(stations: Any) -> None:
    station = stations()
    station.stop()
    station.publisher.changed("cam1")


def test_garbage_from_a_client_does_no_harm(stations: Any, listen: Any) -> None:
    station = stations(bind="tcp://127.0.0.1:0")
    vandal = listen(station, kind=zmq.XSUB).socket
    for garbage in (b"", b"\x01\xff\xfe", b"\x07junk", b"\x00never", b"\x01" + b"x" * 60, b"\x02"):
        vandal.send(garbage)
    greedy = listen(station, kind=zmq.XSUB).socket
    greedy.send(b"\x01" + b"x" * 100_000)  # costs its own connection
    vandal.send_multipart([b"\x01verdict/", b"\x01\xc3", b"more"])
    host, _, port = station.publisher.endpoint.removeprefix("tcp://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_MS / 1000) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n" * 100)
        vandal.send(b"\x01daemon/")
        assert vandal.poll(PATIENCE_MS), "all that came before was taken"
        ear = listen(station, "verdict/cam1/").ready()
        station.publisher.put(verdict("cam1", 1))
        assert ear.header()[1]["seq"] == 1
    assert station.lost == []
