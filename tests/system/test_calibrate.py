"""Calibration: the threshold's promise, the run folder, and that nothing is ever half written."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import write_pictures, write_small_model
from daemon_process import DaemonProcess
from run_here import Ended, run_here

from calibrate.training.threshold import proven_rate
from inspectd import SimpleNet
from inspectd.simplenet import bundle

SMALL = ("--imagesize", "64", "--meta_epochs", "1", "--gan_epochs", "1")


def arguments(source: Path | str, results: Path, *more: str) -> list[str]:
    line = ["calibrate", "--camera", str(source), *SMALL, "--results_path", str(results)]
    return [*line, "--run_name", "run", *more]


def calibrate(source: Path | str, results: Path, *more: str) -> Ended:
    """Run the command in this process, which has torch loaded already."""
    return run_here(*arguments(source, results, *more))


def tree(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


# Runs


@pytest.mark.parametrize(
    ("size", "says"),
    [
        ((24, 32), "--ignore: the mask of what is ignored has 32x24, the picture 64x48."),
        ((48, 64), "--ignore: all of [0, 0, 64, 48], which is to be inspected, is ignored."),
        (None, "mask.png cannot be read: No such file or directory."),
    ],
)
def test_a_mask_that_cannot_be_is_refused_before_anything_is_learned(
    tmp_path: Path, pictures: Path, size: tuple[int, int] | None, says: str
) -> None:
    mask = tmp_path / "mask.png"
    if size is not None:
        cv2.imwrite(str(mask), np.full(size, 255, np.uint8))
    ended = calibrate(pictures, tmp_path / "results", "--ignore", str(mask))
    assert ended.returncode == 2
    assert says in ended.stderr
    assert not list((tmp_path / "results").rglob("calibration.json"))


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
        ("sim://moon", 2, "sim://line"),
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


def interrupt(folder: Path, when: str, *line: str) -> str:
    """Start a calibration, press Ctrl-C once its output holds `when`, and return what it said."""
    log = folder / "log"
    environment = {**os.environ, "TTY_COMPATIBLE": "1", "COLUMNS": "200"}
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "inspectd", *line],
            stderr=file,
            env=environment,
            # A shell that runs the tests in the background has taught them to ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads here
        )
        try:
            give_up = time.monotonic() + 60
            while not re.search(when, log.read_text()) and time.monotonic() < give_up:
                time.sleep(0.02)
            assert re.search(when, log.read_text()), log.read_text()
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
        finally:
            process.kill()
            process.wait()
    text = log.read_text()
    assert "Traceback" not in text
    assert "Stopped" in text
    return text


def test_ctrl_c_in_the_training_leaves_nothing(tmp_path: Path, pictures: Path) -> None:
    interrupt(
        tmp_path, r"training .* [1-9]\d*/4000", *arguments(pictures, tmp_path / "results", "--meta_epochs", "4000")
    )
    assert not (tmp_path / "results").exists()


LIVE = "sim://line?fps=10&width=64&height=64"


def test_a_cancelled_capture_can_be_resumed(tmp_path: Path) -> None:
    line = arguments(LIVE, tmp_path / "results", "--parts", "12", "--interval", "0")
    said = " ".join(interrupt(tmp_path, r" [3-9]/12", *line).split())
    assert "pictures taken so far are kept; go on with --resume --run_name run" in said
    group = tmp_path / "results/project/group"
    assert [path.name for path in group.iterdir()] == [".run.capture"]
    kept = len(list(group.glob(".run.capture/*.png")))
    assert kept >= 3

    again = calibrate(LIVE, tmp_path / "results", "--parts", "12", "--interval", "0")
    assert again.returncode == 2
    assert_one_sentence(again.stderr, f"holds {kept} pictures of a capture that was stopped or.*--resume")

    done = calibrate(LIVE, tmp_path / "results", "--parts", "12", "--interval", "0", "--resume")
    assert done.returncode == 0, done.stderr
    assert "from 12 pictures" in done.stdout
    assert [path.name for path in group.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("source", "more", "says"),
    [
        (LIVE, ("--resume",), "no capture to resume"),
        ("{pictures}", ("--resume",), "--resume is for live cameras"),
        ("{pictures}", ("--defects", "nowhere"), "--defects nowhere holds no pictures"),
        ("{pictures}", ("--confirm", "x.png"), "--confirm names 'x.png', which is none of the 12 pictures"),
        ("side", ("--config", "{config}"), "expected the name of one of its cameras: top"),
    ],
)
def test_requests_that_make_no_sense(
    tmp_path: Path, pictures: Path, source: str, more: tuple[str, ...], says: str
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(f"cameras: [{{name: top, source: {pictures}, model: m}}]\n")
    places = {"{pictures}": str(pictures), "{config}": str(config)}
    ended = calibrate(places.get(source, source), tmp_path / "results", *(places.get(one, one) for one in more))
    assert ended.returncode == 2
    assert_one_sentence(ended.stderr, says)
    assert not (tmp_path / "results").exists()


def test_a_configured_camera_is_calibrated_as_it_is_configured(tmp_path: Path, pictures: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(f"cameras: [{{name: top, source: {pictures}, model: m, roi: [8, 4, 40, 30]}}]\n")
    ended = calibrate("top", tmp_path / "results", "--config", str(config))
    assert ended.returncode == 0, ended.stderr
    calibration = bundle.load(tmp_path / "results/project/group/run/models/0").calibration
    assert calibration is not None
    assert calibration.roi == (8, 4, 40, 30)
    assert calibration.camera.source == str(pictures)


def test_calibration_takes_its_frames_from_the_daemon_that_holds_the_camera(tmp_path: Path) -> None:
    model = write_small_model(tmp_path / "model", threshold=1e6)
    with DaemonProcess(tmp_path / "d", f'{{name: top, source: "{LIVE}", model: {model}, deadline_ms: 5000}}') as daemon:
        daemon.listen(lambda d: len(d.verdicts) >= 2)
        line = ("--parts", "8", "--interval", "0", "--control", daemon.control)
        ended = calibrate(LIVE, tmp_path / "results", *line)
        daemon.listen(lambda d: len(d.verdicts) >= 12)
    assert ended.returncode == 0, ended.stderr
    assert "holds this camera (top)" in " ".join(ended.stderr.split())
    assert "calibration gives way to it" in " ".join(ended.stderr.split())
    assert {v["verdict"] for v in daemon.verdicts} == {"ok"}


def test_known_defects_are_reported_and_choose_nothing(tmp_path: Path, pictures: Path) -> None:
    write_pictures(tmp_path / "defects", 5, seed=9)
    plain = calibrate(pictures, tmp_path / "a")
    ended = calibrate(pictures, tmp_path / "b", "--defects", str(tmp_path / "defects"))
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"[0-5] of 5 known defects are missed", ended.stdout)
    with (tmp_path / "b/project/group/run/results.csv").open() as file:
        header, row, _ = list(csv.reader(file))
    assert row[header.index("defects")] == "5"
    assert 0 <= float(row[1]) <= 1
    lines = [line for line in plain.stdout.splitlines() if line.startswith("Threshold")]
    assert lines
    assert lines[0] in ended.stdout


def odd_pictures(folder: Path, count: int, *odd: int) -> None:
    """Write pictures that are all alike but for a square of another texture in some."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for i in range(count):
        picture = rng.normal(120, 3, (64, 64, 3))
        if i in odd:
            picture[20:44, 20:44] = rng.integers(0, 255, (24, 24, 1))
        cv2.imwrite(str(folder / f"{i:03d}.png"), picture.astype(np.uint8))


def test_odd_training_pictures_are_left_out_and_odd_held_out_ones_count_until_confirmed(tmp_path: Path) -> None:
    odd_pictures(tmp_path / "p", 40, 3, 18)  # 15 to 19 and 35 to 39 are held out
    ended = calibrate(tmp_path / "p", tmp_path / "results")
    assert ended.returncode == 0, ended.stderr
    assert "they look unlike the rest (see the report): 003.png" in ended.stdout
    assert "count as false rejects: 1 looks unlike the rest (018.png)" in ended.stdout
    assert "--confirm '018.png'" in ended.stdout
    report = (tmp_path / "results/project/group/run/report.html").read_text()
    assert "look unlike the rest" in report
    first = bundle.load(tmp_path / "results/project/group/run/models/0").calibration
    assert first is not None
    assert first.threshold is not None
    assert first.threshold.proven_rate == proven_rate(10, 1, 0.95)

    sure = calibrate(tmp_path / "p", tmp_path / "results", "--confirm", "018.png")
    assert "false rejects:" not in sure.stdout
    second = bundle.load(tmp_path / "results/project/group/run/models/0").calibration
    assert second is not None
    assert second.threshold is not None
    assert second.threshold.proven_rate == proven_rate(10, 0, 0.95)
    assert len(first.held_out_scores) == len(second.held_out_scores) == 10
    assert second.threshold.value >= max(second.held_out_scores)


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
