"""What a listener makes of what it hears: losses, silence, and text that means to be more than text."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest
from rich.console import Console

from inspectd import watching
from inspectd.client import Message
from inspectd.records import Finding, Outcome, Reason, Stamp, Verdict, fault
from inspectd.watching import Seen
from inspectd.wire.messages import CountsMessage, StateMessage, verdict_message
from inspectd.wire.topics import STATE, VERDICT

OK = Finding(Outcome.OK, score=0.5, threshold=1.0)


def said(seq: int, finding: Finding = OK, epoch: str = "e1") -> Message:
    verdict = Verdict("top", seq, finding, 0, Stamp("top", seq, 1, "p\x1b[31m"))
    return Message(VERDICT, msgspec.json.encode(verdict_message(verdict, epoch, 0, False, 2)), None, 0)


def state(last_seq: int, detail: str | None = None) -> Message:
    counts = CountsMessage(0, last_seq, *[0] * 8)
    header = StateMessage(
        1, "e1", "top", "running", True, detail, 5.0, last_seq, None, None, {}, counts, *[None] * 4, [], None
    )
    return Message(STATE, msgspec.json.encode(header), None, 0)


def shown(seen: Seen) -> str:
    console = Console(width=160, record=True, file=None, force_terminal=False)
    with console.capture() as capture:
        console.print(seen.table(time.monotonic()))
    return capture.get()


def test_lost_verdicts_are_counted_whether_a_verdict_or_a_state_shows_them() -> None:
    seen = Seen("tcp://x")
    lines = [line for message in (said(5), said(6), said(9), state(11), said(12)) for line in seen.lines(message)]
    assert [line for line in lines if "lost" in line] == [
        "top: 2 verdicts were lost on the way",
        "top: 2 verdicts were lost on the way",
    ]
    assert seen.cameras["top"].lost == 4
    seen.lines(said(1, epoch="e2"))
    assert seen.cameras["top"].lost == 4, "a new epoch begins anew"


def test_silence_is_said_once_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "GONE_S", 0.01)
    seen = Seen("tcp://x")
    seen.lines(said(1))
    time.sleep(0.03)
    assert [any("Stop the line" in line for line in seen.lines(None)) for _ in range(3)] == [True, False, False]
    assert "the daemon is gone. Stop the line." in shown(seen)
    seen.lines(said(2))
    assert not seen.is_gone


@pytest.mark.parametrize(
    "finding",
    [
        OK,
        Finding(Outcome.NG, score=1.5, threshold=1.0),
        fault(Reason.NO_THRESHOLD, "the model has no threshold", score=0.3),
        fault(Reason.CAMERA_LOST, "it is gone"),
    ],
)
def test_every_kind_of_verdict_can_be_shown(finding: Finding) -> None:
    seen = Seen("tcp://x")
    lines: list[Any] = seen.lines(said(1, finding))
    assert finding.outcome in lines[-1]
    assert finding.outcome in shown(seen)


def test_nobody_writes_a_line_of_their_own() -> None:
    forged = "x\n2026-01-01T00:00:00Z top 99 ok score 0.1 threshold 1\x1b[2J"
    seen = Seen("tcp://x")
    lines = [*seen.lines(said(1, fault(Reason.BYPASS, forged))), *seen.lines(state(1, forged))]
    assert all(line.isprintable() for line in lines)
    assert "\x1b" not in "".join(lines)
