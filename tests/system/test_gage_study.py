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


def rows_of(study: Path) -> list[dict[str, str]]:
    with study.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def gage(daemon: DaemonProcess, folder: Path, *arguments: str, typed: str = "") -> Ended:
    """Call the command with what a person types."""
    return run_here("gage", *arguments, "--study", str(folder / "gear.csv"), "--control", daemon.control, typed=typed)


@pytest.mark.parametrize("mode", ["", TRIGGERED])
def test_parts_are_asked_for_and_each_verdict_is_the_daemons(tmp_path: Path, small_model: Path, mode: str) -> None:
    with DaemonProcess(tmp_path / "d", camera_of(small_model, more=mode)) as daemon:
        daemon.listen(lambda d: "ready" in d.log)
        study = ("top", "--good", "G1", "--good", "G2", "--bad", "B1", "--repeats", "2", "--label", "early")
        said = gage(daemon, tmp_path, *study, typed="\n" * 6)
        assert said.returncode == 2, said.stderr + said.stdout
        assert "1 of 6: " in said.stdout
        assert "6 trials: NOT accepted" in said.stdout, "the model passes everything"
        rows = rows_of(tmp_path / "gear.csv")
        assert sorted(row["part"] for row in rows) == ["B1", "B1", "G1", "G1", "G2", "G2"]
        assert {(row["label"], row["verdict"]) for row in rows} == {("early", "ok")}
        assert all(float(row["score"]) < float(row["threshold"]) for row in rows)
        assert all((daemon.archive / "top" / row["at"][:10] / row["picture"]).is_file() for row in rows)
        assert "Attribute study gear: not accepted" in (tmp_path / "gear.html").read_text()
        again = gage(daemon, tmp_path)
        assert (again.returncode, "6 trials: NOT accepted" in again.stdout) == (2, True)

        daemon.listen(lambda d: sum("challenge" in one for one in d.verdicts) >= 6)
        shown = [one for one in daemon.verdicts if "challenge" in one]
        assert all(one["challenge"]["study"] for one in shown)
        found = {one["challenge"]["part"]: (one["verdict"], one["reason"]) for one in shown}
        assert found == {"G1": ("ok", None), "G2": ("ok", None), "B1": ("fault", "bypass")}
        state = next(one for one in reversed(daemon.states) if one["camera"] == "top")
        assert (state["inspecting"], state["challenge"]) == (True, None), "nothing follows from a study"


def test_who_stops_keeps_what_was_shown(tmp_path: Path, small_model: Path) -> None:
    with DaemonProcess(tmp_path / "d", camera_of(small_model, more=TRIGGERED)) as daemon:
        daemon.listen(lambda d: "ready" in d.log)
        said = gage(daemon, tmp_path, "top", "--good", "G1", typed="\n\nq\n")
        assert "Stopped; what was shown is kept." in said.stdout
        assert "2 trials: NOT accepted" in said.stdout
        assert "note: There are no decisions on bad parts: nothing is said of misses." in said.stdout


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
    rows = rows_of(study)
    assert [(row["part"], row["known"]) for row in rows] == [("B1", "bad")] * 3 + [("G1", "good")] * 3 + [
        ("G2", "good")
    ] * 3
    assert "9 trials: NOT accepted" in said.stdout
    again = run_here("gage", "--pictures", str(tmp_path / "pictures"), "--model", str(model), "--study", str(study))
    assert (again.returncode, "a trial counts once" in again.stderr) == (2, True)
    assert len(study.read_text().splitlines()) == 10


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "holds no trials"),
        (("top",), "No part is named"),
        (("--good", "G1"), "name parts that are shown to a CAMERA"),
        (("--pictures", "x"), "Of --pictures and --model one is missing"),
        (("top", "--good", "G1", "--bad", "G1"), "is said to be good, and bad"),
        (("top", "--good", ""), "expected 1 to 64 letters"),
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
