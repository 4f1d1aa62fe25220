"""A camera that behaves like a bad day in a factory: hangs, stale buffers, a pulled cable, a return."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import pytest
from conftest import ROOT, write_small_model
from daemon_process import DaemonProcess
from reconnecting import captures_of

from inspectd.model.calibration import CameraRecord

FAKES = ROOT / "tests" / "fakes"
READ_TIMEOUT_MS = 800


class FakeCamera:
    """The steering wheel of tests/fakes."""

    def __init__(self, folder: Path) -> None:
        self.script = folder / "camera"
        self.be("ok")

    def be(self, mode: str) -> None:
        """Change what the camera does, at once."""
        scratch = self.script.with_suffix(".new")
        scratch.write_text(mode)
        scratch.rename(self.script)

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process see this camera."""
        return {"FAKE_CAMERA": str(self.script), "PYTHONPATH": str(FAKES)}


@pytest.fixture
def camera(tmp_path: Path) -> FakeCamera:
    """A camera that works."""
    return FakeCamera(tmp_path)


def start(tmp_path: Path, model: Path, camera: FakeCamera, **settings: object) -> DaemonProcess:
    """Run a daemon on camera 0."""
    keys = {"read_timeout_ms": READ_TIMEOUT_MS, "frozen_ms": 800, "deadline_ms": 5000, **settings}
    text = ", ".join(f"{key}: {value}" for key, value in keys.items())
    return DaemonProcess(
        tmp_path / "daemon",
        f"{{name: top, source: 0, model: {model}, {text}}}",
        environment=camera.environment,
    )


def good(daemon: DaemonProcess) -> int:
    """Return how many parts were really inspected."""
    return sum(v["verdict"] == "ok" for v in daemon.verdicts)


@pytest.mark.parametrize(
    ("trap", "reason"),
    [("hang", "camera_lost"), ("stale", "camera_lost"), ("unplugged", "camera_lost"), ("frozen", "camera_frozen")],
)
def test_a_camera_that_fails_is_replaced_and_comes_back(
    tmp_path: Path, small_model: Path, camera: FakeCamera, trap: str, reason: str
) -> None:
    with start(tmp_path, small_model, camera) as daemon:
        daemon.listen(lambda d: good(d) >= 3)
        first_child = captures_of(daemon.process.pid)
        camera.be(trap)
        daemon.listen(lambda d: any(v["verdict"] == "fault" for v in d.verdicts))
        before = len(daemon.verdicts)
        camera.be("ok")
        daemon.listen(lambda d: len(d.verdicts) >= before + 3)
        assert captures_of(daemon.process.pid) != first_child
        assert daemon.stop() == 0

    outcomes = [v["verdict"] for v in daemon.verdicts]
    fault_at = outcomes.index("fault")
    fault = daemon.verdicts[fault_at]
    assert (fault["reason"], fault["frame"], fault["score"]) == (reason, None, None)
    assert fault["detail"]
    # One fault at the transition, and nothing called ok until the camera really was back.
    assert outcomes.count("fault") == 1 + sum(v["reason"] == "shutdown" for v in daemon.verdicts)
    assert set(outcomes[:fault_at]) == set(outcomes[fault_at + 1 :]) - {"fault"} == {"ok"}
    assert [v["seq"] for v in daemon.verdicts] == list(range(1, len(outcomes) + 1))
    frames = [v["frame"] for v in daemon.verdicts if v["frame"] is not None]
    assert frames == sorted(set(frames)), "a capture number came twice"
    assert [s["state"] for s in daemon.states if s["state"] in ("lost", "frozen")]


def test_a_driver_whose_clock_jumps_and_comes_back_costs_no_verdict_and_makes_no_picture_old_or_new(
    tmp_path: Path, small_model: Path, camera: FakeCamera
) -> None:
    with start(tmp_path, small_model, camera) as daemon:
        for mode in ("ahead", "ok"):
            daemon.listen(lambda d: good(d) >= 5)
            camera.be(mode)
            before = good(daemon)
            daemon.listen(lambda d, before=before: good(d) >= before + 10)
        daemon.stop()
    assert {v["verdict"] for v in daemon.verdicts if v["reason"] != "shutdown"} == {"ok"}
    ages_ms = [(v["t"]["published"] - v["t"]["captured"]) / 1e6 for v in daemon.verdicts if v["verdict"] == "ok"]
    assert all(0 <= age < 5000 for age in ages_ms)


def test_a_hung_read_is_noticed_within_its_deadline(tmp_path: Path, small_model: Path, camera: FakeCamera) -> None:
    """The times are the daemon's own: last picture, and the fault's publication. The slack is for a busy machine."""
    with start(tmp_path, small_model, camera) as daemon:
        daemon.listen(lambda d: good(d) >= 3)
        camera.be("hang")
        daemon.listen(lambda d: any(v["reason"] == "camera_lost" for v in d.verdicts))
        daemon.stop()
    lost = next(v for v in daemon.verdicts if v["reason"] == "camera_lost")
    last_good = [v for v in daemon.verdicts if v["seq"] < lost["seq"]][-1]
    noticed_ms = (lost["t"]["published"] - last_good["t"]["captured"]) / 1e6
    assert READ_TIMEOUT_MS * 0.9 <= noticed_ms <= READ_TIMEOUT_MS + 2000


def test_a_child_whose_driver_leaks_gives_way_to_the_others_and_goes_on(
    tmp_path: Path, small_model: Path, camera: FakeCamera
) -> None:
    with start(tmp_path, small_model, camera) as daemon:
        daemon.listen(lambda d: good(d) >= 3)
        (child,) = captures_of(daemon.process.pid)
        usual = os.getpriority(os.PRIO_PROCESS, child)
        camera.be("leaks")
        daemon.listen(lambda _: os.getpriority(os.PRIO_PROCESS, child) > usual)
        before = good(daemon)
        daemon.listen(lambda d: good(d) >= before + 3)
        assert captures_of(daemon.process.pid) == [child]
        daemon.listen(lambda d: d.alarms() == {"driver_leaks"})
        camera.be("ok")
        os.kill(child, signal.SIGKILL)  # which gives back what it has taken
        daemon.listen(lambda d: good(d) >= before + 6 and not d.alarms())


def test_a_camera_that_is_not_there_at_the_start_is_declared_and_taken_when_it_comes(
    tmp_path: Path, small_model: Path, camera: FakeCamera
) -> None:
    camera.be("unplugged")
    with start(tmp_path, small_model, camera) as daemon:
        daemon.listen(lambda d: any(v["reason"] == "camera_lost" for v in d.verdicts))
        assert "video0" in daemon.verdicts[0]["detail"]
        camera.be("ok")
        daemon.listen(lambda d: good(d) >= 2)
        assert daemon.stop() == 0
    assert [v["reason"] for v in daemon.verdicts].count("camera_lost") == 1


def test_settings_are_made_again_after_each_reopening(tmp_path: Path, small_model: Path, camera: FakeCamera) -> None:
    with start(tmp_path, small_model, camera, exposure=-6, gain=3, fps=50, format="MJPG") as daemon:
        daemon.listen(lambda d: good(d) >= 2)
        camera.be("hang")
        daemon.listen(lambda d: any(v["reason"] == "camera_lost" for v in d.verdicts))
        before = good(daemon)
        camera.be("ok")
        daemon.listen(lambda d: good(d) >= before + 3)
        daemon.stop()
    by_process: dict[str, list[str]] = {}
    for line in Path(f"{camera.script}.log").read_text().splitlines():
        pid, _, setting = line.partition(" ")
        by_process.setdefault(pid, []).append(setting)
    settings = list(by_process.values())
    assert len(settings) >= 2
    assert all(made == settings[0] and len(made) >= 6 for made in settings)


def test_a_dead_camera_does_not_harm_another(tmp_path: Path, small_model: Path, camera: FakeCamera) -> None:
    cameras = (
        f"{{name: bad, source: 0, model: {small_model}, read_timeout_ms: 800}},"
        f'{{name: good, source: "sim://line?fps=20&width=64&height=64", model: {small_model}, deadline_ms: 5000}}'
    )
    camera.be("hang")
    with DaemonProcess(tmp_path / "daemon", cameras, environment=camera.environment) as daemon:
        daemon.listen(lambda d: sum(v["camera"] == "good" for v in d.verdicts) >= 10)
        assert daemon.stop() == 0
    assert {v["verdict"] for v in daemon.verdicts if v["camera"] == "good"} <= {"ok", "fault"}
    assert sum(v["verdict"] == "ok" for v in daemon.verdicts if v["camera"] == "good") >= 9


def test_the_daemon_killed_takes_its_children_with_it(tmp_path: Path, small_model: Path, camera: FakeCamera) -> None:
    with start(tmp_path, small_model, camera) as daemon:
        daemon.listen(lambda d: good(d) >= 1)
        camera.be("hang")  # the child cannot notice by itself that its parent is gone
        (child,) = captures_of(daemon.process.pid)
        pidfd = os.pidfd_open(child)
        daemon.process.kill()
        daemon.process.wait()
        import select

        assert select.select([pidfd], [], [], 10)[0], "the capture child outlived its parent"
        os.close(pidfd)


def test_calibrate_and_inspect_camera_0(tmp_path: Path, camera: FakeCamera) -> None:
    """The two commands of a first real camera, on the fake one."""
    camera.script.with_suffix(".controls").write_text('{"14": 10.0}')  # its gain
    calibrated = subprocess.run(
        [
            *(sys.executable, "-m", "inspectd", "calibrate", "--camera", "0", "--parts", "80", "--interval", "0"),
            *("--imagesize", "64", "--steps", "100", "--results_path", str(tmp_path / "results"), "--run_name", "top"),
        ],
        env={**os.environ, **camera.environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert calibrated.returncode == 0, calibrated.stderr
    model = tmp_path / "results/project/group/top/models/0"
    record: dict[str, Any] = json.loads((model / "calibration.json").read_text())["camera"]
    camera_then = {"source": "0", "identity": None, "width": 64, "height": 48, "format": None}
    assert record == {**camera_then, "settings": {"gain": 10.0}}
    with start(tmp_path, model, camera) as daemon:
        daemon.listen(lambda d: len(d.verdicts) >= 20)
        assert daemon.stop() == 0
    inspected = [v for v in daemon.verdicts if v["verdict"] in ("ok", "ng")]
    assert len(inspected) >= 19
    assert sum(v["verdict"] == "ok" for v in inspected) > len(inspected) / 2  # they are all good parts


def test_a_snapshot_is_a_picture_of_the_camera(tmp_path: Path, camera: FakeCamera) -> None:
    code = "import sys; from pathlib import Path; from inspectd.cameras.snapshot import save_snapshot;"
    command = [sys.executable, "-c", f"{code} save_snapshot('0', Path(sys.argv[1]))", str(tmp_path / "shots")]
    subprocess.run(command, env={**os.environ, **camera.environment}, check=True)
    blue, green, red = cv2.imread(str(tmp_path / "shots" / "0.png")).mean((0, 1))
    assert blue > green + 50 > red + 100, "the channels keep their order"


def test_after_the_news_of_a_loss_nothing_is_ok_that_was_seen_before(
    tmp_path: Path, small_model: Path, camera: FakeCamera
) -> None:
    with start(tmp_path, small_model, camera) as daemon:
        for number in range(1, 7):
            daemon.listen(lambda d, n=number: good(d) >= 10 * n)  # type: ignore[misc]
            camera.be("unplugged")
            daemon.listen(lambda d, n=number: lost(d) >= n)  # type: ignore[misc]
            camera.be("ok")
        daemon.listen(lambda d: good(d) >= 70)
        daemon.stop()
    told_ns = 0
    for verdict in daemon.verdicts:
        if verdict["reason"] == "camera_lost":
            told_ns = verdict["t"]["published"]
        elif verdict["verdict"] == "ok":
            assert verdict["t"]["captured"] > told_ns, "an earlier picture was ok after the loss had been told"
    assert lost(daemon) >= 6


def lost(daemon: DaemonProcess) -> int:
    return sum(v["reason"] == "camera_lost" for v in daemon.verdicts)


def test_a_jpeg_cameras_own_bytes_are_decoded_whole_or_not_at_all(
    tmp_path: Path, small_model: Path, camera: FakeCamera, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_FORMAT", "MJPG")
    with start(tmp_path, small_model, camera) as daemon:
        daemon.listen(lambda d: good(d) >= 5)
        camera.be("cut")
        daemon.listen(lambda d: sum(v["reason"] == "picture" for v in d.verdicts) >= 5)
        camera.be("ok")
        before = good(daemon)
        daemon.listen(lambda d: good(d) >= before + 5)
        daemon.stop()
    faults = [v for v in daemon.verdicts if v["verdict"] == "fault" and v["reason"] != "shutdown"]
    assert {v["reason"] for v in faults} == {"picture"}
    assert all("came damaged" in v["detail"] and v["frame"] is not None for v in faults)


def test_a_jpeg_camera_whose_driver_keeps_its_bytes_is_said_once(
    tmp_path: Path, small_model: Path, camera: FakeCamera, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_FORMAT", "MJPG")
    monkeypatch.setenv("FAKE_DECODES", "1")
    with start(tmp_path, small_model, camera) as daemon:
        daemon.listen(lambda d: good(d) >= 5)
        camera.be("unplugged")
        daemon.listen(lambda d: lost(d) >= 1)
        camera.be("ok")
        before = good(daemon)
        daemon.listen(lambda d: good(d) >= before + 5)
        daemon.stop()
        assert daemon.log.count("gives no JPEG bytes") == 1


SETTINGS = {"auto_exposure": 1.0, "exposure": 156.0, "gain": 10.0}
CONTROLS = {21: 3.0, 15: 300.0, 14: 10.0}  # CAP_PROP_AUTO_EXPOSURE, _EXPOSURE, _GAIN, as somebody else left them


def test_exposure_is_set_read_back_and_watched_and_what_nobody_sets_is_compared(
    tmp_path: Path, camera: FakeCamera
) -> None:
    model = write_small_model(
        tmp_path / "model", threshold=1e6, camera=CameraRecord("0", None, 64, 48, settings=SETTINGS)
    )

    def control(number: int, value: float) -> None:
        path = camera.script.with_suffix(".controls")
        known = json.loads(path.read_text()) if path.exists() else {}
        path.with_suffix(".new").write_text(json.dumps({**known, str(number): value}))
        path.with_suffix(".new").rename(path)

    for number, value in CONTROLS.items():
        control(number, value)
    with start(tmp_path, model, camera, exposure=156) as daemon:
        daemon.listen(lambda d: good(d) >= 3)
        assert json.loads(camera.script.with_suffix(".controls").read_text()) == {"21": 1.0, "15": 156.0, "14": 10.0}
        control(15, 999.0)
        daemon.listen(lambda d: any("another program changed its exposure" in (s["detail"] or "") for s in d.states))
        had = good(daemon)
        daemon.listen(lambda d: good(d) >= had + 3 and d.states[-1]["state"] == "running")  # it was set anew
        control(14, 40.0)  # which the configuration does not set
        camera.be("unplugged")
        daemon.listen(lambda d: d.states[-1]["state"] == "lost")
        camera.be("ok")
        had = len(daemon.verdicts)
        daemon.listen(lambda d: len(d.verdicts) >= had + 3)
        assert daemon.verdicts[-1]["reason"] == "identity"
        assert "the camera's gain is 40, at calibration it was 10; set it so" in daemon.verdicts[-1]["detail"]
        daemon.listen(lambda d: d.states[-1]["state"] == "running")
        assert not daemon.states[-1]["inspecting"]
