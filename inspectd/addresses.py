"""Addresses that others connect to: what they are made of, and who can reach them."""

from __future__ import annotations

import ipaddress
import socket


def split_address(address: str) -> tuple[str, int] | None:
    """Split HOST:PORT (IPv6 in brackets); None when it is neither."""
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
        return None
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1], int(port)
    return None if set(host) & set("[]:") else (host, int(port))


def is_local(address: str) -> bool:
    """Tell whether a socket's address, tcp:// or ipc://, can be reached from this machine only."""
    return address.startswith("ipc://") or is_loopback(address.removeprefix("tcp://"))


def is_socket(address: str) -> bool:
    """Tell whether an address is one that a ZeroMQ socket can bind: tcp://HOST:PORT or ipc://PATH."""
    if address.startswith("ipc://"):
        return len(address) > len("ipc://")
    return address.startswith("tcp://") and split_address(address.removeprefix("tcp://")) is not None


def is_loopback(address: str) -> bool:
    """Tell whether HOST:PORT can be reached from this machine only."""
    parts = split_address(address)
    if parts is None:
        return False
    if parts[0].lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(parts[0]).is_loopback
    except ValueError:
        return False


def free_port() -> int:
    """Return a port of the loopback that nobody listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
