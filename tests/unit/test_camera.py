"""One running camera: what becomes of everything that its capture says, and starting, changing and stopping it."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import numpy as np
import pytest
from conftest import small_artefact

from inspectd.cameras.protocol import Opened
from inspectd.cameras.supervisor import Health, State
from inspectd.config import CameraConfig
from inspectd.engine.backend import Floats, Request, Score
from inspectd.errors import UsageError
from inspectd.line import fitness
from inspectd.line.batcher import Batcher
from inspectd.line.camera import Camera, join_all
from inspectd.line.inspection import Inspection
from inspectd.line.ledger import Ledger
from inspectd.line.products import Products
from inspectd.line.recipe import NoRecipe, Recipe, recipe_for
from inspectd.line.sinks import RawFrames, Sinks
from inspectd.model.artefact import Artefact
from inspectd.model.calibration import CameraRecord
from inspectd.records import Frame, Outcome, Reason, ReleasedError, Stamp, Verdict

OPENED = Opened(4, 4096, 64, 48, 30.0, True, "YUYV")


class FakeCapture:
    """Shows what the test shows."""

    def __init__(self, camera: Camera, last_frame: int) -> None:
        self.camera = camera
        self.frame = last_frame
        self.state = State.STARTING
        self.wanted: list[int] = []

    @property
    def health(self) -> Health:
        return Health(self.state, None, None, None, None, openings=1)

    def start(self) -> None:
        self.state = State.RUNNING
        self.camera.on_opened(OPENED)

    def stop(self) -> None:
        self.state = State.STOPPED

    def join(self, _timeout_s: float) -> bool:
        return self.state is State.STOPPED

    def want(self, at_ns: int) -> None:
        self.wanted.append(at_ns)


class Post:
    """One camera, the ledger and batcher behind it, and what was published and given back."""

    def __init__(self, recipe: Recipe | NoRecipe | Products, config: CameraConfig) -> None:
        self.said: list[Verdict] = []
        self.released: list[int] = []
        self.changes: list[str] = []
        self.ledger = Ledger(self.said.append)
        self.batcher = Batcher(4, 0)
        self.raw_frames = RawFrames()
        self.sinks = Sinks([self.raw_frames])
        self.captures: list[FakeCapture] = []
        self.camera = self.make(config, recipe)

    def make(self, config: CameraConfig, recipe: Recipe | NoRecipe | Products) -> Camera:
        return Camera(
            config,
            recipe if isinstance(recipe, Products) else Products({None: recipe}),
            ledger=self.ledger,
            batcher=self.batcher,
            sinks=self.sinks,
            open_capture=self._open,
            changed=self.changes.append,
        )

    def frame(self, number: int, height: int = 48, width: int = 64) -> Frame:
        stamp = Stamp("top", number, time.monotonic_ns())
        picture = np.full((height, width, 3), number, np.uint8)
        frame = Frame(stamp, picture, lambda: self.released.append(number))
        self.camera.on_frame(frame)
        return frame

    @property
    def reasons(self) -> list[Reason | None]:
        return [verdict.finding.reason for verdict in self.said]

    def _open(self, camera: Camera, last_frame: int) -> FakeCapture:
        self.captures.append(FakeCapture(camera, last_frame))
        return self.captures[-1]


def config(**keys: object) -> CameraConfig:
    return CameraConfig(**{"name": "top", "source": 0, "model": "m", **keys})  # type: ignore[arg-type]


def recipe_of(name: str = "m", threshold: float = 1.0, **calibration: object) -> Recipe:
    return recipe_for(config(), replace(small_artefact(threshold, **calibration), name=name))


def calibrated_on(identity: str | None, width: int = 64) -> Recipe:
    return recipe_of(camera=CameraRecord("0", identity, width, 48))


@pytest.fixture
def recipe() -> Recipe:
    return recipe_of()


def test_a_frame_waits_for_the_engine_with_its_promise_open(recipe: Recipe) -> None:
    post = Post(recipe, config())
    post.frame(1)
    assert post.said == []
    (job,) = post.batcher.take(0)
    assert job.entry.is_open
    assert post.ledger.counts("top").in_flight == 1


def test_latest_displaces_the_older_one_and_gives_its_slot_back(recipe: Recipe) -> None:
    post = Post(recipe, config())
    post.frame(1)
    post.frame(2)
    assert post.released == [1]
    assert post.said == []
    assert post.ledger.counts("top").displaced == 1


def test_every_answers_overload_for_what_does_not_fit(recipe: Recipe) -> None:
    post = Post(recipe, config(policy="every"))
    for number in range(1, 6):
        post.frame(number)
    assert post.reasons == [Reason.OVERLOAD]
    assert post.said[0].stamp is not None
    assert post.said[0].stamp.frame == 5
    assert post.released == [5]


@pytest.mark.parametrize(("policy", "reasons"), [("latest", []), ("every", [Reason.OVERLOAD])])
def test_a_frame_that_found_no_slot_is_accounted_for(recipe: Recipe, policy: str, reasons: list[Reason]) -> None:
    post = Post(recipe, config(policy=policy))
    post.camera.on_missed(Stamp("top", 1, time.monotonic_ns()))
    assert post.reasons == reasons
    counts = post.ledger.counts("top")
    assert counts.captured == 1
    assert counts.broken_law() is None


def test_without_a_model_every_frame_is_a_fault_that_says_why() -> None:
    post = Post(NoRecipe("the model folder is empty"), config())
    post.frame(1)
    assert post.reasons == [Reason.NO_MODEL]
    assert post.said[0].finding.detail == "the model folder is empty"
    assert post.released == [1]


def test_after_the_shutdown_a_frame_is_only_given_back(recipe: Recipe) -> None:
    post = Post(recipe, config())
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
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], width: int, says: str
) -> None:
    monkeypatch.setattr(fitness, "identities", lambda _: names)
    post = Post(calibrated_on("/dev/v4l/by-id/usb-mine", width), config())
    post.camera.on_opened(OPENED)
    post.frame(1)
    finding = post.said[0].finding
    assert (finding.outcome, finding.reason) == (Outcome.FAULT, Reason.IDENTITY)
    assert re.search(says, finding.detail or "")
    assert post.released == [1]


def test_the_right_camera_is_inspected_whichever_of_its_names_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitness, "identities", lambda _: ("/dev/v4l/by-id/usb-mine", "/dev/v4l/by-path/usb-0"))
    post = Post(calibrated_on("/dev/v4l/by-path/usb-0"), config())
    post.camera.on_opened(OPENED)
    post.frame(1)
    assert post.said == []


def plain() -> Artefact:
    """A model of the published code: nothing is known of its calibration."""
    return replace(small_artefact(), calibration=None)


def test_a_roi_that_leaves_the_picture_is_never_ok() -> None:
    post = Post(recipe_for(config(roi=(10, 10, 100, 10), threshold=1), plain()), config())
    post.frame(1)
    assert post.reasons == [Reason.IDENTITY]
    assert "does not lie inside the picture of 64x48" in (post.said[0].finding.detail or "")


def test_another_roi_than_the_calibrations_is_refused() -> None:
    with pytest.raises(UsageError, match=r"roi \[1, 2, 3, 4\].*calibrated on everything"):
        recipe_for(config(roi=(1, 2, 3, 4)), small_artefact())


def test_the_shares_of_held_out_parts_come_from_ascending_scores() -> None:
    criterion = recipe_of(held_out_scores=(3.0, 1.0, 2.0)).areas[0].criterion
    assert criterion is not None
    assert criterion.share_at_least(2.0) == pytest.approx(2 / 3)


class FakeEngine:
    """Scores each picture with its own number, and notes by which model."""

    max_batch, depth = 1, 2

    def __init__(self) -> None:
        self.asked: list[tuple[int, str]] = []

    def seat(self) -> AbstractContextManager[Score]:
        return nullcontext(self._score)

    def _score(self, requests: Sequence[Request]) -> list[Floats]:
        self.asked += [(int(one.picture[0, 0, 0]), one.model.name) for one in requests]
        return [np.full((2, 2), one.picture[0, 0, 0], np.float32) for one in requests]


@pytest.fixture
def running(recipe: Recipe) -> Iterator[tuple[Post, FakeEngine]]:
    post, engine = Post(recipe, config(policy="every")), FakeEngine()
    inspection = Inspection(engine, post.batcher, post.ledger, Sinks([post.raw_frames]))
    inspection.start()
    yield post, engine
    inspection.stop()
    assert inspection.join(10)


def wait_until(condition: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < give_up_s, "it did not happen"
        time.sleep(0.0002)


def test_a_camera_is_started_changed_paused_stopped_and_started_again(running: tuple[Post, FakeEngine]) -> None:
    post, engine = running
    camera = post.camera
    camera.start()
    post.frame(1)
    camera.use(recipe_of("other", threshold=10))  # between two frames; the first may not be scored yet
    post.frame(2)
    camera.pause("the belt is cleaned")
    assert (camera.is_paused, camera.is_inspecting) == (True, False)
    post.frame(3)
    camera.resume()
    post.frame(4)
    wait_until(lambda: len(post.said) == 4)
    camera.stop()
    assert camera.join(0)
    camera.start()
    post.frame(5)
    wait_until(lambda: len(post.said) == 5)
    assert [capture.frame for capture in post.captures] == [0, 4], "frame numbers go on, too"
    assert [v.seq for v in sorted(post.said, key=lambda v: v.seq)] == [1, 2, 3, 4, 5]
    by_frame = {v.stamp.frame: v.finding for v in post.said if v.stamp}
    assert {n: (f.outcome, f.model and f.model.split()[0]) for n, f in by_frame.items()} == {
        1: (Outcome.OK, "m"),
        2: (Outcome.OK, "other"),
        3: (Outcome.FAULT, None),
        4: (Outcome.OK, "other"),
        5: (Outcome.OK, "other"),
    }
    assert (by_frame[3].reason, by_frame[3].detail) == (Reason.BYPASS, "the belt is cleaned")
    assert sorted(engine.asked) == [(1, "m"), (2, "other"), (4, "other"), (5, "other")]
    assert sorted(post.released) == [1, 2, 3, 4, 5]
    assert camera.counts.broken_law() is None


def test_what_waits_when_a_camera_is_closed_is_a_fault_and_its_seq_goes_on_when_it_comes_again(recipe: Recipe) -> None:
    post = Post(recipe, config(policy="every"))
    post.frame(1)
    post.frame(2)
    post.camera.close("it was removed")
    assert post.reasons == [Reason.SHUTDOWN] * 2
    assert post.released == [1, 2]
    post.frame(3)
    assert post.released == [1, 2, 3], "a frame that comes late is only given back"
    post.camera = post.make(config(policy="every", deadline_ms=50), recipe)
    post.camera.start()
    assert post.captures[-1].frame == 2
    post.camera.pause("not yet")
    post.frame(3)
    assert [v.seq for v in post.said] == [1, 2, 3]
    assert post.ledger.counts("top").broken_law() is None


def test_a_camera_is_made_and_started_once(recipe: Recipe) -> None:
    post = Post(recipe, config())
    with pytest.raises(ValueError, match="camera top has an account"):
        post.make(config(), recipe)
    post.camera.start()
    with pytest.raises(ValueError, match="camera top is running"):
        post.camera.start()
    post.frame(1)
    assert post.ledger.in_flight() == 1, "the camera goes on"


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (calibrated_on(None, 1920), "calibrated at 1920x48; this camera gives 64x48"),
        (recipe_for(config(roi=(10, 10, 100, 10), threshold=1), plain()), "does not lie inside the picture of 64x48"),
    ],
)
def test_a_recipe_for_another_picture_size_is_refused_and_the_old_one_stays(other: Recipe, says: str) -> None:
    post = Post(recipe_of(), config())
    post.camera.start()
    with pytest.raises(UsageError, match=f"Camera top cannot use .*{says}"):
        post.camera.use(other)
    post.frame(1)
    (job,) = post.batcher.take(0)
    assert job.recipe == recipe_of()


def test_a_frame_that_is_held_after_its_last_release_names_its_camera(recipe: Recipe) -> None:
    post = Post(NoRecipe("none"), config())
    frame = post.frame(7)
    for use in (frame.hold, frame.release, lambda: frame.picture):
        with pytest.raises(ReleasedError, match="frame 7 of camera top"):
            use()
    post.frame(8)
    assert len(post.said) == 2, "the camera goes on"


def test_raw_frames_are_copies_of_everything_displaced_ones_included(recipe: Recipe) -> None:
    post = Post(recipe, config())
    filled = threading.Event()
    post.frame(1)
    order = post.raw_frames.order("top", 2, filled.set)
    other = post.raw_frames.order("side", 1, filled.set)
    for number in (2, 3, 4):
        post.frame(number)
    assert filled.is_set()
    assert [(stamp.frame, int(picture[0, 0, 0])) for stamp, picture in order.frames] == [(1, 1), (2, 2)]
    assert post.released == [1, 2, 3]
    post.raw_frames.cancel(other)
    assert not post.raw_frames.wants(Stamp("side", 1, 0), None)


def test_sixteen_stuck_cameras_stop_as_fast_as_one() -> None:
    waited: list[float] = []

    class Stuck:
        def join(self, timeout_s: float) -> None:
            time.sleep(timeout_s)
            waited.append(timeout_s)

    join_all([Stuck() for _ in range(16)], 0.2)  # type: ignore[misc]
    assert len(waited) == 16
    assert sum(waited) <= 0.2 + 1e-6
