"""Serves the pages until somebody ends it."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket

import uvicorn

from inspectd.addresses import split_address
from inspectd.errors import StartError
from inspectd.hmi.app import build
from inspectd.hmi.server import Server
from inspectd.hmi.settings import Settings

LOG = logging.getLogger(__name__)

GRACE_S = 3
"""For what is under way at the end: browsers come back by themselves."""
GIVE_UP_MS = 20_000
LARGEST = 4096
"""Bytes of a WebSocket message from a browser: it only sends answers."""


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C. UsageError, StartError: it cannot begin."""
    settings.check()
    server = Server(settings)
    with contextlib.closing(_bound(settings.listen)) as listener:
        config = uvicorn.Config(
            build(server),
            ssl_certfile=settings.tls_cert,
            ssl_keyfile=settings.tls_key,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=True,
            forwarded_allow_ips="127.0.0.1,::1",
            ws="websockets-sansio",
            ws_max_size=LARGEST,
            ws_per_message_deflate=False,  # pictures are compressed already
            timeout_graceful_shutdown=GRACE_S,
            limit_concurrency=1000,
        )
        try:
            config.load()
        except (OSError, ValueError) as error:
            raise StartError(f"The certificate {settings.tls_cert} cannot be used: {error}.") from None
        logging.getLogger("uvicorn").setLevel(logging.WARNING)  # browsers come and go
        scheme = "https" if settings.tls_cert else "http"
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        LOG.info("the page is on %s://%s:%d%s/", scheme, shown, port, settings.below)
        for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn ends in order, and then raises what it was sent again
            signal.signal(number, lambda *_: None)
        uvicorn.Server(config).run(sockets=[listener])


def _bound(address: str) -> socket.socket:
    """Return a listening socket; StartError: the address cannot be had."""
    host, port = split_address(address) or ("", 0)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # who takes nothing of what was sent for so long is let go, whatever waits for it
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, GIVE_UP_MS)
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise StartError(f"The page cannot be served on {address}: {error.strerror or error}.") from None
    return listener
