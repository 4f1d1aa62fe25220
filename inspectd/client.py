"""A client of the protocol: subscribe to what a daemon publishes, and ask its control socket.

Needs zmq and msgspec only, and is not thread-safe: one object, one thread.

    with Subscription("tcp://127.0.0.1:5556", "verdict/") as verdicts:
        for message in verdicts:
            print(message.header.camera, message.header.verdict)
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec
import zmq
from zmq.utils.monitor import recv_monitor_message

from inspectd.wire.keys import KeyPair, read_pair, read_public
from inspectd.wire.messages import DaemonMessage, StateMessage, VerdictMessage
from inspectd.wire.requests import MOST_ROWS, CaptureRequest, Request, StatusRequest, VerdictsRequest
from inspectd.wire.results import CapturedFrame, CaptureResult, ControlReply, VerdictsResult
from inspectd.wire.topics import Topic, find_topic

T = TypeVar("T", bound=msgspec.Struct)

HANDSHAKE_EVENTS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
MECHANISM_MISMATCH = zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH
"""One side wants keys (CURVE), and the other has none."""


class NoReplyError(Exception):
    """Nobody answered in time."""


class NotAllowedError(Exception):
    """The daemon does not let this client in: it has no key, or another than those on the list."""


class ForeignReplyError(Exception):
    """What answered or published does not speak this protocol."""


class RefusalError(Exception):
    """The daemon refused a request: `code` for programs, the message for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Message:
    """What was published."""

    topic: Topic
    encoded: bytes
    """The header, JSON."""
    part: bytes | None
    """What the topic's third part holds: a mask, a picture."""
    received_ns: int
    """Monotonic time at which it was received here."""

    @cached_property
    def header(self) -> Any:
        """The header as the topic's type; ForeignReplyError when it is not."""
        return _decode(self.encoded, self.topic.header)

    def of(self, kind: type[T]) -> T | None:
        """Return the header when the message is of this kind, else None."""
        return self.header if self.topic.header is kind else None

    @property
    def verdict(self) -> VerdictMessage | None:
        """The header of `verdict/`; None: it is another topic."""
        return self.header if self.topic.name == "verdict" else None

    @property
    def state(self) -> StateMessage | None:
        """The header of `state/`; None: it is another topic."""
        return self.of(StateMessage)

    @property
    def daemon(self) -> DaemonMessage | None:
        """The header of `daemon/`; None: it is another topic."""
        return self.of(DaemonMessage)


@dataclass(frozen=True)
class Keys:
    """What a client needs where a daemon asks for keys (CURVE)."""

    server: bytes
    """The daemon's public key."""
    own: KeyPair

    @classmethod
    def read(cls, server: Path, own: Path) -> Keys:
        """Read the daemon's NAME.key and our NAME.key_secret; UsageError says what is wrong with one of them."""
        return cls(read_public(server), read_pair(own))


@contextmanager
def connected(kind: int, address: str, keys: Keys | None) -> Iterator[zmq.Socket[bytes]]:
    """Give out a plain socket that is connected, for what no client of ours would send."""
    with zmq.Context() as context, context.socket(kind) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        _use(keys, socket)
        socket.connect(address)
        yield socket


def _use(keys: Keys | None, socket: zmq.Socket[bytes]) -> None:
    if keys is not None:
        socket.setsockopt(zmq.CURVE_SERVERKEY, keys.server)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.own.public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, keys.own.secret)


class _Connection:
    """A socket that connects, and connects again, by itself; close it."""

    def __init__(self, kind: int, address: str, keys: Keys | None, **options: int) -> None:
        self.address = address
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(kind)
        self._socket.setsockopt(zmq.LINGER, 0)
        for name, value in options.items():
            self._socket.setsockopt(getattr(zmq, name), value)
        _use(keys, self._socket)
        self._keys = keys
        self._events = self._socket.get_monitor_socket(HANDSHAKE_EVENTS)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._events, zmq.POLLIN)
        self._refusal: str | None = None
        self.trouble: str | None = None
        """Why nothing comes, as far as that shows."""

    def __enter__(self) -> Self:
        """Nothing: it connects already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.disable_monitor()
        self._events.close(0)
        self._socket.close(0)
        self._context.term()

    def _connect(self) -> None:
        try:
            self._socket.connect(self.address)
        except zmq.ZMQError:  # it is no address
            self.close()
            raise

    def _can(self, do: int, give_up_s: float) -> bool:
        """Wait until then for a message (POLLIN), or for room to send one (POLLOUT).

        NotAllowedError when the daemon does not let us in: there is nobody then to whom anything could be sent.
        """
        if self._refusal is not None:  # libzmq does not try again by itself
            raise NotAllowedError(self._refusal)
        self._poller.modify(self._socket, do)
        while True:
            ready = dict(self._poller.poll(max(0, int((give_up_s - time.monotonic()) * 1000))))
            if self._events in ready:
                self._note(recv_monitor_message(self._events))
            if self._socket in ready:
                return True
            if time.monotonic() >= give_up_s:
                return False

    def _note(self, event: Any) -> None:
        kind, value = int(event["event"]), int(event["value"])
        self.trouble = None
        if kind == zmq.EVENT_HANDSHAKE_FAILED_AUTH and self._keys is not None:
            self._refusal = (
                f"{self.address} does not let us in: this key is not on the list there. Its public key is "
                f"{self._keys.own.public.decode()}; whoever runs the daemon must put its file into the folder of those "
                "who may."
            )
        if kind == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL and value == MECHANISM_MISMATCH:
            wanted = "asks for keys, and none were given" if self._keys is None else "asks for no keys; give none"
            self._refusal = f"{self.address} {wanted}."
        if self._refusal is not None:
            raise NotAllowedError(self._refusal)
        if kind != zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.trouble = "it ends each connection before it begins; is the server's key that of the daemon?"


class Subscription(_Connection):
    """Messages as they come."""

    def __init__(self, address: str, *topics: str, high_water: int = 10_000, keys: Keys | None = None) -> None:
        """`topics`: prefixes, for instance `verdict/` or `state/top/`; none: everything.

        `high_water`: how many messages may wait here before the newest are lost; 0: any number.
        """
        super().__init__(zmq.SUB, address, keys, RCVHWM=high_water)
        for topic in topics or ("",):
            self.subscribe(topic)
        self._connect()

    def subscribe(self, topic: str) -> None:
        """Ask for one more prefix."""
        self._socket.subscribe(topic)

    def unsubscribe(self, topic: str) -> None:
        """Ask for a prefix no more."""
        self._socket.unsubscribe(topic)

    def __iter__(self) -> Iterator[Message]:
        """Yield messages for ever."""
        while True:
            message = self.receive(1.0)
            if message is not None:
                yield message

    def receive(self, timeout_s: float) -> Message | None:
        """Return the next message; None when none came in time. Messages of unknown topics are passed over.

        NotAllowedError when the daemon does not let us in.
        """
        give_up_s = time.monotonic() + timeout_s
        while self._can(zmq.POLLIN, give_up_s):
            first, *rest = self._socket.recv_multipart()
            topic = find_topic(first)
            if topic is not None and rest:
                return Message(topic, rest[0], rest[1] if len(rest) > 1 else None, time.monotonic_ns())
        return None


class Control(_Connection):
    """Asks a daemon's control socket, one request after the other."""

    def __init__(self, address: str, *, keys: Keys | None = None) -> None:
        super().__init__(zmq.DEALER, address, keys)
        self._last_id = 0
        self._connect()

    def status(self, timeout_s: float = 5.0) -> dict[str, Any]:
        """Return the daemon's state with the states of all cameras."""
        result, _ = self.ask(StatusRequest(), timeout_s)
        if not isinstance(result, dict):
            raise ForeignReplyError(f"the reply to status is {type(result).__name__}; expected an object")
        return result

    def capture(self, camera: str, n: int = 1, timeout_s: float = 8.0) -> list[tuple[CapturedFrame, bytes]]:
        """Return a camera's next raw frames: what each is, and its bytes row by row.

        The daemon itself waits 5 s for them; its own sentence arrives within the default.
        """
        result, parts = self.ask(CaptureRequest(camera=camera, n=n), timeout_s)
        try:
            return list(zip(msgspec.convert(result, CaptureResult).frames, parts, strict=True))
        except ValueError as error:
            raise ForeignReplyError(f"the reply to capture is not what was expected: {error}") from None

    def verdicts(
        self, camera: str, after: int, epoch: str | None = None, limit: int = MOST_ROWS, timeout_s: float = 8.0
    ) -> VerdictsResult:
        """Return verdicts that the journal holds behind number `after`, of an epoch or (None) the present one."""
        request = VerdictsRequest(camera=camera, after=after, epoch=epoch, limit=limit)
        result, _ = self.ask(request, timeout_s)
        try:
            return msgspec.convert(result, VerdictsResult)
        except ValueError as error:
            raise ForeignReplyError(f"the reply to verdicts is not what was expected: {error}") from None

    def ask(self, request: Request, timeout_s: float) -> tuple[Any, list[bytes]]:
        """Return the result and the further parts of the reply.

        NoReplyError, RefusalError, ForeignReplyError and NotAllowedError say why there is none.
        """
        self._last_id += 1
        give_up_s = time.monotonic() + timeout_s
        if self._can(zmq.POLLOUT, give_up_s):
            self._socket.send(msgspec.json.encode(msgspec.structs.replace(request, id=self._last_id)), zmq.NOBLOCK)
        while self._can(zmq.POLLIN, give_up_s):
            first, *parts = self._socket.recv_multipart()
            reply = _decode(first, ControlReply)
            if reply.id not in (self._last_id, None):
                continue  # of an earlier request, which was not waited for
            if not reply.ok:
                error = reply.error
                raise RefusalError(error.code if error else "", error.message if error else "it gave no reason.")
            return reply.result, parts
        why = f" ({self.trouble})" if self.trouble is not None else ""
        raise NoReplyError(f"nobody answered at {self.address} within {timeout_s:g} s{why}")


def _decode(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ForeignReplyError(str(error)) from None
