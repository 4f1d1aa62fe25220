"""Calibration: the threshold's promise, the run folder, and that nothing is ever half written."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import torch
from conftest import write_pictures

from calibrate.options import options_for
from calibrate.threshold import choose_threshold, held_out_positions, parts_needed, proven_rate
from inspectd import SimpleNet
from inspectd.cli import main
from inspectd.errors import UsageError

SMALL = ("--imagesize", "64", "--meta_epochs", "1", "--gan_epochs", "1")


class Ended(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def arguments(source: Path | str, results: Path, *more: str) -> list[str]:
    line = ["calibrate", "--camera", str(source), *SMALL, "--results_path", str(results)]
    return [*line, "--run_name", "run", *more]


def calibrate(source: Path | str, results: Path, *more: str) -> Ended:
    """Run the command in this process, which has torch loaded already."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main(arguments(source, results, *more))
    return Ended(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def tree(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


# The threshold


def test_bound_is_the_published_one() -> None:
    assert parts_needed(0.01, 0.95) == 299
    assert proven_rate(299, 0, 0.95) <= 0.01 < proven_rate(298, 0, 0.95)
    assert round(proven_rate(60, 0, 0.95), 3) == 0.049


@pytest.mark.parametrize("count", [299, 640, 2000])
def test_with_enough_parts_the_threshold_is_the_smallest_that_is_proven(count: int) -> None:
    scores = np.random.default_rng(count).gamma(2, size=count)
    threshold = choose_threshold(scores.tolist(), 0.01, 0.95)
    assert threshold.is_proven
    assert threshold.margin == 0
    above = int((scores > threshold.value).sum())
    assert proven_rate(count, above, 0.95) <= 0.01 < proven_rate(count, above + 1, 0.95)


def test_coverage_of_the_bound() -> None:
    """In at least 94 % of 1,000 calibrations the true rate is within the bound (95 % is promised)."""
    rng = np.random.default_rng(5)
    kept = 0
    for _ in range(1000):
        threshold = choose_threshold(rng.exponential(size=640).tolist(), 0.01, 0.95)
        kept += float(np.exp(-threshold.value)) <= threshold.rate  # the exponential's own tail
    assert kept / 1000 >= 0.94


def test_with_too_few_parts_the_largest_score_is_raised_and_nothing_is_claimed() -> None:
    scores = np.random.default_rng(1).normal(size=15)
    threshold = choose_threshold(scores.tolist(), 0.01, 0.95)
    assert not threshold.is_proven
    assert threshold.value == pytest.approx(scores.max() + threshold.margin)
    assert threshold.margin > 0
    assert threshold.parts_needed == 299
    assert threshold.proven_rate == proven_rate(15, 0, 0.95)


@pytest.mark.parametrize("scores", [[1.0], [2.0, 2.0, 2.0]])
def test_a_threshold_from_hardly_anything_still_is_one(scores: list[float]) -> None:
    assert choose_threshold(scores, 0.01, 0.95).value >= max(scores)


@pytest.mark.parametrize("scores", [[], [1.0, float("nan")], [float("inf")]])
def test_no_threshold_from_nonsense(scores: list[float]) -> None:
    with pytest.raises(ValueError, match="held-out"):
        choose_threshold(scores, 0.01, 0.95)


@pytest.mark.parametrize("count", [8, 9, 60, 1000])
def test_held_out_pictures_are_contiguous_blocks(count: int) -> None:
    held = held_out_positions(count)
    assert held == sorted(set(held))
    assert held[0] >= 0
    assert held[-1] == count - 1
    assert abs(len(held) - count / 4) <= 1.5
    assert sum(b - a > 1 for a, b in itertools.pairwise(held)) <= 1


# Options


@pytest.mark.parametrize("backbone", [None, "wideresnet50"])
def test_every_backbone_has_the_stable_recipe(backbone: str | None) -> None:
    options = options_for(backbone, ())
    assert options.recipe.standardise
    assert options.recipe.draws_patches
    assert options.recipe.noise == "differences"
    assert options.layers == (("blocks.2", "blocks.4") if backbone is None else ("layer2", "layer3"))


def test_asking_for_epochs_asks_for_the_published_schedule() -> None:
    assert options_for(None, (), meta_epochs=3).recipe.steps is None


def test_unknown_parameters_are_named() -> None:
    with pytest.raises(UsageError, match=r"nois_std.*noise_std"):
        options_for(None, (), nois_std=1)


# Runs


def test_a_run_folder_is_complete(tmp_path: Path, pictures: Path) -> None:
    ended = calibrate(pictures, tmp_path / "results")
    assert ended.returncode == 0, ended.stderr
    run = tmp_path / "results" / "project" / "group" / "run"
    files = tree(run)
    for name in ("ckpt.pth", "params.pkl", "calibration.json", "backbone.pth", "parity/000.png"):
        assert f"models/0/{name}" in files
    assert "report.html" in files
    assert any(name.startswith("tensorboard/0/events") for name in files)
    assert json.loads((run / "models/index.json").read_text()) == [
        {"i": 0, "class": "run", "backbone": "tf_efficientnet_lite0"}
    ]
    with (run / "results.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0][0] == "Row Names"
    assert [row[0] for row in rows[1:]] == ["run", "Mean"]
    report = (run / "report.html").read_text()
    assert "http" not in report, "the report must open without a network"
    assert "<svg" in report
    for line in ("12 pictures", "Threshold", "299", str(run / "models" / "0")):
        assert line in ended.stdout
    net = SimpleNet("cpu").load_from_path(run / "models/0")
    assert net.threshold is not None
    assert list(tmp_path.joinpath("results/project/group").iterdir()) == [run], "a scratch folder was left"


def test_the_same_seed_gives_the_same_model_and_replaces_the_old_run_whole(tmp_path: Path, pictures: Path) -> None:
    results = tmp_path / "results"
    model = results / "project/group/run/models/0"
    assert calibrate(pictures, results).returncode == 0
    first = torch.load(model / "ckpt.pth", weights_only=True)
    (model / "old").touch()
    assert calibrate(pictures, results).returncode == 0
    again = torch.load(model / "ckpt.pth", weights_only=True)
    assert not (model / "old").exists()
    for part, state in first.items():
        for name, tensor in state.items():
            assert torch.equal(tensor, again[part][name]), name
    assert calibrate(pictures, results, "--seed", "1").returncode == 0
    other = torch.load(model / "ckpt.pth", weights_only=True)
    assert not torch.equal(first["discriminator"]["tail.weight"], other["discriminator"]["tail.weight"])


def test_a_few_unreadable_pictures_are_named_and_left_out(tmp_path: Path) -> None:
    write_pictures(tmp_path / "p", 40)
    (tmp_path / "p/007.png").write_bytes((tmp_path / "p/007.png").read_bytes()[:100])
    ended = calibrate(tmp_path / "p", tmp_path / "results")
    assert ended.returncode == 0, ended.stderr
    assert "007.png" in ended.stdout
    assert "39 pictures" in ended.stdout


def break_pictures(folder: Path, count: int) -> None:
    for path in sorted(folder.iterdir())[:count]:
        path.write_bytes(b"")


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        (lambda p: write_pictures(p, 7), "7 usable pictures.*at least 8"),
        (lambda p: (write_pictures(p, 20), break_pictures(p, 2)), "2 of 20 pictures.*more than 5%"),
        (lambda p: (write_pictures(p, 10), break_pictures(p, 10)), "10 of 10"),
    ],
)
def test_too_few_or_too_many_unreadable_is_exit_2_and_nothing_written(tmp_path: Path, prepare, says: str) -> None:  # type: ignore[no-untyped-def]
    prepare(tmp_path / "p")
    ended = calibrate(tmp_path / "p", tmp_path / "results")
    assert ended.returncode == 2
    assert_one_sentence(ended.stderr, says)
    assert not (tmp_path / "results").exists()


def assert_one_sentence(stderr: str, says: str) -> None:
    import re

    lines = [line for line in stderr.splitlines() if line.startswith("inspectd: ")]
    assert len(lines) == 1, stderr
    assert re.search(says, lines[0]), lines[0]
    assert "Traceback" not in stderr
    assert stderr.rstrip().splitlines()[-1] == lines[0]


@pytest.mark.parametrize(
    ("source", "code", "says"),
    [
        ("nowhere", 2, "'nowhere' does not exist"),
        ("gopher://x", 2, "unknown scheme"),
        ("/dev/video77", 3, "no /dev/video77"),
        ("rtsp://127.0.0.1:1/x", 3, "127.0.0.1"),
        ("sim://moon", 3, "sim://line"),
        ("sim://line?defects=7&parts=9", 3, "7"),
    ],
)
def test_a_source_that_cannot_be_opened(tmp_path: Path, source: str, code: int, says: str) -> None:
    ended = calibrate(source, tmp_path / "results")
    assert ended.returncode == code
    assert_one_sentence(ended.stderr, says)
    assert not (tmp_path / "results").exists()


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    ended = calibrate(tmp_path / "p", tmp_path / "results")
    assert ended.returncode == 3
    assert_one_sentence(ended.stderr, "holds no pictures")


def test_an_unwritable_results_folder(tmp_path: Path, pictures: Path) -> None:
    (tmp_path / "results").write_text("a file stands where a folder should be")
    ended = calibrate(pictures, tmp_path / "results")
    assert ended.returncode == 3
    assert_one_sentence(ended.stderr, "cannot be written")


def test_a_full_disk_leaves_the_old_run_and_no_scrap(tmp_path: Path, pictures: Path) -> None:
    """The limit on file sizes fails a write in the middle, as a full disk does."""
    results = tmp_path / "results"
    assert calibrate(pictures, results).returncode == 0
    before = {name: (results / name).read_bytes() for name in tree(results)}

    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); import inspectd.__main__"
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments(pictures, results, "--seed", "1")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 3
    assert_one_sentence(ended.stderr, "cannot be written")
    assert {name: (results / name).read_bytes() for name in tree(results)} == before


@pytest.mark.parametrize("when", ["pictures", "training"])
def test_ctrl_c_leaves_nothing(tmp_path: Path, when: str) -> None:
    write_pictures(tmp_path / "p", 12)
    source = "sim://line?fps=2&width=64&height=64" if when == "pictures" else str(tmp_path / "p")
    command = [sys.executable, "-m", "inspectd", "calibrate", "--camera", source, "--results_path"]
    command += [str(tmp_path / "results"), "--imagesize", "128", "--meta_epochs", "400", "--interval", "0"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stderr=log, env={**os.environ, "TTY_COMPATIBLE": "1", "COLUMNS": "100"})
        give_up = time.monotonic() + 60
        while when not in (tmp_path / "log").read_text() and time.monotonic() < give_up:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    text = (tmp_path / "log").read_text()
    assert "Traceback" not in text
    assert "Stopped" in text
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("option", "says"),
    [
        (("-b", "resnet81"), "resnet81.*near names"),
        (("-le", "nope"), "no layer 'nope'"),
        (("-b", "resnet18", "--backbone_weights", "missing.pth"), "missing.pth do not exist"),
        (("--roi", "10", "10", "1000", "10"), "--roi.*inside the picture of 64x48"),
        (("--run_name", "../x"), "--run_name"),
        (("--gpu", "7"), "'cuda:7' does not exist"),
    ],
)
def test_options_that_cannot_be(tmp_path: Path, pictures: Path, option: tuple[str, ...], says: str) -> None:
    ended = calibrate(pictures, tmp_path / "results", *option)
    assert ended.returncode == 2
    assert_one_sentence(ended.stderr, says)
    assert not (tmp_path / "results").exists()


def test_a_backbone_that_cannot_be_downloaded_names_the_ways_out(tmp_path: Path, pictures: Path) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hf")}
    environment["TORCH_HOME"] = str(tmp_path / "torch")
    ended = subprocess.run(
        [sys.executable, "-m", *arguments(pictures, tmp_path / "results", "-b", "resnet18")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert_one_sentence(ended.stderr, "--backbone_weights FILE.*tf_efficientnet_lite0")


def test_a_roi_is_kept_and_predict_is_nan_outside_it(tmp_path: Path, pictures: Path) -> None:
    assert calibrate(pictures, tmp_path / "results", "--roi", "8", "4", "40", "30").returncode == 0
    net = SimpleNet("cpu").load_from_path(tmp_path / "results/project/group/run/models/0")
    _, map_ = net.predict(pictures / "000.png")
    assert np.isfinite(map_[4:34, 8:48]).all()
    outside = np.ones(map_.shape, bool)
    outside[4:34, 8:48] = False
    assert np.isnan(map_[outside]).all()
    _, twice = net.predict(cv2.resize(cv2.imread(str(pictures / "000.png")), (128, 96)))
    assert np.isfinite(twice[8:68, 16:96]).all()
    assert np.isnan(twice[:8]).all()
