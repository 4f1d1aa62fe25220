"""The JSON schema of protocol version 1, generated from the types; shipped as `configs/wire.schema.json`."""

from __future__ import annotations

import inspect
from typing import Any

import msgspec

from inspectd.wire.messages import PROTOCOL
from inspectd.wire.requests import COMMANDS
from inspectd.wire.results import (
    AuditChange,
    AuditResult,
    BypassResult,
    CapturedFrame,
    CaptureResult,
    ChallengeResult,
    ChangeResult,
    ControlReply,
    ReloadResult,
    VerdictsResult,
)
from inspectd.wire.topics import TOPICS


def schema() -> dict[str, Any]:
    """Return the schema of every topic's header, of every request, and of the replies."""
    topics = {(topic.of("<camera>")).decode(): topic.header for topic in TOPICS}
    requests = COMMANDS
    replies = {
        "reply": ControlReply,
        "result of capture": CaptureResult,
        "result of snapshot": CapturedFrame,
        "result of verdicts": VerdictsResult,
        "result of audit": AuditResult,
        "change of an audit row": AuditChange,
        "result of model, threshold and revert": ChangeResult,
        "result of bypass": BypassResult,
        "result of challenge": ChallengeResult,
        "result of reload": ReloadResult,
    }
    kinds = [*topics.values(), *requests.values(), *replies.values()]
    references, components = msgspec.json.schema_components(kinds, ref_template="#/$defs/{name}")
    pending = iter(references)
    schema_ = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"inspectd ZeroMQ protocol, version {PROTOCOL}",
        "topics": {name: next(pending) for name in topics},
        "requests": {name: next(pending) for name in requests},
        "replies": {name: next(pending) for name in replies},
        "$defs": components,
    }
    said: dict[str, Any] = _for_everybody(schema_)
    return said


def _for_everybody(part: Any) -> Any:
    """Return a part of the schema as JSON Schema has it.

    The end of a pattern is `$` (ECMA 262), and a description has no indentation of Python's.
    """
    if isinstance(part, dict):
        return {key: _text(key, one) if isinstance(one, str) else _for_everybody(one) for key, one in part.items()}
    return [_for_everybody(one) for one in part] if isinstance(part, list) else part


def _text(key: str, text: str) -> str:
    if key == "pattern":
        return text.replace(r"\Z", "$")
    return inspect.cleandoc(text) if key == "description" else text
