"""The configuration is read again while the line runs: what did not change loses no frame, nothing is half done."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from commanded import LINE, ask, changes, refused
from conftest import write_small_model
from daemon_process import DaemonProcess
from run_here import run_here

from inspectd.client import Control
from inspectd.model.calibration import CameraRecord
from inspectd.wire.requests import BypassRequest, ModelRequest, RecipeRequest, ReloadRequest, ThresholdRequest


class Line:
    """A daemon with two cameras, top and side, whose configuration is changed."""

    def __init__(self, folder: Path, models: tuple[Path, Path], environment: dict[str, str] | None = None) -> None:
        self.low, self.high = models
        self.cameras = {"top": self.camera("top"), "side": self.camera("side")}
        self.daemon = DaemonProcess(folder / "daemon", ", ".join(self.cameras.values()), environment=environment)
        self.control = Control(self.daemon.control)
        self.since_ns = 0
        self._rest = self.daemon.config.read_text().split("\n", 1)[1]

    def camera(self, name: str, model: Path | None = None, more: str = "") -> str:
        return f"{{name: {name}, source: {LINE}, model: {model or self.low}, deadline_ms: 5000{more}}}"

    def write(self, extra: str = "", **cameras: str | None) -> None:
        """Write the configuration with some cameras others than they were, or (None) left out."""
        self.cameras = {name: one for name, one in {**self.cameras, **cameras}.items() if one is not None}
        self.daemon.config.write_text(f"cameras: [{', '.join(self.cameras.values())}]\n{self._rest}{extra}")

    def reload(self) -> dict[str, list[str]]:
        """Ask for it; return what was done, without what was not."""
        said = ask(self.control, ReloadRequest())
        self.since_ns = time.monotonic_ns()
        return {what: names for what, names in said.items() if names}

    def verdicts(self, camera: str) -> list[dict[str, Any]]:
        return [one for one in self.daemon.verdicts if one["camera"] == camera]

    def more(self, camera: str, count: int = 5) -> list[dict[str, Any]]:
        """Listen until so many more verdicts on pictures since the last reload have come; return them."""
        had = len(self.verdicts(camera))

        def found() -> list[dict[str, Any]]:
            return [one for one in self.verdicts(camera)[had:] if (one["t"]["captured"] or 0) > self.since_ns]

        self.daemon.listen(lambda _: len(found()) >= count)
        return found()

    def state(self, camera: str) -> dict[str, Any]:
        """Return the next state of a camera."""
        had = len(self.daemon.states)
        self.daemon.listen(lambda d: any(one["camera"] == camera for one in d.states[had:]))
        return next(one for one in reversed(self.daemon.states) if one["camera"] == camera)

    def is_whole(self, camera: str) -> None:
        """No verdict and no frame of this camera is missing but those that newer ones displaced."""
        said = self.verdicts(camera)
        assert [one["seq"] for one in said] == list(range(1, len(said) + 1))
        frames = [one["frame"] for one in said]
        assert frames == sorted(set(frames))
        assert frames[-1] - len(frames) <= said[-1]["displaced"]
        assert {one["verdict"] for one in said} <= {"ok", "ng"}


@pytest.fixture
def line(tmp_path: Path, models: tuple[Path, Path]) -> Iterator[Line]:
    one = Line(tmp_path, models)
    with one.daemon, one.control:
        one.more("side", 10)
        yield one


def test_what_did_not_change_loses_nothing_whatever_else_is_done(line: Line) -> None:
    assert line.reload() == {"unchanged": ["side", "top"]}
    line.write(top=line.camera("top", more=", threshold: 7.5"))
    assert line.reload() == {"judged": ["top"], "unchanged": ["side"]}
    assert {one["threshold"] for one in line.more("top")} == {7.5}
    line.write(top=line.camera("top", line.high))
    assert line.reload() == {"judged": ["top"], "unchanged": ["side"]}
    assert {one["threshold"] for one in line.more("top")} == {50.0}
    line.write(third=line.camera("third"))
    assert line.reload() == {"added": ["third"], "unchanged": ["side", "top"]}
    line.more("third")
    assert line.verdicts("third")[0]["seq"] == 1
    line.write(top=line.camera("top", line.high, ", fps: 10"))
    assert line.reload() == {"reopened": ["top"], "unchanged": ["side", "third"]}
    line.more("top")
    line.write(third=None)
    assert line.reload() == {"removed": ["third"], "unchanged": ["side", "top"]}
    line.more("side")
    line.is_whole("side")
    for name in ("top", "third"):
        said = line.verdicts(name)
        assert [one["seq"] for one in said] == list(range(1, len(said) + 1)), "each gap would be a part not inspected"
        assert len({one["frame"] for one in said if one["frame"]}) == len([one for one in said if one["frame"]])
    assert [one.what for one in changes(line.daemon)] == ["start", *["reload"] * 6]


def test_a_camera_that_is_gone_says_so_and_may_come_back(line: Line) -> None:
    line.write(top=None)
    assert line.reload() == {"removed": ["top"], "unchanged": ["side"]}
    line.daemon.listen(lambda d: "not in the configuration any more" in [one["detail"] for one in d.states])
    state = line.state("top")
    assert (state["camera"], state["state"], state["inspecting"]) == ("top", "stopped", False)
    last = line.verdicts("top")[-1]["seq"]
    error = refused(line.control, BypassRequest(camera="top", seconds=1, by="anna", why="x"))
    assert (error.code, "there are: side" in str(error)) == ("unknown_camera", True)
    line.write(top=line.camera("top"))
    assert line.reload() == {"added": ["top"], "unchanged": ["side"]}
    line.more("top")
    again = [one["seq"] for one in line.verdicts("top") if one["seq"] > last]
    assert again == list(range(last + 1, last + 1 + len(again))), "its numbers go on"
    assert line.state("top")["state"] == "running"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"top": "{name: top, source: 0, modle: m}"}, "cameras[0].modle is not a known key"),
        ({"top": "{name: top, source: /nowhere/parts, model: m}"}, "/nowhere/parts"),
        ({"third": f"{{name: third, source: {LINE}, model: /nowhere}}"}, "Camera third: There is no model folder"),
        ({"top": f"{{name: top, source: {LINE}, model: /nowhere}}"}, "Camera top: There is no model folder /nowhere"),
        (
            {"extra": "publish: {bind: 'tcp://127.0.0.1:7777'}\n"},
            "is not valid YAML: the key 'publish' stands there twice",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_as_a_whole(line: Line, change: dict[str, Any], says: str) -> None:
    line.write(side=line.camera("side", more=", threshold: 7.5"), **change)  # which would be right by itself
    error = refused(line.control, ReloadRequest())
    assert says in str(error)
    assert {one["threshold"] for one in line.more("side")} == {1.0}
    assert "the configuration was read again and refused" in line.daemon.log
    line.is_whole("top")
    line.is_whole("side")
    assert [one.what for one in changes(line.daemon)] == ["start"]


def test_an_address_that_changed_takes_a_restart(line: Line) -> None:
    text = line.daemon.config.read_text()
    line.daemon.config.write_text(text.replace(line.daemon.endpoint, line.daemon.endpoint + "2"))
    error = refused(line.control, ReloadRequest())
    assert "publish.bind has changed, which takes effect only at a restart. Nothing was changed" in str(error)
    line.is_whole("side")


def test_a_model_that_was_installed_in_the_same_place_is_taken(line: Line, tmp_path: Path) -> None:
    place = tmp_path / "top"
    shutil.copytree(line.low, place)
    line.write(top=line.camera("top", place))
    assert line.reload() == {"judged": ["top"], "unchanged": ["side"]}
    shutil.rmtree(place)
    shutil.copytree(line.high, place)
    assert line.reload() == {"judged": ["top"], "unchanged": ["side"]}
    assert {one["threshold"] for one in line.more("top")} == {50.0}
    shutil.rmtree(place)
    assert "There is no model folder" in str(refused(line.control, ReloadRequest()))
    assert {one["threshold"] for one in line.more("top")} == {50.0}, "what is loaded goes on"


def test_what_commands_changed_stays_in_force_and_so_does_a_bypass(line: Line) -> None:
    ask(line.control, ThresholdRequest(camera="top", value=0.5, by="anna"))
    ask(line.control, ModelRequest(camera="side", path=str(line.high), by="anna"))
    line.write(side=line.camera("side", more=", threshold: 7.5"), top=line.camera("top", more=", threshold: 7.5"))
    said = line.reload()
    assert sorted(said["judged"]) == ["side", "top"]
    assert len(said["notes"]) == 2, "what commands changed wins"
    assert {one["threshold"] for one in line.more("top")} == {0.5}
    assert {one["threshold"] for one in line.more("side")} == {50.0}
    ask(line.control, BypassRequest(camera="top", seconds=60, by="anna", why="a new lamp"))
    line.write(top=line.camera("top", more=", fps: 10"))
    assert line.reload()["reopened"] == ["top"]
    said = line.more("top", 8)
    assert {one["verdict"] for one in said} == {"fault"}
    assert said[-1]["reason"] == "bypass"
    ask(line.control, BypassRequest(camera="top", seconds=0, by="anna", why="it is there"))
    line.daemon.listen(lambda _: line.verdicts("top")[-1]["verdict"] in ("ok", "ng"))


def test_the_product_that_a_command_chose_stays_in_force(line: Line) -> None:
    recipes = "recipes: {{A: {{}}, B: {{threshold: {}}}}}"
    line.write(top=line.camera("top", more=", " + recipes.format(7.5)))
    line.reload()
    ask(line.control, RecipeRequest(camera="top", name="B", by="plc"))
    line.write(top=line.camera("top", more=", " + recipes.format(8.5)))
    assert line.reload()["judged"] == ["top"]
    assert {(one["recipe"], one["threshold"]) for one in line.more("top")} == {("B", 8.5)}
    line.write(top=line.camera("top", more=", fps: 10, " + recipes.format(8.5)))
    assert line.reload()["reopened"] == ["top"]
    assert {(one["recipe"], one["threshold"]) for one in line.more("top")} == {("B", 8.5)}


def test_a_mask_that_was_painted_anew_is_taken_and_a_model_without_a_threshold_is_not(
    line: Line, tmp_path: Path
) -> None:
    mask = tmp_path / "mask.png"
    cv2.imwrite(str(mask), np.zeros((64, 64), np.uint8))
    model = write_small_model(tmp_path / "square", threshold=1.0, camera=CameraRecord("folder", None, 64, 64))
    line.write(top=line.camera("top", model, f", ignore: {mask}"))
    assert line.reload() == {"judged": ["top"], "unchanged": ["side"]}
    assert line.reload() == {"unchanged": ["side", "top"]}
    painted = np.zeros((64, 64), np.uint8)
    painted[:32] = 255
    cv2.imwrite(str(mask), painted)
    assert line.reload() == {"judged": ["top"], "unchanged": ["side"]}
    plain = write_small_model(tmp_path / "plain", threshold=None)
    line.write(side=line.camera("side", plain))
    assert "has no threshold" in str(refused(line.control, ReloadRequest()))
    assert {one["threshold"] for one in line.more("side")} == {1.0}


def test_a_line_that_stops_while_it_is_read_again_ends_in_order(line: Line) -> None:
    line.write(top=line.camera("top", more=", fps: 10"), third=line.camera("third"), side=None)
    os.kill(line.daemon.process.pid, signal.SIGHUP)
    time.sleep(0.3)
    assert line.daemon.stop() == 0
    assert "Traceback" not in line.daemon.log
    for name in ("top", "side"):
        said = line.verdicts(name)
        assert [one["seq"] for one in said] == list(range(1, len(said) + 1))


def test_on_sighup_it_is_read_too_and_systemd_is_told(tmp_path: Path, models: tuple[Path, Path]) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(60)
        line = Line(tmp_path, models, {"NOTIFY_SOCKET": str(tmp_path / "notify")})
        with line.daemon, line.control:
            while "READY=1" not in listener.recv(4096).decode():
                pass
            line.write(top=line.camera("top", more=", threshold: 7.5"))
            before_us = time.monotonic_ns() // 1000
            os.kill(line.daemon.process.pid, signal.SIGHUP)
            while "RELOADING=1" not in (said := listener.recv(4096).decode()):
                pass
            assert int(said.partition("MONOTONIC_USEC=")[2]) >= before_us
            while "READY=1" not in listener.recv(4096).decode():
                pass
            assert "the configuration was read again: judged: top; unchanged: side" in line.daemon.log
            line.write(top="{name: top, source: 0, modle: m}")
            os.kill(line.daemon.process.pid, signal.SIGHUP)
            line.daemon.listen(lambda d: "read again and refused" in d.log)
            line.since_ns = time.monotonic_ns()
            assert {one["threshold"] for one in line.more("top")} == {7.5}
            assert line.daemon.stop() == 0


def test_two_at_once_are_done_one_after_the_other(line: Line) -> None:
    line.write(top=line.camera("top", line.high))
    with Control(line.daemon.control) as other, ThreadPoolExecutor() as threads:
        both = [threads.submit(ask, control, ReloadRequest()) for control in (line.control, other)]
        for _ in range(3):
            os.kill(line.daemon.process.pid, signal.SIGHUP)
        judged = sorted(one.result()["judged"] for one in both)
    assert judged == [[], ["top"]]
    line.reload()
    assert {one["threshold"] for one in line.more("top")} == {50.0}
    line.is_whole("side")


def test_the_command_says_what_was_done_or_why_not(line: Line) -> None:
    line.write(top=line.camera("top", more=", threshold: 7.5"))
    done = run_here("reload", "--config", str(line.daemon.config))
    assert (done.returncode, done.stdout) == (0, "judged: top\nunchanged: side\n")
    line.write(top=f"{{name: top, source: {LINE}, model: /nowhere}}")
    done = run_here("reload", "--control", line.daemon.control)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "Camera top: There is no model folder /nowhere" in done.stderr
    line.write(top="{name: top}")
    done = run_here("reload", "--config", str(line.daemon.config))
    assert done.returncode == 2
    assert "cameras[0].source is missing" in done.stderr


def test_a_second_model_comes_and_goes(line: Line, tmp_path: Path) -> None:
    line.write(top=line.camera("top", more=f", shadow: {line.high}"))
    assert line.reload() == {"judged": ["top"], "unchanged": ["side"]}
    line.daemon.listen(lambda d: any((one["shadow"] or {}).get("compared") for one in d.states))
    broken = write_small_model(tmp_path / "plain", threshold=None)
    line.write(top=line.camera("top", more=f", shadow: {broken}"))
    assert "has no second model" in str(refused(line.control, ReloadRequest()))
    line.write(top=line.camera("top"))
    assert line.reload() == {"judged": ["top"], "unchanged": ["side"]}
    line.daemon.listen(lambda d: d.states[-1]["camera"] == "top" and d.states[-1]["shadow"] is None)
    line.is_whole("top")
