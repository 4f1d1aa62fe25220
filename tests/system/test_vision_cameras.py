"""GigE Vision cameras through Aravis: its fake camera, as a process of its own, on the loopback."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from commanded import ask
from conftest import write_small_model
from daemon_process import DaemonProcess
from run_here import run_here

from inspectd.cameras import protocol
from inspectd.cameras.capture import capture
from inspectd.cameras.grabbers.aravis import AravisGrabber
from inspectd.cameras.grabbers.base import Broken, Grabbed, Nothing
from inspectd.cameras.protocol import CaptureSettings
from inspectd.cameras.vision.clock import Promptness, Taken
from inspectd.cameras.vision.features import Features
from inspectd.cameras.vision.library import missing
from inspectd.client import Control
from inspectd.errors import CameraError
from inspectd.model.calibration import CameraRecord
from inspectd.wire.requests import SnapshotRequest, TriggerRequest

SERVER = "arv-fake-gv-camera-0.8"
SERIAL = "INSPECTD7"
SIZE = (512, 512)

needs_aravis = pytest.mark.skipif(
    shutil.which(SERVER) is None or missing() is not None,
    reason="needs aravis-tools, gir1.2-aravis-0.8 and python3-gi",
)


def serve() -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [SERVER, "-i", "127.0.0.1", "-s", SERIAL], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(0.5)
    return process


@pytest.fixture
def camera() -> Iterator[list[subprocess.Popen[bytes]]]:
    """A fake camera; the list holds the process, so that a test can put another in its place."""
    held = [serve()]
    try:
        yield held
    finally:
        for process in held:
            process.kill()
            process.wait()


def settings(**changes: object) -> CaptureSettings:
    return msgspec.structs.replace(CaptureSettings(f"aravis://{SERIAL}", "aravis", 4), **changes)


def opened(**changes: object) -> AravisGrabber:
    return AravisGrabber(settings(**changes), lambda: None)


def next_picture(grabber: AravisGrabber) -> Grabbed:
    for _ in range(50):
        found = grabber.grab(None)
        if isinstance(found, Grabbed):
            return found
    raise AssertionError("no picture came")


@needs_aravis
def test_pictures_come_with_the_time_at_which_they_were_taken(camera: list[subprocess.Popen[bytes]]) -> None:
    grabber = opened()
    assert (grabber.width, grabber.height, grabber.format) == (*SIZE, "Mono8")
    assert grabber.fps == pytest.approx(25, abs=1)
    before_ns = time.monotonic_ns()
    taken = [next_picture(grabber) for _ in range(12)]
    times = [one.captured_ns for one in taken]
    assert times == sorted(times)
    assert times[-1] <= time.monotonic_ns()
    assert times[0] >= before_ns - 2_000_000_000
    assert 0.02 < np.median(np.diff(times)) / 1e9 < 0.08, "25 a second"
    assert not any(one.is_arrival_time for one in taken)


@needs_aravis
def test_a_camera_that_is_slower_than_its_heartbeat_stays_ours(camera: list[subprocess.Popen[bytes]]) -> None:
    grabber = opened(fps=0.5, read_timeout_ms=6000.0)
    taken = [next_picture(grabber).captured_ns for _ in range(4)]
    assert (np.diff(taken)[1:] > 1.5e9).all(), "the first comes whenever the camera began"
    assert grabber._device.is_controller()


@needs_aravis
def test_features_are_set_read_back_and_what_the_camera_does_not_take_is_said(
    camera: list[subprocess.Popen[bytes]],
) -> None:
    grabber = opened(exposure=20_000.0, gain=3.0, features={"Width": 256, "PixelFormat": "Mono8"})
    assert grabber.width == 256
    assert grabber.read_back == {"exposure": 20_000.0, "gain": 3.0, "Width": 256.0}
    assert next_picture(grabber).picture.shape == (512, 256)
    grabber.close()
    for wrong, says in (
        ({"Wdth": 256}, "has no feature Wdth"),
        ({"Width": "wide"}, "Width"),
        ({"PixelFormat": "Nonsense9"}, "does not take PixelFormat: Nonsense9"),
    ):
        with pytest.raises(CameraError, match=says):
            opened(features=wrong)


@needs_aravis
def test_a_camera_is_free_for_the_next_program_at_once(
    camera: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inspectd.cameras.grabbers.aravis.HEARTBEAT_MS", 60_000)
    ours, theirs = protocol.pair()
    child = threading.Thread(target=capture, args=(theirs,))
    child.start()
    with ours:
        ours.send(protocol.encode_settings(settings()))
        while not isinstance(told := protocol.decode(ours.recv(protocol.MAX_PACKET)), protocol.Opened):
            assert told == protocol.Alive(0, False)
        with pytest.raises(CameraError, match="another program holds it"):
            opened(known_as=told.known_as)
    with theirs:
        child.join()
    opened(known_as=told.known_as).close()


ON_DEMAND: dict[str, object] = {
    # The fake looks for what it is told once for each picture that it could give.
    "features": {"AcquisitionFrameRate": 100, "TriggerMode": "On", "TriggerSource": "Software"}
}


def until(grabber: AravisGrabber, kind: type[Grabbed | Nothing | Broken], tries: int = 2000) -> Any:
    """Grab as the child's hand does, until something of a kind is found."""
    for _ in range(tries):
        time.sleep(grabber.idle_s())
        found = grabber.grab(None)
        if isinstance(found, kind) and found != Nothing():
            return found
    raise AssertionError(f"no {kind.__name__} came")


def want(grabber: AravisGrabber) -> int:
    """Have a picture taken now."""
    now_ns = time.monotonic_ns()
    grabber.want(now_ns)
    return now_ns


@needs_aravis
def test_a_camera_that_takes_a_picture_when_it_is_told_takes_one_then_and_no_others(
    camera: list[subprocess.Popen[bytes]],
) -> None:
    grabber = opened(is_commanded=True, **ON_DEMAND)
    assert grabber.on_demand
    for _ in range(6):
        assert until(grabber, Nothing).is_waiting, "it says that it is there, and nothing comes"
    for later_ns in (0, 300_000_000, 0):
        wanted_ns = time.monotonic_ns() + later_ns
        grabber.want(wanted_ns)
        taken = until(grabber, Grabbed)
        assert wanted_ns < taken.captured_ns < wanted_ns + 100_000_000
        assert not taken.is_arrival_time
    for _ in range(3):
        want(grabber)
    until(grabber, Grabbed)
    for _ in range(3):
        assert until(grabber, Nothing).is_waiting, "what was due together is answered by one picture"


@needs_aravis
def test_what_is_not_the_picture_that_it_was_told_to_take_is_never_taken_for_it(
    camera: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    grabber = opened(is_commanded=True, **ON_DEMAND)
    with monkeypatch.context() as patch:
        patch.setattr(grabber._freshness, "look", lambda *_: Nothing(is_repeat=True))
        wanted_ns = want(grabber)
        broken = until(grabber, Broken)
        assert "bit for bit a picture from before" in broken.why
        assert broken.captured_ns > wanted_ns, "its trigger is answered by it"
    assert grabber._promptness._usual_ns is not None, "the first pictures were for nobody, and tell how long they take"
    grabber._promptness._usual_ns = 400_000_000
    grabber._promptness._mark = None
    want(grabber)
    with pytest.raises(CameraError, match="gave a picture from before it was told to take one"):
        until(grabber, Grabbed)
    grabber._device.set_features_from_string("TriggerMode=Off")  # by another program
    with pytest.raises(CameraError, match="gives pictures without being told to"):
        until(grabber, Grabbed)
    grabber.close()
    grabber = opened(is_commanded=True, read_timeout_ms=400.0, **ON_DEMAND)
    grabber._device.set_features_from_string("TriggerSource=Line0")
    want(grabber)
    with pytest.raises(CameraError, match="was told to take a picture, and gave none for 360 ms"):
        until(grabber, Grabbed)


@needs_aravis
def test_a_picture_counts_as_taken_when_the_camera_took_it_and_not_when_it_was_told(
    camera: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    grabber = opened(is_commanded=True, **ON_DEMAND)
    command = grabber._features.command
    for wait_s in (0.0, 0.3):
        with monkeypatch.context() as patch:  # on its way, or in the camera, it waits
            patch.setattr(
                grabber._features, "command", lambda name, s=wait_s: threading.Timer(s, command, [name]).start()
            )
            wanted_ns = want(grabber)
            late_s = (until(grabber, Grabbed).captured_ns - wanted_ns) / 1e9
            assert wait_s - 0.06 < late_s < wait_s + 1, "as its own clock says"
    with monkeypatch.context() as patch:
        patch.setattr(grabber._features, "command", lambda name: (time.sleep(0.3), command(name)))
        want(grabber)
        with pytest.raises(CameraError, match=r"took \d+ ms to hear that it is to take a picture"):
            until(grabber, Grabbed)


@needs_aravis
@pytest.mark.parametrize("scale", [8.0, 0.0])
def test_without_a_clock_that_fits_a_picture_that_comes_late_is_no_parts(
    camera: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch, scale: float
) -> None:
    class Scaled(Promptness):
        def look(self, camera_ns: int, told_ns: int, came_ns: int) -> Taken | None:
            return super().look(int(camera_ns * scale), told_ns, came_ns)

    monkeypatch.setattr("inspectd.cameras.grabbers.aravis.Promptness", Scaled)
    grabber = opened(is_commanded=True, **ON_DEMAND)
    wanted_ns = want(grabber)
    assert until(grabber, Grabbed).captured_ns > wanted_ns
    command = grabber._features.command
    monkeypatch.setattr(grabber._features, "command", lambda name: threading.Timer(0.3, command, [name]).start())
    for _ in range(4):
        want(grabber)
        assert "ms late: it may show another part" in until(grabber, Broken).why
    want(grabber)
    with pytest.raises(CameraError, match="takes longer for its pictures than when it was opened; it is set anew"):
        until(grabber, Grabbed)


@needs_aravis
def test_one_that_leaves_out_what_it_was_told_first_is_told_again_while_it_is_opened(
    camera: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    told, command = list[str](), Features.command

    def hears(only: int) -> Callable[[Features, str], None]:
        def hear(self: Features, name: str) -> None:
            told.append(name)
            if len(told) > only:
                command(self, name)

        return hear

    monkeypatch.setattr(Features, "command", hears(1))
    grabber = opened(is_commanded=True, read_timeout_ms=400.0, **ON_DEMAND)
    assert len(told) > 4, "four pictures, and the first telling was for nothing"
    wanted_ns = want(grabber)
    assert until(grabber, Grabbed).captured_ns > wanted_ns
    grabber.close()
    monkeypatch.setattr(Features, "command", hears(1000))
    with pytest.raises(CameraError, match="told to take a picture when it was opened: it gave none for 360 ms"):
        opened(is_commanded=True, read_timeout_ms=400.0, **ON_DEMAND)


@needs_aravis
def test_what_cannot_come_in_time_or_would_come_late_unseen_is_refused(
    camera: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        CameraError, match=r"exposes for 1000 ms, and is given up after 900 ms .*; raise read_timeout_m"
    ):
        opened(exposure=1_000_000.0)
    monkeypatch.setattr(Features, "delay", lambda _: "TriggerDelay")
    with pytest.raises(CameraError, match="its own TriggerDelay, which nobody sees; set it to 0, and use trigger_dela"):
        opened(is_commanded=True, exposure=10_000.0, **ON_DEMAND)
    opened(**ON_DEMAND).close()


@needs_aravis
def test_a_damaged_picture_of_a_camera_with_an_input_is_a_part_of_the_first_one_on(
    camera: list[subprocess.Popen[bytes]],
) -> None:
    silent = opened(is_triggered=True, features={"TriggerMode": "On", "TriggerSource": "Line0"})
    torn = SimpleNamespace(get_status=lambda: SimpleNamespace(value_nick="missing-packets"))
    found = silent._taken(torn, 5, None)
    assert isinstance(found, Broken)
    assert "damaged: missing-packets" in found.why


@needs_aravis
def test_where_nobody_triggers_it_is_told_again_and_again(camera: list[subprocess.Popen[bytes]]) -> None:
    grabber = opened(fps=10.0, **ON_DEMAND)
    assert grabber._features.trigger_source() == "Software", "what is asked for besides has not ended it"
    assert not grabber.on_demand
    times = [until(grabber, Grabbed).captured_ns for _ in range(8)]
    assert np.median(np.diff(times)) / 1e9 == pytest.approx(0.1, abs=0.02)


@needs_aravis
def test_triggers_that_do_not_fit_together_are_told(camera: list[subprocess.Popen[bytes]]) -> None:
    with pytest.raises(CameraError, match="with `triggered_by: camera` nobody tells it; set triggered_by: command"):
        opened(is_triggered=True, **ON_DEMAND)
    for more in ({}, {"fps": 10.0}):
        grabber = opened(read_timeout_ms=300.0, features={"TriggerMode": True, "TriggerSource": "Line0"}, **more)
        with pytest.raises(
            CameraError, match=r"no picture for 270 ms; it waits for Line0 \(FrameStart\): expected trigg"
        ):
            until(grabber, Grabbed)
        grabber.close()
    silent = opened(is_triggered=True, fps=10.0, features={"TriggerMode": "On", "TriggerSource": "Line0"})
    assert silent.grab(None) == Nothing(is_waiting=True), "no part came, and no picture"
    silent.close()
    opened(features={"TriggerMode": False}).close()
    other = {"TriggerSelector": "AcquisitionStart", "TriggerMode": "On", "TriggerSource": "Software"}
    grabber = opened(is_commanded=True, features=other)
    assert not grabber.on_demand, "that is not about each picture"
    grabber._features._camera = SimpleNamespace(  # as Aravis may, of some cameras
        set_frame_rate=lambda _: grabber._device.set_features_from_string("TriggerMode=Off")
    )
    with pytest.raises(CameraError, match="was told TriggerMode: On, and in the end has Off"):
        grabber._features.tell(settings(fps=10.0, features=other))


@needs_aravis
def test_one_that_takes_two_seconds_for_a_picture_stays_ours_while_it_is_opened(
    camera: list[subprocess.Popen[bytes]],
) -> None:
    slow = {"AcquisitionFrameRate": 0.5, "TriggerMode": "On", "TriggerSource": "Software"}
    began_s = time.monotonic()
    grabber = opened(is_commanded=True, read_timeout_ms=6000.0, features=slow)
    assert time.monotonic() - began_s > 2.5, "longer than its heartbeat"
    assert grabber._device.is_controller()


@needs_aravis
def test_a_camera_that_is_not_there_or_that_another_program_holds_is_told(
    camera: list[subprocess.Popen[bytes]],
) -> None:
    with pytest.raises(
        CameraError, match=f"no GigE Vision or USB3 Vision camera has the serial number NONE; there are: .*{SERIAL}"
    ):
        AravisGrabber(CaptureSettings("aravis://NONE", "aravis", 4), lambda: None)
    command = [sys.executable, "-c", HOLDER, f"aravis://{SERIAL}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline().strip() == "held"
            with pytest.raises(CameraError, match="another program holds it"):
                opened()
        finally:
            holder.kill()


@needs_aravis
def test_a_camera_is_opened_where_it_was_unless_another_one_is_there_now(
    camera: list[subprocess.Popen[bytes]],
) -> None:
    first = opened()
    known_as = first.known_as
    assert known_as == f"127.0.0.1 {SERIAL}"
    del first
    camera[0].kill()
    camera[0].wait()
    camera[0] = serve()
    assert isinstance(opened(known_as=known_as).grab(None), Grabbed | Nothing)
    with pytest.raises(CameraError, match=f"at 127.0.0.1 there is now the camera {SERIAL}, and not OTHER"):
        AravisGrabber(CaptureSettings("aravis://OTHER", "aravis", 4, known_as="127.0.0.1 OTHER"), lambda: None)


HOLDER = """
import sys, time
from inspectd.cameras.grabbers.aravis import AravisGrabber
from inspectd.cameras.protocol import CaptureSettings
grabber = AravisGrabber(CaptureSettings(sys.argv[1], "aravis", 4), lambda: None)
grabber.grab(None)
print("held", flush=True)
while True:
    grabber.grab(None)
"""


@needs_aravis
def test_a_daemon_inspects_it_on_triggers_notices_its_loss_and_goes_on(
    camera: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    record = CameraRecord(f"aravis://{SERIAL}", f"aravis://{SERIAL}", *SIZE, None, {"exposure": 20_000.0})
    model = write_small_model(tmp_path / "m", threshold=1e6, camera=record)
    text = (
        f'{{name: top, source: "aravis://{SERIAL}", model: {model}, mode: trigger, deadline_ms: 3000, exposure: 20000, '
        "read_timeout_ms: 1000, features: {GainRaw: 2}}"
    )
    with DaemonProcess(tmp_path / "d", text) as daemon, Control(daemon.control) as control:
        daemon.listen(lambda d: any(s["state"] == "running" for s in d.states))
        verdict = ask(control, TriggerRequest(camera="top", part="p-1", wait=True))
        assert (verdict["verdict"], verdict["part"]) == ("ok", "p-1")
        assert verdict["t"]["captured"] > verdict["t"]["trigger"], "it was taken after the trigger, by its own clock"
        camera[0].send_signal(signal.SIGKILL)
        killed_s = time.monotonic()
        daemon.listen(lambda d: d.states[-1]["state"] == "lost")
        assert time.monotonic() - killed_s < 10
        refused = ask(control, TriggerRequest(camera="top", part="p-2", wait=True))
        assert (refused["verdict"], refused["reason"]) == ("fault", "camera_lost")
        camera.append(serve())
        daemon.listen(lambda d: d.states[-1]["state"] == "running")
        assert ask(control, TriggerRequest(camera="top", part="p-3", wait=True))["verdict"] == "ok"


@needs_aravis
def test_a_daemon_tells_it_to_take_each_part_and_nothing_else(
    camera: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    record = CameraRecord(f"aravis://{SERIAL}", f"aravis://{SERIAL}", *SIZE)
    model = write_small_model(tmp_path / "m", threshold=1e6, camera=record)
    text = (
        f'{{name: top, source: "aravis://{SERIAL}", model: {model}, mode: trigger, deadline_ms: 3000, '
        "read_timeout_ms: 600, trigger_delay_ms: 80, "
        'features: {AcquisitionFrameRate: 100, TriggerMode: "On", TriggerSource: Software}}'
    )
    with DaemonProcess(tmp_path / "d", text) as daemon, Control(daemon.control) as control:
        daemon.listen(lambda d: any(s["state"] == "running" for s in d.states))
        time.sleep(1.5)  # longer than a camera may be silent
        for number in range(8):
            verdict = ask(control, TriggerRequest(camera="top", part=f"p-{number}", wait=True))
            assert (verdict["verdict"], verdict["part"]) == ("ok", f"p-{number}")
            assert 0.08 < (verdict["t"]["captured"] - verdict["t"]["trigger"]) / 1e9 < 1.0
        for number in range(3):  # faster than it can
            ask(control, TriggerRequest(camera="top", part=f"q-{number}"))
        daemon.listen(lambda d: len(d.verdicts) == 11)
        for verdict in daemon.verdicts[8:]:
            assert (verdict["verdict"], verdict["reason"]) in {("ok", None), ("fault", "overload")}
            assert verdict["verdict"] == "fault" or verdict["t"]["captured"] > verdict["t"]["trigger"] + 80_000_000
        assert daemon.verdicts[-1]["verdict"] == "ok", "the last one is in front of the camera"
        daemon.listen(lambda d: d.states[-1]["counts"]["triggers"] == 11)
        assert control.ask(SnapshotRequest(camera="top"), 10)[1], "people see it between two parts"
        daemon.listen(lambda d: d.states[-1]["counts"]["unmatched"] == 1)
        counts = daemon.states[-1]["counts"]
        assert counts["captured"] == counts["ok"] + 1, "it took no others"
        assert not [s for s in daemon.states if s["state"] == "lost"]
        camera[0].send_signal(signal.SIGSTOP)
        try:
            silent = ask(control, TriggerRequest(camera="top", part="r-1", wait=True))
            assert (silent["verdict"], silent["reason"]) == ("fault", "camera_lost")
            daemon.listen(lambda d: d.states[-1]["state"] == "lost")
        finally:
            camera[0].send_signal(signal.SIGCONT)
        daemon.listen(lambda d: d.states[-1]["state"] == "running")
        again = ask(control, TriggerRequest(camera="top", part="r-2", wait=True))
        assert (again["verdict"], again["part"]) == ("ok", "r-2"), again["detail"]


@needs_aravis
def test_exposure_other_than_at_calibration_is_a_fault(camera: list[subprocess.Popen[bytes]], tmp_path: Path) -> None:
    record = CameraRecord(f"aravis://{SERIAL}", f"aravis://{SERIAL}", *SIZE, None, {"exposure": 5_000.0})
    model = write_small_model(tmp_path / "m", threshold=1e6, camera=record)
    text = f'{{name: top, source: "aravis://{SERIAL}", model: {model}, deadline_ms: 3000, exposure: 20000}}'
    with DaemonProcess(tmp_path / "d", text) as daemon:
        daemon.listen(lambda d: bool(d.verdicts))
        assert (daemon.verdicts[0]["verdict"], daemon.verdicts[0]["reason"]) == ("fault", "identity")
        assert "the camera's exposure is 20000, at calibration it was 5000" in daemon.verdicts[0]["detail"]


def test_where_aravis_is_missing_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_name: str) -> object:
        raise ImportError

    monkeypatch.setattr("inspectd.cameras.vision.library._import", refuse)
    with pytest.raises(CameraError, match=r"sudo apt install gir1\.2-aravis-0\.8 python3-gi"):
        opened()
    model = write_small_model(tmp_path / "m", threshold=1e6)
    path = tmp_path / "c.yaml"
    path.write_text(
        f'cameras: [{{name: top, source: "aravis://X1", model: {model}}}]\n'
        "journal: {path: null}\narchive: {max_gb: 0}\n"
    )
    result = run_here("check", "--config", str(path))
    assert result.returncode == 2
    assert "sudo apt install gir1.2-aravis-0.8 python3-gi" in " ".join((result.stdout + result.stderr).split())
