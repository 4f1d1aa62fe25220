"""The messages of the protocol, as a subscriber in any language reads them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pytest
from conftest import ROOT

from inspectd.records import Counts, Finding, Mask, Outcome, Reason, Region, Stamp, Verdict, fault
from inspectd.wire.messages import (
    DaemonMessage,
    StateMessage,
    VerdictMessage,
    counts_message,
    rfc3339,
    verdict_message,
)
from inspectd.wire.schema import schema

SHIPPED = ROOT / "configs" / "wire.schema.json"


def words(text: str) -> list[str]:
    return text.split()


FIELDS = words(
    "v epoch camera seq frame displaced part trigger verdict reason detail score threshold p regions recipe model "
    "image mask t at"
)
STATE_FIELDS = words(
    "v epoch camera state inspecting detail fps last_seq last_frame_age_ms model overrides counts p99_ms shadow recipe "
    "caveat alarms challenge"
)
DAEMON_FIELDS = words("v epoch version uptime_s inspecting device precision cameras models journal archive alarms")
REASONS = words(
    "camera_lost camera_frozen deadline overload identity picture no_model no_threshold engine bypass shutdown"
)
MASK = Mask(np.zeros((3, 4), np.uint8), (10, 20, 100, 75))
NG = Finding(
    Outcome.NG,
    score=1.5,
    threshold=1.0,
    p=0.0,
    regions=(Region(10, 20, 25, 25, 625, 1.5),),
    model="top 0123456789ab",
    picture=(640, 480),
    roi=(10, 20, 100, 75),
    mask=MASK,
    started_ns=1_300,
    scored_ns=1_400,
)
PART = Verdict("top", 7, NG, 3, Stamp("top", 12, 1_000, "a.png"), "t-1", "a.png", trigger_ns=900, queued_ns=1_200)
GONE = Verdict("top", 8, fault(Reason.CAMERA_LOST, "the camera does not answer"), 3)


def read(verdict: Verdict, *, with_mask: bool = True) -> dict[str, Any]:
    """Return the header as a stranger's strict JSON parser sees it."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    header = msgspec.json.encode(verdict_message(verdict, "e1", 1_000_000_000_000_000_000, with_mask, 1_500))
    assert isinstance(msgspec.json.decode(header, type=VerdictMessage), VerdictMessage)
    fields: dict[str, Any] = json.loads(header, parse_constant=refuse)
    return fields


def test_a_verdict_has_every_field_of_the_protocol_and_no_other() -> None:
    assert read(PART) == {
        "v": 1,
        "epoch": "e1",
        "camera": "top",
        "seq": 7,
        "frame": 12,
        "displaced": 3,
        "part": "a.png",
        "trigger": "t-1",
        "verdict": "ng",
        "reason": None,
        "detail": None,
        "score": 1.5,
        "threshold": 1.0,
        "p": 0.0,
        "regions": [{"x": 10, "y": 20, "w": 25, "h": 25, "area": 625, "score": 1.5}],
        "recipe": None,
        "model": "top 0123456789ab",
        "image": {"w": 640, "h": 480, "roi": [10, 20, 100, 75]},
        "mask": {"w": 4, "h": 3, "area": [10, 20, 100, 75], "level": 128},
        "t": {"trigger": 900, "captured": 1000, "queued": 1200, "started": 1300, "scored": 1400, "published": 1500},
        "at": "2001-09-09T01:46:40.000001Z",
    }
    assert list(read(PART)) == FIELDS


def test_what_was_not_there_is_null_and_never_missing() -> None:
    fields = read(GONE)
    assert list(fields) == FIELDS
    assert (fields["verdict"], fields["reason"], fields["detail"]) == ("fault", "camera_lost", GONE.finding.detail)
    absent = words("frame part trigger score threshold p model image mask at")
    assert [fields[name] for name in absent] == [None] * len(absent)
    assert fields["regions"] == []
    assert fields["t"] == dict.fromkeys(("trigger", "captured", "queued", "started", "scored")) | {"published": 1500}


def test_the_mask_is_null_when_none_follows() -> None:
    assert read(PART, with_mask=False) == {**read(PART), "mask": None}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_null(value: float) -> None:
    fields = read(
        Verdict("top", 1, Finding(Outcome.FAULT, Reason.ENGINE, "x", score=value, threshold=value, p=value), 0)
    )
    assert (fields["score"], fields["threshold"], fields["p"]) == (None, None, None)


def test_every_reason_and_outcome_has_the_word_of_the_protocol() -> None:
    said = [read(Verdict("top", 1, fault(reason, "why"), 0))["reason"] for reason in Reason]
    assert said == REASONS
    assert [str(outcome) for outcome in Outcome] == ["ok", "ng", "fault"]


def test_large_numbers_and_foreign_letters_survive() -> None:
    stamp = Stamp("top", 2**53 + 1, 2**62, 'Würfel \u2028 "\\\0 🔩')
    fields = read(Verdict("top", 2**53 + 3, NG, 0, stamp, part=stamp.part))
    assert (fields["frame"], fields["seq"], fields["t"]["captured"]) == (2**53 + 1, 2**53 + 3, 2**62)
    assert fields["part"] == stamp.part


@pytest.mark.parametrize("wall_ns", [0, 999, 1_000, 1_700_000_000_123_456_789, 1_582_934_400_000_000_000])
def test_times_are_rfc_3339_in_utc(wall_ns: int) -> None:
    text = rfc3339(wall_ns)
    assert len(text) == len("2026-01-01T00:00:00.000000Z")
    moment = datetime.fromisoformat(text)
    assert moment.tzinfo == UTC
    assert moment == datetime.fromtimestamp(wall_ns // 10**9, UTC).replace(microsecond=wall_ns % 10**9 // 1000)


def test_counts_are_the_ledgers() -> None:
    outcomes = {Outcome.OK: 5, Outcome.NG: 2, Outcome.FAULT: 1}
    counts = Counts(
        captured=9,
        judged=8,
        displaced=1,
        late=4,
        unmatched=6,
        triggers=10,
        triggers_overtaken=11,
        triggers_repeated=12,
        outcomes=outcomes,
    )
    names = words("captured ok ng fault displaced late unmatched triggers overtaken repeated")
    expected = dict(zip(names, (9, 5, 2, 1, 1, 4, 6, 10, 11, 12), strict=True))
    assert msgspec.to_builtins(counts_message(counts)) == expected


@pytest.mark.parametrize(("kind", "fields"), [(StateMessage, STATE_FIELDS), (DaemonMessage, DAEMON_FIELDS)])
def test_states_have_the_fields_of_the_protocol(kind: type[msgspec.Struct], fields: list[str]) -> None:
    assert list(kind.__struct_fields__) == fields
    assert all(field.required for field in msgspec.structs.fields(kind)), "a field is null, but never missing"


@pytest.mark.parametrize("state", ["starting", "running", "lost", "frozen", "stopped", "bypass"])
def test_a_state_can_be_read_back(state: str) -> None:
    counts = dict.fromkeys(words("captured ok ng fault displaced late unmatched triggers overtaken repeated"), 0)
    alarm = dict(
        zip(words("alarm priority since detail action"), ("deadline", "high", "2026-01-01", "", ""), strict=True)
    )
    values: tuple[Any, ...] = (
        1,
        "e",
        "top",
        state,
        False,
        *[None] * 2,
        0,
        None,
        None,
        {},
        counts,
        *[None] * 4,
        [alarm],
        {"why_not": "it was not told", "due_in_s": 3.5, "told": {"bad": "2026-01-01"}},
    )
    said = dict(zip(STATE_FIELDS, values, strict=True))
    assert msgspec.to_builtins(msgspec.json.decode(json.dumps(said), type=StateMessage)) == said
    models = {"top 0123": {"device": "cpu:torch", "precision": "float32", "band": 1e-5}}
    journal = {"ok": False, "detail": "the disk is full", "written": 3, "waiting": 2, "lost": {"top": 1}}
    facts = (1, "e", "0.1.0", 1.5, True, "cpu", "float32", {"top": state}, models, journal, None, [alarm])
    daemon = dict(zip(DAEMON_FIELDS, facts, strict=True))
    assert msgspec.to_builtins(msgspec.json.decode(json.dumps(daemon), type=DaemonMessage)) == daemon


def test_a_newer_daemons_extra_fields_are_ignored_and_a_missing_one_is_noticed() -> None:
    fields = {**read(PART), "colour": "red"}
    assert msgspec.json.decode(json.dumps(fields), type=VerdictMessage).seq == 7
    del fields["seq"]
    with pytest.raises(msgspec.ValidationError, match="seq"):
        msgspec.json.decode(json.dumps(fields), type=VerdictMessage)


def test_the_shipped_schema_is_the_codes() -> None:
    assert SHIPPED.read_text(encoding="utf-8") == json.dumps(schema(), indent=1) + "\n"


def test_the_schema_covers_every_topic_and_requires_every_field() -> None:
    said = schema()
    topics = ["verdict/<camera>/", "mask/<camera>/", "frame/<camera>/", "state/<camera>/", "daemon/"]
    assert list(said["topics"]) == topics
    defined = {topic: said["$defs"][ref["$ref"].removeprefix("#/$defs/")] for topic, ref in said["topics"].items()}
    for topic, fields in zip(topics, (FIELDS, FIELDS, FIELDS, STATE_FIELDS, DAEMON_FIELDS), strict=True):
        optional = ["areas", "challenge"] if fields is FIELDS else []  # only with several areas, of a known part
        assert list(defined[topic]["properties"]) == [*defined[topic]["required"], *optional] == [*fields, *optional]
    assert list(said["requests"]) == words(
        "status capture snapshot verdicts audit model threshold revert bypass mark trigger recipe challenge reload"
    )
    capture = said["$defs"]["CaptureRequest"]
    assert capture["required"] == ["cmd", "camera"]
    assert (capture["properties"]["cmd"], capture["additionalProperties"]) == ({"enum": ["capture"]}, False)
    assert sorted(said["$defs"]["Reason"]["enum"]) == sorted(REASONS)
