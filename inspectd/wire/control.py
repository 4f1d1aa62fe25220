"""The control socket: one thread that owns a ROUTER socket. One reply to every request, garbage included.

This version answers `status` and `capture`; the protocol's other commands are refused as not supported.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import zmq

from inspectd.errors import StartError
from inspectd.line.tap import Order, Tap
from inspectd.wire.endpoint import LINGER_MS, bind
from inspectd.wire.messages import CapturedFrame, CaptureResult, ControlError, ControlReply, ControlRequest

LOG = logging.getLogger(__name__)

NOT_YET = frozenset({"trigger", "verdicts", "model", "threshold", "revert", "bypass", "snapshot", "reload"})
MOST_FRAMES = 16
MOST_PENDING = 4
"""Captures that may wait at once: bounds the memory that clients can take."""
CAPTURE_TIMEOUT_S = 5.0
LARGEST_REQUEST = 8_192
"""Of each part. libzmq collects all parts of a message before it hands out the first, and counts none."""
MOST_PARTS = 4
"""Of a request; further ones are thrown away as they come."""
CAPTURE_BYTES_PER_S = 64_000_000
MOST_CAPTURE_BYTES = 256_000_000
"""Pictures that may be on their way to clients at once, and how fast that is forgotten: a client that never reads is
cut off after `endpoint.SILENT_MS`."""
LONGEST_MESSAGE = 500
_IDLE_MS, _WAITING_MS = 250, 5


class StatusSource(Protocol):
    """Who can say how things are. Called from the control thread."""

    def report(self) -> dict[str, Any]:
        """The daemon's state with the states of all cameras."""


class _RefusedError(Exception):
    """A request that gets an error reply; never leaves this module."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class _Pending:
    """A capture whose frames are not all there yet."""

    address: list[bytes]
    id_: Any
    camera: str
    order: Order
    until_s: float


class Control:
    """Settings: where to bind, whom to ask, the cameras' taps."""

    def __init__(self, bind: str, taps: Mapping[str, Tap], *, on_lost: Callable[[str], None] = lambda _: None) -> None:
        self._bind = bind
        self._taps = taps
        self._on_lost = on_lost
        self._status: StatusSource | None = None
        self._pending: list[_Pending] = []
        self._sent_bytes, self._reckoned_s = 0.0, time.monotonic()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    @property
    def endpoint(self) -> str:
        """The address that clients connect to, once bound."""
        return self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def bind(self) -> None:
        """Bind the socket; StartError when the address cannot be had."""
        self._socket.setsockopt(zmq.MAXMSGSIZE, LARGEST_REQUEST)
        try:
            bind(self._socket, self._bind, "control.bind")
        except StartError:
            self.stop()
            raise

    def start(self, status: StatusSource) -> None:
        """Begin to answer."""
        self._status = status
        self._thread.start()

    def stop(self) -> None:
        """Answer what waits with an error, close the socket, wait for it."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(LINGER_MS / 1000 * 3)
        else:
            self._socket.close(0)
        if not self._thread.is_alive():
            self._context.term()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                if self._socket.poll(_WAITING_MS if self._pending else _IDLE_MS):
                    self._receive()
                self._finish_captures()
            for pending in self._pending:
                self._refuse(pending.address, pending.id_, "shutdown", "The daemon is stopping.")
        except Exception as error:  # a thread's top: without it nobody could command or ask
            LOG.exception("the control socket failed")
            self._on_lost(f"the control socket failed: {type(error).__name__}: {error}")
        finally:
            self._socket.close()

    def _receive(self) -> None:
        parts = self._receive_parts()
        # A REQ puts an empty part before the request, a DEALER may; the reply has the same form.
        address, body = (parts[:2], parts[2:]) if len(parts) > 2 and parts[1] == b"" else (parts[:1], parts[1:])
        id_: Any = None
        try:
            request = _decode(body)
            id_ = request.id
            self._answer(address, request)
        except _RefusedError as error:
            self._refuse(address, id_, error.code, str(error))

    def _receive_parts(self) -> list[bytes]:
        """Return the first parts of a message; the rest is dropped part by part."""
        parts = [self._socket.recv()]
        while self._socket.getsockopt(zmq.RCVMORE):
            part = self._socket.recv()
            if len(parts) < MOST_PARTS:
                parts.append(part)
        return parts

    def _answer(self, address: list[bytes], request: ControlRequest) -> None:
        if request.cmd == "status" and self._status is not None:
            self._reply(address, request.id, self._status.report())
        elif request.cmd == "capture":
            self._order(address, request)
        elif request.cmd in NOT_YET:
            raise _RefusedError("unsupported", f"This version cannot do {request.cmd!r} yet.")
        else:
            raise _RefusedError(
                "unknown_command", f"There is no command {_brief(request.cmd)}; expected status or capture."
            )

    def _order(self, address: list[bytes], request: ControlRequest) -> None:
        tap = self._taps.get(request.camera or "")
        if tap is None:
            names = ", ".join(self._taps)
            raise _RefusedError("unknown_camera", f"There is no camera {_brief(request.camera)}; there are: {names}.")
        if not 1 <= request.n <= MOST_FRAMES:
            raise _RefusedError("bad_request", f"n is {request.n}; expected 1 to {MOST_FRAMES} frames.")
        if self._capture_bytes() > MOST_CAPTURE_BYTES:
            raise _RefusedError("busy", "Too many pictures are on their way to clients; ask again in a few seconds.")
        if len(self._pending) >= MOST_PENDING:
            raise _RefusedError("busy", f"{MOST_PENDING} captures are waiting already; ask again in a moment.")
        until_s = time.monotonic() + CAPTURE_TIMEOUT_S
        self._pending.append(_Pending(address, request.id, request.camera or "", tap.order(request.n), until_s))

    def _finish_captures(self) -> None:
        now_s = time.monotonic()
        waiting = []
        for pending in self._pending:
            if pending.order.is_filled:
                self._send_frames(pending)
            elif now_s > pending.until_s:
                self._taps[pending.camera].cancel(pending.order)
                had = f"{len(pending.order.frames)} of {pending.order.wanted}"
                why = f"Camera {pending.camera} gave {had} frames within {CAPTURE_TIMEOUT_S:g} s; is it running?"
                self._refuse(pending.address, pending.id_, "timeout", why)
            else:
                waiting.append(pending)
        self._pending = waiting

    def _send_frames(self, pending: _Pending) -> None:
        frames = pending.order.frames[: pending.order.wanted]
        described = [
            CapturedFrame(
                frame=stamp.frame,
                captured_ns=stamp.captured_ns,
                part=stamp.part,
                w=picture.shape[1],
                h=picture.shape[0],
                channels=1 if picture.ndim == 2 else picture.shape[2],
                dtype=str(picture.dtype),
            )
            for stamp, picture in frames
        ]
        pictures = [picture.tobytes() for _, picture in frames]
        self._sent_bytes = self._capture_bytes() + sum(map(len, pictures))
        self._reply(pending.address, pending.id_, msgspec.to_builtins(CaptureResult(described)), pictures)

    def _capture_bytes(self) -> float:
        """Return how many bytes of pictures are reckoned to be under way still."""
        now_s = time.monotonic()
        self._sent_bytes = max(0.0, self._sent_bytes - CAPTURE_BYTES_PER_S * (now_s - self._reckoned_s))
        self._reckoned_s = now_s
        return self._sent_bytes

    def _reply(self, address: list[bytes], id_: Any, result: Any, parts: list[bytes] | None = None) -> None:
        reply = msgspec.json.encode(ControlReply(id=id_, ok=True, result=result))
        self._socket.send_multipart([*address, reply, *(parts or [])])

    def _refuse(self, address: list[bytes], id_: Any, code: str, message: str) -> None:
        reply = msgspec.json.encode(ControlReply(id=id_, ok=False, error=ControlError(code, message[:LONGEST_MESSAGE])))
        self._socket.send_multipart([*address, reply])


def _brief(text: str | None) -> str:
    return repr(text if text is None or len(text) <= 40 else text[:37] + "...")


def _decode(body: list[bytes]) -> ControlRequest:
    if len(body) != 1:
        raise _RefusedError("bad_request", f"The request has {len(body)} parts; expected one, JSON with id and cmd.")
    try:
        return msgspec.json.decode(body[0], type=ControlRequest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _RefusedError("bad_request", f"The request is not what was expected: {error}.") from None
