"""How the stages are joined: what an intake does with everything that a camera can say."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from conftest import write_small_model

from inspectd.cameras.protocol import Opened
from inspectd.cameras.sources import Kind, Source
from inspectd.config import CameraConfig
from inspectd.daemon.pipeline import join_all
from inspectd.errors import UsageError
from inspectd.line import fitness
from inspectd.line.batcher import Batcher
from inspectd.line.camera import Intake
from inspectd.line.ledger import Ledger
from inspectd.line.recipe import Station, make_station
from inspectd.line.tap import Tap
from inspectd.model.calibration import CameraRecord
from inspectd.records import Frame, Outcome, Reason, Stamp, Verdict
from inspectd.simplenet import bundle

DEVICE = Source(Kind.DEVICE, "/dev/video0")
OPENED = Opened(4, 4096, 64, 48, 30.0, True, "YUYV")


class Post:
    """One camera's intake, the ledger behind it, and what was said and given back."""

    def __init__(
        self, station: Station | str, camera: CameraConfig, source: Source = DEVICE, capacity: int = 1
    ) -> None:
        self.said: list[Verdict] = []
        self.released: list[int] = []
        self.ledger = Ledger(self.said.append)
        self.ledger.add_camera("top", 1000)
        self.batcher = Batcher(4, 0)
        self.batcher.add_camera("top", camera.policy, capacity)
        self.changes: list[str] = []
        self.intake = Intake(
            camera, camera.policy, source, station, self.ledger, self.batcher, Tap(), self.changes.append
        )

    def frame(self, number: int, height: int = 48, width: int = 64) -> None:
        stamp = Stamp("top", number, time.monotonic_ns())
        picture = np.zeros((height, width, 3), np.uint8)
        self.intake.on_frame(Frame(stamp, picture, lambda: self.released.append(number)))

    @property
    def reasons(self) -> list[Reason | None]:
        return [verdict.finding.reason for verdict in self.said]


def camera(**keys: object) -> CameraConfig:
    return CameraConfig(**{"name": "top", "source": 0, "model": "m", **keys})  # type: ignore[arg-type]


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return make_station(camera(), bundle.load(write_small_model(tmp_path / "model")))


def calibrated_on(tmp_path: Path, identity: str | None, width: int = 64) -> Station:
    folder = write_small_model(tmp_path / "bound", camera=CameraRecord("0", identity, width, 48))
    return make_station(camera(), bundle.load(folder))


def test_a_frame_waits_for_the_engine_with_its_promise_open(station: Station) -> None:
    post = Post(station, camera())
    post.frame(1)
    assert post.said == []
    (job,) = post.batcher.take(0)
    assert job.entry.is_open
    assert post.ledger.counts("top").in_flight == 1


def test_latest_displaces_the_older_one_and_gives_its_slot_back(station: Station) -> None:
    post = Post(station, camera())
    post.frame(1)
    post.frame(2)
    assert post.released == [1]
    assert post.said == []
    assert post.ledger.counts("top").displaced == 1


def test_every_answers_overload_for_what_does_not_fit(station: Station) -> None:
    post = Post(station, camera(policy="every"), capacity=2)
    for number in (1, 2, 3):
        post.frame(number)
    assert post.reasons == [Reason.OVERLOAD]
    assert post.said[0].stamp is not None
    assert post.said[0].stamp.frame == 3
    assert post.released == [3]


@pytest.mark.parametrize(("policy", "reasons"), [("latest", []), ("every", [Reason.OVERLOAD])])
def test_a_frame_that_found_no_slot_is_accounted_for(station: Station, policy: str, reasons: list[Reason]) -> None:
    post = Post(station, camera(policy=policy))
    post.intake.on_missed(Stamp("top", 1, time.monotonic_ns()))
    assert post.reasons == reasons
    counts = post.ledger.counts("top")
    assert counts.captured == 1
    assert counts.broken_law() is None


def test_without_a_model_every_frame_is_a_fault_that_says_why() -> None:
    post = Post("the model folder is empty", camera())
    post.frame(1)
    assert post.reasons == [Reason.NO_MODEL]
    assert post.said[0].finding.detail == "the model folder is empty"
    assert post.released == [1]


def test_after_the_shutdown_a_frame_is_only_given_back(station: Station) -> None:
    post = Post(station, camera())
    post.ledger.shutdown("stopping")
    post.frame(1)
    assert post.released == [1]
    assert post.said == []


@pytest.mark.parametrize(
    ("names", "width", "says"),
    [
        (("/dev/v4l/by-id/usb-twin",), 64, "calibrated on /dev/v4l/by-id/usb-mine; this camera is .*usb-twin"),
        ((), 64, "this camera is unknown"),
        (("/dev/v4l/by-id/usb-mine",), 1920, "calibrated at 1920x48; this camera gives 64x48"),
    ],
)
def test_another_camera_than_the_models_is_never_ok(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], width: int, says: str
) -> None:
    monkeypatch.setattr(fitness, "stable_paths", lambda _: names)
    post = Post(calibrated_on(tmp_path, "/dev/v4l/by-id/usb-mine", width), camera())
    post.intake.on_opened(OPENED)
    post.frame(1)
    finding = post.said[0].finding
    assert (finding.outcome, finding.reason) == (Outcome.FAULT, Reason.IDENTITY)
    import re

    assert re.search(says, finding.detail or "")
    assert post.released == [1]


def test_the_right_camera_is_inspected_whichever_of_its_names_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitness, "stable_paths", lambda _: ("/dev/v4l/by-id/usb-mine", "/dev/v4l/by-path/usb-0"))
    post = Post(calibrated_on(tmp_path, "/dev/v4l/by-path/usb-0"), camera())
    post.intake.on_opened(OPENED)
    post.frame(1)
    assert post.said == []


def test_a_roi_that_leaves_the_picture_is_never_ok(tmp_path: Path) -> None:
    model = bundle.load(write_small_model(tmp_path / "plain", threshold=None))
    post = Post(make_station(camera(roi=(10, 10, 100, 10)), model), camera())
    post.frame(1)
    assert post.reasons == [Reason.IDENTITY]
    assert "does not lie inside the picture of 64x48" in (post.said[0].finding.detail or "")


def test_another_roi_than_the_calibrations_is_refused(tmp_path: Path) -> None:
    model = bundle.load(write_small_model(tmp_path / "model"))
    with pytest.raises(UsageError, match=r"roi \[1, 2, 3, 4\].*calibrated on everything"):
        make_station(camera(roi=(1, 2, 3, 4)), model)


def test_the_shares_of_held_out_parts_come_from_ascending_scores(tmp_path: Path) -> None:
    folder = write_small_model(tmp_path / "model", held_out_scores=(3.0, 1.0, 2.0))
    standard = make_station(camera(), bundle.load(folder)).standard
    assert standard is not None
    assert standard.share_at_least(2.0) == pytest.approx(2 / 3)


def test_sixteen_stuck_cameras_stop_as_fast_as_one() -> None:
    waited: list[float] = []

    class Stuck:
        def join(self, timeout_s: float) -> None:
            time.sleep(timeout_s)
            waited.append(timeout_s)

    join_all([Stuck() for _ in range(16)], 0.2)  # type: ignore[misc]
    assert len(waited) == 16
    assert sum(waited) <= 0.2 + 1e-6
