"""A known part is shown to the running daemon: what is said of it, what follows, and what has changed since."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from commanded import ask, camera_of, changes, judged, refused
from conftest import write_small_model
from daemon_process import DaemonProcess
from run_here import run_here

from inspectd.client import Control
from inspectd.wire.requests import (
    BypassRequest,
    ChallengeRequest,
    RecipeRequest,
    ReloadRequest,
    Request,
    TriggerRequest,
)


@contextmanager
def running(folder: Path, cameras: str, extra: str = "") -> Iterator[tuple[DaemonProcess, Control]]:
    with DaemonProcess(folder, cameras, extra=extra) as daemon, Control(daemon.control) as control:
        daemon.listen(lambda d: "ready" in d.log)
        yield daemon, control


def show(control: Control, say: str, part: str | None = None, **more: Any) -> dict[str, Any]:
    request = ChallengeRequest(camera="top", say=say, part=part, by="anna", **more)  # type: ignore[arg-type]
    said: dict[str, Any] = ask(control, request)
    return said


def line(model: Path, more: str = "", threshold: float = 1e6) -> str:
    """Return a camera at which everything is ok (high threshold), or ng (low)."""
    return camera_of(model, more=f", threshold: {threshold}{more}")


def threshold(daemon: DaemonProcess, control: Control, value: float) -> None:
    """Put another one in force."""
    daemon.config.write_text(re.sub(r"threshold: [^,}]+", f"threshold: {value}", daemon.config.read_text()))
    assert ask(control, ReloadRequest())["judged"] == ["top"]


def state(daemon: DaemonProcess) -> dict[str, Any]:
    had = len(daemon.states)
    daemon.listen(lambda d: len(d.states) >= had + 2)
    return daemon.states[-1]


def since(daemon: DaemonProcess) -> list[dict[str, Any]]:
    """Return some verdicts on pictures that were taken from now on."""
    now_ns = time.monotonic_ns()
    daemon.listen(lambda d: sum((one["t"]["captured"] or 0) > now_ns for one in d.verdicts) >= 5)
    return [one for one in daemon.verdicts if (one["t"]["captured"] or 0) > now_ns]


def test_a_bad_part_that_is_not_found_stops_the_line_until_it_is(tmp_path: Path, small_model: Path) -> None:
    folder = tmp_path / "d"
    with running(folder, line(small_model)) as (daemon, control):
        judged(daemon)
        assert state(daemon)["challenge"] is None
        said = show(control, "bad", "M-7")
        assert (said["passed"], said["verdict"]["verdict"], said["verdict"]["reason"]) == (False, "fault", "bypass")
        assert said["verdict"]["challenge"] == {"known": "bad", "part": "M-7"}
        assert said["detail"].startswith("The known bad part M-7 was not found (score ")
        assert Path(said["picture"]).parent == folder / "archive" / "top" / "challenged" / "bad_M-7"
        assert {(one["verdict"], one["reason"]) for one in since(daemon)} == {("fault", "bypass")}
        now = state(daemon)
        assert (now["state"], now["inspecting"], now["detail"]) == ("bypass", False, now["alarms"][0]["detail"])
        assert "Show it again: inspectd challenge top bad --part M-7" in now["challenge"]["why_not"]
        assert [one["alarm"] for one in now["alarms"]] == ["challenge_failed"]
        assert daemon.stop() == 0
        challenges = [one for one in daemon.verdicts if "challenge" in one]
        assert [one["seq"] for one in challenges] == [said["verdict"]["seq"]]
        assert not any(one["verdict"] == "ok" for one in challenges)
    with running(folder, line(small_model)) as (daemon, control):  # a restart is no way around it
        assert {one["reason"] for one in since(daemon)} == {"bypass"}
        threshold(daemon, control, -1e9)
        said = show(control, "bad", "M-8")
        assert said["passed"]
        assert "Still nothing is passed: the known bad part M-7 was not found" in said["detail"]
        assert {one["reason"] for one in since(daemon)} == {"bypass"}
        said = show(control, "bad", "M-7")
        assert (said["passed"], said["verdict"]["verdict"]) == (True, "ng")
        assert {one["verdict"] for one in since(daemon)} == {"ng"}
        now = state(daemon)
        assert (now["state"], now["inspecting"], now["alarms"]) == ("running", True, [])
        assert now["challenge"]["told"].keys() == {"bad"}
        rows = [one.new for one in changes(daemon) if one.what == "challenge"]
        assert [(row["part"], row["passed"]) for row in rows] == [("M-7", False), ("M-8", True), ("M-7", True)]
        assert {one.by for one in changes(daemon) if one.what == "challenge"} == {"anna"}


def test_without_one_in_time_every_part_is_a_fault(tmp_path: Path, small_model: Path) -> None:
    camera = line(small_model, ", challenge: {bad_every_h: 0.002}", -1e9)
    with running(tmp_path / "d", camera) as (daemon, control):
        found = since(daemon)
        assert {(one["verdict"], one["reason"]) for one in found} == {("fault", "bypass")}
        assert "no known bad part was found for 0.002 h (challenge.bad_every_h)" in found[-1]["detail"]
        assert [one["alarm"] for one in state(daemon)["alarms"]] == ["challenge_due"]
        assert show(control, "bad")["passed"]
        told_ns = time.monotonic_ns()
        assert {one["verdict"] for one in since(daemon)} == {"ng"}
        assert state(daemon)["inspecting"]
        daemon.listen(lambda d: d.verdicts[-1]["reason"] == "bypass")
        due = next(one for one in daemon.verdicts if one["t"]["captured"] > told_ns and one["reason"] == "bypass")
        assert 6.5 < (due["t"]["captured"] - told_ns) / 1e9 < 8.5
        assert not state(daemon)["inspecting"]
        daemon.config.write_text(daemon.config.read_text().replace("0.002", "8"))
        assert ask(control, ReloadRequest())["judged"] == ["top"]
        assert {one["verdict"] for one in since(daemon)} == {"ng"}, "it was found a moment ago"
        assert state(daemon)["challenge"]["due_in_s"] == pytest.approx(8 * 3600, abs=60)


def test_it_survives_that_the_camera_is_opened_anew(tmp_path: Path, small_model: Path) -> None:
    with running(tmp_path / "d", line(small_model)) as (daemon, control):
        judged(daemon)
        assert show(control, "bad")["passed"] is False
        daemon.config.write_text(daemon.config.read_text().replace("deadline_ms: 5000", "deadline_ms: 4000"))
        assert ask(control, ReloadRequest())["reopened"] == ["top"]
        assert {one["reason"] for one in since(daemon)} == {"bypass"}


def test_while_it_is_bypassed_a_known_part_tells_nothing(tmp_path: Path, small_model: Path) -> None:
    with running(tmp_path / "d", line(small_model)) as (daemon, control):
        judged(daemon)
        ask(control, BypassRequest(camera="top", seconds=60, by="anna", why="x"))
        said = show(control, "bad", "M-7")
        assert said["passed"] is None
        assert "was not judged (bypass: bypass until" in said["detail"]
        ask(control, BypassRequest(camera="top", seconds=0, by="anna", why="x"))
        assert {one["verdict"] for one in since(daemon)} == {"ok"}
        assert show(control, "good")["passed"]
        assert state(daemon)["challenge"]["told"].keys() == {"good"}


TRIGGERED = ", mode: trigger, allow_arrival_time: true"


def test_a_triggered_camera_takes_its_picture_at_once_or_waits_for_the_line(tmp_path: Path, small_model: Path) -> None:
    with running(tmp_path / "d", line(small_model, TRIGGERED)) as (daemon, control):
        said = show(control, "good", "M-1")
        assert (said["passed"], said["verdict"]["part"], said["verdict"]["trigger"]) == (True, "M-1", "1")
        with Control(daemon.control) as other, ThreadPoolExecutor() as pool:
            waiting = pool.submit(show, other, "bad", "M-7", next=True)
            time.sleep(0.5)
            busy = refused(control, ChallengeRequest(camera="top", say="bad", by="anna"))
            assert (busy.code, "is being shown a known part already" in str(busy)) == ("busy", True)
            assert not waiting.done()
            trigger = ask(control, TriggerRequest(camera="top", part="4711", wait=True))
            said = waiting.result()
        assert (said["passed"], trigger["seq"], trigger["part"]) == (False, said["verdict"]["seq"], "4711")
        assert trigger["verdict"] == "fault"
        after = ask(control, TriggerRequest(camera="top", part="4712", wait=True))
        assert (after["verdict"], after["reason"]) == ("fault", "bypass")


def test_a_part_that_does_not_come_changes_nothing(tmp_path: Path, small_model: Path) -> None:
    with running(tmp_path / "d", line(small_model, TRIGGERED)) as (daemon, control):
        error = refused(control, ChallengeRequest(camera="top", say="bad", next=True, within_s=0.3, by="anna"))
        assert (error.code, str(error)) == (
            "timeout", "No part came to camera top within 0.3 s; nothing was changed."
        )  # fmt: skip
        assert ask(control, TriggerRequest(camera="top", wait=True))["verdict"] == "ok", "it is any part"
        assert show(control, "good")["passed"]
        assert [one.what for one in changes(daemon)] == ["start", "challenge"]


def test_a_part_that_is_not_shown_after_all_is_withdrawn(tmp_path: Path, small_model: Path) -> None:
    with running(tmp_path / "d", line(small_model, TRIGGERED)) as (daemon, control):
        with Control(daemon.control) as other, ThreadPoolExecutor() as pool:
            waiting = pool.submit(refused, other, ChallengeRequest(camera="top", say="bad", next=True, by="anna"))
            time.sleep(0.3)
            assert ask(control, ChallengeRequest(camera="top", say="bad", cancel=True, by="anna")) is None
            assert waiting.result().code == "cancelled"
        assert ask(control, TriggerRequest(camera="top", wait=True))["verdict"] == "ok", "it is any part"
        assert show(control, "good")["passed"]
        assert ask(control, ChallengeRequest(camera="top", say="bad", cancel=True, by="anna")) is None


def test_what_was_answered_is_known_after_a_kill(tmp_path: Path, small_model: Path) -> None:
    with running(tmp_path / "d", line(small_model)) as (daemon, control):
        judged(daemon)
        assert show(control, "bad", "M-7")["passed"] is False
        daemon.process.kill()
        daemon.process.wait()
    with running(tmp_path / "d", line(small_model)) as (daemon, _):
        assert {one["reason"] for one in since(daemon)} == {"bypass"}
        assert [one.what for one in changes(daemon)].count("challenge") == 1


def test_products_that_parts_name_are_not_asked_for_the_name_of_a_known_part(tmp_path: Path, small_model: Path) -> None:
    recipes = f'{TRIGGERED}, recipes: {{A: {{parts: "A-*"}}, B: {{parts: "B-*", threshold: -1.0e9}}}}'
    with running(tmp_path / "d", line(small_model, recipes)) as (_, control):
        said = show(control, "good", "M-1")
        assert (said["passed"], said["verdict"]["recipe"]) == (True, "A")
        ask(control, RecipeRequest(camera="top", name="B"))
        said = show(control, "bad", "M-1")
        assert (said["passed"], said["verdict"]["recipe"]) == (True, "B")


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"camera": "side", "say": "bad"}, "unknown_camera"),
        ({"camera": "top", "say": "maybe"}, "bad_request"),
        ({"camera": "top", "say": "bad", "part": "../x"}, "bad_request"),
        ({"camera": "top", "say": "bad", "part": "a" * 65}, "bad_request"),
        ({"camera": "top", "say": "bad", "within_s": 0}, "bad_request"),
        ({"camera": "top", "say": "bad", "within_s": 1e9}, "bad_request"),
    ],
)
def test_what_is_no_challenge_is_refused(
    tmp_path: Path, small_model: Path, request_: dict[str, Any], code: str
) -> None:
    with running(tmp_path / "d", line(small_model)) as (_, control):
        request: Request = ChallengeRequest(**{"by": "anna", **request_})
        assert refused(control, request).code == code


class Scene:
    """A folder with one picture, which a camera shows again and again."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "part.png"
        folder.mkdir()
        rng = np.random.default_rng(5)
        self.picture = cv2.GaussianBlur(rng.integers(0, 255, (96, 96, 3), np.uint8), (0, 0), 3)
        self.picture = cv2.normalize(self.picture, None, 40, 200, cv2.NORM_MINMAX)  # type: ignore[call-overload]
        self.show(self.picture)

    def show(self, picture: np.ndarray[Any, Any]) -> None:
        temporary = self.path.with_suffix(".tmp")
        temporary.write_bytes(bytes(cv2.imencode(".png", picture)[1]))
        temporary.rename(self.path)

    def camera(self, model: Path) -> str:
        return (
            f"{{name: top, source: {self.path.parent}, loop: true, fps: 20, model: {model}, deadline_ms: 5000, "
            "threshold: -1000000000.0}"
        )


def test_an_earlier_picture_tells_whether_the_camera_has_changed_or_the_model(tmp_path: Path) -> None:
    low = write_small_model(tmp_path / "low")
    scene = Scene(tmp_path / "scene")
    with running(tmp_path / "d", scene.camera(low)) as (daemon, control):
        said = show(control, "bad", "M-7")
        assert (said["passed"], said["rejudged"]) == (True, None)
        said = show(control, "bad", "M-7")
        assert (said["rejudged"]["picture_moved"], said["rejudged"]["model_moved"]) == (False, False)
        assert said["rejudged"]["score_now"] == said["rejudged"]["score_then"] == said["verdict"]["score"]
        assert said["rejudged"]["detail"].startswith("Nothing has changed since 2")
        score = said["verdict"]["score"]

        threshold(daemon, control, score + 1)
        said = show(control, "bad", "M-7")
        assert (said["passed"], said["rejudged"]["picture_moved"], said["rejudged"]["model_moved"]) == (
            False, False, True
        )  # fmt: skip
        assert f"the threshold is {score + 1:.4g} now, and was -1e+09" in said["rejudged"]["detail"]

        threshold(daemon, control, score - 1e-3)
        assert show(control, "bad", "M-7")["passed"]
        scene.show(np.roll((scene.picture * 0.6).astype(np.uint8), 7, axis=1))
        daemon.listen(lambda d: d.verdicts[-1]["score"] not in (None, score))
        said = show(control, "bad", "M-7")
        assert said["rejudged"]["picture_moved"]
        assert not said["rejudged"]["model_moved"]
        assert "times as bright" in said["rejudged"]["detail"]
        assert re.search(r"\+[678] px to the right", said["rejudged"]["detail"])
        assert said["rejudged"]["detail"] in daemon.log


def test_the_command_says_what_came_of_it(tmp_path: Path, small_model: Path) -> None:
    with running(tmp_path / "d", line(small_model)) as (daemon, _):
        judged(daemon)

        def challenge(*arguments: str) -> subprocess.CompletedProcess[str]:
            return run_here("challenge", *arguments, "--control", daemon.control)

        good = challenge("top", "good", "--part", "M-1")
        assert good.returncode == 0, good.stderr
        assert good.stdout.startswith("The known good part M-1 was accepted (score ")
        assert "challenged/good_M-1" in good.stdout
        bad = challenge("top", "bad", "--why", "shift 2")
        assert (bad.returncode, bad.stdout.count("\n")) == (2, 1)
        assert bad.stderr.startswith("The known bad part was not found (score ")
        wrong = challenge("top", "bad", "--part", "a b")
        assert (wrong.returncode, "part" in wrong.stderr, "Traceback" in wrong.stderr) == (2, True, False)
        nobody = run_here("challenge", "top", "bad", "--control", f"ipc://{tmp_path}/nobody", "--within", "0.1")
        assert nobody.returncode == 3
        assert [one.why for one in changes(daemon) if one.what == "challenge"] == [None, "shift 2"]
