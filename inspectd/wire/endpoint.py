"""What the sockets that bind have in common."""

from __future__ import annotations

import socket

LINGER_MS = 1000
"""How long a socket that closes may still send."""


def is_served(address: str) -> bool:
    """Whether somebody listens on an ipc:// address: libzmq would take its file away from a living daemon."""
    path = address.removeprefix("ipc://")
    if path == address:
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True
