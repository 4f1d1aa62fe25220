"""What may be asked of the control socket, one type for each command.

A request is decoded strictly: a field that is missing, unknown or of another type is refused by its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta

LARGEST = 8_192
"""Bytes of a request."""
MOST_FRAMES = 16
"""Of one `capture`."""
MOST_ROWS = 1000
"""Of one answer from the journal."""
LONGEST_BYPASS_S = 86_400.0
LONGEST_CHALLENGE_S = 3600.0
CameraName = Annotated[str, Meta(max_length=64)]
Label = Annotated[str, Meta(max_length=64)]
"""The name of a recipe or an area."""
Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Rows = Annotated[int, Meta(ge=1, le=MOST_ROWS)]
_PLAIN = r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]*"
PRINTABLE = rf"^{_PLAIN}[^\s{_PLAIN[2:-2]}]{_PLAIN}\Z"
"""What begins no other line, turns no writing, and is not blank."""
By = Annotated[str, Meta(max_length=64, pattern=PRINTABLE)]
"""Who asks, as they call themselves; noted beside the key's name."""
Say = Literal["good", "bad"]
"""What a person says of a part."""
Why = Annotated[str, Meta(max_length=500, pattern=PRINTABLE)]


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

    camera: CameraName
    n: Annotated[int, Meta(ge=1, le=MOST_FRAMES)] = 1


class SnapshotRequest(_Request, frozen=True, kw_only=True, tag="snapshot"):
    """The camera's next frame as a JPEG for people, a reply part of its own; see CapturedFrame."""

    camera: CameraName


class VerdictsRequest(_Request, frozen=True, kw_only=True, tag="verdicts"):
    """Headers of verdicts that the journal holds: those of an epoch (null: the present one) behind `after`."""

    camera: CameraName
    after: Number
    epoch: Annotated[str, Meta(max_length=64)] | None = None
    limit: Rows = MOST_ROWS


class AuditRequest(_Request, frozen=True, kw_only=True, tag="audit"):
    """Rows of the audit behind number `after`."""

    after: Number = 0
    limit: Rows = MOST_ROWS


class ModelRequest(_Request, frozen=True, kw_only=True, tag="model"):
    """Judge by the model in a folder of the daemon's machine; the reply comes when it judges.

    `recipe` null: the one in force; `area` null: the only one.
    """

    camera: CameraName
    path: Annotated[str, Meta(min_length=1, max_length=4096)]
    recipe: Label | None = None
    area: Label | None = None
    by: By | None = None
    why: Why | None = None


class ThresholdRequest(_Request, frozen=True, kw_only=True, tag="threshold"):
    """Judge by another threshold from the next frame on; with `dry_run` only say what it would have done.

    `recipe` and `area` as in `model`.
    """

    camera: CameraName
    value: float
    recipe: Label | None = None
    area: Label | None = None
    by: By
    why: Why | None = None
    dry_run: bool = False
    instead_of: float | None = None
    """The one that the asker has seen; another one is in force: nothing is changed (`changed`). Null: whichever."""


class RevertRequest(_Request, frozen=True, kw_only=True, tag="revert"):
    """Return to the configuration: drop what `model` and `threshold` changed; `recipe` null: in all recipes."""

    camera: CameraName
    recipe: Label | None = None
    by: By
    why: Why | None = None


class BypassRequest(_Request, frozen=True, kw_only=True, tag="bypass"):
    """Inspect nothing for so many seconds; 0 ends it."""

    camera: CameraName
    seconds: Annotated[float, Meta(ge=0, le=LONGEST_BYPASS_S)]
    by: By
    why: Why


class MarkRequest(_Request, frozen=True, kw_only=True, tag="mark"):
    """Note what a person says of a part; its picture is kept for calibrations, if there is one."""

    camera: CameraName
    epoch: Annotated[str, Meta(max_length=64)] | None = None
    """Null: the present one."""
    seq: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    say: Say
    by: By
    why: Why | None = None


class TriggerRequest(_Request, frozen=True, kw_only=True, tag="trigger"):
    """A part is there; the reply is the trigger's id, or with `wait` the header of its verdict.

    `recipe`: the product that it is; null: as its id says, or the one in force.
    """

    camera: CameraName
    part: Annotated[str, Meta(min_length=1, max_length=256, pattern=PRINTABLE)] | None = None
    recipe: Label | None = None
    wait: bool = False


class ChallengeRequest(_Request, frozen=True, kw_only=True, tag="challenge"):
    """The next part is a known one; the reply comes when it was judged.

    Where the daemon is told of parts it takes the picture at once, unless `next`: then as the line brings the part.
    """

    camera: CameraName
    say: Say
    part: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")] | None = None
    """Its name: its pictures are held against those of other days."""
    next: bool = False
    study: bool = False
    """Only say what comes of it: nothing follows."""
    cancel: bool = False
    """Show none: the part that is expected does not come. Then the result is null."""
    within_s: Annotated[float, Meta(gt=0, le=LONGEST_CHALLENGE_S)] = 30.0
    """So long a part is waited for."""
    by: By
    why: Why | None = None


class RecipeRequest(_Request, frozen=True, kw_only=True, tag="recipe"):
    """Parts of another product come, from the next frame or trigger on."""

    camera: CameraName
    name: Label
    by: By | None = None
    why: Why | None = None


class ReloadRequest(_Request, frozen=True, tag="reload"):
    """Read the configuration again."""


Request = (
    StatusRequest
    | CaptureRequest
    | SnapshotRequest
    | VerdictsRequest
    | AuditRequest
    | ModelRequest
    | ThresholdRequest
    | RevertRequest
    | BypassRequest
    | MarkRequest
    | TriggerRequest
    | RecipeRequest
    | ChallengeRequest
    | ReloadRequest
)
COMMANDS: dict[str, type[msgspec.Struct]] = {str(kind.__struct_config__.tag): kind for kind in get_args(Request)}


class Envelope(msgspec.Struct, frozen=True):
    """What every request has; read first, so that the refusal of the rest carries its id."""

    cmd: str
    id: str | int | None = None


def decode_envelope(body: Sequence[bytes]) -> Envelope:
    """Read a request's command and id from its parts; RefusedError when it is no request."""
    if len(body) != 1:
        raise RefusedError("bad_request", f"The request has {len(body)} parts; expected one, JSON with id and cmd.")
    if len(body[0]) > LARGEST:
        raise RefusedError("bad_request", f"The request has {len(body[0])} bytes; expected at most {LARGEST}.")
    try:
        return msgspec.json.decode(body[0], type=Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RefusedError("bad_request", f"The request is not what was expected: {error}.") from None


def decode_request(body: bytes, command: str) -> Request:
    """Read a request of this command; RefusedError says which field is wrong, or that there is no such command."""
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
