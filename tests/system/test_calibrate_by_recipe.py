"""Calibration by the recipe: every part held out once, other thresholds told, and the input of the size asked for."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import write_pictures
from run_here import Ended, run_here

from calibrate.acquire.acquire import shape_notes
from calibrate.data.training_set import Pictures
from inspectd.cli import main
from inspectd.model.geometry import Geometry
from inspectd.simplenet import bundle

RECIPE = ("--camera", "{pictures}", "--steps", "3", "--run_name", "run", "--results_path", "{results}")
FEW = ("--pixels", "5000")


def by_recipe(pictures: Path, results: Path, *more: str) -> Ended:
    """Run the command with our recipe, a few steps of it, on few pixels unless the size is what is asked for."""
    line = [part.format(pictures=pictures, results=results) for part in RECIPE]
    is_asked = {"--imagesize", "--pixels", "--smallest-defect"} & set(more)
    return run_here("calibrate", *line, *(() if is_asked else FEW), *more)


def test_every_picture_is_held_out_once_and_the_report_tells_of_other_thresholds(
    tmp_path: Path, pictures: Path
) -> None:
    results = tmp_path / "results"
    ended = by_recipe(pictures, results, "--defects", str(pictures))
    assert ended.returncode == 0, ended.stderr
    assert "12 pictures, each learned from and held out once" in ended.stdout
    assert "painted defects found" in ended.stdout
    assert "96x64" in ended.stderr
    run = results / "project/group/run"
    report = (run / "report.html").read_text()
    for title in ("Another threshold", "good parts rejected", "painted defects missed", "known defects missed"):
        assert title in report
    model = bundle.load(run / "models/0")
    assert model.calibration is not None
    assert len(model.calibration.held_out_scores) == 12
    assert model.params.input_shape == (3, 64, 96)
    first = model.head.state_dict()
    assert by_recipe(pictures, results).returncode == 0
    again = bundle.load(run / "models/0").head.state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items()), "the same seed, the same model"


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("lihgt=3", "expected KIND=NUMBER, KIND one of light"),
        ("light", "cannot be; expected 0 to 90 percent"),
        ("light=300", "expected 0 to 90 percent"),
        ("turn=-1", "expected 0 to 180"),
        ("noise=nan", "expected 0 to 128"),
    ],
)
def test_a_variation_that_cannot_be_is_refused(tmp_path: Path, pictures: Path, asked: str, says: str) -> None:
    ended = by_recipe(pictures, tmp_path / "results", "--vary", asked)
    assert ended.returncode == 2
    assert says in " ".join(ended.stderr.split())


def test_what_the_model_withstands_is_told_and_limits_are_kept(tmp_path: Path, pictures: Path) -> None:
    varies = [option for one in ("light=30", "turn=5", "quality=60") for option in ("--vary", one)]
    ended = by_recipe(pictures, tmp_path / "results", *varies)
    assert ended.returncode == 0, ended.stderr
    assert "Good parts " in ended.stdout
    assert "The pictures that differ most" in ended.stderr
    run = tmp_path / "results/project/group/run"
    report = (run / "report.html").read_text()
    for title in ("What the line may do", "10 % darker", "JPEG at 50", "The pictures that differ most"):
        assert title in report
    assert sorted(path.name for path in run.parent.iterdir()) == ["run"]
    calibration = bundle.load(run / "models/0").calibration
    assert calibration is not None
    assert calibration.optics is not None
    assert calibration.optics.light.lowest <= 1 <= calibration.optics.light.highest
    assert calibration.threshold is not None
    assert calibration.threshold.independent_parts == 12
    recipe = calibration.recipe
    assert [recipe[f"vary_{name}"] for name in ("light", "turn", "quality", "noise")] == [0.3, 5, 60, 3]


@pytest.mark.parametrize(
    ("asked", "size"),
    [
        (("--imagesize", "96", "64"), (3, 64, 96)),
        (("--smallest-defect", "12", "--roi", "0", "0", "64", "32"), (3, 32, 64)),
    ],
)
def test_the_inputs_size_is_what_was_asked_for(
    tmp_path: Path, pictures: Path, asked: tuple[str, ...], size: tuple[int, int, int]
) -> None:
    ended = by_recipe(pictures, tmp_path / "results", *asked)
    assert ended.returncode == 0, ended.stderr
    assert f"input is {size[2]}x{size[1]}: " in ended.stderr
    assert bundle.load(tmp_path / "results/project/group/run/models/0").params.input_shape == size


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (("--imagesize", "96", "64", "--pixels", "5000"), "each decide the input's size; give one of them"),
        (("--imagesize", "9"), "expected width and height of the network's input, 32 to 8192"),
        (("--imagesize", "96xx4"), "expected width and height"),
        (("--smallest-defect", "60"), "the inspected picture has only 64x48"),
        (("--smallest-defect", "2"), "too few to be told from noise; expected at least 3"),
        (("--smallest-defect", "0.5"), "smallest-defect"),
    ],
)
def test_a_size_that_cannot_be_is_refused(tmp_path: Path, pictures: Path, asked: tuple[str, ...], says: str) -> None:
    ended = by_recipe(pictures, tmp_path / "results", *asked)
    assert ended.returncode == 2
    assert says in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "results").exists()


def test_a_network_that_breaks_the_deadline_is_refused_before_anything_is_learned(
    tmp_path: Path, pictures: Path
) -> None:
    config = tmp_path / "inspectd.yaml"
    config.write_text(f"cameras: [{{name: top, source: {pictures}, model: {tmp_path}, deadline_ms: 1}}]\n")
    line = ["calibrate", "--config", str(config), "--camera", "top", "--results_path", str(tmp_path / "results")]
    err = io.StringIO()
    with redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main([*line, "--pixels", "400000"])
    assert ended.value.code == 2
    said = " ".join(err.getvalue().split())
    assert "ms a part on this machine, more than the camera's deadline of 1 ms" in said
    assert "fewer --pixels" in said
    assert not (tmp_path / "results").exists()


def copies(folder: Path) -> None:
    write_pictures(folder, 1)
    for i in range(19):
        shutil.copy(next(folder.iterdir()), folder / f"copy{i}.png")


def video(path: Path, noise: float) -> None:
    """Write a video of one still scene."""
    draws = np.random.default_rng(0)
    scene = cv2.GaussianBlur(draws.integers(0, 255, (480, 640, 3)).astype(np.uint8), (0, 0), 16)
    out = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (640, 480))
    for _ in range(20):
        out.write(np.clip(scene + draws.normal(0, noise, scene.shape), 0, 255).astype(np.uint8))
    out.release()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (copies, r"is 1 usable picture .* \(19 more are exact copies of them.*at least 8 of different parts"),
        (lambda path: write_pictures(path, 2), "are 2 usable pictures .* at least 8 of different parts"),
        (lambda path: video(path, 0.0), "is 1 usable picture .*19 more are exact copies"),
        (
            lambda path: video(path, 2.0),
            "20 pictures .* show one still scene; .* Take a video in which good",
        ),
    ],
    ids=["copies", "two", "frozen video", "still video"],
)
def test_what_cannot_be_learned_from_is_one_sentence(tmp_path: Path, make: Callable[[Path], None], says: str) -> None:
    make(tmp_path / "source.avi")
    ended = by_recipe(tmp_path / "source.avi", tmp_path / "results")
    assert ended.returncode == 2
    assert re.search(says, " ".join(ended.stderr.split()))
    assert "Traceback" not in ended.stderr
    assert not list((tmp_path / "results").rglob("*.json"))


def test_pictures_of_many_shapes_are_told() -> None:
    pictures = Pictures(Geometry(64, 96))
    for i in range(20):
        pictures.add(np.full((90 - 2 * i, 40 + 8 * i), 7 * i, np.uint8), str(i))
    (said,) = shape_notes(pictures)
    assert "of 20 sizes and of shapes from 40x90 to 192x52; the network sees each of them stretched to 96x64" in said
    assert "Cut them alike" in said
    alike = Pictures(Geometry(64, 96))
    for i in range(3):
        alike.add(np.full((90 + i, 100), i, np.uint8), str(i))
    assert shape_notes(alike) == []
