"""The daemon as its users meet it: a process, signals, sockets, files."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import write_pictures, write_small_model
from daemon_process import DaemonProcess, metrics_port
from reconnecting import captures_of

from calibrate.acquire.from_daemon import FramesFromDaemon, find_holder
from inspectd import SimpleNet, config_file
from inspectd.client import Control
from inspectd.daemon.life import Daemon
from inspectd.errors import StartError
from inspectd.wire.requests import BypassRequest

LINE = '"sim://line?fps=20&width=64&height=64"'


def run_inspectd(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "inspectd", *arguments], capture_output=True, text=True, check=False, timeout=120
    )


def test_every_picture_of_a_folder_has_exactly_one_verdict_and_its_mask(tmp_path: Path, pictures: Path) -> None:
    write_pictures(pictures / "b" / "deeper", 3, seed=1)
    (pictures / "004.png").write_bytes(b"not a picture")
    (pictures / "notes.txt").write_text("not a picture either, and nobody says it is")
    cv2.imwrite(str(pictures / "grey.png"), np.full((30, 200), 90, np.uint8))
    cv2.imwrite(str(pictures / "large.png"), np.full((900, 700, 3), 90, np.uint8))
    cv2.imwrite(str(pictures / "sixteen.png"), np.full((50, 50, 3), 40000, np.uint16))
    model = write_small_model(tmp_path / "model", threshold=-1e6)  # everything is ng
    camera = f"{{name: top, source: {pictures}, model: {model}}}"
    with DaemonProcess(tmp_path / "daemon", camera, arguments=("--exit-when-done",)) as daemon:
        assert daemon.listen_to_the_end() == 0
    names = sorted(p.relative_to(pictures).as_posix() for p in pictures.rglob("*.png"))
    assert sorted(v["part"] for v in daemon.verdicts) == names
    assert [v["seq"] for v in daemon.verdicts] == list(range(1, len(names) + 1))
    for verdict in daemon.verdicts:
        if verdict["part"] == "004.png":
            assert (verdict["verdict"], verdict["reason"], verdict["mask"]) == ("fault", "picture", None)
            assert "004.png" in verdict["detail"]
            continue
        assert verdict["verdict"] == "ng"
        assert verdict["regions"]
        assert daemon.masks["top", verdict["seq"]].shape == (8, 8)
        t = verdict["t"]
        assert t["captured"] <= t["queued"] <= t["started"] <= t["scored"] <= t["published"]
        picture = cv2.imread(str(pictures / verdict["part"]), cv2.IMREAD_UNCHANGED)
        assert (verdict["image"]["h"], verdict["image"]["w"]) == picture.shape[:2]
        for region in verdict["regions"]:
            assert region["x"] + region["w"] <= picture.shape[1]
            assert region["y"] + region["h"] <= picture.shape[0]
    assert daemon.states[-1]["state"] == "stopped"
    assert daemon.states[-1]["counts"]["captured"] == len(names)


def test_predict_gives_the_score_that_the_daemon_published(tmp_path: Path, pictures: Path) -> None:
    model = write_small_model(tmp_path / "model", threshold=1.0)
    camera = f"{{name: top, source: {pictures}, model: {model}}}"
    with DaemonProcess(tmp_path / "daemon", camera, arguments=("--exit-when-done",)) as daemon:
        assert daemon.listen_to_the_end() == 0
    net = SimpleNet("cpu").load_from_path(model)
    assert len(daemon.verdicts) == 12
    for verdict in daemon.verdicts:
        score, _ = net.predict(pictures / verdict["part"])
        assert abs(score - verdict["score"]) < 1e-5
        assert verdict["verdict"] == ("ng" if verdict["score"] > 1.0 else "ok")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_orderly_shutdown_keeps_every_promise(tmp_path: Path, small_model: Path, number: int) -> None:
    camera = f"{{name: top, source: {LINE}, model: {small_model}, deadline_ms: 5000}}"
    with DaemonProcess(tmp_path / "daemon", camera) as daemon:
        daemon.listen(lambda d: len(d.verdicts) >= 5)
        assert daemon.stop(number) == 0
        assert "Traceback" not in daemon.log
    final = daemon.states[-1]
    assert final["state"] == "stopped"
    assert final["last_seq"] == len(daemon.verdicts)
    assert [v["seq"] for v in daemon.verdicts] == list(range(1, len(daemon.verdicts) + 1))
    counts = final["counts"]
    assert counts["captured"] == counts["ok"] + counts["ng"] + counts["fault"] + counts["displaced"]


def test_systemd_is_told_ready_watchdog_status_and_stopping(tmp_path: Path, small_model: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(60)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000000"}
        camera = f"{{name: top, source: {LINE}, model: {small_model}, deadline_ms: 5000}}"
        with DaemonProcess(tmp_path / "daemon", camera, environment=environment) as daemon:
            told = []
            while not any("READY=1" in text for text in told):
                told.append(listener.recv(4096).decode())
            ready_at = len(told)
            assert any("STATUS=" in text for text in told)
            while not any("WATCHDOG=1" in text for text in told[ready_at:]):
                told.append(listener.recv(4096).decode())
            daemon.listen(lambda d: bool(d.verdicts))  # ready means that the camera judges
            daemon.stop()
            while not any("STOPPING=1" in text for text in told):
                told.append(listener.recv(4096).decode())


def test_a_camera_that_is_lost_at_the_start_does_not_keep_the_service_from_being_ready(
    tmp_path: Path, small_model: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(60)
        camera = f"{{name: top, source: /dev/video77, model: {small_model}}}"
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        with DaemonProcess(tmp_path / "daemon", camera, environment=environment):
            while "READY=1" not in listener.recv(4096).decode():
                pass


def test_metrics_agree_with_the_laws(tmp_path: Path, small_model: Path) -> None:
    camera = f"{{name: top, source: {LINE}, model: {small_model}, deadline_ms: 5000}}"
    with DaemonProcess(tmp_path / "daemon", camera) as daemon:
        daemon.listen(lambda d: len(d.verdicts) >= 10)
        port = metrics_port(daemon.process.pid)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
            text = reply.read().decode()
        daemon.stop()
    value = {m[1]: float(m[2]) for m in re.finditer(r'^(\S+\{camera="top"[^}]*\}) (\S+)$', text, re.M)}

    def metric(name: str, labels: str = "") -> float:
        return value[f'inspectd_{name}{{camera="top"{labels}}}']

    assert metric("frames_captured_total") == sum(
        metric(name)
        for name in (
            "frames_judged_total",
            "frames_displaced_total",
            "frames_unmatched_total",
            "frames_in_flight",
        )
    )
    assert metric("last_seq") == sum(metric("verdicts_total", f',verdict="{v}"') for v in ("ok", "ng", "fault"))
    assert metric("camera_state", ',state="running"') == 1
    assert metric("latency_seconds_count") > 0
    assert 'inspectd_info{device="cpu:openvino"' in text


def asked(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_camera_that_is_not_inspected_makes_the_daemon_neither_dead_nor_unready(
    tmp_path: Path, small_model: Path
) -> None:
    camera = f"{{name: top, source: {LINE}, model: {small_model}, deadline_ms: 5000}}"
    with DaemonProcess(tmp_path / "daemon", camera) as daemon, Control(daemon.control) as control:
        daemon.listen(lambda d: bool(d.verdicts))
        port = metrics_port(daemon.process.pid)
        for path in ("/healthz", "/readyz", "/inspecting"):
            assert asked(port, path)[0] == 200, path
        control.ask(BypassRequest(camera="top", seconds=60, by="anna", why="a new lamp"), 10)
        daemon.listen(lambda d: d.states[-1]["state"] == "bypass")
        assert [asked(port, path)[0] for path in ("/healthz", "/readyz", "/inspecting")] == [200, 200, 503]
        assert "top bypass" in asked(port, "/inspecting")[1]
        assert asked(port, "/anything")[0] == 404


def test_a_camera_without_a_usable_model_answers_no_model_and_the_other_goes_on(
    tmp_path: Path, small_model: Path
) -> None:
    broken = write_small_model(tmp_path / "broken")
    (broken / "ckpt.pth").write_bytes(b"")
    plain = write_small_model(tmp_path / "plain", threshold=None)
    cameras = ", ".join(
        f"{{name: {name}, source: {LINE}, model: {model}, deadline_ms: 5000}}"
        for name, model in (("good", small_model), ("broken", broken), ("plain", plain))
    )
    with DaemonProcess(tmp_path / "daemon", cameras) as daemon:
        daemon.listen(lambda d: {v["camera"] for v in d.verdicts} == {"good", "broken", "plain"})
        daemon.listen(lambda d: sum(v["camera"] == "good" for v in d.verdicts) >= 5)
        daemon.stop()
    reasons = {(v["camera"], v["verdict"], v["reason"]) for v in daemon.verdicts if v["reason"] != "shutdown"}
    assert reasons == {
        ("good", "ok", None),
        ("broken", "fault", "no_model"),
        ("plain", "fault", "no_threshold"),
    }
    state = next(s for s in reversed(daemon.states) if s["camera"] == "broken")
    assert not state["inspecting"]


def test_the_configurations_threshold_wins(tmp_path: Path, small_model: Path, pictures: Path) -> None:
    camera = f"{{name: top, source: {pictures}, model: {small_model}, threshold: -1000000.0}}"
    with DaemonProcess(tmp_path / "daemon", camera, arguments=("--exit-when-done",)) as daemon:
        assert daemon.listen_to_the_end() == 0
    assert {(v["verdict"], v["threshold"]) for v in daemon.verdicts} == {("ng", -1e6)}


def test_an_impossible_deadline_is_a_fault_and_never_ok(tmp_path: Path, small_model: Path) -> None:
    camera = f"{{name: top, source: {LINE}, model: {small_model}, deadline_ms: 0.001}}"
    with DaemonProcess(tmp_path / "daemon", camera) as daemon:
        daemon.listen(lambda d: len(d.verdicts) >= 5)
        daemon.stop()
    assert {v["reason"] for v in daemon.verdicts} <= {"deadline", "shutdown"}


def test_the_port_in_use_is_one_sentence_and_exit_3(tmp_path: Path, small_model: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for key, value in (
            ("publish: {bind", f'"tcp://127.0.0.1:{port}"'),
            ("metrics: {listen", f'"127.0.0.1:{port}"'),
        ):
            file = tmp_path / "inspectd.yaml"
            other = 'publish: {bind: "ipc://' + str(tmp_path / "v") + '"}' if "metrics" in key else ""
            file.write_text(
                f"cameras: [{{name: top, source: {LINE}, model: {small_model}}}]\n{key}: {value}}}\n{other}\n"
                "journal: {path: null}\narchive: {max_gb: 0}\n"
            )
            ended = run_inspectd("run", "--config", str(file))
            assert ended.returncode == 3
            assert str(port) in ended.stderr.splitlines()[-1]
            assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_models_load_ends_the_start(tmp_path: Path, number: int) -> None:
    models = [write_small_model(tmp_path / f"m{i}", threshold=float(i + 1)) for i in range(8)]
    cameras = ", ".join(f"{{name: c{i}, source: {LINE}, model: {model}}}" for i, model in enumerate(models))
    file = tmp_path / "inspectd.yaml"
    ends = "\n".join(f"{key}: {{bind: 'ipc://{tmp_path}/{key}'}}" for key in ("publish", "control"))
    kept = "journal: {path: null}\narchive: {max_gb: 0}\n"
    file.write_text(f"cameras: [{cameras}]\n{ends}\nmetrics: {{listen: '127.0.0.1:0'}}\n{kept}")
    command = [sys.executable, "-m", "inspectd", "run", "--config", str(file)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        log = ""
        while "model " not in log:  # the first of eight is loaded
            log += process.stderr.readline()
        process.send_signal(number)
        log += process.stderr.read()
        assert process.wait(30) == 0
    assert "stopped while it was starting" in log
    assert "ready:" not in log
    assert "Traceback" not in log


def test_a_second_sigint_forces_the_exit_and_a_second_sigterm_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    exits: list[int] = []
    monkeypatch.setattr(os, "_exit", exits.append)
    settings = config_file.parse("cameras: [{name: top, source: 0, model: m}]")
    daemon = Daemon(settings, lambda: settings)
    daemon.on_signal(signal.SIGINT, None)
    assert exits == [], "the first one asks for an orderly end"
    daemon.on_signal(signal.SIGTERM, None)
    assert exits == []
    daemon.on_signal(signal.SIGINT, None)
    assert exits == [130]


def test_a_video_plays_once_and_its_parts_are_frame_numbers(tmp_path: Path, small_model: Path) -> None:
    path = tmp_path / "line.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for i in range(9):
        writer.write(np.full((48, 64, 3), 20 * i, np.uint8))
    writer.release()
    camera = f"{{name: top, source: {path}, model: {small_model}}}"
    with DaemonProcess(tmp_path / "daemon", camera, arguments=("--exit-when-done",)) as daemon:
        assert daemon.listen_to_the_end() == 0
    assert [v["part"] for v in daemon.verdicts] == [str(i) for i in range(9)]


def test_a_video_that_cannot_be_opened_ends_with_exit_3(tmp_path: Path, small_model: Path) -> None:
    (tmp_path / "line.mp4").write_bytes(b"no video")
    camera = f"{{name: top, source: {tmp_path / 'line.mp4'}, model: {small_model}}}"
    with DaemonProcess(tmp_path / "daemon", camera, arguments=("--exit-when-done",)) as daemon:
        assert daemon.listen_to_the_end() == 3
        assert "Traceback" not in daemon.log
    assert [v["reason"] for v in daemon.verdicts] == ["camera_lost"]


@pytest.mark.parametrize("trouble", ["hang=6", "unplug=6"])
def test_a_simulated_camera_that_misbehaves_comes_back(tmp_path: Path, small_model: Path, trouble: str) -> None:
    source = f'"sim://line?fps=20&width=64&height=64&{trouble}"'
    camera = f"{{name: top, source: {source}, model: {small_model}, read_timeout_ms: 1000, deadline_ms: 5000}}"
    with DaemonProcess(tmp_path / "daemon", camera) as daemon:
        daemon.listen(lambda d: sum(v["verdict"] == "ok" for v in d.verdicts) >= 9)
        daemon.stop()
    assert [v["reason"] for v in daemon.verdicts].count("camera_lost") == 1


def test_a_crashing_capture_child_costs_only_its_camera(tmp_path: Path, small_model: Path) -> None:
    camera = f"{{name: top, source: {LINE}, model: {small_model}, deadline_ms: 5000}}"
    with DaemonProcess(tmp_path / "daemon", camera) as daemon:
        daemon.listen(lambda d: len(d.verdicts) >= 3)
        for pid in captures_of(daemon.process.pid):
            os.kill(pid, signal.SIGSEGV)
        daemon.listen(lambda d: any(v["reason"] == "camera_lost" for v in d.verdicts))
        seen = len(daemon.verdicts)
        daemon.listen(lambda d: len(d.verdicts) >= seen + 3)
        assert daemon.stop() == 0
    lost = next(v for v in daemon.verdicts if v["reason"] == "camera_lost")
    assert "SIGSEGV" in lost["detail"]


def test_check_says_everything_at_once(tmp_path: Path, small_model: Path) -> None:
    config = tmp_path / "inspectd.yaml"
    config.write_text(
        f"cameras:\n- {{name: a, source: {tmp_path}/nothing, model: {small_model}}}\n"
        f"- {{name: b, source: /dev/video77, model: {tmp_path}/no-model}}\n"
    )
    ended = run_inspectd("check", "--config", str(config))
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 4
    for what in ("nothing", "/dev/video77", "no-model", "3 problems"):
        assert what in ended.stderr


def test_check_is_content_with_a_good_configuration(tmp_path: Path, small_model: Path) -> None:
    config = tmp_path / "inspectd.yaml"
    config.write_text(f"cameras: [{{name: a, source: {LINE}, model: {small_model}}}]\n")
    ended = run_inspectd("check", "--config", str(config))
    assert ended.returncode == 0, ended.stderr
    assert "is good" in ended.stdout


def test_state_is_published_every_second_and_says_how_it_is(tmp_path: Path, small_model: Path) -> None:
    camera = f"{{name: top, source: {LINE}, model: {small_model}, deadline_ms: 5000}}"
    began = time.monotonic()
    with DaemonProcess(tmp_path / "daemon", camera) as daemon:
        daemon.listen(lambda d: len([s for s in d.states if s["state"] == "running"]) >= 4)
        daemon.stop()
    state = [s for s in daemon.states if s["state"] == "running"][-1]
    assert state["model"].startswith("small ")
    assert state["inspecting"] is True
    assert state["fps"] is None or 1 < state["fps"] < 60
    assert 0 <= state["last_frame_age_ms"] < 1000 * (time.monotonic() - began)
    assert daemon.daemon_states[0]["cameras"].keys() == {"top"}
    (form,) = daemon.daemon_states[0]["models"].values()
    assert form["device"].startswith(("cpu:", "cuda:"))
    assert 0 <= form["band"] < 1e6
    json.dumps(daemon.daemon_states, allow_nan=False)


def test_calibration_borrows_frames_while_verdicts_go_on(tmp_path: Path) -> None:
    model = write_small_model(tmp_path / "model", threshold=1e6)
    source = "sim://line?fps=10&width=64&height=64"
    top = f'{{name: top, source: "{source}", model: {model}, deadline_ms: 5000}}'  # on a busy machine, too
    with DaemonProcess(tmp_path / "d", top) as daemon:
        daemon.listen(lambda d: len(d.verdicts) >= 3)
        assert find_holder(daemon.control, source) == "top"
        taken = []
        with FramesFromDaemon(daemon.control, "top") as frames:
            for one in frames:
                taken.append(one)
                if len(taken) == 5:
                    break
        daemon.listen(lambda d: len(d.verdicts) >= 12)
    numbers = [one.stamp.frame for one in taken]
    assert numbers == sorted(set(numbers))
    assert {one.picture.shape for one in taken} == {(64, 64, 3)}
    assert [v["seq"] for v in daemon.verdicts] == list(range(1, len(daemon.verdicts) + 1))
    assert {v["verdict"] for v in daemon.verdicts} == {"ok"}
    assert {one.stamp.frame for one in taken} <= {v["frame"] for v in daemon.verdicts} | set(numbers)
    with FramesFromDaemon(daemon.control, "top") as frames, pytest.raises(StartError, match="does not answer"):
        next(frames)
