"""`inspectd test`: a model on a folder of pictures, judged as the daemon judges them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import write_pictures, write_small_model
from run_here import Ended, run_here

from inspectd.trial import parts_below


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with one model, whose good parts were 64 x 48 and of middle grey."""
    folder = tmp_path_factory.mktemp("calibrated") / "run"
    statistics = {"grey_lowest": 100.0, "grey_highest": 150.0, "contrast_mean": 40.0, "sizes": 1.0}
    write_small_model(folder / "models" / "0", threshold=0.0, statistics=statistics)
    index = [{"i": 0, "class": "small", "backbone": "tf_efficientnet_lite0"}]
    (folder / "models" / "index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """Five good parts, three with a black stain, one that cannot be read."""
    folder = tmp_path / "parts"
    write_pictures(folder / "good", 5)
    write_pictures(folder / "stain", 3)
    for path in sorted((folder / "stain").iterdir()):
        picture = cv2.imread(str(path))
        assert picture is not None
        picture[10:30, 10:40] = 0
        cv2.imwrite(str(path), picture)
    (folder / "stain" / "broken.png").write_bytes(b"no picture")
    return folder


def judge(run: Path, folder: Path, *more: str) -> Ended:
    return run_here("test", str(run), str(folder), *more)


def test_a_folder_is_judged_and_other_thresholds_are_told(run: Path, parts: Path, tmp_path: Path) -> None:
    ended = judge(run, parts, "--csv", str(tmp_path / "scores.csv"))
    assert ended.returncode == 0, ended.stderr
    assert "on 9 pictures, threshold " in ended.stdout
    for title in ("good parts rejected", "stain missed", "(chosen)"):
        assert title in ended.stdout
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["known"] for row in rows] == ["good"] * 5 + ["stain"] * 4
    broken = next(row for row in rows if row["picture"] == "stain/broken.png")
    assert (broken["verdict"], broken["reason"], broken["score"]) == ("fault", "picture", "")
    assert "cannot be decoded" in broken["detail"]
    for row in rows:
        if row["score"]:
            is_above = float(row["score"]) > float(row["threshold"])
            assert row["verdict"] == ("ng" if is_above else "ok")
    assert not list(tmp_path.glob(".scores*")), "nothing is left beside it"


def test_another_threshold_is_another_verdict_and_nothing_is_kept(run: Path, parts: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    counts = {}
    for value in ("-1000", "1000"):
        ended = judge(run, parts, "--threshold", value)
        assert ended.returncode == 0, ended.stderr
        counts[value] = next(line.split() for line in ended.stdout.splitlines() if line.split()[:1] == ["good"])
    assert counts == {"-1000": ["good", "5", "0", "5", "0"], "1000": ["good", "5", "5", "0", "0"]}
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_pictures_of_a_camera_have_light_and_scene_looked_at(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "dark"
    folder.mkdir()
    cv2.imwrite(str(folder / "night.png"), np.zeros((48, 64, 3), np.uint8))
    cv2.imwrite(str(folder / "other.png"), np.full((30, 40, 3), 120, np.uint8))
    plain, camera = judge(run, folder), judge(run, folder, "--as-camera", "--csv", str(tmp_path / "s.csv"))
    assert "Nothing is known of these parts" in plain.stdout
    assert "too dark" not in plain.stdout
    assert 'fault,,,picture,"the picture is too dark' in (tmp_path / "s.csv").read_text()
    assert (
        'other.png,,fault,,,identity,"the model was calibrated at 64x48; this camera gives 40x30'
        in (tmp_path / "s.csv").read_text()
    )
    assert camera.returncode == 0


@pytest.mark.parametrize(
    ("names", "kinds"),
    [
        (("good/a.png", "scratch/b.png"), ["good", "scratch"]),
        (("ok/a.png", "dent/deep/b.png"), ["dent", "ok"]),
        (("test/good/a.png", "test/hole/b.png", "train/good/c.png", "ground_truth/hole/b.png"), ["good", "hole"]),
        (("monday/a.png", "tuesday/b.png"), ["", ""]),
        (("a.png", "b.png"), ["", ""]),
        (("good/a.png", "b.png"), ["", "good"]),
        (("good/a.png", "test/b.png"), ["good", "test"]),
    ],
)
def test_folders_say_what_parts_are(tmp_path: Path, names: tuple[str, ...], kinds: list[str]) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    parts, _ = parts_below(tmp_path)
    assert [part.kind for part in parts] == kinds


@pytest.mark.parametrize(
    ("make", "more", "says"),
    [
        (lambda folder: None, (), "is no folder; expected one with pictures"),
        (lambda folder: folder.mkdir(), (), "holds no pictures"),
        (lambda folder: folder.write_text("x"), (), "is no folder"),
        (lambda folder: write_pictures(folder, 1), ("--csv", "{0}/no/where.csv"), "cannot be written"),
        (lambda folder: write_pictures(folder, 1), ("--model", "7"), "has these models"),
        (lambda folder: write_pictures(folder, 1), ("--threshold", "nan"), "threshold"),
    ],
)
def test_what_cannot_be_tested_is_one_sentence(
    run: Path, tmp_path: Path, make: object, more: tuple[str, ...], says: str
) -> None:
    make(tmp_path / "folder")  # type: ignore[operator]
    ended = judge(run, tmp_path / "folder", *(one.format(tmp_path) for one in more))
    assert ended.returncode in (2, 3)
    assert says in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr


def test_no_model_is_said(tmp_path: Path) -> None:
    write_pictures(tmp_path / "p", 1)
    ended = judge(tmp_path / "p", tmp_path / "p")
    assert ended.returncode == 2
    assert "neither a run folder nor a model folder" in ended.stderr
