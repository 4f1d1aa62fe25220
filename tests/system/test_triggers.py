"""A daemon that inspects parts on triggers: commands, products, areas, and what it says of them, end to end."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from commanded import LINE, ask, changes, refused
from conftest import write_small_model
from daemon_process import DaemonProcess
from run_here import run_here
from test_camera_traps import FakeCamera

from inspectd.client import Control
from inspectd.model.calibration import CameraRecord
from inspectd.wire.requests import (
    AuditRequest,
    ModelRequest,
    RecipeRequest,
    RevertRequest,
    SnapshotRequest,
    ThresholdRequest,
    TriggerRequest,
)

SIZED = CameraRecord("sim", None, 64, 64)
LEFT, RIGHT = (0, 0, 32, 64), (32, 0, 32, 64)


def model(folder: Path, threshold: float, **more: object) -> Path:
    return write_small_model(folder, threshold=threshold, camera=SIZED, **more)  # type: ignore[arg-type]


def camera(more: str) -> str:
    return f"{{name: top, source: {LINE}, mode: trigger, deadline_ms: 15000, read_timeout_ms: 15000, {more}}}"


@pytest.fixture
def line(tmp_path: Path) -> Iterator[tuple[DaemonProcess, Control]]:
    """A camera on triggers with two products that differ by their thresholds, one of them told by its parts' ids."""
    low, high = model(tmp_path / "low", 1.0), model(tmp_path / "high", 50.0)
    recipes = f"recipes: {{A: {{model: {low}}}, B: {{model: {high}, parts: 'B-*'}}}}"
    with DaemonProcess(tmp_path / "d", camera(recipes)) as daemon, Control(daemon.control) as control:
        daemon.listen(lambda d: any(s["state"] == "running" for s in d.states))
        yield daemon, control


def test_each_trigger_gets_one_verdict_with_its_part_and_nothing_else_gets_one(
    line: tuple[DaemonProcess, Control],
) -> None:
    daemon, control = line
    began_ns = time.monotonic_ns()
    said = ask(control, TriggerRequest(camera="top", part="part-1", recipe="A", wait=True))
    assert (said["trigger"], said["part"], said["seq"], said["recipe"]) == ("1", "part-1", 1, "A")
    assert said["t"]["captured"] > said["t"]["trigger"] > began_ns
    assert said["verdict"] in {"ok", "ng"}
    assert ask(control, TriggerRequest(camera="top", part="B-2")) == "2"
    daemon.listen(lambda d: len(d.verdicts) == 2)
    time.sleep(0.3)
    daemon.listen(lambda d: d.states[-1]["last_seq"] == 2)
    assert [(v["trigger"], v["part"], v["recipe"], v["threshold"]) for v in daemon.verdicts] == [
        ("1", "part-1", "A", 1.0),
        ("2", "B-2", "B", 50.0),
    ]
    counts = daemon.states[-1]["counts"]
    assert (counts["triggers"], counts["ok"] + counts["ng"]) == (2, 2)
    assert counts["captured"] == counts["unmatched"] + 2


def test_products_are_chosen_by_command_and_that_outlives_a_restart(line: tuple[DaemonProcess, Control]) -> None:
    daemon, control = line
    assert daemon.states[-1]["recipe"] == "A"
    assert ask(control, RecipeRequest(camera="top", name="B", by="anna", why="next order"))["recipe"] == "B"
    assert ask(control, TriggerRequest(camera="top", wait=True))["threshold"] == 50.0
    daemon.listen(lambda d: d.states[-1]["recipe"] == "B")
    assert daemon.states[-1]["overrides"]["recipe"] == "B"
    error = refused(control, RecipeRequest(camera="top", name="C"))
    assert (error.code, "There is no recipe 'C'; there are: A, B" in str(error)) == ("bad_value", True)
    unknown = ask(control, TriggerRequest(camera="top", part="X-1", wait=True))
    assert (unknown["verdict"], unknown["reason"]) == ("fault", "no_model")
    assert refused(control, TriggerRequest(camera="top", part="X-1", recipe="C")).code == "bad_value"
    assert daemon.stop() == 0
    (told,) = [(c.old, c.new, c.by, c.why) for c in changes(daemon) if c.what == "recipe"]
    assert told == ({"recipe": "A"}, {"recipe": "B"}, "anna", "next order")
    with again(daemon) as second, Control(second.control) as control:
        second.listen(lambda d: any(s["state"] == "running" for s in d.states))
        assert ask(control, TriggerRequest(camera="top", wait=True))["recipe"] == "B"


def test_a_threshold_is_that_of_a_product(line: tuple[DaemonProcess, Control]) -> None:
    daemon, control = line
    changed = ask(control, ThresholdRequest(camera="top", value=60.0, recipe="B", by="anna"))
    assert (changed["threshold"], changed["recipe"], changed["overrides"]) == (60.0, "B", {"others": ["B"]})
    assert ask(control, TriggerRequest(camera="top", recipe="B", wait=True))["threshold"] == 60.0
    assert ask(control, TriggerRequest(camera="top", recipe="A", wait=True))["threshold"] == 1.0
    ask(control, RecipeRequest(camera="top", name="B"))
    daemon.listen(lambda d: d.states[-1]["overrides"] == {"threshold": 60.0, "recipe": "B"})
    assert ask(control, RevertRequest(camera="top", by="anna"))["recipe"] == "B"
    assert ask(control, TriggerRequest(camera="top", wait=True))["threshold"] == 50.0, "and the recipe stays chosen"
    error = refused(control, ModelRequest(camera="top", path="/x", area="left"))
    assert (error.code, "area is 'left'" in str(error)) == ("bad_value", True)


def test_a_product_is_reverted_by_itself_and_what_is_changed_elsewhere_is_told(
    line: tuple[DaemonProcess, Control],
) -> None:
    _, control = line
    ask(control, ThresholdRequest(camera="top", value=60.0, recipe="B", by="anna"))
    changed = ask(control, ThresholdRequest(camera="top", value=2.0, recipe="A", by="anna"))
    assert changed["overrides"] == {"threshold": 2.0, "others": ["B"]}
    assert ask(control, RevertRequest(camera="top", by="anna", recipe="A"))["overrides"] == {"others": ["B"]}
    assert ask(control, TriggerRequest(camera="top", recipe="A", wait=True))["threshold"] == 1.0
    assert ask(control, TriggerRequest(camera="top", recipe="B", wait=True))["threshold"] == 60.0
    assert refused(control, RevertRequest(camera="top", by="anna", recipe="C")).code == "bad_value"


def test_a_product_is_chosen_also_where_that_cannot_be_written_down(line: tuple[DaemonProcess, Control]) -> None:
    daemon, control = line
    daemon.journal.with_name(daemon.journal.name + ".overrides.json").mkdir()
    said = ask(control, RecipeRequest(camera="top", name="B"))
    assert "After a restart the recipe A would be in force again" in said["detail"]
    assert ask(control, TriggerRequest(camera="top", wait=True))["recipe"] == "B"


def test_snapshots_show_what_the_camera_sees_now(line: tuple[DaemonProcess, Control]) -> None:
    _, control = line
    _, parts = control.ask(SnapshotRequest(camera="top"), 10)
    assert parts[0][:2] == b"\xff\xd8"


def test_many_clients_wait_at_once_and_each_gets_its_own(line: tuple[DaemonProcess, Control]) -> None:
    daemon, control = line
    said: dict[int, dict[str, object]] = {}

    def wait_for(number: int) -> None:
        time.sleep(0.12 * number)
        with Control(daemon.control) as mine:
            said[number] = ask(mine, TriggerRequest(camera="top", part=f"B-{number}", wait=True))

    threads = [threading.Thread(target=wait_for, args=[number]) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [said[number]["part"] for number in range(5)] == [f"B-{number}" for number in range(5)]
    assert control.ask(AuditRequest(), 10)


def test_the_command_line_triggers_and_waits(line: tuple[DaemonProcess, Control]) -> None:
    daemon, _ = line
    result = run_here("trigger", "top", "--part", "B-7", "--wait", "--control", daemon.control)
    assert result.returncode == 0
    assert json.loads(result.stdout)["part"] == "B-7"
    result = run_here("trigger", "top", "--recipe", "Z", "--control", daemon.control)
    assert (result.returncode, "There is no recipe 'Z'; there are: A, B" in result.stderr) == (2, True)


def again(daemon: DaemonProcess) -> DaemonProcess:
    """Start the same configuration once more."""
    return DaemonProcess(daemon.config.parent, daemon.cameras)


def test_several_areas_of_one_picture_one_part_one_verdict(tmp_path: Path) -> None:
    left = model(tmp_path / "left", 50.0, roi=LEFT, rois=(LEFT, RIGHT))
    painted = np.zeros((64, 64), np.uint8)
    painted[:, 32:48] = 255
    cv2.imwrite(str(tmp_path / "ignored.png"), painted)
    areas = f"model: {left}, areas: {{a: {{roi: {list(LEFT)}}}, b: {{roi: {list(RIGHT)}, threshold: 0.5}}}}"
    ignore = f", ignore: {tmp_path / 'ignored.png'}"
    with (
        DaemonProcess(tmp_path / "d", camera(areas + ignore)) as daemon,
        Control(daemon.control) as control,
    ):
        daemon.listen(lambda d: any(s["state"] == "running" for s in d.states))
        said = ask(control, TriggerRequest(camera="top", part="x", wait=True))
        assert {one["name"]: (one["threshold"], one["roi"]) for one in said["areas"]} == {
            "a": (50.0, list(LEFT)),
            "b": (0.5, list(RIGHT)),
        }
        worst = said["areas"][0]
        assert (said["verdict"], said["score"]) == (worst["verdict"], worst["score"])
        changed = ask(control, ThresholdRequest(camera="top", value=48.5, area="a", by="anna"))
        assert (changed["area"], changed["overrides"]["areas"]) == ("a", {"a": {"threshold": 48.5}})
        error = refused(control, ThresholdRequest(camera="top", value=48.5, by="anna"))
        assert (error.code, "has the areas a, b" in str(error)) == ("bad_value", True)
        assert ask(control, TriggerRequest(camera="top", part="y", wait=True))["areas"][0]["mask"] is not None
        assert daemon.stop() == 0


def test_another_model_in_one_area_changes_no_other_whatever_lies_in_its_folder_by_now(tmp_path: Path) -> None:
    left, right, new = (model(tmp_path / name, 50.0) for name in ("left", "right", "new"))
    areas = f"areas: {{a: {{model: {left}}}, b: {{model: {right}}}}}"
    with DaemonProcess(tmp_path / "d", camera(areas)) as daemon, Control(daemon.control) as control:
        daemon.listen(lambda d: any(s["state"] == "running" for s in d.states))
        ask(control, ThresholdRequest(camera="top", value=48.5, area="b", by="anna"))
        before = ask(control, TriggerRequest(camera="top", wait=True))
        shutil.rmtree(right)
        model(right, 5000.0)  # as `inspectd install` puts another one there
        ask(control, ModelRequest(camera="top", path=str(new), area="a"))
        after = ask(control, TriggerRequest(camera="top", wait=True))
    of_b = [next(one for one in said["areas"] if one["name"] == "b") for said in (before, after)]
    assert of_b[0]["threshold"] == of_b[1]["threshold"] == 48.5
    assert of_b[0]["model"] == of_b[1]["model"]


def test_a_camera_with_an_input_of_its_own_may_be_silent_and_is_dead_when_a_trigger_brings_nothing(
    tmp_path: Path, small_model: Path
) -> None:
    fake = FakeCamera(tmp_path)
    fake.be("triggered")
    text = f"{{name: top, source: 0, model: {small_model}, mode: trigger, triggered_by: camera, deadline_ms: 1000}}"
    with (
        DaemonProcess(tmp_path / "d", text, environment=fake.environment) as daemon,
        Control(daemon.control) as control,
    ):
        daemon.listen(lambda d: any(s["state"] == "running" for s in d.states))
        for number in range(1, 5):
            time.sleep(1.3)  # longer than a read may take
            fake.script.with_suffix(".trigger").touch()
            daemon.listen(lambda d, number=number: len(d.verdicts) == number)  # type: ignore[misc]
        assert [v["trigger"] for v in daemon.verdicts] == ["1", "2", "3", "4"]
        assert [v["reason"] or v["verdict"] for v in daemon.verdicts] == ["picture", "ok", "ok", "ok"]
        assert "may be an old one" in daemon.verdicts[0]["detail"]
        fake.be("stuck")
        fake.script.with_suffix(".trigger").touch()
        daemon.listen(lambda d: len(d.verdicts) == 5)
        old = daemon.verdicts[-1]
        assert (old["verdict"], old["reason"], old["trigger"]) == ("fault", "picture", "5"), "nobody has seen that part"
        assert "bit for bit a picture from before" in old["detail"]
        fake.be("triggered")
        time.sleep(1.1)  # an announcement that comes so late might belong to the last picture
        assert "lost" not in {s["state"] for s in daemon.states}
        dead = ask(control, TriggerRequest(camera="top", part="A-1", wait=True))
        assert (dead["verdict"], dead["reason"], dead["trigger"]) == ("fault", "camera_lost", "6")
        daemon.listen(lambda d: d.states[-1]["state"] == "lost")
        assert not daemon.states[-1]["inspecting"]
        fake.script.with_suffix(".trigger").touch()
        daemon.listen(lambda d: d.states[-1]["state"] == "running")
        fake.be("unplugged")
        daemon.listen(lambda d: d.states[-1]["state"] == "lost")
        fake.be("triggered")
        daemon.listen(lambda d: d.states[-1]["state"] == "running")
        assert daemon.stop() == 0


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("areas: {a: {roi: [60, 0, 10, 64]}}, model: %s", "was calibrated on everything"),
        ("ignore: [[[0, 0], [64, 0], [64, 64], [0, 64]]], model: %s", "which is to be inspected, is ignored"),
        ("recipes: {A: {model: %s}, B: {}}", "cameras[0].recipes.B.model is missing"),
        ("recipes: {A: {model: %s, parts: 'A*'}, B: {model: m, parts: '*1'}}", "a part 'A1' would belong to both"),
        ("model: %s, source: 'rtsp://127.0.0.1/x'", "mode: trigger needs pictures with the time at which"),
    ],
)
def test_what_cannot_be_is_told_by_check_in_one_sentence(tmp_path: Path, more: str, says: str) -> None:
    folder = model(tmp_path / "m", 1.0)
    text = camera(more % folder)
    if "source" in more:
        text = text.replace(f"source: {LINE}, ", "")
    (tmp_path / "c.yaml").write_text(f"cameras: [{text}]\njournal: {{path: null}}\narchive: {{max_gb: 0}}\n")
    result = run_here("check", "--config", str(tmp_path / "c.yaml"))
    assert result.returncode == 2
    assert says in result.stderr
    assert "Traceback" not in result.stderr
