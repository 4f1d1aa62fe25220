"""A client of the protocol: subscribe to what a daemon publishes, and ask its control socket.

Needs zmq and msgspec only, and is not thread-safe: one object, one thread.

    with Subscription("tcp://127.0.0.1:5556", "verdict/") as verdicts:
        for message in verdicts:
            print(message.header.camera, message.header.verdict)
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import msgspec
import zmq

from inspectd.wire.messages import DaemonMessage, StateMessage, VerdictMessage
from inspectd.wire.requests import CapturedFrame, CaptureRequest, CaptureResult, ControlReply, Request, StatusRequest
from inspectd.wire.topics import Topic, find_topic

T = TypeVar("T", bound=msgspec.Struct)


class NoReplyError(Exception):
    """Nobody answered in time."""


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


class Subscription:
    """Messages as they come; close it. It connects, and connects again, by itself."""

    def __init__(self, address: str, *topics: str, high_water: int = 10_000) -> None:
        """`topics`: prefixes, for instance `verdict/` or `state/top/`; none: everything.

        `high_water`: how many messages may wait here before the newest are lost; 0: any number.
        """
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, high_water)
        for topic in topics or ("",):
            self._socket.subscribe(topic)
        self._socket.connect(address)

    def __enter__(self) -> Subscription:
        """Nothing: it is connected already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def __iter__(self) -> Iterator[Message]:
        """Yield messages for ever."""
        while True:
            message = self.receive(1.0)
            if message is not None:
                yield message

    def receive(self, timeout_s: float) -> Message | None:
        """Return the next message; None when none came in time. Messages of unknown topics are passed over."""
        give_up_s = time.monotonic() + timeout_s
        while self._socket.poll(max(0, int((give_up_s - time.monotonic()) * 1000))):
            first, *rest = self._socket.recv_multipart()
            topic = find_topic(first)
            if topic is not None and rest:
                return Message(topic, rest[0], rest[1] if len(rest) > 1 else None, time.monotonic_ns())
        return None

    def close(self) -> None:
        """Close the socket."""
        self._socket.close(0)
        self._context.term()


class Control:
    """Asks a daemon's control socket, one request after the other; close it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(address)
        self._last_id = 0

    def __enter__(self) -> Control:
        """Nothing: it is connected already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close(0)
        self._context.term()

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

    def ask(self, request: Request, timeout_s: float) -> tuple[Any, list[bytes]]:
        """Return the result and the further parts of the reply.

        NoReplyError, RefusalError and ForeignReplyError say why there is none.
        """
        self._last_id += 1
        self._socket.send(msgspec.json.encode(msgspec.structs.replace(request, id=self._last_id)))
        give_up_s = time.monotonic() + timeout_s
        while self._socket.poll(max(0, int((give_up_s - time.monotonic()) * 1000))):
            first, *parts = self._socket.recv_multipart()
            reply = _decode(first, ControlReply)
            if reply.id not in (self._last_id, None):
                continue  # of an earlier request, which was not waited for
            if not reply.ok:
                error = reply.error
                raise RefusalError(error.code if error else "", error.message if error else "it gave no reason.")
            return reply.result, parts
        raise NoReplyError(f"nobody answered at {self.address} within {timeout_s:g} s")


def _decode(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ForeignReplyError(str(error)) from None
