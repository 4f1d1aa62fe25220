"""The operator's page, served by a process of its own, and a browser's view of it without a browser."""

from __future__ import annotations

import http.client
import json
import os
import ssl
import struct
import time
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from forked import ForkedInspectd
from websockets.sync.client import ClientConnection, connect

from inspectd.addresses import free_port


class HmiProcess:
    """`inspectd hmi` beside a daemon that need not run."""

    def __init__(
        self, folder: Path, published: str, control: str, *arguments: str, tls: ssl.SSLContext | None = None
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.port = free_port()
        self.origin = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.control = control
        self._tls = tls
        self._log = folder / "hmi.log"
        command = [
            "hmi",
            "--published",
            published,
            "--control",
            control,
            "--listen",
            f"127.0.0.1:{self.port}",
            *arguments,
        ]
        self.process = ForkedInspectd(command, os.environ, self._log)

    def __enter__(self) -> HmiProcess:
        give_up_s = time.monotonic() + 30
        while time.monotonic() < give_up_s and self.process.poll() is None:
            try:
                self.get("/healthz")
            except OSError:
                time.sleep(0.05)
            else:
                return self
        raise AssertionError(f"the page is not served:\n{self.log}")

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def log(self) -> str:
        """What it wrote to stderr so far."""
        return self._log.read_text() if self._log.exists() else ""

    def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of a page."""
        return self.request("GET", path, b"", headers)

    def post(self, path: str, fields: Any, **headers: str) -> tuple[int, Any]:
        """Send JSON as a page does; return status and reply."""
        status, _, body = self.request("POST", path, json.dumps(fields).encode(), {"origin": self.origin, **headers})
        return status, json.loads(body)

    def login(self, name: str, password: str) -> str:
        """Return the cookie of a new session."""
        form = urlencode({"name": name, "password": password}).encode()
        status, headers, body = self.request("POST", "/login", form, {"origin": self.origin})
        assert status == 303, body
        return headers["set-cookie"].split(";")[0]

    def request(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        """Return what comes back."""
        if self._tls:
            link: http.client.HTTPConnection = http.client.HTTPSConnection(
                "127.0.0.1", self.port, timeout=30, context=self._tls
            )
        else:
            link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            link.request(method, path, body or None, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = link.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            link.close()

    def browser(self, query: str = "", **headers: str) -> Browser:
        """Return the socket of a page."""
        headers = {"origin": self.origin, **headers}
        address = f"{'wss' if self._tls else 'ws'}://127.0.0.1:{self.port}/feed{query}"
        return Browser(connect(address, additional_headers=headers, origin=None, max_size=None, ssl=self._tls))


class Browser:
    """What a page's script does: takes an update, and answers."""

    def __init__(self, connection: AbstractContextManager[ClientConnection]) -> None:
        self._stack = ExitStack()
        self.socket = self._stack.enter_context(connection)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def take(self, *, answers: bool = True) -> tuple[dict[str, Any], bytes]:
        """Return the next update and its bytes."""
        data = self.socket.recv(timeout=30)
        assert isinstance(data, bytes)
        (length,) = struct.unpack_from("<I", data)
        update = json.loads(data[4 : 4 + length])
        if answers:
            self.socket.send(json.dumps({"ack": update["n"]}))
        return update, data[4 + length :]
