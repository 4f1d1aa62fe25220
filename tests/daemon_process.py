"""A real daemon in a process of its own, with a plain pyzmq subscriber beside it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zmq


class DaemonProcess:
    """Starts `inspectd run` on a configuration and collects everything that it publishes."""

    def __init__(
        self,
        folder: Path,
        cameras: str,
        *,
        extra: str = "",
        arguments: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.endpoint = f"ipc://{folder}/verdicts"
        self.control = f"ipc://{folder}/control"
        self.config = folder / "inspectd.yaml"
        self.config.write_text(
            f'cameras: [{cameras}]\npublish: {{bind: "{self.endpoint}"}}\n'
            f'control: {{bind: "{self.control}"}}\nmetrics: {{listen: "127.0.0.1:0"}}\n{extra}'
        )
        self.verdicts: list[dict[str, Any]] = []
        self.masks: dict[tuple[str, int], np.ndarray[Any, Any]] = {}
        self.states: list[dict[str, Any]] = []
        self.daemon_states: list[dict[str, Any]] = []
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.subscribe("")
        self._socket.connect(self.endpoint)
        self._log = (folder / "log.txt").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "inspectd", "run", "--config", str(self.config), *arguments],
            env={**os.environ, **(environment or {})},
            stderr=self._log,
        )

    def __enter__(self) -> DaemonProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._socket.close()
        self._context.term()
        self._log.close()

    @property
    def log(self) -> str:
        """What the daemon wrote to stderr so far."""
        return Path(self._log.name).read_text()

    def listen(self, until: Callable[[DaemonProcess], bool], timeout_s: float = 60) -> None:
        """Collect messages until a condition holds; fail with the log when it does not come."""
        give_up = time.monotonic() + timeout_s
        while not until(self):
            if not self._socket.poll(100):
                assert time.monotonic() < give_up, f"it did not happen in {timeout_s} s:\n{self.log}"
                if self.process.poll() is not None and not self._socket.poll(200):
                    assert until(self), f"the daemon ended with {self.process.returncode}:\n{self.log}"
                continue
            assert time.monotonic() < give_up, f"it did not happen in {timeout_s} s:\n{self.log}"
            self._take(self._socket.recv_multipart())

    def listen_to_the_end(self, timeout_s: float = 120) -> int:
        """Collect messages until the daemon has ended; return its exit code."""
        self.listen(lambda d: d.process.poll() is not None, timeout_s)
        while self._socket.poll(100):
            self._take(self._socket.recv_multipart())
        return self.process.wait()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and collect what is still said; return the exit code."""
        self.process.send_signal(number)
        return self.listen_to_the_end()

    def _take(self, parts: list[bytes]) -> None:
        topic, header = parts[0].decode(), json.loads(parts[1])
        if topic.startswith("verdict/"):
            self.verdicts.append(header)
        elif topic.startswith("mask/"):
            shape = (header["mask"]["h"], header["mask"]["w"])
            mask = np.frombuffer(parts[2], np.uint8).reshape(shape)
            self.masks[header["camera"], header["seq"]] = mask
        elif topic.startswith("state/"):
            self.states.append(header)
        elif topic == "daemon/":
            self.daemon_states.append(header)
