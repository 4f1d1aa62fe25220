"""What should worry somebody is in the log: at once, then once a minute, with what it takes and what is allowed."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import pytest

from inspectd.config import CameraConfig
from inspectd.daemon.alarms import TELL_EVERY_S, Alarms
from inspectd.records import Counts, Reason


@dataclass
class FakeCamera:
    """Counts and latencies as they are set."""

    config: CameraConfig
    counts: Counts = field(default_factory=Counts)
    scored_ms: tuple[float, float] | None = (180.0, 240.0)

    @property
    def latencies(self) -> FakeCamera:
        return self


Cameras = dict[str, FakeCamera]


@pytest.fixture
def cameras() -> Cameras:
    names = ("top", "side")
    return {name: FakeCamera(CameraConfig(name=name, source="x.mp4", model="m", deadline_ms=200)) for name in names}


@pytest.fixture
def alarms(cameras: Cameras, caplog: pytest.LogCaptureFixture) -> Alarms:
    caplog.set_level(logging.INFO)
    alarms = Alarms(cameras)  # type: ignore[arg-type]
    alarms.look(0.0)
    return alarms


def test_deadlines_that_are_missed_are_said_with_numbers(
    alarms: Alarms, cameras: Cameras, caplog: pytest.LogCaptureFixture
) -> None:
    cameras["top"].counts.captured, cameras["top"].counts.faults = 100, {Reason.DEADLINE: 43}
    alarms.look(10.0)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "camera top: of 100 frames in 10 s 43 fault: deadline. From capture to verdict" in caplog.text
    assert "180 ms (median) and 240 ms (p99); deadline_ms allows 200 ms" in caplog.text


def test_it_is_said_once_a_minute_while_it_lasts(
    alarms: Alarms, cameras: Cameras, caplog: pytest.LogCaptureFixture
) -> None:
    for second in range(1, 200):
        cameras["top"].counts.captured += 30
        cameras["top"].counts.faults = {Reason.DEADLINE: 10 * second}
        alarms.look(float(second))
    assert len(caplog.records) == 4
    assert f"of {30 * TELL_EVERY_S:.0f} frames in {TELL_EVERY_S:.0f} s {10 * TELL_EVERY_S:.0f} fault" in caplog.text


def test_nothing_is_said_of_what_is_well(alarms: Alarms, cameras: Cameras, caplog: pytest.LogCaptureFixture) -> None:
    cameras["side"].counts.faults = {Reason.CAMERA_LOST: 1}  # told when it happens
    for second in range(1, 100):
        cameras["top"].counts.captured += 30
        alarms.look(float(second))
    assert caplog.records == []


def test_displaced_frames_are_no_warning(alarms: Alarms, cameras: Cameras, caplog: pytest.LogCaptureFixture) -> None:
    cameras["side"].counts.captured, cameras["side"].counts.displaced = 50, 20
    alarms.look(2.0)
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "camera side: of 50 frames in 2 s 20 displaced by newer frames" in caplog.text


def test_several_reasons_share_a_line_and_no_score_is_said(
    alarms: Alarms, cameras: Cameras, caplog: pytest.LogCaptureFixture
) -> None:
    cameras["top"].scored_ms = None
    cameras["top"].counts.captured, cameras["top"].counts.faults = 9, {Reason.OVERLOAD: 4, Reason.PICTURE: 5}
    alarms.look(3.0)
    assert "4 fault: overload, 5 fault: picture. No frame was scored; deadline_ms allows 200 ms" in caplog.text
