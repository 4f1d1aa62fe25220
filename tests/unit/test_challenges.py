"""Known parts: what of them is told, how long that is believed, and that a bad one is never ok."""

from __future__ import annotations

from typing import Any

import pytest

from inspectd.errors import UsageError
from inspectd.line.challenges import MOST_FAILED, Challenges
from inspectd.line.ledger import Ledger
from inspectd.records import Challenge, Finding, Known, Outcome, Reason, Stamp, Verdict, fault

BAD, GOOD = Challenge(Known.BAD), Challenge(Known.GOOD)
OK = Finding(Outcome.OK, score=0.3, threshold=0.5)
NG = Finding(Outcome.NG, score=0.7, threshold=0.5)


class Clock:
    def __init__(self) -> None:
        self.now_s, self.wall_s = 1000.0, 1.8e9

    def pass_by(self, seconds: float) -> None:
        self.now_s += seconds
        self.wall_s += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def challenges(clock: Clock, **limits: float | None) -> Challenges:
    return Challenges("top", {Known(k): v for k, v in limits.items()}, lambda: clock.now_s, lambda: clock.wall_s)


def show(to: Challenges, challenge: Challenge, finding: Finding) -> Finding:
    return to.trial(challenge).conclude(finding)


def test_without_an_interval_nothing_is_due(clock: Clock) -> None:
    found = challenges(clock)
    clock.pass_by(1e9)
    assert found.why_not() is None
    assert found.due_in_s() is None
    assert not found.is_due_soon


def test_a_known_bad_part_is_never_ok(clock: Clock) -> None:
    found = challenges(clock)
    said = show(found, BAD, OK)
    assert (said.outcome, said.reason, said.score, said.threshold) == (Outcome.FAULT, Reason.BYPASS, 0.3, 0.5)
    assert said.detail == (
        "the known bad part was not found: it scored 0.3, and the threshold is 0.5. Nothing is passed until it is"
    )
    why = found.why_not()
    assert why is not None
    assert why.endswith("Show it again: inspectd challenge top bad")
    assert show(found, BAD, NG) is NG
    assert found.why_not() is None


def test_a_known_good_part_that_is_rejected_stays_rejected(clock: Clock) -> None:
    found = challenges(clock)
    assert show(found, GOOD, NG) is NG
    assert "the known good part was not accepted" in (found.why_not() or "")
    assert show(found, BAD, NG) is NG
    assert found.has_failed, "a bad part that is found says nothing of good ones"
    assert show(found, GOOD, OK) is OK
    assert found.why_not() is None


@pytest.mark.parametrize("reason", [Reason.PICTURE, Reason.DEADLINE, Reason.CAMERA_LOST, Reason.ENGINE])
def test_what_was_not_judged_changes_nothing(clock: Clock, reason: Reason) -> None:
    found = challenges(clock, bad=60.0)
    show(found, BAD, NG)
    trial = found.trial(BAD)
    finding = fault(reason, "x")
    assert trial.conclude(finding) is finding
    assert trial.passed is None
    assert found.why_not() is None
    show(found, BAD, OK)
    found.trial(BAD).conclude(finding)
    assert found.has_failed


def test_an_interval_begins_with_each_part_that_was_told(clock: Clock) -> None:
    found = challenges(clock, bad=3600.0, good=None)
    assert "no known bad part was found for 1 h (challenge.bad_every_h)" in (found.why_not() or "")
    show(found, GOOD, OK)
    assert found.why_not() is not None, "it is a bad one that is asked for"
    show(found, BAD, NG)
    assert (found.why_not(), found.due_in_s()) == (None, 3600.0)
    clock.pass_by(3200)
    assert not found.is_due_soon
    clock.pass_by(399)
    assert (found.why_not(), found.is_due_soon) == (None, True)
    clock.pass_by(1)
    assert found.why_not() is not None
    assert not found.is_due_soon, "it is due"
    show(found, BAD, OK)
    show(found, BAD, NG)
    assert (found.why_not(), found.due_in_s()) == (None, 3600.0)


def test_a_part_with_a_name_must_be_told_itself(clock: Clock) -> None:
    found = challenges(clock)
    show(found, Challenge(Known.BAD, "M-7"), OK)
    show(found, Challenge(Known.BAD, "M-8"), NG)
    assert "known bad part M-7" in (found.why_not() or "")
    show(found, BAD, NG)
    assert found.has_failed
    show(found, Challenge(Known.BAD, "M-7"), NG)
    assert not found.has_failed
    show(found, BAD, OK)
    show(found, Challenge(Known.BAD, "M-8"), NG)
    assert not found.has_failed, "one without a name may have been any"


def test_names_that_fail_are_not_collected_without_end(clock: Clock) -> None:
    found = challenges(clock)
    for i in range(MOST_FAILED):
        show(found, Challenge(Known.BAD, str(i)), OK)
    with pytest.raises(UsageError, match="show those again first"):
        found.trial(Challenge(Known.BAD, "one more"))
    show(found, Challenge(Known.BAD, "3"), NG)
    found.trial(Challenge(Known.BAD, "one more"))


def test_what_was_kept_is_believed_but_not_what_lies_in_the_future(clock: Clock) -> None:
    found = challenges(clock, bad=100.0)
    found.recall(BAD, clock.wall_s - 60, None)
    assert (found.why_not(), found.due_in_s()) == (None, 40.0)
    found.recall(BAD, clock.wall_s - 160, None)
    assert found.why_not() is not None
    other = challenges(clock, bad=100.0)
    other.recall(BAD, clock.wall_s + 60, None)
    assert other.why_not() is not None, "the clock was set back: nobody knows how long ago it was"
    other.recall(Challenge(Known.GOOD, "M-1"), clock.wall_s + 60, "it scored 1")
    assert other.has_failed


def test_the_next_part_is_the_known_one_and_no_other(clock: Clock) -> None:
    found = challenges(clock)
    trial = found.trial(BAD)
    assert found.take(1 << 62) is None
    found.expect(trial)
    with pytest.raises(UsageError, match="is expected at camera top already"):
        found.expect(found.trial(GOOD))
    assert found.take(0) is None, "it came before"
    assert found.take(None) is None
    assert found.take(1 << 62) is trial
    assert found.take(1 << 62) is None
    assert not found.give_up(trial)
    found.put_back(trial)
    assert found.give_up(trial)
    assert found.take(1 << 62) is None


def _ledger(said: list[Verdict]) -> Ledger:
    ledger = Ledger(said.append, lambda: 0)
    ledger.add_camera("top", 200)
    return ledger


@pytest.mark.parametrize(("finding", "outcome"), [(OK, Outcome.FAULT), (NG, Outcome.NG)])
def test_the_ledger_lets_no_known_bad_part_pass(clock: Clock, finding: Finding, outcome: Outcome) -> None:
    said: list[Verdict] = []
    ledger = _ledger(said)
    entry = ledger.open_frame(Stamp("top", 1, 0))
    assert entry is not None
    entry.trial = challenges(clock).trial(BAD)
    ledger.close(entry, finding)
    assert [(one.finding.outcome, one.challenge) for one in said] == [(outcome, BAD)]
    assert ledger.counts("top").broken_law() is None
    assert ledger.counts("top").outcomes[outcome] == 1


def test_a_known_part_that_is_judged_too_late_tells_nothing(clock: Clock) -> None:
    said: list[Any] = []
    now = [0]
    ledger = Ledger(said.append, lambda: now[0])
    ledger.add_camera("top", 200)
    found = challenges(clock)
    entry = ledger.open_frame(Stamp("top", 1, 0))
    assert entry is not None
    entry.trial = trial = found.trial(BAD)
    now[0] = 300_000_000
    assert not ledger.close(entry, NG)
    assert trial.passed is None
    assert [one.finding.reason for one in said] == [Reason.DEADLINE]
    assert found.told_at_s == {}
