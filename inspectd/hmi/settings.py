"""What `inspectd hmi` is told at its start, and what of it cannot be."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from datetime import time
from pathlib import Path

from inspectd.addresses import is_loopback, split_address
from inspectd.client import Keys
from inspectd.errors import UsageError
from inspectd.hmi.accounts import Role

BELOW = re.compile(r"(/[A-Za-z0-9._~-]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where the daemon is, and to whom the page is served."""

    published: str
    control: str
    keys: Keys | None = None
    config: Path | None = None
    """The daemon's configuration, by which cameras are calibrated; None: none is."""
    journal: Path | None = None
    """Where the gallery finds verdicts; None: nowhere."""
    archive: Path | None = None
    """… and pictures."""
    listen: str = "127.0.0.1:9109"
    below: str = ""
    """The path below which a proxy shows the page, without a slash at its end."""
    names: tuple[str, ...] = ()
    """By which browsers reach it, beside this machine's name and addresses."""
    users: Path | None = None
    anyone: Role | None = None
    """What somebody may who has not logged in."""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    state: Path | None = None
    """Folder of what outlives a restart: the shifts' counts."""
    shifts: tuple[time, ...] = (time(6), time(14), time(22))
    language: str | None = None
    """None: each browser's."""

    @property
    def port(self) -> int:
        """Where it is served."""
        return (split_address(self.listen) or ("", 0))[1]

    @property
    def cookie(self) -> str:
        """The session's cookie: those of two pages on two ports of one machine are sent to both."""
        return f"inspectd-{self.port}"

    @property
    def lower_names(self) -> frozenset[str]:
        """Its names, in lower case."""
        return frozenset(one.lower() for one in self.names)

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        return is_loopback(self.listen)

    def check(self) -> None:
        """UsageError where it cannot be served like this."""
        if split_address(self.listen) is None:
            raise UsageError(f"--listen is {self.listen!r}; expected HOST:PORT, for instance 127.0.0.1:9109.")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise UsageError("Of --tls-cert and --tls-key one is missing; expected both, or none on the loopback.")
        if not BELOW.fullmatch(self.below):
            raise UsageError(f"--below is {self.below!r}; expected a path such as /line1, without a slash at its end.")
        if not self.is_local and (self.users is None or self.tls_cert is None):
            missing = "--users" if self.users is None else "--tls-cert and --tls-key"
            raise UsageError(
                f"{self.listen} can be reached from other machines; expected {missing} too: passwords, and a page that "
                "can stop a line, do not cross a network in the clear. On 127.0.0.1 none of it is needed."
            )

    def is_named(self, host: str) -> bool:
        """Whether a browser may call us so (a Host header): by an address, this machine's name, or a name of ours.

        A page of a stranger whose name suddenly means this machine (DNS rebinding) calls us by the stranger's name.
        """
        name = host.rpartition(":")[0] if re.fullmatch(r".*:\d+", host) else host
        name = name.removeprefix("[").removesuffix("]").lower()
        try:
            ipaddress.ip_address(name)
        except ValueError:
            here = socket.gethostname().lower()
            return name in {"localhost", here, f"{here}.local", *self.lower_names}
        return True
