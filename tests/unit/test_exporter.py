"""The HTTP endpoint: the truth, or 404; and nobody keeps Prometheus out."""

from __future__ import annotations

import http.client
import random
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from prometheus_client import CollectorRegistry, Gauge

from inspectd.daemon import exporter as module
from inspectd.daemon.exporter import Exporter
from inspectd.errors import StartError

HEADS = [b"GET /metrics HTTP/1.1\r\n", b"POST / HTTP/1.0\r\n\r\n", b"\xff" * 90, b"GET \0 x\r\n\r\n", b""]


@pytest.fixture
def truth() -> dict[str, bool]:
    return {"inspecting": True}


@pytest.fixture
def exporter(truth: dict[str, bool]) -> Iterator[Exporter]:
    registry = CollectorRegistry()
    Gauge("parts", "Parts.", registry=registry).set(7)
    one = Exporter("127.0.0.1:0")
    one.listen()
    one.start(registry, {"/inspecting": lambda: (truth["inspecting"], "top running")})
    yield one
    one.close()


def get(exporter: Exporter, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", exporter.port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_metrics_probes_and_nothing_else(exporter: Exporter, truth: dict[str, bool]) -> None:
    assert get(exporter, "/metrics")[0] == 200
    assert "parts 7.0" in get(exporter, "/metrics?x=1")[1]
    assert get(exporter, "/inspecting") == get(exporter, "/inspecting?now") == (200, "top running\n")
    truth["inspecting"] = False
    assert get(exporter, "/inspecting") == (503, "top running\n")
    assert get(exporter, "/healthz") == (404, "There are /metrics, /inspecting.\n")
    assert get(exporter, "/")[0] == get(exporter, "/anything")[0] == get(exporter, "/metricsx")[0] == 404


def test_a_slow_client_is_cut_off(exporter: Exporter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REQUEST_S", 0.3)
    with socket.create_connection(("127.0.0.1", exporter.port), timeout=10) as slow:
        began_s = time.monotonic()
        with suppress(OSError):
            while time.monotonic() - began_s < 8:
                slow.sendall(b"G")
                time.sleep(0.05)
        assert time.monotonic() - began_s < 8, "it was cut off"
    assert get(exporter, "/metrics")[0] == 200


def test_random_requests_do_no_harm(exporter: Exporter) -> None:
    rng = random.Random(4)
    for _ in range(200):
        with socket.create_connection(("127.0.0.1", exporter.port), timeout=10) as one, suppress(OSError):
            one.sendall(rng.choice(HEADS) + rng.randbytes(rng.randrange(300)) + b"\r\n\r\n")
            one.shutdown(socket.SHUT_WR)
            one.recv(1000)
    assert get(exporter, "/metrics")[0] == 200


def test_connections_of_a_daemon_that_ended_do_not_keep_the_next_one_out(exporter: Exporter) -> None:
    port = exporter.port
    with socket.create_connection(("127.0.0.1", port), timeout=10) as lingers:
        lingers.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        while lingers.recv(4096):  # the server closes first, so that its end of the connection is the one that waits
            pass
        exporter.close()
    again = Exporter(f"127.0.0.1:{port}")
    again.listen()
    again.close()


def test_a_taken_port_is_one_sentence(exporter: Exporter) -> None:
    with pytest.raises(StartError, match="cannot be bound"):
        Exporter(f"127.0.0.1:{exporter.port}").listen()
