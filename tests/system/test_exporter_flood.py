"""Prometheus is answered whatever else connects."""

from __future__ import annotations

import socket
import urllib.request
from contextlib import suppress

from prometheus_client import CollectorRegistry

from inspectd.daemon.exporter import Exporter


def test_a_thousand_idle_connections_do_not_keep_prometheus_out() -> None:
    exporter = Exporter("127.0.0.1:0")
    exporter.listen()
    exporter.start(CollectorRegistry(), lambda: (True, "top running"))
    idle = []
    try:
        for _ in range(1000):
            with suppress(OSError):
                idle.append(socket.create_connection(("127.0.0.1", exporter.port), timeout=2))
        with urllib.request.urlopen(f"http://127.0.0.1:{exporter.port}/metrics", timeout=10) as answer:
            assert answer.status == 200
    finally:
        for one in idle:
            one.close()
        exporter.close()
