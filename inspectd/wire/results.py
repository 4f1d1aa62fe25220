"""What the control socket replies: one type for each command's result."""

from __future__ import annotations

from typing import Any

import msgspec

from inspectd.records import Outcome
from inspectd.wire.messages import VerdictMessage


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


class VerdictsResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of `verdicts`.

    A `seq` that is missing between `after` and the last one here is missing for good: the journal could not write it,
    or has given it up.
    """

    epoch: str
    verdicts: list[VerdictMessage]
    """Headers as they were published, by `seq`."""
    is_complete: bool
    """False: there are more behind the last of these; ask again with its `seq`."""


class AuditResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of `audit`."""

    rows: list[AuditRow]
    is_complete: bool


class AuditRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the audit.

    `hash` is the SHA-256, in hex, of the hash before it (64 zeros before the first) and of `change` as it is written.
    """

    n: int
    """From 1, without gaps."""
    change: AuditChange
    hash: str


class AuditChange(msgspec.Struct, frozen=True, kw_only=True):
    """Who changed what."""

    at: str
    """Wall clock, RFC 3339, UTC."""
    epoch: str
    what: str
    """`start`, `stop`, `model`, `threshold`, `revert`, `recipe`, `bypass`, `bypass_end`, `lost` …"""
    camera: str | None = None
    old: Any = None
    new: Any = None
    who: str | None = None
    """The name of the client's key; null: it came over the loopback, where nobody is asked."""
    by: str | None = None
    """What the client called itself."""
    why: str | None = None


class AreaOverrideMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What commands changed in one of several areas; absent: as the configuration says."""

    model: str | None = None
    """The folder."""
    threshold: float | None = None


class OverrideMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What commands changed at a camera, in the recipe in force; absent: as the configuration says."""

    model: str | None = None
    """The folder."""
    threshold: float | None = None
    recipe: str | None = None
    """The one that was chosen."""
    areas: dict[str, AreaOverrideMessage] | None = None
    """By name, where there are several."""
    others: list[str] | None = None
    """Recipes that are not in force, and in which something was changed, too."""


class ChangeResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of `model`, `threshold` and `revert`: what judges now."""

    model: str
    threshold: float | None
    overrides: OverrideMessage
    trial: TrialMessage | None = None
    """Of `threshold`."""
    recipe: str | None = None
    area: str | None = None


class RecipeResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of `recipe`: what judges now."""

    recipe: str
    model: str | None
    """Null: it cannot be used, and its parts are `fault: no_model`."""
    detail: str | None = None
    """What is not as it should be."""


class ReloadResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of `reload`: names of cameras."""

    added: list[str]
    removed: list[str]
    reopened: list[str]
    """Stopped, and started anew with other settings."""
    judged: list[str]
    """Judged by something else from one frame to the next; none was lost."""
    unchanged: list[str]
    notes: list[str]
    """What a person should know, in sentences."""


class TrialMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What another threshold would have said of the latest verdicts that the present model gave this camera."""

    verdicts: int
    """So many are looked at, at most 1,000."""
    since: str | None
    """When the first of them was captured."""
    ng: int
    """So many of them were `ng`."""
    ng_then: int
    """So many would have been."""
    passed: int
    """`ng` that would have been `ok`."""
    rejected: int
    """`ok` that would have been `ng`."""


class BypassResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of `bypass`."""

    until: str | None
    """Wall clock, RFC 3339, UTC; null: it is over."""


class RejudgedMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The picture with which a known part was told before, judged by what judges now."""

    at: str
    """When it was taken."""
    verdict_then: Outcome
    score_then: float | None
    verdict_now: Outcome
    score_now: float | None
    picture_moved: bool
    """The picture of today is another one: look at camera, lamp and part."""
    model_moved: bool
    """What judges is another one: model, threshold, or the machine."""
    detail: str
    """In words."""


class ChallengeResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of `challenge`."""

    passed: bool | None
    """Whether the part was told; null: it was not judged, the verdict says why, and nothing is changed."""
    verdict: VerdictMessage
    picture: str | None
    """The file on the daemon's machine; null: none was kept."""
    rejudged: RejudgedMessage | None
    """Null: there is no earlier picture of this part with which it was told."""
    detail: str
    """What follows, in one sentence."""


class MarkResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of `mark`."""

    epoch: str
    picture: str | None
    """The file on the daemon's machine; null: none of this part was kept."""
