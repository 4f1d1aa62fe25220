"""What asks for somebody is raised and in the log; what repeats is counted: at once, then once a minute."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from inspectd.cameras.supervisor import Health, State
from inspectd.config import CameraConfig
from inspectd.daemon.alarms import TELL_EVERY_S, Alarms, OfDaemon
from inspectd.line.challenges import Challenges
from inspectd.line.drift import Drift
from inspectd.model.optics import Limits
from inspectd.records import Challenge, Counts, Finding, Known, Outcome, Reason, fault

WELL = Health(State.RUNNING, None, 30.0, 0, None, openings=1)


@dataclass
class FakeCamera:
    """Health, counts and latencies as they are set."""

    config: CameraConfig
    counts: Counts = field(default_factory=Counts)
    scored_ms: tuple[float, float] | None = (80.0, 140.0)
    health: Health = WELL
    unjudged: Finding | None = None
    trouble: str | None = None
    drift: Drift = field(default_factory=Drift)
    pause_reason: str | None = None
    challenges: Challenges = field(default_factory=lambda: Challenges("top", {}))

    @property
    def latencies(self) -> FakeCamera:
        return self

    products: object = "what judges"

    @property
    def terms(self) -> CameraConfig:
        return self.config

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def one_in_a_hundred_ms(self) -> float | None:
        return None if self.scored_ms is None else self.scored_ms[1]

    def last_detail(self, reason: Reason) -> str:
        return f"the last {reason} said so"


Cameras = dict[str, FakeCamera]


@pytest.fixture
def cameras() -> Cameras:
    names = ("top", "side")
    return {name: FakeCamera(CameraConfig(name=name, source="x.mp4", model="m", deadline_ms=200)) for name in names}


@dataclass
class Own:
    """What the daemon knows of itself, as it is set."""

    lasting: dict[str, str] = field(default_factory=dict)
    refused: int = 0
    changed: list[str] = field(default_factory=list)


@pytest.fixture
def own() -> Own:
    return Own()


@pytest.fixture
def alarms(cameras: Cameras, own: Own, caplog: pytest.LogCaptureFixture) -> Alarms:
    caplog.set_level(logging.INFO)
    of_daemon = OfDaemon(lambda: own.lasting, lambda: own.refused)
    alarms = Alarms(cameras, of_daemon, own.changed.append)  # type: ignore[arg-type]
    alarms.look(0.0)
    return alarms


def raised(alarms: Alarms, camera: str = "top") -> list[str]:
    return [str(one.alarm.name) for one in alarms.of_camera(camera)]


def test_deadlines_that_are_missed_are_said_with_numbers(
    alarms: Alarms, cameras: Cameras, caplog: pytest.LogCaptureFixture
) -> None:
    cameras["top"].counts.captured, cameras["top"].counts.faults = 100, {Reason.DEADLINE: 43}
    cameras["top"].scored_ms = (180.0, 240.0)
    alarms.look(10.0)
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert "camera top gets its verdicts too late: the last deadline said so. See what else this machine" in caplog.text
    assert "camera top: of 100 frames in 10 s 43 fault: deadline. From capture to verdict" in caplog.text
    assert "180 ms (median) and 240 ms (p99); deadline_ms allows 200 ms" in caplog.text


def test_it_is_said_once_a_minute_while_it_lasts(
    alarms: Alarms, cameras: Cameras, caplog: pytest.LogCaptureFixture
) -> None:
    for second in range(1, 200):
        cameras["top"].counts.captured += 30
        cameras["top"].counts.faults = {Reason.DEADLINE: 10 * second}
        alarms.look(float(second))
    assert len(caplog.records) == 1 + 4, "that it is raised, and its count"
    assert raised(alarms) == ["deadline"]
    assert f"of {30 * TELL_EVERY_S:.0f} frames in {TELL_EVERY_S:.0f} s {10 * TELL_EVERY_S:.0f} fault" in caplog.text


def test_nothing_is_said_of_what_is_well(alarms: Alarms, cameras: Cameras, caplog: pytest.LogCaptureFixture) -> None:
    cameras["side"].counts.faults = {Reason.CAMERA_LOST: 1}  # told when it happens, and it is back
    for second in range(1, 100):
        cameras["top"].counts.captured += 30
        alarms.look(float(second))
    assert caplog.records == []


def test_displaced_frames_are_no_warning(alarms: Alarms, cameras: Cameras, caplog: pytest.LogCaptureFixture) -> None:
    cameras["side"].counts.captured, cameras["side"].counts.displaced = 50, 20
    alarms.look(2.0)
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "camera side: of 50 frames in 2 s 20 displaced by newer frames" in caplog.text
    for second in range(3, 3600):
        cameras["side"].counts.displaced += 10
        alarms.look(float(second))
    assert len(caplog.records) == 1, "it is said once an hour"
    cameras["side"].counts.faults = {Reason.PICTURE: 1}
    alarms.look(3600.0)
    assert len(caplog.records) == 2, "but what is trouble is said at once"


def test_several_reasons_share_a_line_and_no_score_is_said(
    alarms: Alarms, cameras: Cameras, caplog: pytest.LogCaptureFixture
) -> None:
    cameras["top"].scored_ms = None
    cameras["top"].counts.captured, cameras["top"].counts.faults = 9, {Reason.OVERLOAD: 4, Reason.PICTURE: 5}
    alarms.look(3.0)
    assert "5 fault: picture, 4 fault: overload. No frame was scored; deadline_ms allows 200 ms" in caplog.text


LOST = Health(State.LOST, "it gave no new picture for 1000 ms", None, 0, None, openings=1)
SECONDS = Callable[[int], None]


@pytest.fixture
def let_pass(alarms: Alarms) -> SECONDS:
    """Look once a second for so many."""
    now = [0]

    def look(seconds: int) -> None:
        for _ in range(seconds):
            now[0] += 1
            alarms.look(float(now[0]))

    return look


def test_a_camera_that_stays_lost_is_raised_and_said_to_be_over(
    alarms: Alarms, cameras: Cameras, own: Own, let_pass: SECONDS, caplog: pytest.LogCaptureFixture
) -> None:
    cameras["top"].health = LOST
    let_pass(5)
    assert raised(alarms) == []
    let_pass(1)
    assert raised(alarms) == ["camera_lost"]
    assert "camera top gives no pictures: it gave no new picture for 1000 ms. See that it has power" in caplog.text
    let_pass(100)
    cameras["top"].health = WELL
    let_pass(1)
    assert raised(alarms) == []
    assert "camera top: alarm camera_lost is over after 101 s" in caplog.text
    assert own.changed == ["top", "top"], "state/ tells both at once"
    assert len(caplog.records) == 2


def test_a_camera_that_comes_and_goes_is_unsteady(alarms: Alarms, cameras: Cameras, let_pass: SECONDS) -> None:
    for returns in range(1, 4):
        cameras["top"].health = LOST
        let_pass(2)
        cameras["top"].health = Health(State.RUNNING, None, 30.0, 0, None, openings=returns + 1, returns=returns)
        let_pass(60)
    assert raised(alarms) == ["unsteady"]
    assert raised(alarms, "side") == []


def test_what_cannot_judge_is_raised_without_any_part(alarms: Alarms, cameras: Cameras, let_pass: SECONDS) -> None:
    cameras["top"].unjudged = fault(Reason.NO_MODEL, "the folder /models/top is missing")
    cameras["side"].unjudged = fault(Reason.IDENTITY, "the model was calibrated on another camera")
    let_pass(1)
    assert [one.sentence for one in alarms.of_camera("top")] == [
        "has no model that can be used: the folder /models/top is missing"
    ]
    assert raised(alarms, "side") == ["identity"]
    cameras["top"].unjudged = fault(Reason.BYPASS, "bypass by ann: cleaning")
    cameras["top"].pause_reason = "bypass by ann: cleaning"
    let_pass(1)
    assert raised(alarms) == ["bypass"], "what is bypassed needs no model"


def test_known_parts_are_asked_for_before_they_are_due(alarms: Alarms, cameras: Cameras, let_pass: SECONDS) -> None:
    now = [0.0]
    top = cameras["top"]
    top.challenges = Challenges("top", {Known.BAD: 1000.0}, lambda: now[0], lambda: now[0])
    top.challenges.recall(Challenge(Known.BAD), 0.0, None)
    let_pass(1)
    assert raised(alarms) == []
    now[0] = 910.0
    let_pass(1)
    assert [one.sentence for one in alarms.of_camera("top")] == ["must be shown a known part soon: within 2 minutes"]
    now[0] = 1000.0
    top.unjudged = fault(Reason.BYPASS, top.challenges.why_not() or "")
    let_pass(1)
    assert raised(alarms) == ["challenge_due"]
    top.challenges.trial(Challenge(Known.BAD)).conclude(Finding(Outcome.OK, score=1.0, threshold=2.0))
    let_pass(1)
    assert raised(alarms) == ["challenge_failed"]
    top.challenges.trial(Challenge(Known.BAD)).conclude(Finding(Outcome.NG, score=3.0, threshold=2.0))
    top.unjudged = None
    let_pass(1)
    assert raised(alarms) == []


def test_verdicts_that_are_hardly_in_time_are_told_before_they_are_late(
    alarms: Alarms, cameras: Cameras, let_pass: SECONDS
) -> None:
    cameras["top"].scored_ms = (100.0, 170.0)
    let_pass(60)
    assert raised(alarms) == []
    let_pass(1)
    assert raised(alarms) == ["near_deadline"]
    assert "one in a hundred takes 170 ms or more; 200 ms are allowed" in alarms.of_camera("top")[0].sentence
    cameras["top"].counts.faults = {Reason.DEADLINE: 3}
    let_pass(1)
    assert raised(alarms) == ["deadline"]


def test_parts_that_nobody_notices_and_a_leak_are_raised(alarms: Alarms, cameras: Cameras, let_pass: SECONDS) -> None:
    cameras["top"].trouble = "it is darker than at the calibration"
    cameras["top"].health = Health(State.RUNNING, None, 30.0, 0, None, openings=1, leaks=True)
    let_pass(6)
    assert raised(alarms) == ["parts_unseen", "driver_leaks"]


def test_what_troubles_the_daemon_is_its_own(
    alarms: Alarms, own: Own, let_pass: SECONDS, caplog: pytest.LogCaptureFixture
) -> None:
    own.lasting = {"journal": "The journal cannot be written: no space left on device."}
    for _ in range(6):
        own.refused += 1
        let_pass(1)
    assert [one.alarm.name for one in alarms.of_daemon] == ["journal", "clients_refused"]
    assert (
        "the daemon cannot write its journal: The journal cannot be written: no space left on device. Make"
        in caplog.text
    )
    own.lasting = {}
    let_pass(400)
    assert alarms.of_daemon == ()
    assert own.changed == [], "no camera's state"


def test_on_a_slow_line_three_in_a_row_are_many_however_far_apart(
    alarms: Alarms, cameras: Cameras, let_pass: SECONDS
) -> None:
    counts = cameras["top"].counts
    for part in range(1, 4):
        counts.last_seq, counts.faults = part, {Reason.PICTURE: part}
        let_pass(120)
        assert raised(alarms) == (["picture"] if part == 3 else [])
    let_pass(3000)
    assert raised(alarms) == ["picture"], "nothing better has come since"
    counts.last_seq += 1
    let_pass(1)
    assert raised(alarms) == ["picture"]
    let_pass(60)
    assert raised(alarms) == []


def test_what_was_counted_before_a_camera_was_opened_anew_is_not_new(
    alarms: Alarms, cameras: Cameras, let_pass: SECONDS
) -> None:
    cameras["top"].counts.faults = {Reason.PICTURE: 500}
    let_pass(100)
    gone = cameras.pop("top")
    let_pass(100)
    assert raised(alarms) == []
    cameras["top"] = gone
    let_pass(10)
    assert raised(alarms) == []


def test_a_lamp_that_ages_and_parts_that_score_higher_are_told(
    alarms: Alarms, cameras: Cameras, let_pass: SECONDS
) -> None:
    for _ in range(400):
        cameras["top"].drift.saw("", "m", "light", 0.88, Limits(0.95, 1.05))
        cameras["side"].drift.accepted("", "m", 1.0, -0.5)
    let_pass(61)
    assert [one.sentence for one in alarms.of_camera("top")] == [
        "gives pictures that are not as they were at the calibration: light is 12 % darker than at calibration; "
        "check lamp, exposure and lens before you touch the threshold, or calibrate again"
    ]
    assert raised(alarms, "side") == ["score_drift"]
    assert "half of them lie 50% of the way" in alarms.of_camera("side")[0].sentence


@pytest.mark.parametrize(("reason", "apart_s"), [(Reason.IDENTITY, 20), (Reason.NO_THRESHOLD, 60), (Reason.ENGINE, 90)])
def test_an_alarm_does_not_come_and_go_with_the_parts_of_a_slow_line(
    alarms: Alarms, cameras: Cameras, let_pass: SECONDS, reason: Reason, apart_s: int
) -> None:
    counts = cameras["top"].counts
    for part in range(1, 20):
        counts.last_seq, counts.faults = part, {reason: part}
        let_pass(1)
        if part > 3:
            assert raised(alarms) == [reason]
        let_pass(apart_s - 1)
        if part > 3:
            assert raised(alarms) == [reason]
    cameras["top"].products = "what a reload put in its place"
    let_pass(200)
    assert raised(alarms) == [], "nobody knows of that one yet"
