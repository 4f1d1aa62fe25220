"""The table of alarms holds together, and one is raised when it is due, and neither sooner nor for another's sake."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inspectd.alarms import OF_CAMERA, OF_DAEMON, OF_STATE, Alarm, Priority
from inspectd.daemon.raising import Happened, Raising
from inspectd.records import Reason
from inspectd.wire.messages import AlarmMessage, CameraState

LASTS = Alarm("lasts", Priority.HIGH, "is so", "It follows.", "Do it.", on_delay_s=5.0, off_delay_s=3.0)
REPEATS = Alarm(
    "repeats", Priority.MEDIUM, "does so", "It follows.", "Do it.", least=3, within_s=60.0, off_delay_s=10.0
)


def hidden(by: Alarm) -> Alarm:
    return replace(REPEATS, name="hidden", suppressed_by=(by.name,))


def looked(raising: Raising, at_s: float, lasting: str | None = None, **happened: int) -> list[tuple[str, bool]]:
    """Look; return each change as its alarm's name and whether it is over."""
    lasts = {} if lasting is None else {lasting: "for this reason"}
    found = raising.look(at_s, {name: Happened(times, "as the last said") for name, times in happened.items()}, lasts)
    return [(change.raised.alarm.name, change.is_over) for change in found]


def test_every_reason_of_a_fault_and_every_state_that_asks_for_somebody_has_its_row() -> None:
    names = [alarm.name for alarm in OF_CAMERA]
    assert set(Reason) <= set(names)
    assert set(OF_STATE.values()) <= set(names)
    assert set(OF_STATE) <= set(CameraState.__args__)  # type: ignore[attr-defined]
    assert len(names + [alarm.name for alarm in OF_DAEMON]) == len({*names, *(alarm.name for alarm in OF_DAEMON)})


@pytest.mark.parametrize("alarm", [*OF_CAMERA, *OF_DAEMON], ids=lambda alarm: str(alarm.name))
def test_a_row_is_whole(alarm: Alarm) -> None:
    assert alarm.meaning
    assert not alarm.meaning.endswith(".")
    assert alarm.consequence.endswith(".")
    assert alarm.action.endswith(".")
    assert (alarm.off_delay_s > 0) or not alarm.least, "what happened is over only after a while"
    table = OF_CAMERA if alarm in OF_CAMERA else OF_DAEMON
    before = {one.name for one in table[: table.index(alarm)]}
    assert set(alarm.suppressed_by) <= before, "what hides others is looked at first"


def test_every_priority_can_be_told() -> None:
    told = AlarmMessage.__annotations__["priority"]
    assert [str(priority) for priority in Priority if priority is not Priority.EVENT] == [
        part.strip(" \"'") for part in told.removeprefix("Literal[").removesuffix("]").split(",")
    ]


def test_what_lasts_is_raised_after_its_delay_and_is_over_after_the_other() -> None:
    raising = Raising([LASTS])
    assert looked(raising, 0.0, "lasts") == []
    assert looked(raising, 4.9, "lasts") == []
    assert looked(raising, 5.0, "lasts") == [("lasts", False)]
    assert raising.raised[0].since_s == 5.0
    assert raising.raised[0].sentence == "is so: for this reason"
    assert looked(raising, 6.0) == []
    assert looked(raising, 7.0, "lasts") == [], "it came back meanwhile"
    assert looked(raising, 9.9) == []
    assert looked(raising, 10.0) == [("lasts", True)]
    assert raising.raised == ()


def test_what_comes_and_goes_faster_than_its_delay_is_not_raised() -> None:
    raising = Raising([LASTS])
    for second in range(0, 100, 2):
        assert looked(raising, second, "lasts") == []
        assert looked(raising, second + 1.0) == []


def test_what_repeats_is_raised_when_it_did_so_often_enough_in_time() -> None:
    raising = Raising([REPEATS])
    assert looked(raising, 0.0, repeats=1) == []
    assert looked(raising, 50.0, repeats=1) == []
    assert looked(raising, 61.0, repeats=1) == [], "the first was too long ago"
    assert looked(raising, 62.0, repeats=1) == [("repeats", False)]
    assert raising.raised[0].sentence == "does so: as the last said"
    assert looked(raising, 70.0, repeats=1) == []
    assert looked(raising, 79.9) == []
    assert looked(raising, 80.0) == [("repeats", True)]
    assert looked(raising, 81.0, repeats=2) == [], "what was before it was over does not count any more"
    assert looked(raising, 82.0, repeats=1) == [("repeats", False)]


def test_many_at_once_are_as_many() -> None:
    assert looked(Raising([REPEATS]), 0.0, repeats=1000) == [("repeats", False)]


def test_what_follows_from_another_one_is_not_told() -> None:
    raising = Raising([LASTS, hidden(LASTS)])
    assert looked(raising, 0.0, hidden=3) == [("hidden", False)]
    assert looked(raising, 1.0, "lasts", hidden=3) == []
    assert raising.raised == (), "it is the case, if not for long enough to be raised itself"
    assert looked(raising, 6.0, "lasts", hidden=3) == [("lasts", False)]
    assert looked(raising, 9.0, hidden=2) == [("lasts", True)], "and in that moment it still hides"
    assert looked(raising, 10.0, hidden=1) == [], "it begins to be counted from here"
    assert looked(raising, 11.0, hidden=2) == [("hidden", False)]


def test_the_most_urgent_comes_first_and_of_these_the_oldest() -> None:
    low, other = replace(REPEATS, name="low", priority=Priority.LOW), replace(REPEATS, name="other")
    raising = Raising([low, REPEATS, other])
    looked(raising, 0.0, low=3)
    looked(raising, 1.0, other=3)
    looked(raising, 2.0, repeats=3)
    assert [one.alarm.name for one in raising.raised] == ["other", "repeats", "low"]


def test_an_event_is_never_raised() -> None:
    raising = Raising([replace(REPEATS, priority=Priority.EVENT)])
    assert looked(raising, 0.0, "repeats", repeats=100) == []
    assert raising.raised == ()
