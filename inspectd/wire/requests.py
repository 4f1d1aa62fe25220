"""What may be asked of the control socket, one type for each command, and what is replied.

A request is decoded strictly: a field that is missing, unknown or of another type is refused by its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, get_args

import msgspec

MOST_FRAMES = 16
"""Of one `capture`."""
PLANNED = frozenset(
    {"trigger", "verdicts", "model", "threshold", "revert", "bypass", "snapshot", "recipe", "mark", "audit", "reload"}
)
"""Commands of the protocol that this version does not have yet."""


class RefusedError(Exception):
    """A request that gets an error reply: `code` for programs, the message for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Request(msgspec.Struct, frozen=True, kw_only=True, tag_field="cmd", forbid_unknown_fields=True):
    """What all requests have. The reply carries the same id."""

    id: str | int | None = None


class StatusRequest(_Request, frozen=True, tag="status"):
    """The `daemon/` state with all camera states."""


class CaptureRequest(_Request, frozen=True, kw_only=True, tag="capture"):
    """The camera's next `n` raw frames, one reply part each; see CapturedFrame."""

    camera: str
    n: Annotated[int, msgspec.Meta(ge=1, le=MOST_FRAMES)] = 1


Request = StatusRequest | CaptureRequest
COMMANDS: dict[str, type[msgspec.Struct]] = {str(kind.__struct_config__.tag): kind for kind in get_args(Request)}


class ControlError(msgspec.Struct, frozen=True):
    """Why a request was refused."""

    code: str
    message: str


class ControlReply(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The reply to a request: `result` when `ok`, else `error`."""

    id: str | int | None
    ok: bool
    result: Any = None
    error: ControlError | None = None


class CapturedFrame(msgspec.Struct, frozen=True, kw_only=True):
    """One raw frame of a `capture`; its bytes, row by row, are a reply part of their own.

    `dtype` is uint8, or uint16 (little-endian); `channels` 1 is grey, 3 is blue, green, red.
    """

    frame: int
    captured_ns: int
    part: str | None
    w: int
    h: int
    channels: int
    dtype: str


class CaptureResult(msgspec.Struct, frozen=True):
    """The result of `capture`."""

    frames: list[CapturedFrame]


class Envelope(msgspec.Struct, frozen=True):
    """What every request has; read first, so that the refusal of the rest carries its id."""

    cmd: str
    id: str | int | None = None


def decode_envelope(body: Sequence[bytes]) -> Envelope:
    """Read a request's command and id from its parts; RefusedError when it is no request."""
    if len(body) != 1:
        raise RefusedError("bad_request", f"The request has {len(body)} parts; expected one, JSON with id and cmd.")
    try:
        return msgspec.json.decode(body[0], type=Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RefusedError("bad_request", f"The request is not what was expected: {error}.") from None


def decode_request(body: bytes, command: str) -> Request:
    """Read a request of this command; RefusedError says which field is wrong, or that there is no such command."""
    if command in PLANNED:
        raise RefusedError("unsupported", f"This version cannot do {command!r} yet.")
    if command not in COMMANDS:
        raise RefusedError("unknown_command", f"There is no command {brief(command)}; expected {_commands()}.")
    try:
        request: Request = msgspec.json.decode(body, type=Request)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RefusedError("bad_request", f"The request {command} is not what was expected: {error}.") from None
    return request


def brief(text: str) -> str:
    """Quote what a client sent, cut to a length that fits into a sentence."""
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _commands() -> str:
    *others, last = sorted(COMMANDS)
    return f"{', '.join(others)} or {last}" if others else last
