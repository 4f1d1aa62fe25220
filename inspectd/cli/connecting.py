"""What all commands have in common that talk to a running daemon: its addresses, and keys."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from inspectd.errors import StartError, UsageError

if TYPE_CHECKING:
    from inspectd.client import Keys
    from inspectd.wire.requests import Request

T = TypeVar("T")
PASSING = frozenset({"busy", "timeout", "shutdown", "internal", "journal", "failed"})
"""Codes of refusals that another attempt may not get."""
PUBLISHED, CONTROL = "tcp://127.0.0.1:5556", "tcp://127.0.0.1:5557"


def published(command: Callable[..., Any]) -> Callable[..., Any]:
    """Ask for the address that a daemon publishes on."""
    say = "The daemon's publish.bind, as it is reached from here."
    return click.option("--published", metavar="ADDRESS", default=PUBLISHED, show_default=True, help=say)(command)


def control(command: Callable[..., Any]) -> Callable[..., Any]:
    """Ask for the address of a daemon's control socket."""
    say = "The daemon's control.bind, as it is reached from here."
    return click.option("--control", metavar="ADDRESS", default=CONTROL, show_default=True, help=say)(command)


def keys(command: Callable[..., Any]) -> Callable[..., Any]:
    """Ask for the keys that are needed off the loopback."""
    file = click.Path(path_type=Path)
    own = click.option("--key", type=file, help="Off the loopback: our own NAME.key_secret.")
    return click.option("--server-key", type=file, help="Off the loopback: the daemon's NAME.key.")(own(command))


def read_keys(server_key: Path | None, key: Path | None) -> Keys | None:
    """Return the keys of the command line; UsageError when one of the two is missing or no key."""
    from inspectd.client import Keys

    if server_key is None and key is None:
        return None
    if server_key is None or key is None:
        raise UsageError("Of --server-key and --key one is missing; expected both, or none on the loopback.")
    return Keys.read(server_key, key)


def signed(command: Callable[..., Any]) -> Callable[..., Any]:
    """Ask for who does it, and why: both are noted in the audit."""
    why = click.option("--why", help="Noted beside it.")
    return click.option("--by", help="Who says so.  [this user]")(why(command))


def built(kind: type[T], what: str, **fields: Any) -> T:
    """Return a request of this kind, signed by this user where nobody else is named; UsageError: a field is wrong."""
    import msgspec

    fields["by"] = fields["by"] or user()
    try:
        return msgspec.convert({"cmd": what, **fields}, kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"The {what} is not what was expected: {error}.") from None


def user() -> str:
    """Return who asks, by the name of this machine's user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container, perhaps
        return f"user {os.getuid()}"


def check_address(option: str, address: str) -> None:
    """UsageError when something is no address of a socket."""
    from inspectd.addresses import is_socket

    if not is_socket(address):
        raise UsageError(f"{option} is {address!r}; expected tcp://HOST:PORT or ipc://PATH.")


@contextmanager
def in_words(address: str) -> Iterator[None]:
    """Turn what ZeroMQ says of an address into UsageError."""
    import zmq

    try:
        yield
    except zmq.ZMQError as error:
        raise UsageError(f"{address} cannot be connected to: {error}.") from None


def ask(address: str, keys: Keys | None, request: Request, timeout_s: float) -> Any:
    """Return the result of a request; StartError: nobody answers, or lets us in. UsageError: it is refused."""
    from inspectd.client import Control, ForeignReplyError, NoReplyError, NotAllowedError, RefusalError

    check_address("--control", address)
    try:
        with in_words(address), Control(address, keys=keys) as daemon:
            result, _ = daemon.ask(request, timeout_s)
    except RefusalError as error:
        kind = StartError if error.code in PASSING else UsageError
        raise kind(f"{error.code}: {error}") from None
    except NoReplyError as error:
        raise StartError(f"{str(error)[:1].upper()}{str(error)[1:]}. Does the daemon run?") from None
    except (NotAllowedError, ForeignReplyError) as error:
        raise StartError(str(error)) from None
    return result
