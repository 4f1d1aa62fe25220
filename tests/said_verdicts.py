"""Verdicts as they are published, made up for what only listens."""

from __future__ import annotations

from typing import Any

import msgspec

from inspectd.client import Message
from inspectd.records import Known, Outcome, Reason
from inspectd.wire import topics
from inspectd.wire.messages import ChallengeMessage, ImageMessage, MaskMessage, TimesMessage, VerdictMessage


def said(
    seq: int,
    verdict: str = "ok",
    *,
    camera: str = "top",
    epoch: str = "e1",
    reason: str | None = None,
    known: str | None = None,
    mask: MaskMessage | None = None,
    score: float | None = 1.0,
    at: str | None = "2026-11-29T07:30:00.000000Z",
) -> VerdictMessage:
    """Return a verdict."""
    return VerdictMessage(
        v=1,
        epoch=epoch,
        camera=camera,
        seq=seq,
        frame=seq,
        displaced=0,
        part=None,
        trigger=None,
        verdict=Outcome(verdict),
        reason=Reason(reason) if reason else None,
        detail=None,
        score=score,
        threshold=2.0,
        p=None,
        regions=(),
        recipe=None,
        model="m",
        image=ImageMessage(64, 48, (0, 0, 64, 48)),
        mask=mask,
        t=TimesMessage(None, 1, 2, 3, 4, 5),
        at=at,
        challenge=None if known is None else ChallengeMessage(Known(known)),
    )


def published(header: Any, topic: topics.Topic = topics.VERDICT, part: bytes | None = None, at_ns: int = 1) -> Message:
    """Return a message as a subscriber gets it."""
    return Message(topic, msgspec.json.encode(header), part, at_ns)
