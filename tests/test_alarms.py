"""What should worry somebody is in the log: at once, then once a minute, with what it takes and what is allowed."""

from __future__ import annotations

import logging

import pytest

from inspectd.daemon.alarms import TELL_EVERY_S, Alarms
from inspectd.records import Counts, Reason


class Status:
    """Counts as they are set, for two cameras."""

    def __init__(self) -> None:
        self.of = {"top": Counts(), "side": Counts()}
        self.latencies: tuple[float, float] | None = (180.0, 240.0)

    def counts(self, name: str) -> Counts:
        return self.of[name]

    def latencies_ms(self, _name: str) -> tuple[float, float] | None:
        return self.latencies


@pytest.fixture
def status() -> Status:
    return Status()


@pytest.fixture
def alarms(status: Status, caplog: pytest.LogCaptureFixture) -> Alarms:
    caplog.set_level(logging.INFO)
    alarms = Alarms(status, {"top": 200.0, "side": 200.0})  # type: ignore[arg-type]
    alarms.look(0.0)
    return alarms


def test_deadlines_that_are_missed_are_said_with_numbers(
    alarms: Alarms, status: Status, caplog: pytest.LogCaptureFixture
) -> None:
    status.of["top"].captured, status.of["top"].faults = 100, {Reason.DEADLINE: 43}
    alarms.look(10.0)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "camera top: of 100 frames in 10 s 43 fault: deadline. From capture to verdict" in caplog.text
    assert "180 ms (median) and 240 ms (p99); deadline_ms allows 200 ms" in caplog.text


def test_it_is_said_once_a_minute_while_it_lasts(
    alarms: Alarms, status: Status, caplog: pytest.LogCaptureFixture
) -> None:
    for second in range(1, 200):
        status.of["top"].captured += 30
        status.of["top"].faults = {Reason.DEADLINE: 10 * second}
        alarms.look(float(second))
    assert len(caplog.records) == 4
    assert f"of {30 * TELL_EVERY_S:.0f} frames in {TELL_EVERY_S:.0f} s {10 * TELL_EVERY_S:.0f} fault" in caplog.text


def test_nothing_is_said_of_what_is_well(alarms: Alarms, status: Status, caplog: pytest.LogCaptureFixture) -> None:
    status.of["side"].faults = {Reason.CAMERA_LOST: 1}  # told when it happens
    for second in range(1, 100):
        status.of["top"].captured += 30
        alarms.look(float(second))
    assert caplog.records == []


def test_displaced_frames_are_no_warning(alarms: Alarms, status: Status, caplog: pytest.LogCaptureFixture) -> None:
    status.of["side"].captured, status.of["side"].displaced = 50, 20
    alarms.look(2.0)
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "camera side: of 50 frames in 2 s 20 displaced by newer frames" in caplog.text


def test_several_reasons_share_a_line_and_no_score_is_said(
    alarms: Alarms, status: Status, caplog: pytest.LogCaptureFixture
) -> None:
    status.latencies = None
    status.of["top"].captured, status.of["top"].faults = 9, {Reason.OVERLOAD: 4, Reason.PICTURE: 5}
    alarms.look(3.0)
    assert "4 fault: overload, 5 fault: picture. No frame was scored; deadline_ms allows 200 ms" in caplog.text
