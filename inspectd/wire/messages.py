"""The messages of protocol version 1, as a subscriber sees them. Loads neither torch, cv2 nor zmq.

A receiver in Python can decode a header with `msgspec.json.decode(header, type=VerdictMessage)`.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from inspectd.records import AreaFinding, Challenge, Counts, Finding, Known, Mask, Outcome, Reason, Region, Verdict

PROTOCOL = 1

CameraState = Literal["starting", "running", "lost", "frozen", "stopped", "bypass"]


class ImageMessage(msgspec.Struct, frozen=True):
    """The camera's picture; `roi` is the rectangle x, y, w, h that was inspected."""

    w: int
    h: int
    roi: tuple[int, int, int, int]


class MaskMessage(msgspec.Struct, frozen=True):
    """The `w` × `h` patch grid that follows, the rectangle of the picture it covers, and the level.

    Bytes above `level` are above the threshold.
    """

    w: int
    h: int
    area: tuple[int, int, int, int]
    level: int


class TimesMessage(msgspec.Struct, frozen=True):
    """Nanoseconds of the daemon's monotonic clock; null where there was no such moment."""

    trigger: int | None
    captured: int | None
    queued: int | None
    started: int | None
    scored: int | None
    published: int


class AreaMessage(msgspec.Struct, frozen=True):
    """What was found in one of several areas of a camera's picture."""

    name: str
    verdict: Outcome
    reason: Reason | None
    detail: str | None
    score: float | None
    threshold: float | None
    p: float | None
    model: str | None
    roi: tuple[int, int, int, int] | None
    regions: tuple[Region, ...]
    mask: MaskMessage | None
    """Null: `mask/` carries no bytes of it."""


class ChallengeMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """The part is a known one, shown to try the inspection: no part of the production."""

    known: Known
    part: str | None = None
    """Its name."""
    study: bool = False
    """It was shown for a study: nothing follows from what is said of it."""


class VerdictMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Topic `verdict/<camera>/`, and the header of `mask/<camera>/`."""

    v: int
    epoch: str
    camera: str
    seq: int
    frame: int | None
    displaced: int
    part: str | None
    trigger: str | None
    verdict: Outcome
    reason: Reason | None
    detail: str | None
    score: float | None
    threshold: float | None
    p: float | None
    regions: tuple[Region, ...]
    recipe: str | None
    model: str | None
    image: ImageMessage | None
    mask: MaskMessage | None
    t: TimesMessage
    at: str | None
    areas: tuple[AreaMessage, ...] = ()
    """Only with several areas: each of them, the worst first. What stands above is that of the worst, with the
    regions of all; `mask/` carries the bytes of all that have a mask, in this order."""
    challenge: ChallengeMessage | None = None
    """Only of a known part. One that is bad is `ng`, or `fault: bypass` where it was not found; never `ok`."""


class CountsMessage(msgspec.Struct, frozen=True):
    """A camera's counters since the epoch began."""

    captured: int
    ok: int
    ng: int
    fault: int
    displaced: int
    late: int
    unmatched: int
    """Frames that no trigger asked for."""
    triggers: int
    overtaken: int
    """Triggers whose part went by before the camera gave a picture of it: the next trigger came first."""
    repeated: int
    """Triggers for a part that had been triggered shortly before."""


class ShadowMessage(msgspec.Struct, frozen=True):
    """What a camera's second model would have said, of pictures that got ok or ng."""

    model: str | None
    """Run name and digest; null: it cannot be used."""
    detail: str | None
    """Why it cannot be used."""
    compared: int
    """Pictures since the epoch began, or since the model or the threshold that judges was changed."""
    agreed: int
    rejected: int
    """`ok` that it would have called `ng`."""
    passed: int
    """`ng` that it would have called `ok`."""
    faults: int
    """Pictures that it would not have judged."""


class AlarmMessage(msgspec.Struct, frozen=True):
    """Something that asks somebody to act."""

    alarm: str
    """Its name: a fault's reason where there is one."""
    priority: Literal["critical", "high", "medium", "low"]
    since: str
    detail: str
    """What is the case, in one sentence."""
    action: str
    """What to do about it."""


class ChallengesMessage(msgspec.Struct, frozen=True):
    """How a camera did with known parts."""

    why_not: str | None
    """Why nothing is `ok` at present; null: known parts are no reason."""
    due_in_s: float | None
    """When the next one must be told; 0: it is due. Null: never."""
    told: dict[str, str]
    """By kind, `good` or `bad`, when one was told last."""


class StateMessage(msgspec.Struct, frozen=True):
    """Topic `state/<camera>/`: once a second and at every change."""

    v: int
    epoch: str
    camera: str
    state: CameraState
    inspecting: bool
    detail: str | None
    fps: float | None
    last_seq: int
    last_frame_age_ms: float | None
    model: str | None
    overrides: dict[str, Any]
    counts: CountsMessage
    p99_ms: float | None
    shadow: ShadowMessage | None
    """Null: the camera has no second model."""
    recipe: str | None
    """The product in force; null: the camera has but one."""
    caveat: str | None
    """What cannot be promised of its pictures."""
    alarms: list[AlarmMessage]
    """The most urgent first."""
    challenge: ChallengesMessage | None
    """Null: no known part was ever shown, and none need be."""


class ModelMessage(msgspec.Struct, frozen=True):
    """The form that a model is judged in, and how far its patch scores were from the textbook's in float32."""

    device: str
    precision: str
    band: float


class JournalMessage(msgspec.Struct, frozen=True):
    """How the journal is: what is published is kept there, and can be asked for."""

    ok: bool
    detail: str | None
    """What is wrong; null: nothing."""
    written: int
    """Verdicts so far."""
    waiting: int
    """Verdicts that are to be written."""
    lost: dict[str, int]
    """By camera, verdicts that could not be written."""


class ArchiveMessage(msgspec.Struct, frozen=True):
    """How the archive is: pictures of what was not ok, and of a share of what was."""

    ok: bool
    detail: str | None
    """What is wrong; null: nothing."""
    kept: int
    """Pictures since the epoch began."""
    waiting: int
    lost: dict[str, int]
    """By camera, pictures that could not be kept."""
    bytes: int
    """That all pictures take."""


class DaemonMessage(msgspec.Struct, frozen=True):
    """Topic `daemon/`: once a second and at every change. None for 3 s: the daemon is gone."""

    v: int
    epoch: str
    version: str
    uptime_s: float
    inspecting: bool
    device: str
    precision: str
    cameras: dict[str, CameraState]
    models: dict[str, ModelMessage]
    """By run name and digest."""
    journal: JournalMessage
    archive: ArchiveMessage | None
    """Null: no pictures are kept."""
    alarms: list[AlarmMessage]
    """Of the daemon itself; those of its cameras are in `state/`."""


def verdict_message(
    verdict: Verdict, epoch: str, wall_offset_ns: int, with_mask: bool, published_ns: int
) -> VerdictMessage:
    """Translate a closed ledger entry. `wall_offset_ns`: wall clock minus monotonic clock."""
    finding, stamp = verdict.finding, verdict.stamp
    captured_ns = stamp.captured_ns if stamp else None
    image = None
    if finding.picture is not None and finding.roi is not None:
        image = ImageMessage(*finding.picture, roi=finding.roi)
    return VerdictMessage(
        v=PROTOCOL,
        epoch=epoch,
        camera=verdict.camera,
        seq=verdict.seq,
        frame=stamp.frame if stamp else None,
        displaced=verdict.displaced,
        part=verdict.part,
        trigger=verdict.trigger,
        verdict=finding.outcome,
        reason=finding.reason,
        detail=finding.detail,
        score=_finite(finding.score),
        threshold=_finite(finding.threshold),
        p=_finite(finding.p),
        regions=finding.regions,
        recipe=verdict.recipe,
        model=finding.model,
        image=image,
        mask=_mask(finding.mask) if with_mask else None,
        t=TimesMessage(
            trigger=verdict.trigger_ns,
            captured=captured_ns,
            queued=verdict.queued_ns,
            started=finding.started_ns,
            scored=finding.scored_ns,
            published=published_ns,
        ),
        at=None if captured_ns is None else rfc3339(captured_ns + wall_offset_ns),
        areas=tuple(_area(one, with_mask=with_mask) for one in finding.areas),
        challenge=_challenge(verdict.challenge),
    )


def mask_part(finding: Finding) -> bytes:
    """Return what `mask/` carries: the mask, or those of several areas, one after the other."""
    found = [one.finding for one in finding.areas] or [finding]
    return b"".join(one.mask.bytes_.tobytes() for one in found if one.mask is not None)


def counts_message(counts: Counts) -> CountsMessage:
    """Translate a ledger account."""
    return CountsMessage(
        captured=counts.captured,
        ok=counts.outcomes[Outcome.OK],
        ng=counts.outcomes[Outcome.NG],
        fault=counts.outcomes[Outcome.FAULT],
        displaced=counts.displaced,
        late=counts.late,
        unmatched=counts.unmatched,
        triggers=counts.triggers,
        overtaken=counts.triggers_overtaken,
        repeated=counts.triggers_repeated,
    )


def rfc3339(wall_ns: int) -> str:
    """Format nanoseconds since 1970 as RFC 3339 in UTC, with microseconds."""
    moment = datetime.fromtimestamp(wall_ns // 1_000_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{wall_ns % 1_000_000_000 // 1000:06d}Z"


def _area(area: AreaFinding, *, with_mask: bool) -> AreaMessage:
    found = area.finding
    return AreaMessage(
        name=area.name,
        verdict=found.outcome,
        reason=found.reason,
        detail=found.detail,
        score=_finite(found.score),
        threshold=_finite(found.threshold),
        p=_finite(found.p),
        model=found.model,
        roi=found.roi,
        regions=found.regions,
        mask=_mask(found.mask) if with_mask else None,
    )


def _mask(mask: Mask | None) -> MaskMessage | None:
    if mask is None:
        return None
    height, width = mask.bytes_.shape
    return MaskMessage(width, height, mask.area, mask.level)


def _challenge(challenge: Challenge | None) -> ChallengeMessage | None:
    return None if challenge is None else ChallengeMessage(challenge.known, challenge.part, challenge.is_study)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
