"""A proxy that treats a camera's stream badly: it drops, delays, cuts and reorders what the server sends.

TCP is relayed in chunks as they come; of RTSP over UDP the datagrams are relayed too: the client's ports in SETUP are
replaced by the proxy's own.
"""

from __future__ import annotations

import random
import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

CHUNK = 1400
_PORTS = re.compile(rb"client_port=(\d+)-(\d+)")


@dataclass
class Harm:
    """How often, and what, is done to a chunk or datagram."""

    share: float
    kinds: tuple[str, ...] = ("drop", "cut", "reorder", "delay")
    seed: int = 0
    done: int = 0
    _rng: random.Random = field(init=False)
    _held: bytes | None = None

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)

    def __call__(self, data: bytes) -> list[bytes]:
        """Return what is sent instead of `data`."""
        before, self._held = self._held, None
        sent = [data]
        if self._rng.random() < self.share:
            self.done += 1
            kind = self._rng.choice(self.kinds)
            if kind == "drop":
                sent = []
            elif kind == "cut":
                sent = [data[: self._rng.randrange(len(data))]] if len(data) > 1 else []
            elif kind == "reorder":
                sent, self._held = [], data
            elif kind == "delay":
                time.sleep(self._rng.uniform(0.05, 0.3))
        return sent + ([before] if before is not None else [])


class Proxy:
    """Listens on a free loopback port and relays to `server` (host, port). A context."""

    def __init__(self, server: tuple[str, int], harm: Callable[[bytes], list[bytes]] | None) -> None:
        """`harm` None: everything passes."""
        self._server = server
        self.harm = harm
        self.is_paused = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        """Where clients connect."""
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
            except OSError:
                return
            self._open += [client, server]
            state = _Session()
            threading.Thread(target=self._upstream, args=(client, server, state), daemon=True).start()
            threading.Thread(target=self._downstream, args=(server, client, state), daemon=True).start()

    def _upstream(self, client: socket.socket, server: socket.socket, state: _Session) -> None:
        """From the client to the server: never harmed, and watched for what is asked."""
        with suppress(OSError):
            while data := client.recv(65536):
                if data.startswith(b"SETUP") and (ports := _PORTS.search(data)):
                    data = _PORTS.sub(self._relay_datagrams(int(ports[1])), data)
                state.plays = state.plays or data.startswith((b"PLAY", b"GET"))
                server.sendall(data)
        _end(client, server)

    def _downstream(self, server: socket.socket, client: socket.socket, state: _Session) -> None:
        """From the server to the client: harmed once the pictures flow."""
        passed = 0
        with suppress(OSError):
            while data := server.recv(CHUNK):
                while self.is_paused.is_set():
                    time.sleep(0.01)
                passed += len(data) if state.plays else 0
                harmed = [data] if self.harm is None or passed < 4 * CHUNK else self.harm(data)
                for part in harmed:
                    client.sendall(part)
        _end(client, server)

    def _relay_datagrams(self, first: int) -> bytes:
        """Open two ports that pass on to the client's; return them as SETUP names them."""
        while True:
            pair = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(2)]
            pair[0].bind(("127.0.0.1", 0))
            ours = pair[0].getsockname()[1]
            with suppress(OSError, OverflowError):
                pair[1].bind(("127.0.0.1", ours + 1))
                break
        self._open += pair
        for number, one in enumerate(pair):
            harm = self.harm if number == 0 else None
            threading.Thread(target=_pass_datagrams, args=(one, first + number, harm), daemon=True).start()
        return b"client_port=%d-%d" % (ours, ours + 1)


@dataclass
class _Session:
    plays: bool = False


def _pass_datagrams(ours: socket.socket, to: int, harm: Callable[[bytes], list[bytes]] | None) -> None:
    with suppress(OSError):
        while True:
            data = ours.recv(65536)
            for part in [data] if harm is None else harm(data):
                ours.sendto(part, ("127.0.0.1", to))


def _end(*both: socket.socket) -> None:
    for one in both:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
