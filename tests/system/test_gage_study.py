"""An attribute study with a running daemon and with pictures, as a person at the line does it."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from commanded import camera_of
from conftest import write_small_model
from daemon_process import DaemonProcess
from run_here import Ended, run_here

TRIGGERED = ", mode: trigger, allow_arrival_time: true"


def gage(daemon: DaemonProcess, folder: Path, *arguments: str, typed: str = "") -> Ended:
    """Call the command with what a person types."""
    addresses = ("--published", daemon.endpoint, "--control", daemon.control)
    return run_here("gage", *arguments, "--study", str(folder / "gear.csv"), *addresses, typed=typed)


@pytest.mark.parametrize("mode", ["", TRIGGERED])
def test_parts_are_asked_for_and_each_verdict_is_the_daemons(tmp_path: Path, small_model: Path, mode: str) -> None:
    with DaemonProcess(tmp_path / "d", camera_of(small_model, more=mode)) as daemon:
        daemon.listen(lambda d: "ready" in d.log)
        study = ("top", "--good", "G1", "--good", "G2", "--repeats", "2")
        said = gage(daemon, tmp_path, *study, "--label", "early", typed="\n" * 4)
        assert said.returncode == 0, said.stderr + said.stdout
        assert "1 of 4: G" in said.stdout
        assert "4 trials: accepted" in said.stdout
        assert "note: There are no bad parts: nothing is said of misses." in said.stdout
        rows = list(csv.DictReader((tmp_path / "gear.csv").open(encoding="utf-8")))
        assert sorted(row["part"] for row in rows) == ["G1", "G1", "G2", "G2"]
        assert {(row["known"], row["label"], row["verdict"]) for row in rows} == {("good", "early", "ok")}
        assert all(float(row["score"]) < float(row["threshold"]) for row in rows)
        assert "Attribute study gear: accepted" in (tmp_path / "gear.html").read_text()

        missed = gage(daemon, tmp_path, "top", "--bad", "B1", "--repeats", "1", "--label", "late", typed="\n")
        assert missed.returncode == 2, "what is kept grows, and a bad part has passed"
        assert "5 trials: NOT accepted" in missed.stdout
        assert "share of production that would be decided otherwise" in missed.stdout
        again = gage(daemon, tmp_path)
        assert (again.returncode, "5 trials: NOT accepted" in again.stdout) == (2, True)


def test_who_stops_keeps_what_was_shown(tmp_path: Path, small_model: Path) -> None:
    with DaemonProcess(tmp_path / "d", camera_of(small_model, more=TRIGGERED)) as daemon:
        daemon.listen(lambda d: "ready" in d.log)
        said = gage(daemon, tmp_path, "top", "--good", "G1", typed="\n\nq\n")
        assert "Stopped; what was shown is kept." in said.stdout
        assert "2 trials: accepted" in said.stdout


def test_what_cannot_be_judged_is_shown_again(tmp_path: Path, small_model: Path) -> None:
    camera = camera_of(small_model, more=f"{TRIGGERED}, trigger_window_ms: 0.001")
    with DaemonProcess(tmp_path / "d", camera) as daemon:
        daemon.listen(lambda d: "ready" in d.log)
        said = gage(daemon, tmp_path, "top", "--good", "G1", "--repeats", "1", typed="\n" * 3)
        assert (said.returncode, said.stdout.count("show it again")) == (2, 3)
        assert "3 of 3 trials were faults" in said.stdout


def test_pictures_of_known_parts_are_a_study_too(tmp_path: Path) -> None:
    model = write_small_model(tmp_path / "model", threshold=1e6)
    rng = np.random.default_rng(0)
    for known, part in (("good", "G1"), ("good", "G2"), ("bad", "B1")):
        folder = tmp_path / "pictures" / known / part
        folder.mkdir(parents=True)
        for i in range(3):
            cv2.imwrite(str(folder / f"{i}.png"), rng.integers(0, 255, (48, 64, 3), np.uint8))
    study = tmp_path / "s.csv"
    said = run_here("gage", "--pictures", str(tmp_path / "pictures"), "--model", str(model), "--study", str(study))
    assert said.returncode == 2, said.stderr
    rows = list(csv.DictReader(study.open(encoding="utf-8")))
    assert [(row["part"], row["known"]) for row in rows] == [("B1", "bad")] * 3 + [("G1", "good")] * 3 + [
        ("G2", "good")
    ] * 3
    assert "9 trials: NOT accepted" in said.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "holds no trials"),
        (("top",), "No part is named"),
        (("--good", "G1"), "name parts that are shown to a CAMERA"),
        (("--pictures", "x"), "Of --pictures and --model one is missing"),
        (("top", "--good", "G1", "--bad", "G1"), "is said to be good, and bad"),
        (("top", "--good", ""), "expected a name of 1 to 64"),
        (("top", "--good", "G1", "--pictures", "x", "--model", "y"), "two ways to get trials"),
        (("top", "--good", "G1", "--control", "here"), "--control"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    said = run_here("gage", *arguments, "--study", str(tmp_path / "s.csv"))
    assert (said.returncode, says in said.stderr) == (2, True), said.stderr
    assert not (tmp_path / "s.csv").exists()


def test_a_camera_that_is_not_there_or_inspects_nothing_is_refused(tmp_path: Path, small_model: Path) -> None:
    with DaemonProcess(tmp_path / "d", camera_of(small_model, more=", challenge: {bad_every_h: 1}")) as daemon:
        daemon.listen(lambda d: "ready" in d.log)
        said = gage(daemon, tmp_path, "side", "--good", "G1")
        assert (said.returncode, "There is no camera side; there are: top." in said.stderr) == (3, True)
        said = gage(daemon, tmp_path, "top", "--good", "G1")
        assert (said.returncode, "Camera top inspects nothing at present" in said.stderr) == (3, True)
    assert not (tmp_path / "gear.csv").exists()
