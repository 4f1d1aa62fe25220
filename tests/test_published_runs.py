"""Whole runs of the published command line: the tree, the table, testing again, and every way to get it wrong."""

from __future__ import annotations

import csv
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import mvtec
import numpy as np
import pytest
import torch
from mvtec import NET, SIZE, SMALL, run

from inspectd import SimpleNet
from inspectd.simplenet import bundle

TWO = ("-d", "bolt", "-d", "nut", "--train_val_split", 0.8)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    mvtec.write_class(root, "bolt")
    return mvtec.write_class(root, "nut", seed=5)


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two classes with drawn test pictures."""
    results = tmp_path_factory.mktemp("out") / "results"
    main = ("--run_name", "two", "--log_group", "g", "--log_project", "p", "--save_segmentation_images")
    ended = run(results, data, main_=main, net=("--meta_epochs", 2, "--pre_proj", 1), dataset=TWO)
    assert ended.code == 0, ended.err
    assert "mvtec_bolt, tf_efficientnet_lite0: image AUROC" in ended.out
    return results / "p" / "g" / "two"


@pytest.fixture
def copied(data: Path, tmp_path: Path) -> Path:
    """A dataset of one's own, to be broken."""
    return Path(shutil.copytree(data, tmp_path / "data"))


def table(folder: Path) -> list[list[str]]:
    with (folder / "results.csv").open() as file:
        return list(csv.reader(file))


def test_the_tree(trained: Path) -> None:
    index = json.loads((trained / "models/index.json").read_text())
    assert index == [{"i": i, "class": name, "backbone": NET[1]} for i, name in enumerate(("bolt", "nut"))]
    for i in range(2):
        names = {path.name for path in (trained / "models" / str(i)).iterdir()}
        assert names == {"ckpt.pth", "params.pkl", "calibration.json", "backbone.pth", "parity"}
        assert [path.name.split(".")[0] for path in (trained / "tensorboard" / str(i)).iterdir()] == ["events"]
        drawn = sorted(path.name for path in (trained / "segmentation_images" / str(i)).iterdir())
        assert drawn == [f"{kind}_{n:03d}.png" for kind in ("dent", "good") for n in range(4)]
        picture = cv2.imread(str(trained / "segmentation_images" / str(i) / drawn[0]))
        assert picture.shape[1] > 3 * picture.shape[0] / 2, "four panels side by side"
    report = (trained / "report.html").read_text()
    assert "http" not in report
    assert "mvtec_nut" in report
    assert sorted(path.name for path in trained.parent.iterdir()) == ["two"]


def test_the_table(trained: Path) -> None:
    header, *rows = table(trained)
    assert header[:4] == ["Row Names", "instance_auroc", "full_pixel_auroc", "anomaly_pixel_auroc"]
    assert [row[0] for row in rows] == ["mvtec_bolt", "mvtec_nut", "Mean"]
    kept, backbone = header.index("kept"), header.index("backbone")
    assert [row[kept] for row in rows[:2]] == ["last", "last"]
    assert [row[backbone] for row in rows[:2]] == [NET[1]] * 2
    for column in range(1, 4):
        values = [float(row[column]) for row in rows]
        assert all(0 <= value <= 1 for value in values)
        assert values[2] == pytest.approx(sum(values[:2]) / 2, abs=1e-5)


def test_the_curves(trained: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained / "tensorboard" / "0"))
    events.Reload()
    assert set(events.Tags()["scalars"]) >= {"loss", "p_true", "p_fake", "i-auroc", "p-auroc"}
    assert len(events.Scalars("loss")) == 8  # 8 pictures, batches of 2, 2 meta epochs


def test_the_models_load_and_predict_without_network_cache_or_home(trained: Path, data: Path) -> None:
    code = (
        "import sys; from inspectd import SimpleNet; net = SimpleNet('cpu').load_from_path(sys.argv[1]); "
        "score, map_ = net.predict(sys.argv[2]); print(score > net.threshold, map_.shape)"
    )
    picture = data / "nut/test/dent/000.png"
    ended = subprocess.run(
        [sys.executable, "-c", code, str(trained / "models/1"), str(picture)],
        env={"PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split(" ", 1)[1] == "(80, 96)\n"
    _, map_ = SimpleNet("cpu").load_from_path(trained / "models/1").predict(picture)
    assert np.isnan(map_[0]).all(), "what the centre crop leaves out was not inspected"
    assert np.isfinite(map_[10:70, 20:76]).all()


def test_held_out_parts_give_a_threshold_and_their_share_none(trained: Path, data: Path, tmp_path: Path) -> None:
    calibration = bundle.load(trained / "models/0").calibration
    assert calibration is not None
    assert len(calibration.held_out_scores) == 2
    assert calibration.threshold is not None
    ended = run(tmp_path / "r", data)
    assert ended.code == 0
    assert "no threshold" in ended.out
    model = SimpleNet("cpu").load_from_path(tmp_path / "r/project/group/test/models/0")
    assert model.threshold is None


def test_test_says_the_same_again_and_changes_no_model(trained: Path, data: Path) -> None:
    before = table(trained)
    models = {path: path.read_bytes() for path in (trained / "models").rglob("*") if path.is_file()}
    main = ("--run_name", "two", "--log_group", "g", "--log_project", "p", "--test", "--save_segmentation_images")
    shutil.rmtree(trained / "segmentation_images")
    ended = run(trained.parents[2], data, main_=main, dataset=TWO)
    assert ended.code == 0, ended.err
    for row, again in zip(before[1:], table(trained)[1:], strict=True):
        assert again[:4] == row[:4]
    assert {path: path.read_bytes() for path in (trained / "models").rglob("*") if path.is_file()} == models
    assert len(list((trained / "segmentation_images").rglob("*.png"))) == 16


def test_best_on_test_is_the_best_and_labelled_so(data: Path, tmp_path: Path) -> None:
    net = ("--meta_epochs", 4, "--dsc_lr", 0.02)
    ended = run(tmp_path / "r", data, main_=("--keep", "best-on-test"), net=net)
    assert ended.code == 0, ended.err
    folder = tmp_path / "r/project/group/test"
    header, row, _ = table(folder)
    assert row[header.index("kept")].startswith("best-on-test (meta epoch ")
    assert "chosen on the test set" in (folder / "report.html").read_text()

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard/0"))
    events.Reload()
    curve = [event.value for event in events.Scalars("i-auroc")]
    assert len(curve) == 4
    assert float(row[1]) == pytest.approx(max(curve), abs=0.07)  # the cache is in half precision


def test_the_seed_decides(data: Path, tmp_path: Path) -> None:
    tails = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert run(tmp_path / "r", data, main_=("--run_name", name, "--seed", seed)).code == 0
        state = torch.load(tmp_path / "r/project/group" / name / "models/0/ckpt.pth", weights_only=True)
        tails.append(state["discriminator"]["tail.weight"])
    assert torch.equal(tails[0], tails[1])
    assert not torch.equal(tails[0], tails[2])


def test_a_run_that_fails_leaves_the_old_one(trained: Path, copied: Path) -> None:
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    for path in sorted((copied / "nut/train/good").iterdir())[:5]:
        path.write_bytes(b"")  # found when the first class is trained already
    main = ("--run_name", "two", "--log_group", "g", "--log_project", "p")
    ended = run(trained.parents[2], copied, main_=main, dataset=TWO)
    assert ended.code == 2
    assert "5 of 10 pictures" in ended.sentence
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in trained.parent.iterdir()) == ["two"]


# Bad input


def broken_mask(root: Path) -> None:
    cv2.imwrite(str(root / "bolt/ground_truth/dent/001_mask.png"), np.zeros((10, 10), np.uint8))


@pytest.mark.parametrize(
    ("spoil", "arguments", "says"),
    [
        (None, {"dataset": ("-d", "screw")}, r"no class 'screw'; there are: bolt, nut"),
        (None, {"dataset": ()}, r"No class is given"),
        (None, {"net": ("-le", "layer9")}, r"no layer 'layer9'; expected some of: conv_stem"),
        (None, {"main_": ("--gpu", 7)}, r"'cuda:7' does not exist"),
        (None, {"main_": ("--run_name", "..")}, r"--run_name is '..'"),
        (None, {"main_": ("--test", "--run_name", "never")}, r"no run .*never to test"),
        (lambda root: (root / "bolt/ground_truth/dent/001_mask.png").unlink(), {}, r"dent/001.png has no mask"),
        (broken_mask, {}, r"001_mask.png is 10x10, but its picture .* is 96x80"),
        (lambda root: shutil.rmtree(root / "bolt/train/good"), {}, r"holds no pictures"),
        (lambda root: shutil.rmtree(root / "bolt/test"), {}, r"has no folder test"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    copied: Path,
    tmp_path: Path,
    spoil: Callable[[Path], object] | None,
    arguments: dict[str, tuple[object, ...]],
    says: str,
) -> None:
    if spoil is not None:
        spoil(copied)
    ended = run(tmp_path / "r", copied, **arguments)  # type: ignore[arg-type]
    assert ended.code == 2
    assert re.search(says, ended.sentence), ended.sentence
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (("net", *NET), "one `net` and one `dataset`"),
        (("dataset", "-d", "bolt", "mvtec", "."), "one `net` and one `dataset`"),
        (("net", *NET, "net", *NET, "dataset", "-d", "bolt", "mvtec", "."), "one `net` and one `dataset`"),
        (("net", "dataset", "-d", "bolt", "mvtec", "."), "No backbone is given; expected -b NAME"),
        (("net", *NET, "dataset", "-d", "bolt", "coco", "."), "dataset is 'coco'; expected mvtec"),
        (("net", *NET, "dataset", "-d", "bolt", "mvtec", "nowhere"), "no folder nowhere"),
        (("net", *NET, "dataset", "-d", "bolt", "--num_workers", "-1", "mvtec", "."), "num_workers is -1"),
        (("net", *NET, "dataset", "-d", "bolt", "--train_val_split", "0", "mvtec", "."), "train_val_split is 0"),
    ],
)
def test_lines_that_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = mvtec.call(*line)
    assert ended.code == 2
    assert says in ended.sentence
    assert list(tmp_path.iterdir()) == []


def test_a_few_corrupted_pictures_in_the_middle_are_named_and_left_out(copied: Path, tmp_path: Path) -> None:
    mvtec.write_class(copied, "large", train=30)
    broken = copied / "large/train/good/011.png"
    broken.write_bytes(broken.read_bytes()[:99])
    (copied / "large/test/good/002.png").write_bytes(b"")
    ended = run(tmp_path / "r", copied, dataset=("-d", "large"))
    assert ended.code == 0, ended.err
    assert "011.png" in ended.err
    calibration = bundle.load(tmp_path / "r/project/group/test/models/0").calibration
    assert calibration is not None
    assert calibration.pictures == 29


@pytest.mark.parametrize(
    ("net", "limit", "says"), [(("--cache", "file"), 3_000, "no file for them"), ((), 50_000, "cannot be written")]
)
def test_a_full_disk_while_caching_or_saving(
    data: Path, tmp_path: Path, net: tuple[str, ...], limit: int, says: str
) -> None:
    line = ["--results_path", "r", "--gpu", "-1", "net", *NET, *SMALL, *net, "dataset", *SIZE, "-d", "bolt", "mvtec"]
    ended = subprocess.run(
        [sys.executable, "-m", "inspectd", "calibrate", *line, str(data)],
        cwd=tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 3, ended.stderr
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr
    assert list(tmp_path.iterdir()) == []
