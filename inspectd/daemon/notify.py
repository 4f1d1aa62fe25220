"""sd_notify: tell systemd that the daemon is ready, what it does, and that it makes progress."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping

LOG = logging.getLogger(__name__)

STATUS_MAX = 1000
"""Characters. systemd ignores a datagram of more than 4096 bytes as a whole, READY=1 included."""


class Notifier:
    """Talks to systemd; does nothing when the process was not started by it. Never blocks, never raises."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        name = environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{name[1:]}" if name.startswith("@") else name
        self._watchdog_s = _watchdog_s(environ)
        self._is_failing = False
        self._socket: socket.socket | None = None
        if name.startswith(("/", "@")):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        elif name:
            LOG.warning("NOTIFY_SOCKET is %r; expected /PATH or @NAME. systemd will not hear from this process.", name)

    @property
    def watchdog_s(self) -> float | None:
        """How long systemd waits between two signs of life before it kills; None: it does not."""
        return self._watchdog_s

    def ready(self, status: str) -> None:
        """Startup is over."""
        self._send(f"READY=1\n{_status(status)}")

    def reloading(self) -> None:
        """The configuration is read again; `ready` ends that."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def status(self, text: str) -> None:
        """Set the sentence that `systemctl status` shows."""
        self._send(_status(text))

    def stopping(self, status: str) -> None:
        """Shutdown has begun."""
        self._send(f"STOPPING=1\n{_status(status)}")

    def watchdog(self) -> None:
        """Give a sign of life; call it from progress, not from a timer."""
        self._send("WATCHDOG=1")

    def close(self) -> None:
        """Say nothing more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(message.encode(errors="replace"), socket.MSG_DONTWAIT, self._address)
        except OSError as error:
            if not self._is_failing:  # once per outage: the watchdog alone would log several times a second
                LOG.warning("systemd did not take a message on %r: %s.", self._address, error)
            self._is_failing = True
        else:
            self._is_failing = False


def _status(text: str) -> str:
    # A line break would begin another assignment, and systemd drops a datagram that holds a NUL.
    return f"STATUS={' '.join(text.splitlines())[:STATUS_MAX]}".replace("\0", " ")


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None  # meant for another process, which started this one
    text = environ.get("WATCHDOG_USEC", "")
    return int(text) / 1e6 if text.isdecimal() and int(text) > 0 else None
