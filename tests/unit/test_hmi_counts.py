"""Parts by shift: each once, whatever was missed, and whenever the process was started again."""

from __future__ import annotations

from datetime import datetime, time, timedelta, timezone
from pathlib import Path

import pytest
from said_verdicts import said

from inspectd.errors import UsageError
from inspectd.hmi.counts import PAST_SHIFTS, CameraCount, Counts, Gap, parse_starts

ZONE = timezone(timedelta(hours=1))
STARTS = (time(6), time(14), time(22))


class Clock:
    """One that is told the time."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 29, 7, 30)

    def __call__(self) -> datetime:
        return self.at


def counted(path: Path | None, clock: Clock) -> Counts:
    return Counts(path, STARTS, clock, lambda moment: moment.replace(tzinfo=ZONE))


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_parts_are_counted_by_what_they_were(clock: Clock) -> None:
    counts = counted(None, clock)
    for seq, (verdict, reason) in enumerate(
        [("ok", None), ("ng", None), ("fault", "picture"), ("fault", "picture")], 1
    ):
        assert counts.take(said(seq, verdict, reason=reason)) == []
    assert counts.present.cameras["top"] == CameraCount(1, 1, 2, {"picture": 2})
    assert counts.present.since == "2026-11-29T07:30:00+01:00", "of before nothing is known"


def test_a_part_is_counted_once_and_what_was_missed_is_named(clock: Clock) -> None:
    counts = counted(None, clock)
    assert counts.take(said(5)) == [], "what was before this process is none of its count"
    assert counts.take(said(5)) == []
    (gap,) = counts.take(said(9))
    assert gap == Gap("top", "e1", 5, 9)
    counts.fill(gap, [said(6), said(8)])
    assert counts.present.cameras["top"] == CameraCount(ok=4, uncounted=1)


def test_of_an_epoch_that_is_over_the_end_is_asked_for(clock: Clock) -> None:
    counts = counted(None, clock)
    counts.take(said(5))
    tail, gap = counts.take(said(2, epoch="e2"))
    assert (tail, gap) == (Gap("top", "e1", 5, None), Gap("top", "e2", 0, 2))
    counts.fill(tail, [said(6), said(7)])
    assert counts.present.cameras["top"] == CameraCount(ok=4), "nobody knows how many there were"
    assert counts.take(said(3, epoch="e2")) == []
    assert counts.take(said(1, epoch="e3")) == [Gap("top", "e2", 3, None)]


def test_known_parts_are_no_production(clock: Clock) -> None:
    counts = counted(None, clock)
    counts.take(said(1, "ng", known="bad"))
    counts.take(said(2))
    assert counts.present.cameras["top"] == CameraCount(ok=1)


def test_a_shift_begins_by_the_clock_and_earlier_ones_are_kept(clock: Clock) -> None:
    counts = counted(None, clock)
    counts.take(said(1))
    for hours in (7, 8, 8, 8, 8):
        clock.at += timedelta(hours=hours)
        counts.turn()
        counts.turn()
    assert [shift.since[11:16] for shift in counts.shifts] == ["22:00", "14:00", "06:00", "22:00"]
    assert len(counts.shifts) == PAST_SHIFTS + 1
    assert counts.present.cameras == {}


def test_at_night_the_shift_is_that_of_the_evening(clock: Clock) -> None:
    counts = counted(None, clock)
    clock.at = datetime(2026, 11, 30, 3, 0)
    counts.turn()
    assert counts.present.since == "2026-11-29T22:00+01:00"


def test_the_night_in_which_the_clock_is_set_back_is_one_shift(clock: Clock) -> None:
    changes = datetime(2026, 10, 25, 3, 0)

    def localize(moment: datetime) -> datetime:
        return moment.replace(tzinfo=ZONE if moment >= changes else timezone(timedelta(hours=2)))

    clock.at = datetime(2026, 10, 24, 21, 0)
    counts = Counts(None, STARTS, clock, localize)
    clock.at = datetime(2026, 10, 24, 23, 0)
    counts.turn()
    counts.take(said(1, at="2026-10-24T21:30:00.000000Z"))
    clock.at = datetime(2026, 10, 25, 4, 0)
    counts.turn()
    assert counts.present.cameras["top"].ok == 1


def test_what_is_asked_for_later_counts_in_the_shift_in_which_it_was(clock: Clock) -> None:
    counts = counted(None, clock)
    counts.take(said(1, at="2026-11-29T12:00:00.000000Z"))
    clock.at = datetime(2026, 11, 29, 15, 0)
    counts.turn()
    (gap,) = counts.take(said(4, at="2026-11-29T14:00:00.000000Z"))
    counts.fill(gap, [said(2, at="2026-11-29T12:30:00.000000Z"), said(3, at="2026-11-29T13:30:00.000000Z")])
    assert [shift.cameras["top"].ok for shift in counts.shifts] == [2, 2]


def test_a_new_count_says_who_began_it(clock: Clock) -> None:
    counts = counted(None, clock)
    counts.take(said(1))
    counts.reset("anna", "a new batch")
    counts.turn()
    assert (counts.present.by, counts.present.why, counts.present.cameras) == ("anna", "a new batch", {})
    assert counts.shifts[1].cameras["top"].ok == 1


def test_a_restart_goes_on_where_it_was(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "counts.json"
    counts = counted(path, clock)
    counts.take(said(1))
    save = counts.unsaved()
    assert save is not None
    save()
    again = counted(path, clock)
    assert again.present.cameras["top"].ok == 1
    assert again.take(said(1)) == []
    assert again.take(said(4)) == [Gap("top", "e1", 1, 4)], "what was said meanwhile is asked for"
    clock.at += timedelta(hours=8)
    assert counted(path, clock).present.cameras == {}, "the shift is over"


def test_what_did_not_change_is_not_written(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "counts.json"
    counts = counted(path, clock)
    save = counts.unsaved()
    assert save is not None
    assert counts.unsaved() is None
    counts.take(said(1))
    assert counts.unsaved() is not None


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 2, "shifts": [], "places": {}}', '{"version": 1}'])
def test_a_file_that_cannot_be_understood_is_refused(tmp_path: Path, clock: Clock, text: str) -> None:
    path = tmp_path / "counts.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"counts\.json.*Remove it to count anew"):
        counted(path, clock)


def test_shifts_are_times_of_day() -> None:
    assert parse_starts("22:00, 06:00,14:00,06:00") == STARTS
    for text in ("", "6", "25:00", "06:00;14:00"):
        with pytest.raises(UsageError, match="expected times of day such as"):
            parse_starts(text)
