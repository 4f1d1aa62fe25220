"""A daemon that inspects parts as they pass by themselves, end to end, on the simulated belt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from belts import SIZE, belt, known
from commanded import ask, refused
from conftest import write_small_model
from daemon_process import DaemonProcess
from run_here import run_here

from inspectd.client import Control
from inspectd.model.calibration import CameraRecord
from inspectd.wire.requests import ModelRequest, ReloadRequest, SnapshotRequest, TriggerRequest

SEED = 21
BELT = f"sim://belt?seed={SEED}&fps=20&width={SIZE[0]}&height={SIZE[1]}&speed=1&unrest=0.5"


def model(folder: Path, threshold: float = 1e6) -> Path:
    camera = CameraRecord("sim", None, *known().size)
    return write_small_model(folder, threshold=threshold, camera=camera, presence=known())


def camera(path: Path, more: str = "", source: str = BELT) -> str:
    return f'{{name: top, source: "{source}", model: {path}, mode: part, deadline_ms: 5000{more}}}'


@pytest.fixture
def line(tmp_path: Path) -> Iterator[DaemonProcess]:
    with DaemonProcess(
        tmp_path / "d", camera(model(tmp_path / "m")), extra=f"archive: {{path: {tmp_path}/a, ok_share: 1}}"
    ) as one:
        yield one


def test_each_part_gets_one_verdict_with_its_own_number_and_place(line: DaemonProcess) -> None:
    line.listen(lambda d: len(d.states) > 1 and sum(v["verdict"] == "ok" for v in d.verdicts) >= 5, timeout_s=90)
    numbers = [int(verdict["trigger"]) for verdict in line.verdicts]
    assert numbers == list(range(1, len(numbers) + 1))
    ids = [verdict["part"] for verdict in line.verdicts]
    assert len(set(ids)) == len(ids)
    judged = [verdict for verdict in line.verdicts if verdict["verdict"] == "ok"]
    assert len(judged) >= 5
    one = belt(SEED, speed=1.0, unrest=0.5)
    shown = []
    for verdict in judged:
        at_s = verdict["t"]["captured"] / 1e9
        x, _, w, h = verdict["image"]["roi"]
        assert (verdict["image"]["w"], verdict["image"]["h"], (w, h)) == (*SIZE, known().size)
        middle = (x + w / 2) / one.line.radius_px
        near = min(one.seen(at_s), key=lambda part: abs(one.middle(part, at_s) - middle))
        assert abs(one.middle(near, at_s) - middle) < 0.2, "the verdict is of the part that is there"
        assert not near.touches
        shown.append(near.number)
    assert len(shown) == len(set(shown)), "and no part has two"
    line.listen(lambda d: d.states[-1]["counts"]["triggers"] >= len(ids))
    counts = line.states[-1]["counts"]
    assert counts["captured"] >= counts["unmatched"] + counts["ok"]
    assert line.states[-1]["inspecting"] is True


def test_of_a_part_that_passes_its_own_picture_is_kept_and_can_be_judged_again(
    line: DaemonProcess, tmp_path: Path
) -> None:
    line.listen(lambda d: sum(v["verdict"] == "ok" for v in d.verdicts) >= 3, timeout_s=60)
    with Control(line.control) as control:
        (jpeg,) = control.ask(SnapshotRequest(camera="top"), 10)[1]
        shown = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert shown.shape[1::-1] == SIZE, "people see all that the camera sees"
        refusal = refused(control, TriggerRequest(camera="top"))
        assert "inspects by itself (mode: part)" in str(refusal)
        other = write_small_model(tmp_path / "whole", threshold=1.0, camera=CameraRecord("sim", None, *SIZE))
        refusal = refused(control, ModelRequest(camera="top", path=str(other), by="anna"))
        assert "does not know what a part is" in str(refusal)
        assert ask(control, ModelRequest(camera="top", path=str(model(tmp_path / "next", 2e6)), by="anna"))
    line.listen(lambda d: d.verdicts[-1]["threshold"] == 2e6, timeout_s=60)
    assert line.stop() == 0
    kept = sorted((tmp_path / "a").rglob("*_ok.png"))
    assert kept
    picture = cv2.imread(str(kept[0]))
    assert picture.shape[1::-1] == known().size
    run_here("replay", str(tmp_path / "next"), "--config", str(line.config), "--camera", "top")


def test_several_looks_decide_together_and_one_that_cannot_come_is_said(tmp_path: Path) -> None:
    looks = ", looks: {best_of: 3, ng_if: 2}"
    with DaemonProcess(tmp_path / "ng", camera(model(tmp_path / "low", -1e6), looks)) as daemon:
        daemon.listen(lambda d: sum(v["verdict"] == "ng" for v in d.verdicts) >= 3, timeout_s=60)
    looks = ", looks: {best_of: 20}"
    with DaemonProcess(tmp_path / "few", camera(model(tmp_path / "high"), looks)) as daemon:
        daemon.listen(lambda d: sum(v["reason"] == "deadline" for v in d.verdicts) >= 2, timeout_s=60)
        assert {v["verdict"] for v in daemon.verdicts} == {"fault"}
        late = [v["detail"] for v in daemon.verdicts if v["reason"] == "deadline"]
        assert all("looks were scored before the part was gone" in why for why in late)
        counts = daemon.states[-1]["counts"] if daemon.states else {}
        assert counts.get("in_flight", 0) < 4


def test_a_belt_that_cannot_be_looked_at_is_a_fault_and_is_told_in_the_state(tmp_path: Path) -> None:
    dark = BELT.replace(f"width={SIZE[0]}", f"width={SIZE[0] * 2}")
    with DaemonProcess(tmp_path / "d", camera(model(tmp_path / "m"), source=dark)) as daemon:
        daemon.listen(lambda d: bool(d.verdicts), timeout_s=60)
        (verdict,) = daemon.verdicts
        assert (verdict["verdict"], verdict["reason"]) == ("fault", "identity")
        daemon.listen(lambda d: len(d.states) > 3, timeout_s=60)
        assert daemon.states[-1]["inspecting"] is False
        assert len(daemon.verdicts) == 1
        daemon.listen(lambda d: d.alarms() == {"parts_unseen"})
        daemon.config.write_text(daemon.config.read_text().replace(dark, BELT))
        with Control(daemon.control) as control:
            assert ask(control, ReloadRequest())["reopened"] == ["top"]
        daemon.listen(lambda d: d.states[-1]["inspecting"] and "parts_unseen" not in d.alarms())


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (", looks: {best_of: 2, ng_if: 3}", "looks.ng_if is 3, of 2 looks; expected at most looks.best_of"),
        (", fps: 10, looks: {best_of: 60}", "looks.best_of is 60; expected a whole number >= 1 and <= 20"),
        (", fps: 2, looks: {best_of: 20}", "looks.best_of is 20, which takes 9500 ms at 2 pictures a second"),
        (", ignore: [[[0, 0], [9, 0], [9, 9]]]", "expected it without ignore"),
        (", roi: [0, 0, 20, 20]", "was calibrated on parts in [0, 0, 160, 120]"),
    ],
)
def test_what_cannot_be_in_mode_part_is_said_before_anything_runs(tmp_path: Path, more: str, says: str) -> None:
    path = tmp_path / "inspectd.yaml"
    path.write_text(
        f"cameras: [{camera(model(tmp_path / 'm'), more)}]\njournal: {{path: null}}\narchive: {{max_gb: 0}}\n"
    )
    result = run_here("check", "--config", str(path))
    assert result.returncode == 2
    assert says in " ".join((result.stdout + result.stderr).split())


def test_a_model_is_for_parts_that_pass_or_for_whole_pictures(tmp_path: Path) -> None:
    path = tmp_path / "inspectd.yaml"
    for mode, of_parts, says in (("stream", True, "set mode: part"), ("part", False, "does not know what a part is")):
        folder = tmp_path / mode
        folder = model(folder) if of_parts else write_small_model(folder, threshold=1.0)
        path.write_text(
            f'cameras: [{{name: top, source: "{BELT}", model: {folder}, mode: {mode}}}]\n'
            "journal: {path: null}\narchive: {max_gb: 0}\n"
        )
        result = run_here("check", "--config", str(path))
        assert result.returncode == 2
        assert says in " ".join((result.stdout + result.stderr).split())


def test_whole_pictures_and_cut_ones_are_tried_alike(tmp_path: Path) -> None:
    one, whole = belt(4, unrest=0.0), tmp_path / "whole"
    whole.mkdir()
    for i in range(60):
        cv2.imwrite(str(whole / f"{i:03d}.png"), one.render(30 + i / 10))
    result = run_here("test", str(model(tmp_path / "m")), str(whole))
    counts = next(line.split() for line in result.stdout.splitlines() if line.split()[:2] == ["nothing", "60"])
    ok, ng, fault = map(int, counts[2:])
    assert (ok + fault, ng) == (60, 0)
    assert ok > 5 < fault, "where a part is whole it is judged, and where none is, nothing is"
