"""Who may read the metrics off the loopback: TLS, and a token that the asker knows."""

from __future__ import annotations

import hmac
import socket
import ssl
from pathlib import Path

from inspectd.config import MetricsConfig
from inspectd.credentials import check_secret, secret_path
from inspectd.errors import UsageError
from inspectd.reading import read_regular

MOST_BYTES = 1 << 20
LONGEST_TOKEN, SHORTEST_TOKEN = 4096, 16
BEARER = "bearer "


class Guard:
    """What a connection must be, and what a request must know. Neither: nothing is asked for."""

    def __init__(self, context: ssl.SSLContext | None = None, token: bytes | None = None) -> None:
        self._context = context
        self._token = token

    def wrapped(self, connection: socket.socket) -> socket.socket:
        """Return the connection to speak over, before any handshake."""
        if self._context is None:
            return connection
        return self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)

    def admits(self, authorization: str | None) -> bool:
        """Whether a request with this header, or without one, may be answered."""
        if self._token is None:
            return True
        said = authorization or ""
        is_bearer = said[: len(BEARER)].lower() == BEARER
        return is_bearer and hmac.compare_digest(said[len(BEARER) :].strip().encode(), self._token)


def guard_of(config: MetricsConfig) -> Guard:
    """Read certificate, key and token; UsageError: one cannot be used."""
    token = None
    if config.token_file is not None:
        token = _token(secret_path("metrics.token_file", config.token_file))
    if config.tls_cert is None or config.tls_key is None:
        return Guard(token=token)
    cert = secret_path("metrics.tls_cert", config.tls_cert)
    key = secret_path("metrics.tls_key", config.tls_key)
    _read("metrics.tls_cert", cert, MOST_BYTES)
    _secret("metrics.tls_key", key, MOST_BYTES)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # A key with a passphrase must not be asked for on a terminal that a daemon does not have.
        context.load_cert_chain(cert, key, password=lambda: b"")
    except (OSError, ValueError) as error:
        raise UsageError(
            f"metrics.tls_cert {cert} and metrics.tls_key {key} cannot be used together "
            f"({_why(error)}); expected a certificate and its key in PEM, the key without a passphrase."
        ) from None
    return Guard(context, token)


def _token(path: Path) -> bytes:
    token = _secret("metrics.token_file", path, LONGEST_TOKEN).strip()
    if len(token) < SHORTEST_TOKEN or not all(0x21 <= byte < 0x7F for byte in token):
        raise UsageError(
            f"metrics.token_file {path} holds no token; expected one line of at least {SHORTEST_TOKEN} visible ASCII "
            "characters, such as `openssl rand -hex 32` makes."
        )
    return token


def _secret(where: str, path: Path, most_bytes: int) -> bytes:
    data = _read(where, path, most_bytes)
    check_secret(path, f"{where} {path}")
    return data


def _read(where: str, path: Path, most_bytes: int) -> bytes:
    try:
        return read_regular(path, most_bytes)
    except OSError as error:
        raise UsageError(f"{where} {path} cannot be read: {error.strerror}.") from None


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return str(reason).lower().replace("_", " ") if reason else str(error)
