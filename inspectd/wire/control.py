"""The control socket: one thread that owns a ROUTER socket. One reply to every request, garbage included.

What a command does is not known here: a handler above is given each request, and an `Answer` that it uses at once or
later.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import zmq

from inspectd.errors import StartError
from inspectd.wire.requests import RefusedError, Request, decode_envelope, decode_request
from inspectd.wire.results import ControlError, ControlReply
from inspectd.wire.security import Door
from inspectd.wire.sockets import LINGER_MS, Bell, Context, Place, bind, rebind

LOG = logging.getLogger(__name__)

LARGEST_PART, MOST_QUEUED = 65_536, 64
"""A larger part ends the connection of whoever sends it, and so many requests of a client wait. libzmq collects all
parts of a message before it hands out the first, and counts none."""
MOST_PARTS = 4
"""Of a request; further ones are thrown away as they come."""
LONGEST_MESSAGE = 500
IDLE_S = 0.25

Work = Callable[[], None]


class Answer:
    """The one reply that a request is owed. Everything but `soon` is called on the control socket's thread."""

    def __init__(self, control: Control, address: list[bytes], id_: Any, user: str | None = None) -> None:
        self._control = control
        self._address = address
        self._id = id_
        self.user = user
        """The name of the asking client's key; None: it came where nobody is asked for one."""
        self.is_given = False

    def reply(self, result: Any, parts: Sequence[bytes] = ()) -> None:
        """Send the result. Only the first reply or refusal counts."""
        self._give(ControlReply(id=self._id, ok=True, result=result), parts)

    def refuse(self, code: str, message: str) -> None:
        """Send an error: a code for programs, one sentence for people."""
        self._give(ControlReply(id=self._id, ok=False, error=ControlError(code, message[:LONGEST_MESSAGE])), ())

    def soon(self, work: Work) -> None:
        """Do something on the control socket's thread. May be called from any thread; never blocks."""
        self._control.call_soon(lambda: self.attempt(work))

    def later(self, seconds: float, work: Work) -> None:
        """Do something after so many seconds, unless the request is answered before."""
        self._control.call_later(seconds, lambda: None if self.is_given else self.attempt(work))

    def attempt(self, work: Work) -> None:
        """Do a part of what was asked for; what goes wrong is refused, and harms no other request."""
        try:
            work()
        except RefusedError as error:
            self.refuse(error.code, str(error))
        except Exception:  # a request must never stop the line
            LOG.exception("a request to the control socket failed")
            self.refuse("internal", "The daemon failed to do this; its log says why.")

    def _give(self, reply: ControlReply, parts: Sequence[bytes]) -> None:
        if not self.is_given:
            encoded = msgspec.json.encode(reply)
            self.is_given = True
            self._control.send(self, [*self._address, encoded, *parts])


Handler = Callable[[Request, Answer], None]
"""Answers a request, at once or later; RefusedError is the answer, too. Called on the control socket's thread."""


class Control:
    """Settings: where to bind. Mailbox: what other threads want to be done here."""

    def __init__(
        self,
        context: Context,
        bind: str,
        *,
        door: Door | None = None,
        on_lost: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`door`: where others than this machine can reach it."""
        self._door = door
        self._places = door.places(bind, "control") if door is not None else [Place(bind, "control.bind")]
        self._on_lost = on_lost
        self._handle: Handler | None = None
        self._open: set[Answer] = set()
        self._soon: deque[Work] = deque()
        self._timers: list[tuple[float, int, Work]] = []
        self._order = itertools.count()
        self._bell = Bell()
        self._socket = context.socket(zmq.ROUTER)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    @property
    def endpoint(self) -> str:
        """The address that clients connect to, once bound."""
        return self._places[0].address

    @property
    def endpoints(self) -> list[str]:
        """All addresses: there is a second one while keys are changed."""
        return [place.address for place in self._places]

    @property
    def is_closed(self) -> bool:
        """Whether the socket is closed, and nobody uses it."""
        return self._socket.closed and not self._thread.is_alive()

    def bind(self) -> None:
        """Bind the socket; StartError when the address cannot be had."""
        self._socket.setsockopt(zmq.MAXMSGSIZE, LARGEST_PART)
        self._socket.setsockopt(zmq.RCVHWM, MOST_QUEUED)
        if self._door is not None:
            self._door.guard(self._socket)
        try:
            self._places = bind(self._socket, self._places)
        except StartError:
            self.stop()
            raise

    def start(self, handle: Handler) -> None:
        """Begin to answer."""
        self._handle = handle
        self._thread.start()

    def stop(self) -> None:
        """Refuse what has no answer yet, close the socket, wait for it."""
        self._stop.set()
        self._bell.ring()
        if self._thread.ident is not None:
            self._thread.join(LINGER_MS / 1000 * 3)
        else:
            self._socket.close(0)
        if not self._thread.is_alive():
            self._bell.close()

    def send_away(self) -> None:
        """Drop all clients soon; those that may come back do so by themselves. May be called from any thread."""
        self.call_soon(lambda: rebind(self._socket, self._places))

    def call_soon(self, work: Work) -> None:
        """Do something on this thread; called from any other."""
        self._soon.append(work)
        self._bell.ring()

    def call_later(self, seconds: float, work: Work) -> None:
        """Do something on this thread, where it is called, after so many seconds."""
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), work))

    def send(self, answer: Answer, parts: list[bytes]) -> None:
        """Send an answer's parts."""
        self._open.discard(answer)
        self._socket.send_multipart(parts)

    def _run(self) -> None:
        try:
            self._serve()
            for answer in tuple(self._open):
                answer.refuse("shutdown", "The daemon is stopping.")
        except Exception as error:  # a thread's top: without it nobody could command or ask
            LOG.exception("the control socket failed")
            self._on_lost(f"the control socket failed: {type(error).__name__}: {error}")
        finally:
            self._socket.close()

    def _serve(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._bell.fd, zmq.POLLIN)
        while not self._stop.is_set():
            ready = dict(poller.poll(max(0, int(self._idle_s() * 1000) + 1)))
            if self._bell.fd in ready:
                self._bell.hear()
            while self._soon:
                self._soon.popleft()()
            if self._socket in ready and self._socket.poll(0):  # a client that was just sent away asks nothing
                self._receive()
            while self._timers and self._timers[0][0] <= time.monotonic():
                heapq.heappop(self._timers)[2]()

    def _idle_s(self) -> float:
        return min(IDLE_S, self._timers[0][0] - time.monotonic()) if self._timers else IDLE_S

    def _receive(self) -> None:
        parts, user = self._receive_parts()
        # A REQ puts an empty part before the request, a DEALER may; the reply has the same form.
        address, body = (parts[:2], parts[2:]) if len(parts) > 2 and parts[1] == b"" else (parts[:1], parts[1:])
        try:
            envelope = decode_envelope(body)
        except RefusedError as error:
            Answer(self, address, None, user).refuse(error.code, str(error))
            return
        answer = Answer(self, address, envelope.id, user)
        self._open.add(answer)
        answer.attempt(lambda: self._answer(body[0], envelope.cmd, answer))

    def _answer(self, body: bytes, command: str, answer: Answer) -> None:
        if self._handle is not None:
            self._handle(decode_request(body, command), answer)

    def _receive_parts(self) -> tuple[list[bytes], str | None]:
        """Return the first parts of a message, and who the doorkeeper says it is from; the rest is dropped."""
        first = self._socket.recv(copy=False)
        user = str(first.get("User-Id")) or None if self._door is not None else None
        parts = [first.bytes]
        while self._socket.getsockopt(zmq.RCVMORE):
            part = self._socket.recv()
            if len(parts) < MOST_PARTS:
                parts.append(part)
        return parts, user
