"""What the sockets that bind have in common, and the bell that wakes the threads that own them."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import zmq

from inspectd.errors import StartError

Context = zmq.Context[zmq.Socket[bytes]]
"""One for all sockets of the process: whoever makes it ends it, when all sockets are closed."""

HANDSHAKE_MS = 2000
"""A connection that does not speak ZeroMQ within this is closed."""
HEARTBEAT_MS, SILENT_MS = 2000, 8000
"""A peer that does not answer, or does not read what it asked for, is gone after this, and its memory with it."""
LINGER_MS = 1000
"""How long a socket that closes may still send."""
REBIND_ATTEMPTS, REBIND_S = 200, 0.01


class Bell:
    """Wakes a thread that polls `fd`. `ring` may be called from any thread, also after `close`."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = threading.Lock()

    def ring(self) -> None:
        """Wake the thread; who comes after the end finds nobody, and does no harm."""
        with self._lock:
            if self.fd >= 0:
                os.eventfd_write(self.fd, 1)

    def hear(self) -> None:
        """Note that the thread is awake."""
        os.eventfd_read(self.fd)

    def close(self) -> None:
        """Give the descriptor back."""
        with self._lock:
            if self.fd >= 0:
                os.close(self.fd)
                self.fd = -1


@dataclass(frozen=True, slots=True)
class Place:
    """Where a socket listens."""

    address: str
    setting: str
    """Where the configuration says so."""
    secret: bytes | None = None
    """The daemon's secret key there, as Z85; None: nobody is asked for keys."""


def bind(endpoint: zmq.Socket[bytes], places: Sequence[Place]) -> list[Place]:
    """Bind a socket to all places, and return them with what they are called now; StartError when one cannot be had."""
    return [replace(place, address=_bind(endpoint, place)) for place in places]


def _bind(endpoint: zmq.Socket[bytes], place: Place) -> str:
    address = place.address
    _use(endpoint, place)
    endpoint.setsockopt(zmq.LINGER, LINGER_MS)
    endpoint.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    endpoint.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    endpoint.setsockopt(zmq.HEARTBEAT_TIMEOUT, SILENT_MS)
    why = "another program uses it; stop that program (another inspectd?) or choose another address"
    try:
        if not _is_served(address):
            endpoint.bind(address)
            return endpoint.getsockopt_string(zmq.LAST_ENDPOINT)
    except zmq.ZMQError as error:
        if error.errno != errno.EADDRINUSE:
            why = str(error)
    raise StartError(f"{place.setting} {address} cannot be bound: {why}.")


def rebind(endpoint: zmq.Socket[bytes], places: Sequence[Place]) -> None:
    """Send all clients away; they connect again by themselves. For the thread that owns the socket.

    `places`: as `bind` returned them.
    """
    for place in places:
        endpoint.unbind(place.address)
    for place in places:
        _bind_again(endpoint, place)


def _use(endpoint: zmq.Socket[bytes], place: Place) -> None:
    """Let the socket have what the place needs from its next bind on."""
    endpoint.setsockopt(zmq.IPV6, int("[" in place.address))
    if place.secret is not None:
        endpoint.setsockopt(zmq.CURVE_SECRETKEY, place.secret)


def _bind_again(endpoint: zmq.Socket[bytes], place: Place) -> None:
    _use(endpoint, place)
    for attempt in range(REBIND_ATTEMPTS):  # the address is free when libzmq's own thread has let it go
        try:
            endpoint.bind(place.address)
        except zmq.ZMQError:
            if attempt == REBIND_ATTEMPTS - 1:
                raise
            time.sleep(REBIND_S)
        else:
            return


def _is_served(address: str) -> bool:
    """Whether somebody listens on an ipc:// address: libzmq would take its file away from a living daemon."""
    path = address.removeprefix("ipc://")
    if path == address:
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True
