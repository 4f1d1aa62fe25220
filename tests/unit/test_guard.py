"""Off the loopback the metrics are read over TLS, by who knows the token, and by nobody else."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trustme
from prometheus_client import CollectorRegistry, Gauge

from inspectd.config import MetricsConfig
from inspectd.daemon import exporter as module
from inspectd.daemon.exporter import MOST_CONNECTIONS, Exporter
from inspectd.daemon.guard import Guard, guard_of
from inspectd.errors import UsageError

TOKEN = "4711-0815-4711-0815"
RIGHT = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(authority: trustme.CA, tmp_path: Path) -> MetricsConfig:
    """Certificate, key and token, as they are wanted."""
    pair = authority.issue_cert("127.0.0.1")
    cert, key, token = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "token"
    for blob in pair.cert_chain_pems:
        blob.write_to_path(cert, append=True)
    pair.private_key_pem.write_to_path(key)
    token.write_text(TOKEN + "\n")
    key.chmod(0o600)
    token.chmod(0o600)
    return MetricsConfig(tls_cert=str(cert), tls_key=str(key), token_file=str(token))


@pytest.fixture
def exporter(files: MetricsConfig) -> Iterator[Exporter]:
    registry = CollectorRegistry()
    Gauge("parts", "Parts.", registry=registry).set(7)
    one = Exporter("127.0.0.1:0", guard_of(files))
    one.listen()
    one.start(registry, {"/healthz": lambda: (True, "it gets on")})
    yield one
    one.close()


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def get(exporter: Exporter, context: ssl.SSLContext, path: str, headers: dict[str, str]) -> tuple[int, str]:
    connection = http.client.HTTPSConnection("127.0.0.1", exporter.port, timeout=10, context=context)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_who_knows_the_token_is_answered(exporter: Exporter, trusting: ssl.SSLContext) -> None:
    assert "parts 7.0" in get(exporter, trusting, "/metrics", RIGHT)[1]
    assert get(exporter, trusting, "/healthz", {"Authorization": f"bearer  {TOKEN}"}) == (200, "it gets on\n")


NOBODY: list[dict[str, str]] = [
    {},
    {"Authorization": ""},
    {"Authorization": "Bearer"},
    {"Authorization": f"Basic {TOKEN}"},
    {"Authorization": f"Bearer {TOKEN[:-1]}"},
    {"Authorization": f"Bearer {TOKEN}0"},
    {"Authorization": TOKEN},
    {"Authorization": "Bearer \xe4\xf6\xfc"},
]


def test_nobody_else_is(exporter: Exporter, trusting: ssl.SSLContext) -> None:
    for headers in NOBODY:
        for path in ("/metrics", "/healthz", "/anything"):
            assert get(exporter, trusting, path, headers) == (401, "A bearer token is expected.\n"), (path, headers)


def test_who_speaks_no_tls_or_trusts_another_is_not_answered(exporter: Exporter, trusting: ssl.SSLContext) -> None:
    with socket.create_connection(("127.0.0.1", exporter.port), timeout=10) as plain, suppress(OSError):
        plain.sendall(f"GET /metrics HTTP/1.0\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
        assert b"parts" not in plain.recv(10_000)
    with pytest.raises(ssl.SSLError):
        get(exporter, ssl.create_default_context(), "/metrics", RIGHT)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning, match="deprecated"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, OSError)):
        get(exporter, old, "/metrics", RIGHT)
    assert get(exporter, trusting, "/metrics", RIGHT)[0] == 200


def test_a_handshake_that_never_ends_is_cut_off(
    exporter: Exporter, trusting: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REQUEST_S", 0.3)
    with socket.create_connection(("127.0.0.1", exporter.port), timeout=10) as slow:
        began_s = time.monotonic()
        with suppress(OSError):
            slow.sendall(b"\x16\x03\x01\x02\x00")  # a handshake of 512 bytes, of which one comes now and then
            while time.monotonic() - began_s < 8:
                slow.sendall(b"\x01")
                time.sleep(0.05)
        assert time.monotonic() - began_s < 8, "it was cut off"
    assert get(exporter, trusting, "/metrics", RIGHT)[0] == 200


def test_idle_connections_do_not_keep_prometheus_out(exporter: Exporter, trusting: ssl.SSLContext) -> None:
    idle = [socket.create_connection(("127.0.0.1", exporter.port), timeout=10) for _ in range(3 * MOST_CONNECTIONS)]
    try:
        assert get(exporter, trusting, "/metrics", RIGHT)[0] == 200
    finally:
        for one in idle:
            one.close()


def test_without_a_token_nothing_is_asked_for() -> None:
    assert Guard().admits(None)


def changed(files: MetricsConfig, **changes: str) -> MetricsConfig:
    return MetricsConfig(
        **{"tls_cert": files.tls_cert, "tls_key": files.tls_key, "token_file": files.token_file} | changes
    )


@pytest.mark.parametrize(
    ("which", "content", "says"),
    [
        ("token_file", "short", "metrics.token_file .* holds no token; expected one line of at least 16 visible ASCII"),
        ("token_file", "two words are no token at all", "holds no token"),
        ("token_file", "\xe4" * 20, "holds no token"),
        ("token_file", "x" * 5000, "cannot be read: it has 5000 bytes; expected at most 4096"),
        ("tls_key", "no key", "metrics.tls_key .* cannot be used together"),
        ("tls_cert", "no certificate", "cannot be used together"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(files: MetricsConfig, which: str, content: str, says: str) -> None:
    path = Path(getattr(files, which))
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(UsageError, match=says):
        guard_of(files)


@pytest.mark.parametrize("which", ["token_file", "tls_key"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_secret_that_others_can_read_is_refused(files: MetricsConfig, which: str, mode: int) -> None:
    Path(getattr(files, which)).chmod(mode)
    with pytest.raises(UsageError, match=rf"metrics.{which} .* has mode {mode:03o}, so others can read it.*chmod 600"):
        guard_of(files)


@pytest.mark.parametrize("which", ["token_file", "tls_key", "tls_cert"])
def test_what_is_not_there_is_one_sentence(files: MetricsConfig, which: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"metrics.{which} {tmp_path}/gone cannot be read: No such file"):
        guard_of(changed(files, **{which: str(tmp_path / "gone")}))


def test_the_key_of_another_certificate_is_refused(files: MetricsConfig, authority: trustme.CA, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    authority.issue_cert("127.0.0.1").private_key_pem.write_to_path(other)
    other.chmod(0o600)
    with pytest.raises(UsageError, match="key values mismatch"):
        guard_of(changed(files, tls_key=str(other)))
