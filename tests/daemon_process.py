"""A real daemon in a process of its own, and a subscriber that keeps everything as plain JSON."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from forked import ForkedInspectd

from inspectd.client import Message, Subscription
from inspectd.wire import topics


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
        self.cameras = cameras
        self.endpoint = f"ipc://{folder}/verdicts"
        self.control = f"ipc://{folder}/control"
        self.config = folder / "inspectd.yaml"
        self.journal = folder / "journal.db"
        self.archive = folder / "archive"
        journal = "" if "journal:" in extra else f"journal: {{path: {self.journal}}}\n"
        archive = "max_gb: 0" if "journal: {path: null}" in extra else f"path: {self.archive}"
        journal += "" if "archive:" in extra else f"archive: {{{archive}}}\n"
        self.config.write_text(
            f'cameras: [{cameras}]\npublish: {{bind: "{self.endpoint}"}}\n'
            f'control: {{bind: "{self.control}"}}\nmetrics: {{listen: "127.0.0.1:0"}}\n{journal}{extra}'
        )
        self.verdicts: list[dict[str, Any]] = []
        self.masks: dict[tuple[str, int], np.ndarray[Any, Any]] = {}
        self.states: list[dict[str, Any]] = []
        self.daemon_states: list[dict[str, Any]] = []
        self._subscription = Subscription(self.endpoint)
        self._log = folder / "log.txt"
        self._log.write_text("")
        command = ["run", "--config", str(self.config), *arguments]
        self.process = ForkedInspectd(command, {**os.environ, **(environment or {})}, self._log)

    def __enter__(self) -> DaemonProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._subscription.close()

    @property
    def log(self) -> str:
        """What the daemon wrote to stderr so far."""
        return self._log.read_text()

    def listen(self, until: Callable[[DaemonProcess], bool], timeout_s: float = 60) -> None:
        """Collect messages until a condition holds; fail with the log when it does not come."""
        give_up = time.monotonic() + timeout_s
        while not until(self):
            assert time.monotonic() < give_up, f"it did not happen in {timeout_s} s:\n{self.log}"
            has_ended = self.process.poll() is not None
            message = self._subscription.receive(0.2 if has_ended else 0.1)
            if message is not None:
                self._keep(message)
            elif has_ended:
                assert until(self), f"the daemon ended with {self.process.returncode}:\n{self.log}"

    def alarms(self, camera: str = "top") -> set[str]:
        """Return the alarms in the last state of a camera."""
        last = next((one for one in reversed(self.states) if one["camera"] == camera), None)
        return {one["alarm"] for one in last["alarms"]} if last is not None else set()

    def listen_to_the_end(self, timeout_s: float = 120) -> int:
        """Collect messages until the daemon has ended; return its exit code."""
        self.listen(lambda d: d.process.poll() is not None, timeout_s)
        while (message := self._subscription.receive(0.1)) is not None:
            self._keep(message)
        return self.process.wait()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and collect what is still said; return the exit code."""
        self.process.send_signal(number)
        return self.listen_to_the_end()

    def _keep(self, message: Message) -> None:
        header = json.loads(message.encoded)
        match message.topic:
            case topics.VERDICT:
                self.verdicts.append(header)
            case topics.MASK:
                assert message.part is not None
                each = [one["mask"] for one in header.get("areas", [])] or [header["mask"]]
                shape = (sum(one["h"] for one in each if one), header["mask"]["w"])
                self.masks[header["camera"], header["seq"]] = np.frombuffer(message.part, np.uint8).reshape(shape)
            case topics.STATE:
                self.states.append(header)
            case topics.DAEMON:
                self.daemon_states.append(header)


def metrics_port(pid: int) -> int:
    """Return the one TCP port that a process listens on."""
    inodes = {str(f.readlink()) for f in Path(f"/proc/{pid}/fd").iterdir() if f.is_symlink()}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
            return int(fields[1].rpartition(":")[2], 16)
    raise AssertionError("the daemon listens on no TCP port")
