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
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import zmq
from zmq.utils import z85

from inspectd.errors import UsageError
from inspectd.wire.keys import Allowed, KeyPair, counts, read_allowed
from inspectd.wire.sockets import Context, Place

LOG = logging.getLogger(__name__)

ZAP = "inproc://zeromq.zap.01"
VERSION = b"1.0"
LOOK_S, MOST_LOOKS = 0.2, 3
"""How often the folders are looked at. A change counts when two looks agree on it, or when so many did not."""
SAY_EVERY_S, MOST_SAID = 10.0, 10
"""So many clients are named in so many seconds: whoever has the daemon's public key can make any number of keys."""
LONGEST_HANDSHAKE = 1024
"""Bytes of a CURVE handshake's largest command, with metadata (RFC 26)."""

Look = frozenset[tuple[str | int, ...]]
"""What a folder looks like: its key files' names, inodes, sizes and times."""


@dataclass(frozen=True, slots=True)
class Door:
    """What a socket that others can reach needs: the daemon's own keys, and whose list it is.

    `elsewhere`: another address, and the keys that are used there: clients move from one key to the next one by one.
    """

    keys: KeyPair
    domain: str
    elsewhere: tuple[str, KeyPair] | None = None

    def places(self, address: str, section: str) -> list[Place]:
        """Return where the socket listens whose `bind` this section of the configuration has."""
        places = [Place(address, f"{section}.bind", self.keys.secret)]
        if self.elsewhere is not None:
            places.append(Place(self.elsewhere[0], f"{section}.next_bind", self.elsewhere[1].secret))
        return places

    def guard(self, socket: zmq.Socket[bytes]) -> None:
        """Let nobody in whom the handler has not let in, nor anybody while there is no handler."""
        socket.setsockopt(zmq.CURVE_SERVER, 1)
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
        if door is not None and not door.allowed.names:  # a client that is told 400 never tries again
            return [VERSION, id_, b"300", b"the list cannot be read", b"", b""]
        if name is None:
            self.refused += 1
            return [VERSION, id_, b"400", b"this key is not on the list", b"", b""]
        return [VERSION, id_, b"200", b"", name.encode(), b""]

    def _say(self, domain: str, address: str, key: bytes) -> None:
        now_s = time.monotonic()
        self._said = {one: said_s for one, said_s in self._said.items() if now_s - said_s < SAY_EVERY_S}
        if (domain, key) not in self._said and len(self._said) < MOST_SAID:
            self._said[domain, key] = now_s
            folder = self._doors[domain].folder
            LOG.warning("a client at %s may not %s: its key %s is not in %s", address, domain, key.decode(), folder)


class _List:
    """One folder, and who is on its list."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._restless = 0
        self._seen = _look(folder)
        self._read: Look | None = self._seen
        self.allowed: Allowed = read_allowed(folder)
        if self.allowed.problems:
            raise UsageError("\n".join(self.allowed.problems))

    def look_again(self) -> bool:
        """Take a new list where the folder has changed; return whether somebody was taken off it, or renamed."""
        before, self._seen = self._seen, _look(self.folder)
        self._restless = self._restless + 1 if self._seen != before else 0
        if self._seen == self._read or 0 < self._restless < MOST_LOOKS:
            return False
        self._read, self._restless = self._seen, 0
        try:
            fresh = read_allowed(self.folder)
        except UsageError as error:
            fresh = Allowed({}, [str(error)])
        for problem in fresh.problems if fresh.problems != self.allowed.problems else ():
            LOG.error("the list of %s: %s", self.folder, problem)
        if fresh.problems:
            self._read = None  # what failed may succeed when it is tried again, though nothing changes
        old, self.allowed = self.allowed, fresh
        is_anybody_gone = any(fresh.names.get(key) != name for key, name in old.names.items())
        if fresh.names != old.names:
            LOG.info("the list of %s has %d keys now", self.folder, len(fresh.names))
        return is_anybody_gone


def _look(folder: Path) -> Look:
    seen: set[tuple[str | int, ...]] = set()
    try:
        paths = [path for path in folder.iterdir() if counts(path.name)]
    except OSError as error:  # it is gone
        return frozenset({(error.errno or -1,)})
    for path in paths:
        try:
            status = path.stat()
        except OSError as error:  # a link that leads nowhere, or a file that has just gone
            seen.add((path.name, error.errno or -1))
        else:
            facts = (status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            seen.add((path.name, *facts))
    return frozenset(seen)
