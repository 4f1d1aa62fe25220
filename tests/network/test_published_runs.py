"""Whole runs of the published command line: the tree, the table, testing again, and every way to get it wrong."""

from __future__ import annotations

import csv
import json
import re
import resource
import shutil
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import mvtec
import numpy as np
import pytest
import timm
import torch
from mvtec import NET, run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from inspectd import SimpleNet
from inspectd.model.calibration import Calibration
from inspectd.simplenet import backbone as backbones
from inspectd.simplenet import bundle

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = ("--run_name", "two", "--log_group", "g", "--log_project", "p")
TWO = ("-d", "bolt", "-d", "nut", "--train_val_split", 0.8)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    mvtec.write_class(root, "bolt")
    return mvtec.write_class(root, "nut", seed=5)


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    """A run of two classes with drawn test pictures."""
    results = tmp_path_factory.mktemp("out") / "results"
    main = (*NAMES, "--save_segmentation_images", "--false_reject_rate", 0.2, "--confidence", 0.8)
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


def calibration_of(folder: Path) -> Calibration:
    calibration = bundle.load(folder).calibration
    assert calibration is not None
    return calibration


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def curve(folder: Path, name: str) -> list[float]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return [event.value for event in events.Scalars(name)]


def tensors(folder: Path) -> dict[tuple[str, str], torch.Tensor]:
    """All that was trained: a part's and a tensor's name, and the tensor."""
    state = torch.load(folder / "ckpt.pth", weights_only=True)
    return {(part, name): tensor for part, held in state.items() for name, tensor in held.items()}


def are_equal(one: dict[Any, torch.Tensor], other: dict[Any, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[key]) for key, tensor in one.items())


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
    assert len(curve(trained / "tensorboard/0", "loss")) == 8  # 8 pictures, batches of 2, 2 meta epochs
    for name in ("p_true", "p_fake", "i-auroc", "p-auroc"):
        assert all(0 <= value <= 1 for value in curve(trained / "tensorboard/1", name))


def test_what_the_models_know(trained: Path) -> None:
    model = bundle.load(trained / "models/0")
    assert (model.params.input_shape, model.geometry.resize) == ((3, 64, 64), 72)
    calibration = calibration_of(trained / "models/0")
    assert (calibration.device, calibration.pictures, len(calibration.held_out_scores)) == ("cpu:openvino", 10, 2)
    threshold = calibration.threshold
    assert threshold is not None
    assert (threshold.rate, threshold.confidence, threshold.parts_needed) == (0.2, 0.8, 8)


def test_the_models_predict_without_network_cache_or_home(
    trained: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOME", raising=False)
    for source in ("hub_weights", "embedded_weights"):  # not even the wheel is asked
        monkeypatch.setattr(backbones, source, None)
    monkeypatch.setattr(socket.socket, "connect", None)
    net = SimpleNet("cpu").load_from_path(trained / "models/1")
    score, map_ = net.predict(data / "nut/test/dent/000.png")
    assert net.threshold is not None
    assert np.isfinite(score)
    assert map_.shape == (80, 96)
    assert np.isnan(map_[0]).all(), "what the centre crop leaves out was not inspected"
    assert np.isfinite(map_[10:70, 20:76]).all()


def test_without_a_split_and_without_drawing(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workers: set[int] = set()

    def pool(count: int, **named: Any) -> ThreadPoolExecutor:
        workers.add(count)
        return ThreadPoolExecutor(count, **named)

    monkeypatch.setattr("calibrate.data.dataset.ThreadPoolExecutor", pool)
    ended = run(tmp_path / "r", data, dataset=("-d", "bolt", "--num_workers", 3))
    assert ended.code == 0, ended.err
    assert workers == {3}
    assert "no threshold" in ended.out
    folder = tmp_path / "r/project/group/test"
    assert SimpleNet("cpu").load_from_path(folder / "models/0").threshold is None
    assert not (folder / "segmentation_images").exists()


def test_test_says_the_same_again_and_changes_no_model(trained: Path, data: Path) -> None:
    before, models = table(trained), files(trained / "models")
    shutil.rmtree(trained / "segmentation_images")
    (trained / "results.csv").unlink()
    main = (*NAMES, "--test", "--save_segmentation_images")
    ended = run(trained.parents[2], data, main_=main, dataset=TWO)
    assert ended.code == 0, ended.err
    assert table(trained) == before
    assert files(trained / "models") == models
    assert len(list((trained / "segmentation_images").rglob("*.png"))) == 16


def test_best_on_test_is_labelled_so_for_good(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "r/project/group/test"
    ended = run(tmp_path / "r", data, main_=("--keep", "best-on-test"), net=("--meta_epochs", 4, "--dsc_lr", 0.02))
    assert ended.code == 0, ended.err
    assert "chosen on the test set" in (folder / "report.html").read_text()
    curves = [curve(folder / "tensorboard/0", name) for name in ("i-auroc", "p-auroc")]
    reached = list(zip(*curves, strict=True))
    best = reached.index(max(reached)) + 1
    header, row, _ = table(folder)
    assert len(reached) == 4
    assert row[header.index("kept")] == f"best-on-test (meta epoch {best})"
    assert run(tmp_path / "r", data, main_=("--test",)).code == 0
    assert table(folder)[1] == row


@pytest.mark.parametrize("keep", ["last", "best-on-test"])
def test_a_trained_backbone_is_saved_and_judges(trained: Path, data: Path, tmp_path: Path, keep: str) -> None:
    ended = run(tmp_path / "r", data, main_=("--keep", keep), net=("--train_backbone", "--meta_epochs", 2))
    assert ended.code == 0, ended.err
    folder = tmp_path / "r/project/group/test/models/0"
    moved, frozen = (backbones.digest(bundle.load(one).backbone) for one in (folder, trained / "models/0"))
    assert moved != frozen
    assert calibration_of(folder).backbone_digest == moved
    score, _ = SimpleNet("cpu").load_from_path(folder).predict(data / "bolt/test/dent/000.png")
    assert np.isfinite(score)


def test_a_seed_decides_a_model_wherever_it_is_given(data: Path, tmp_path: Path) -> None:
    several = ("-b", f"{NET[1]}.seed-1", "-b", NET[1])
    several += tuple(word for layer in ("blocks.2", "blocks.4") for i in "01" for word in ("-le", f"{i}.{layer}"))
    for name, seed, net in (("both", 0, several), ("zero", 0, ()), ("one", 1, ())):
        ended = run(tmp_path / "r", data, main_=("--run_name", name, "--seed", seed), net=net)
        assert ended.code == 0, ended.err
    group = tmp_path / "r/project/group"
    one, zero = (tensors(group / "both/models" / str(i)) for i in range(2))
    assert are_equal(one, tensors(group / "one/models/0"))
    assert are_equal(zero, tensors(group / "zero/models/0"))
    assert not are_equal(one, zero)
    assert calibration_of(group / "both/models/0").seed == 1
    assert len(table(group / "both")) == 4


def break_pictures(root: Path) -> None:
    for path in sorted((root / "nut/train/good").iterdir())[:5]:
        path.write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "net", "says"),
    [
        (break_pictures, (), "5 of 10 pictures"),  # found when the first class is trained already
        (lambda _: None, ("-le", "layer9"), "no layer 'layer9'"),
    ],
)
def test_a_run_that_fails_leaves_the_old_one(
    trained: Path, copied: Path, spoil: Callable[[Path], None], net: tuple[str, ...], says: str
) -> None:
    before = files(trained)
    spoil(copied)
    ended = run(trained.parents[2], copied, main_=NAMES, net=net, dataset=TWO)
    assert ended.code == 2
    assert says in ended.sentence
    assert files(trained) == before
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
        (None, {"net": ("-b", "resnet81", "-le", "layer2")}, r"no backbone 'resnet81'; near names are .*resnet18"),
        (None, {"net": ("--target_embed_dimension", 0)}, r"target_embed_dimension is 0"),
        (None, {"main_": ("--gpu", 7)}, r"'cuda:7' does not exist"),
        (None, {"main_": ("--seed", 2**64)}, r"seed is 18446744073709551616"),
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
        (("net", *NET, *(("dataset", "-d", "bolt", "mvtec", ".") * 2)), "one `net` and one `dataset`"),
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


DATASET = ("dataset", "-d", "bolt", "mvtec", ".")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (("-b", NET[1], "net", *DATASET), "No such option '-b'"),
        (("net", *NET, "-d", "bolt", "dataset", "mvtec", "."), "No such option '-d'"),
        (("nett", *NET, *DATASET), "No such command 'nett'"),
        (("net", *NET, "dataset", "-d", "bolt", "mvtec"), "Missing argument 'DATA_PATH'"),
        (("net", *NET, "--cache", "disk", *DATASET), "'disk' is not one of"),
        (("--keep", "best", "net", *NET, *DATASET), "'best' is not one of"),
        (("--confidence", 1, "net", *NET, *DATASET), "'--confidence': 1.0 is not in the range"),
        (("--false_reject_rate", 0, "net", *NET, *DATASET), "'--false_reject_rate': 0.0 is not in the range"),
        (("--seed", -1, "net", *NET, *DATASET), "'--seed': -1 is not in the range"),
        (("--camera", 0, "net", "-b", NET[1]), "unexpected extra argument (net)"),
    ],
)
def test_lines_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: tuple[object, ...], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = mvtec.call(*line)
    assert ended.code == 2
    last = ended.err.rstrip().splitlines()[-1]
    assert last.startswith("Error: ")
    assert says in last
    assert list(tmp_path.iterdir()) == []


def test_weights_that_cannot_be_downloaded_have_ways_out(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = timm.create_model

    def offline(name: str, *, pretrained: bool, **more: Any) -> Any:
        if pretrained:
            raise ConnectionError(name)
        return create(name, pretrained=False, **more)

    monkeypatch.setattr(timm, "create_model", offline)
    ended = run(tmp_path / "r", data, net=("-b", "resnet18", "-le", "layer2"))
    assert ended.code == 2
    assert re.search("--backbone_weights FILE.*tf_efficientnet_lite0", ended.sentence)
    assert not (tmp_path / "r").exists()


def test_a_few_corrupted_pictures_in_the_middle_are_named_and_left_out(copied: Path, tmp_path: Path) -> None:
    mvtec.write_class(copied, "large", train=40)
    broken = [copied / "large" / name for name in ("train/good/011.png", "train/good/033.png", "test/good/002.png")]
    for path in broken:
        path.write_bytes(path.read_bytes()[:99])
    ended = run(tmp_path / "r", copied, dataset=("-d", "large", "--train_val_split", 0.75))
    assert ended.code == 0, ended.err
    folder = tmp_path / "r/project/group/test"
    for told in (ended.err.replace("\n", ""), (folder / "report.html").read_text()):
        assert all(str(path) in told for path in broken)
    calibration = calibration_of(folder / "models/0")
    assert (calibration.pictures, len(calibration.held_out_scores)) == (38, 9)


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """No file can grow beyond `limit` bytes: the write that would do it fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("net", "limit", "says"),
    [
        (("--cache", "file"), 3_000, "no file for them can be made .*: the disk is full"),
        ((), 50_000, "cannot be written"),
    ],
)
def test_a_full_disk_while_caching_or_saving(
    data: Path, tmp_path: Path, net: tuple[str, ...], limit: int, says: str
) -> None:
    with full_disk(limit):
        ended = run(tmp_path / "r", data, net=net)
    assert ended.code == 3
    assert re.search(says, ended.sentence)
    assert list(tmp_path.iterdir()) == []
