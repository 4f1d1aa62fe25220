"""What may be asked of the daemon from a page, by whom, and in whose name.

The daemon decides; here is only what a role may ask for, and that every change says who and why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import msgspec
import zmq

from inspectd.client import Control, ForeignReplyError, Keys, NoReplyError, NotAllowedError, RefusalError
from inspectd.hmi.accounts import Person, Role
from inspectd.wire.requests import (
    BypassRequest,
    MarkRequest,
    ModelRequest,
    RecipeRequest,
    Request,
    RevertRequest,
    ThresholdRequest,
    TriggerRequest,
)


@dataclass(frozen=True, slots=True)
class Command:
    """One request of the protocol, as far as pages may make it."""

    kind: type[msgspec.Struct]
    role: Role
    patience_s: float = 10.0
    is_signed: bool = True
    """It says who and why, and is in the daemon's audit."""


COMMANDS: dict[str, Command] = {
    "trigger": Command(TriggerRequest, Role.OPERATOR, is_signed=False),
    "mark": Command(MarkRequest, Role.OPERATOR),
    "bypass": Command(BypassRequest, Role.OPERATOR),
    "recipe": Command(RecipeRequest, Role.OPERATOR, 30.0),
    "threshold": Command(ThresholdRequest, Role.ENGINEER),
    "revert": Command(RevertRequest, Role.ENGINEER, 60.0),
    "model": Command(ModelRequest, Role.ENGINEER, 120.0),  # it is loaded, warmed up and passes the gate first
}


class NotDoneError(Exception):
    """A command was not done; the message says why, and `status` is HTTP's."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def check_role(person: Person, needed: Role) -> None:
    """NotDoneError where somebody may not."""
    if not person.role.may(needed):
        who = f"{person.name} is" if person.name else "Who has not logged in is"
        raise NotDoneError(f"This needs the role {needed}. {who} {person.role}.", 403)


def signature(person: Person, fields: dict[str, Any]) -> dict[str, str]:
    """Return who does it and why; NotDoneError where one of them is missing."""
    by = person.name or str(fields.get("by") or "").strip()
    why = str(fields.get("why") or "").strip()
    if not by or not why:
        raise NotDoneError(f"Say {'why' if by else 'who you are'}: both are noted in the audit.", 400)
    if person.name is None and person.could_log_in:
        by = f"{by[:40]} (not logged in)"
    return {"by": by, "why": why}


def build(person: Person, name: str, fields: dict[str, Any]) -> tuple[Request, Command]:
    """Return a request in somebody's name; NotDoneError: it is none, or they may not."""
    command = COMMANDS.get(name)
    if command is None:
        raise NotDoneError(f"There is no command {name!r}; expected one of {', '.join(COMMANDS)}.", 404)
    check_role(person, command.role)
    fields = {"cmd": name, **fields}
    if command.is_signed and not fields.get("dry_run"):
        fields |= signature(person, fields)
    elif command.is_signed:
        fields["by"] = person.name or "page"
    try:
        request = cast(Request, msgspec.convert(fields, command.kind))
    except msgspec.ValidationError as error:
        raise NotDoneError(f"The {name} is not what was expected: {error}.", 400) from None
    return request, command


def ask(address: str, keys: Keys | None, request: Request, patience_s: float) -> Any:
    """Return the daemon's result; NotDoneError: it refuses, or does not answer. Waits: not for the event loop."""
    try:
        with Control(address, keys=keys) as daemon:
            result, _ = daemon.ask(request, patience_s)
    except RefusalError as error:
        raise NotDoneError(str(error), 409) from None
    except NoReplyError:
        raise NotDoneError(
            f"The daemon did not answer within {patience_s:g} s. Whether it was done is not known: look at the page or "
            "at the audit, before you do it again.",
            504,
        ) from None
    except (NotAllowedError, ForeignReplyError, zmq.ZMQError) as error:
        raise NotDoneError(f"The daemon's control socket cannot be used: {error}", 502) from None
    return result
