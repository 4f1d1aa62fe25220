"""The three addresses that others connect to, and who may."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import zmq

from inspectd.addresses import is_local, split_address
from inspectd.config import Config
from inspectd.credentials import secret_path
from inspectd.daemon.exporter import Exporter
from inspectd.daemon.guard import guard_of
from inspectd.daemon.heartbeat import Heartbeat
from inspectd.errors import UsageError
from inspectd.wire.control import Control
from inspectd.wire.keys import read_pair
from inspectd.wire.publisher import Publisher
from inspectd.wire.security import Door, Doorkeeper
from inspectd.wire.sockets import Context

WATCH, COMMAND = "watch", "command"
"""What a client may do: the lists of `publish.allow` and `control.allow`."""


class Endpoints:
    """They are taken first: a port in use, or a key that is no key, is no news after minutes."""

    def __init__(self, config: Config, on_lost: Callable[[str], None], heartbeat: Heartbeat) -> None:
        """UsageError when a key cannot be used."""
        self.epoch = secrets.token_hex(8)
        doors = doors_of(config)
        self._context: Context = zmq.Context()
        folders = {domain: folder for domain, (_, folder) in doors.items()}
        self._doorkeeper = Doorkeeper(self._context, folders, on_lost=on_lost) if doors else None
        self.publisher = Publisher(
            self._context,
            config.publish.bind,
            config.publish.masks,
            self.epoch,
            door=doors[WATCH][0] if WATCH in doors else None,
            on_lost=on_lost,
            progress=heartbeat.beat("publisher"),
        )
        self.control = Control(
            self._context,
            config.control.bind,
            door=doors[COMMAND][0] if COMMAND in doors else None,
            on_lost=on_lost,
        )
        self.exporter = Exporter(config.metrics.listen, guard_of(config.metrics))

    @property
    def refused(self) -> int:
        """Connections that were not let in so far."""
        return self._doorkeeper.refused if self._doorkeeper is not None else 0

    def connections(self) -> dict[str, int]:
        """Return how many clients each TCP socket has now: `publish`, `control`."""
        places = (("publish", self.publisher.endpoints), ("control", self.control.endpoints))
        tcp = [(name, one.removeprefix("tcp://")) for name, all_ in places for one in all_ if one.startswith("tcp://")]
        ports = {part[1]: name for name, address in tcp if (part := split_address(address)) is not None}
        found = dict.fromkeys(ports.values(), 0)
        with suppress(psutil.Error, OSError):
            for one in psutil.Process().net_connections(kind="tcp"):
                if one.status == psutil.CONN_ESTABLISHED and one.laddr.port in ports:
                    found[ports[one.laddr.port]] += 1
        return found

    def bind(self) -> None:
        """Take all three; StartError when one cannot be had, and then none is."""
        try:
            if self._doorkeeper is not None:
                self._doorkeeper.start({WATCH: self.publisher.send_away, COMMAND: self.control.send_away})
            self.publisher.bind()
            self.control.bind()
            self.exporter.listen()
        except Exception:
            self.close()
            raise

    def close(self) -> None:
        """Let them go; what was published is sent first."""
        self.control.stop()
        self.publisher.stop()
        self.exporter.close()
        if self._doorkeeper is not None:
            self._doorkeeper.stop()
        if self.control.is_closed and self.publisher.is_closed:
            self._context.term()  # else a thread is stuck, and this would be, too


def doors_of(config: Config) -> dict[str, tuple[Door, Path]]:
    """Return what guards each socket that others can reach, and the folder of those who may; UsageError: no key."""
    wanted = {
        domain: allow
        for domain, bind, allow in (
            (WATCH, config.publish.bind, config.publish.allow),
            (COMMAND, config.control.bind, config.control.allow),
        )
        if not is_local(bind)
    }
    if not wanted:
        return {}
    secret = config.security.curve_secret
    if not secret or not all(wanted.values()):
        raise UsageError("An address that others can reach has no keys; set security.curve_secret and allow.")
    keys = read_pair(secret_path("security.curve_secret", secret))
    next_secret = config.security.next_secret
    later = read_pair(secret_path("security.next_secret", next_secret)) if next_secret else None
    nexts = {WATCH: config.publish.next_bind, COMMAND: config.control.next_bind}
    return {
        domain: (Door(keys, domain, (address, later) if address and later else None), Path(folder or ""))
        for domain, folder in wanted.items()
        for address in [nexts[domain]]
    }
