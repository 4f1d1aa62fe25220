"""The HTTP endpoint for Prometheus, and for whoever keeps watch.

    /metrics          the registry, in Prometheus' format
    /healthz, others  what `probes` answers: 200 for yes, 503 for no, with a sentence

Off the loopback it speaks TLS, and only to who knows the token. Bounded: a client has a few seconds for its request,
and when too many are connected the oldest is sent away, so that idle connections never keep Prometheus out.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn
from types import MappingProxyType
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from inspectd.addresses import split_address
from inspectd.daemon.guard import Guard
from inspectd.errors import StartError

MOST_CONNECTIONS = 32
STOP_S = 0.1
"""How long a stop may wait for it."""
REQUEST_S = 3.0
"""For a whole request, from the connection on."""

Probe = Callable[[], tuple[bool, str]]
"""Answers a question: yes or no, and a sentence about it."""


class Exporter:
    """Owns the port. `listen` takes it, `start` answers; until then clients wait."""

    def __init__(self, address: str, guard: Guard | None = None) -> None:
        self._address = address
        self._guard = guard or Guard()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def listen(self) -> None:
        """Take the address, HOST:PORT; StartError when it cannot be had."""
        host, port = split_address(self._address) or ("", 0)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        kind = type("_FamilyServer", (_Server,), {"address_family": family})
        try:
            self._server = kind((host, port), _Handler)
            self._server.guard = self._guard
        except OSError as error:
            raise StartError(
                f"metrics.listen {self._address} cannot be bound: {error.strerror}. Stop the program that uses it "
                "(another inspectd?) or choose another port."
            ) from None

    def start(self, registry: CollectorRegistry, probes: Mapping[str, Probe]) -> None:
        """Begin to answer. `probes`: by path."""
        if self._server is not None:
            self._server.registry, self._server.probes = registry, probes
            serve = partial(self._server.serve_forever, STOP_S)
            self._thread = threading.Thread(target=serve, name="metrics", daemon=True)
            self._thread.start()

    def use(self, guard: Guard) -> None:
        """Ask new connections for something else: certificate and token may have been renewed."""
        self._guard = guard
        if self._server is not None:
            self._server.guard = guard

    @property
    def port(self) -> int:
        """The port that is served."""
        return 0 if self._server is None else self._server.server_port

    def close(self) -> None:
        """Stop serving."""
        if self._server is None:
            return
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


class _Server(ThreadingMixIn, HTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    guard: Guard
    registry: CollectorRegistry
    probes: Mapping[str, Probe]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._open: deque[socket.socket] = deque()
        self._lock = threading.Lock()

    def server_bind(self) -> None:
        """Bind, without asking a name server for our own name.

        Connections of a daemon that was killed linger for a minute: they must not keep the next one out.
        """
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        socket.socket.bind(self.socket, self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]  # as HTTPServer does

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give a connection a thread; the oldest makes room."""
        with self._lock:
            self._open.append(request)
            oldest = self._open.popleft() if len(self._open) > MOST_CONNECTIONS else None
        if oldest is not None:
            _cut(oldest)
        super().process_request(request, client_address)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection, over TLS where that is wanted; nothing is read from it yet."""
        connection, client_address = super().get_request()
        try:
            return self.guard.wrapped(connection), client_address
        except OSError:
            connection.close()
            raise

    def shutdown_request(self, request: Any) -> None:
        """Close a connection and forget it."""
        with self._lock, suppress(ValueError):
            self._open.remove(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that breaks off is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = REQUEST_S
    server_version, sys_version = "inspectd", ""

    def setup(self) -> None:
        """Begin to count: slow clients are cut off, however little they send in time."""
        super().setup()
        self._alarm = threading.Timer(REQUEST_S, self._cut_off)
        self._alarm.daemon = True
        self._alarm.start()

    def handle(self) -> None:
        """Shake hands, which has no time of its own, then answer."""
        if isinstance(self.connection, ssl.SSLSocket):
            self.connection.do_handshake()
        super().handle()

    def finish(self) -> None:
        """Stop counting."""
        self._alarm.cancel()
        super().finish()

    def do_GET(self) -> None:
        """Answer."""
        path = self.path.partition("?")[0]
        if not self.server.guard.admits(self.headers.get("Authorization")):
            self._answer(401, b"A bearer token is expected.\n", headers={"WWW-Authenticate": "Bearer"})
        elif path == "/metrics":
            self._answer(200, generate_latest(self.server.registry), CONTENT_TYPE_LATEST)
        elif (probe := self.server.probes.get(path)) is not None:
            is_so, sentence = probe()
            self._answer(200 if is_so else 503, f"{sentence}\n".encode())
        else:
            self._answer(404, f"There are {', '.join(['/metrics', *self.server.probes])}.\n".encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing: a scrape is no news."""

    def _answer(
        self,
        code: int,
        body: bytes,
        kind: str = "text/plain; charset=utf-8",
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _cut_off(self) -> None:
        _cut(self.connection)


def _cut(connection: socket.socket) -> None:
    """End a connection from another thread, as it is: over TLS the shutdown of `ssl` would first forget the keys."""
    with suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
