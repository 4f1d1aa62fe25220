"""Who may connect from elsewhere: CURVE, and a list of public keys for each socket.

libzmq asks one handler per context about every connection (ZAP, ZeroMQ RFC 27). This is it: a thread of its own that
knows a list for each domain, a domain being a socket that binds, and looks at the lists' folders again and again. A
list is replaced as a whole. Where somebody was taken off it, the socket sends all its clients away; those that still
are on it come back by themselves.

pyzmq's `Authenticator` is not used: a callback or CURVE_ALLOW_ANY in one of its domains is one for all, a file that
cannot be read makes it keep nothing, and whoever is connected stays connected.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import zmq
from zmq.utils import z85

from inspectd.errors import UsageError
from inspectd.wire.keys import Allowed, KeyPair, read_allowed
from inspectd.wire.sockets import Context

LOG = logging.getLogger(__name__)

ZAP = "inproc://zeromq.zap.01"
VERSION = b"1.0"
LOOK_S = 0.2
"""How often the folders are looked at; a change counts when two looks agree on it."""
SAY_EVERY_S = 10.0
"""A client that tries again and again is not worth a line each time."""
LONGEST_HANDSHAKE = 1024
"""Bytes of a CURVE handshake's largest command, with metadata (RFC 26)."""

Look = frozenset[tuple[str, int, int, int]]
"""What a folder looks like: its files' names, inodes, sizes and times of change."""


@dataclass(frozen=True, slots=True)
class Door:
    """What a socket that others can reach needs: the daemon's own keys, and whose list it is."""

    keys: KeyPair
    domain: str

    def guard(self, socket: zmq.Socket[bytes]) -> None:
        """Let nobody in whom the handler has not let in, nor anybody while there is no handler."""
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self.keys.secret)
        socket.setsockopt(zmq.ZAP_DOMAIN, self.domain.encode())
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


class Doorkeeper:
    """Answers libzmq's question for every door. Start it before the sockets bind; stop it after they are closed."""

    def __init__(
        self, context: Context, folders: Mapping[str, Path], *, on_lost: Callable[[str], None] = lambda _: None
    ) -> None:
        """`folders`: of public keys, by domain. UsageError when one of them lets nobody in or holds what is no key."""
        self._on_lost = on_lost
        self._doors = {domain: _List(folder) for domain, folder in folders.items()}
        self._send_away: dict[str, Callable[[], None]] = {}
        self._said: dict[tuple[str, bytes], float] = {}
        self.refused = 0
        """Connections so far that were not let in."""
        self._socket = context.socket(zmq.REP)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="doorkeeper", daemon=True)

    def start(self, send_away: Mapping[str, Callable[[], None]]) -> None:
        """Begin to answer; `send_away`, by domain, makes a socket drop all its clients. It is called on this thread."""
        self._send_away = dict(send_away)
        self._socket.bind(ZAP)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, close its socket."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._socket.close(0)

    def _run(self) -> None:
        try:
            self._serve()
        except Exception as error:  # a thread's top: without it nobody who is taken off a list would notice
            LOG.exception("the doorkeeper failed")
            self._on_lost(f"the doorkeeper failed: {type(error).__name__}: {error}")

    def _serve(self) -> None:
        next_look_s = 0.0
        while not self._stop.is_set():
            if self._socket.poll(int(LOOK_S * 1000)):
                self._socket.send_multipart(self._answer(self._socket.recv_multipart()))
            if (now_s := time.monotonic()) >= next_look_s:
                next_look_s = now_s + LOOK_S
                for domain, door in self._doors.items():
                    if door.look_again():
                        self._send_away[domain]()

    def _answer(self, request: list[bytes]) -> list[bytes]:
        """Return the reply to a request: version, id, domain, address, identity, mechanism, credentials."""
        version, id_, domain, address, _, mechanism, *credentials = [*request, *[b""] * 7][: max(7, len(request))]
        door, name = self._doors.get(domain.decode(errors="replace")), None
        if version == VERSION and door is not None and mechanism == b"CURVE" and len(credentials) == 1:
            key = z85.encode(credentials[0]) if len(credentials[0]) == 32 else b""
            name = door.allowed.names.get(key)
            if name is None:
                self._say(domain.decode(), address.decode(errors="replace"), key)
        if name is None:
            self.refused += 1
            return [VERSION, id_, b"400", b"this key is not on the list", b"", b""]
        return [VERSION, id_, b"200", b"", name.encode(), b""]

    def _say(self, domain: str, address: str, key: bytes) -> None:
        now_s = time.monotonic()
        self._said = {one: said_s for one, said_s in self._said.items() if now_s - said_s < SAY_EVERY_S}
        if (domain, key) not in self._said:
            self._said[domain, key] = now_s
            folder = self._doors[domain].folder
            LOG.warning("a client at %s may not %s: its key %s is not in %s", address, domain, key.decode(), folder)


class _List:
    """One folder, and who is on its list."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seen = self._read = _look(folder)
        self.allowed: Allowed = read_allowed(folder)
        if self.allowed.problems:
            raise UsageError("\n".join(self.allowed.problems))

    def look_again(self) -> bool:
        """Take a new list where the folder has changed; return whether somebody was taken off it, or renamed."""
        before, self._seen = self._seen, _look(self.folder)
        if self._seen == self._read or self._seen != before:
            return False
        self._read = self._seen
        try:
            fresh = read_allowed(self.folder)
        except UsageError as error:
            fresh = Allowed({}, [str(error)])
        for problem in fresh.problems:
            LOG.error("the list of %s: %s", self.folder, problem)
        old, self.allowed = self.allowed, fresh
        is_anybody_gone = any(fresh.names.get(key) != name for key, name in old.names.items())
        LOG.info("the list of %s has %d keys now", self.folder, len(fresh.names))
        return is_anybody_gone


def _look(folder: Path) -> Look:
    seen = set()
    try:
        with os.scandir(folder) as files:
            for file in files:
                status = file.stat()
                seen.add((file.name, status.st_ino, status.st_size, status.st_mtime_ns))
    except OSError:  # it is gone, or a file of it is while we look: the next look tells
        pass
    return frozenset(seen)
