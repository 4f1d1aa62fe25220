"""Known parts: what of them is told, how long that is believed, and that a bad one is never ok."""

from __future__ import annotations

import pytest

from inspectd.errors import UsageError
from inspectd.line.challenges import MOST_FAILED, Challenges, Trial
from inspectd.line.entries import Entry
from inspectd.line.ledger import MOST_WAITING, Ledger
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
    assert said.detail == "the known bad part was not found: it scored 0.3, and the threshold is 0.5"
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
    trial.give_back()
    assert found.take(1 << 62) is trial, "its picture gave way to a newer one"
    assert not found.give_up(trial)
    trial.give_back()
    assert found.take(1 << 62) is None, "nobody waits for it any more"


def test_a_good_part_is_not_ok_while_others_say_that_nothing_may_be(clock: Clock) -> None:
    found = challenges(clock, bad=3600.0)
    trial = found.trial(GOOD)
    said = trial.conclude(OK)
    assert (said.outcome, said.reason, trial.passed) == (Outcome.FAULT, Reason.BYPASS, True)
    assert "the known good part was accepted, but no known bad part was found for 1 h" in (said.detail or "")
    show(found, BAD, NG)
    assert show(found, GOOD, OK) is OK


def test_nothing_follows_from_a_study(clock: Clock) -> None:
    found = challenges(clock)
    trial = found.trial(Challenge(Known.BAD, "B1", is_study=True))
    assert trial.conclude(OK).outcome is Outcome.FAULT, "a bad part is never ok"
    assert trial.passed is False
    assert found.trial(Challenge(Known.GOOD, "G1", is_study=True)).conclude(OK) is OK
    assert (found.why_not(), found.told_at_s, found.failed) == (None, {}, {})


def test_the_clock_that_says_more_is_believed(clock: Clock) -> None:
    found = challenges(clock, bad=3600.0)
    show(found, BAD, NG)
    clock.wall_s += 4000  # the machine slept, and its monotonic clock with it
    assert found.why_not() is not None
    clock.wall_s -= 8000
    assert found.why_not() is None
    clock.now_s += 4000
    assert found.why_not() is not None


# In the ledger


class Account:
    """A ledger with one camera, and what it said."""

    def __init__(self, found: Challenges) -> None:
        self.said: list[Verdict] = []
        self.now_ns = 1 << 62
        self.found = found
        self.ledger = Ledger(self.said.append, lambda: self.now_ns)
        self.ledger.add_camera("top", 200, trials=found)
        self._frame = 0

    def open(self) -> Entry:
        self._frame += 1
        entry = self.ledger.open_frame(Stamp("top", self._frame, self.now_ns))
        assert entry is not None
        return entry

    def expect(self, challenge: Challenge) -> Trial:
        trial = self.found.trial(challenge)
        self.found.expect(trial)
        return trial


@pytest.fixture
def account(clock: Clock) -> Account:
    return Account(challenges(clock))


@pytest.mark.parametrize(("finding", "outcome"), [(OK, Outcome.FAULT), (NG, Outcome.NG)])
def test_the_ledger_lets_no_known_bad_part_pass(account: Account, finding: Finding, outcome: Outcome) -> None:
    trial = account.expect(BAD)
    account.ledger.close(account.open(), finding)
    assert [(one.finding.outcome, one.challenge, one.seq) for one in account.said] == [(outcome, BAD, trial.seq)]
    assert account.ledger.counts("top").broken_law() is None
    assert account.ledger.counts("top").outcomes[outcome] == 1


def test_what_was_admitted_before_a_known_part_failed_is_not_ok_after_it(account: Account) -> None:
    account.expect(BAD)
    known, *others = [account.open() for _ in range(4)]
    account.ledger.close(others[0], OK)
    account.ledger.close(known, OK)
    account.ledger.close(others[1], OK)
    account.ledger.close(others[2], NG)
    assert [one.finding.outcome for one in account.said] == [Outcome.OK, Outcome.FAULT, Outcome.FAULT, Outcome.NG]
    assert account.said[2].finding.reason is Reason.BYPASS
    assert (account.said[2].finding.score, account.said[2].challenge) == (0.3, None)


def test_the_next_part_is_the_known_one_whatever_becomes_of_it(account: Account) -> None:
    trial = account.expect(BAD)
    torn = account.open()
    account.ledger.close(torn, fault(Reason.PICTURE, "torn"))
    account.ledger.close(account.open(), NG)
    assert [one.challenge for one in account.said] == [BAD, None], "the next part is any part"
    assert (trial.passed, account.found.told_at_s) == (None, {})


def test_a_trigger_that_is_refused_at_once_has_its_trial(account: Account) -> None:
    for _ in range(MOST_WAITING):
        account.ledger.open_trigger("top")
    trial = account.expect(BAD)
    account.ledger.open_trigger("top", "P-1")
    assert [(one.finding.reason, one.challenge, one.seq) for one in account.said] == [(Reason.OVERLOAD, BAD, trial.seq)]


def test_a_picture_that_gives_way_leaves_its_trial_to_the_next(account: Account) -> None:
    trial = account.expect(BAD)
    assert account.ledger.displace(account.open())
    account.ledger.close(account.open(), NG)
    assert [one.challenge for one in account.said] == [BAD]
    assert trial.passed


def test_a_part_that_was_missed_is_the_known_one(account: Account) -> None:
    trial = account.expect(GOOD)
    account.ledger.miss_part("top", "x-1", account.now_ns, None, fault(Reason.PICTURE, "it went by"))
    assert [one.challenge for one in account.said] == [GOOD]
    assert trial.passed is None


def test_a_known_part_that_is_judged_too_late_tells_nothing(account: Account) -> None:
    trial, found, said = account.expect(BAD), account.found, account.said
    entry = account.open()
    account.now_ns += 300_000_000
    assert not account.ledger.close(entry, NG)
    assert trial.passed is None
    assert [one.finding.reason for one in said] == [Reason.DEADLINE]
    assert found.told_at_s == {}
