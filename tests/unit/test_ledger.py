"""The ledger: single decisions, each in its plainest form; test_ledger_laws.py throws dice."""

from __future__ import annotations

import threading

import pytest

from inspectd.line.ledger import Ledger
from inspectd.records import Finding, Outcome, Reason, Stamp, Verdict, fault

OK = Finding(Outcome.OK, score=0.5, threshold=1.0)
NG = Finding(Outcome.NG, score=1.5, threshold=1.0)
MS = 1_000_000


class Desk:
    """A ledger with a clock that stands still, and everything it has published."""

    def __init__(self, deadline_ms: float | None = 200, delay_ms: float = 0) -> None:
        self.now_ns = 1_000_000_000
        self.said: list[Verdict] = []
        self.ledger = Ledger(self.said.append, lambda: self.now_ns)
        self.ledger.add_camera("top", deadline_ms, delay_ms)

    def stamp(self, frame: int, at_ms: float = 0) -> Stamp:
        return Stamp("top", frame, self.now_ns + int(at_ms * MS))

    def pass_ms(self, ms: float) -> None:
        self.now_ns += int(ms * MS)


def test_a_frame_gets_one_verdict_and_the_first_closer_wins() -> None:
    desk = Desk()
    entry = desk.ledger.open_frame(desk.stamp(1))
    assert entry is not None
    assert desk.ledger.close(entry, OK)
    assert not desk.ledger.close(entry, NG)
    assert [v.finding.outcome for v in desk.said] == [Outcome.OK]
    assert desk.ledger.counts("top").late == 1


def test_a_deadline_closes_and_the_late_score_only_counts() -> None:
    desk = Desk(deadline_ms=200)
    entry = desk.ledger.open_frame(desk.stamp(1))
    assert entry is not None
    desk.pass_ms(199)
    assert desk.ledger.expire() == desk.now_ns + MS
    assert desk.said == []
    desk.pass_ms(1)
    assert desk.ledger.expire() is None
    assert [(v.finding.outcome, v.finding.reason) for v in desk.said] == [(Outcome.FAULT, Reason.DEADLINE)]
    assert desk.said[0].stamp == entry.stamp
    assert not desk.ledger.close(entry, OK)
    assert len(desk.said) == 1


def test_a_judgement_past_its_deadline_is_a_fault_even_where_the_clock_has_not_struck() -> None:
    desk = Desk(deadline_ms=200)
    entries = [desk.ledger.open_frame(desk.stamp(number)) for number in range(3)]
    assert None not in entries
    desk.pass_ms(199.9)
    assert desk.ledger.close(entries[0], OK)  # type: ignore[arg-type]
    desk.pass_ms(0.1)
    assert not desk.ledger.close(entries[1], OK)  # type: ignore[arg-type]
    assert desk.ledger.close(entries[2], fault(Reason.ENGINE, "it broke"))  # type: ignore[arg-type]
    assert [v.finding.reason for v in desk.said] == [None, Reason.DEADLINE, Reason.ENGINE]
    assert desk.ledger.counts("top").late == 1
    assert desk.ledger.expire() is None
    assert len(desk.said) == 3


def test_without_a_deadline_nothing_expires() -> None:
    desk = Desk(deadline_ms=None)
    desk.ledger.open_frame(desk.stamp(1))
    desk.pass_ms(1e9)
    assert desk.ledger.expire() is None
    assert desk.said == []


def test_a_displaced_frame_has_no_verdict_and_is_counted_in_the_next_one() -> None:
    desk = Desk()
    old, new = desk.ledger.open_frame(desk.stamp(1)), desk.ledger.open_frame(desk.stamp(2))
    assert old is not None
    assert new is not None
    assert desk.ledger.displace(old)
    assert not desk.ledger.displace(old)
    assert desk.ledger.close(new, OK)
    assert [(v.seq, v.displaced) for v in desk.said] == [(1, 1)]


def test_a_trigger_cannot_be_displaced() -> None:
    desk = Desk()
    entry = desk.ledger.open_trigger("top")
    assert entry is not None
    with pytest.raises(ValueError, match="trigger '1'"):
        desk.ledger.displace(entry)


def test_a_trigger_takes_the_first_frame_that_is_later_than_it_and_its_delay() -> None:
    desk = Desk(delay_ms=10)
    trigger = desk.ledger.open_trigger("top", "part-7")
    assert trigger is not None
    assert desk.ledger.match(desk.stamp(1, -5)) is None, "a buffered frame shows another part"
    assert desk.ledger.match(desk.stamp(2, 10)) is None, "exactly at the delay is not later"
    assert desk.ledger.match(desk.stamp(3, 10.001)) is trigger
    assert desk.ledger.match(desk.stamp(4, 20)) is None
    desk.ledger.close(trigger, OK)
    (verdict,) = desk.said
    assert (verdict.trigger, verdict.part, verdict.stamp.frame if verdict.stamp else None) == ("1", "part-7", 3)
    counts = desk.ledger.counts("top")
    assert (counts.captured, counts.judged, counts.unmatched) == (4, 1, 3)


def test_a_trigger_without_a_frame_has_its_verdict_by_the_deadline() -> None:
    desk = Desk(deadline_ms=50)
    desk.ledger.open_trigger("top")
    desk.pass_ms(50)
    desk.ledger.expire()
    (verdict,) = desk.said
    assert (verdict.finding.reason, verdict.stamp, verdict.trigger) == (Reason.DEADLINE, None, "1")
    assert desk.ledger.match(desk.stamp(1)) is None, "the late frame is for nobody"


def test_a_camera_fault_belongs_to_no_frame() -> None:
    desk = Desk()
    desk.ledger.publish_fault("top", fault(Reason.CAMERA_LOST, "unplugged"))
    (verdict,) = desk.said
    assert (verdict.seq, verdict.stamp, verdict.finding.reason) == (1, None, Reason.CAMERA_LOST)
    assert desk.ledger.counts("top").captured == 0


def test_a_shutdown_keeps_every_promise_and_makes_no_new_one() -> None:
    desk = Desk()
    first, _ = desk.ledger.open_frame(desk.stamp(1)), desk.ledger.open_frame(desk.stamp(2))
    desk.ledger.open_trigger("top")
    desk.ledger.shutdown("stopping")
    assert [v.finding.reason for v in desk.said] == [Reason.SHUTDOWN] * 3
    assert desk.ledger.open_frame(desk.stamp(3)) is None
    assert desk.ledger.open_trigger("top") is None
    assert desk.ledger.match(desk.stamp(4)) is None
    desk.ledger.publish_fault("top", fault(Reason.CAMERA_LOST, "gone"))
    assert first is not None
    assert not desk.ledger.close(first, OK)
    assert len(desk.said) == 3
    assert desk.ledger.counts("top").broken_law() is None


def test_closed_deadlines_do_not_pile_up() -> None:
    desk = Desk(deadline_ms=3_600_000)
    for number in range(5000):
        entry = desk.ledger.open_frame(desk.stamp(number + 1))
        assert entry is not None
        desk.ledger.close(entry, OK)
    assert desk.ledger.deadlines_kept < 200


def test_seq_has_no_gap_when_everybody_closes_at_once() -> None:
    desk = Desk()
    entries = [desk.ledger.open_frame(desk.stamp(i + 1)) for i in range(2000)]

    def close_all() -> None:
        for entry in entries:
            assert entry is not None
            desk.ledger.close(entry, OK)

    threads = [threading.Thread(target=close_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [v.seq for v in desk.said] == list(range(1, 2001))
    counts = desk.ledger.counts("top")
    assert counts.late == 3 * 2000
    assert counts.broken_law() is None


def test_a_law_that_does_not_hold_is_named() -> None:
    counts = Desk().ledger.counts("top")
    counts.captured = 1
    assert counts.broken_law() == "captured = judged + displaced + unmatched + in flight"


def test_the_news_that_a_camera_is_gone_comes_after_what_it_had_seen_before() -> None:
    desk = Desk()
    first, second = desk.ledger.open_frame(desk.stamp(1)), desk.ledger.open_frame(desk.stamp(2))
    assert first is not None
    assert second is not None
    desk.ledger.publish_fault("top", fault(Reason.CAMERA_LOST, "gone"))
    third = desk.ledger.open_frame(desk.stamp(3))
    assert third is not None
    assert desk.said == []
    desk.ledger.close(second, OK)
    desk.ledger.close(first, NG)
    assert [v.finding.reason or v.finding.outcome for v in desk.said] == ["ok", "ng", "camera_lost"]
    desk.ledger.close(third, OK)
    assert [v.seq for v in desk.said] == [1, 2, 3, 4]


@pytest.mark.parametrize("end", ["deadline", "displaced", "shutdown", "nothing open"])
def test_the_news_never_waits_for_ever(end: str) -> None:
    desk = Desk(deadline_ms=200)
    entry = None if end == "nothing open" else desk.ledger.open_frame(desk.stamp(1))
    for why in ("gone", "gone again"):
        desk.ledger.publish_fault("top", fault(Reason.CAMERA_LOST, why))
    if entry is not None and end == "deadline":
        desk.pass_ms(201)
        desk.ledger.expire()
    elif entry is not None and end == "displaced":
        desk.ledger.displace(entry)
    elif end == "shutdown":
        desk.ledger.shutdown("stopping")
    assert [v.finding.detail for v in desk.said if v.finding.reason is Reason.CAMERA_LOST] == ["gone", "gone again"]
    assert desk.ledger.counts("top").broken_law() is None
