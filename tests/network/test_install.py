"""`inspectd install`: the model is always there, whole, and can be taken back."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest
from conftest import largest_file, write_small_model

from inspectd.cli import main
from inspectd.simplenet import bundle


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


def run_folder(folder: Path, *thresholds: float) -> Path:
    """A run with one model for each threshold."""
    for i, threshold in enumerate(thresholds):
        model = write_small_model(folder / "models" / str(i), threshold)
        (model / "parity").mkdir()
        (model / "parity" / "000.png").write_bytes(b"x")
    index = [{"i": i, "class": f"part{i}", "backbone": "lite0"} for i in range(len(thresholds))]
    (folder / "models" / "index.json").write_text(json.dumps(index))
    return folder


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["install", *map(str, arguments)])
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def threshold_of(folder: Path) -> float:
    calibration = bundle.load(folder).calibration
    assert calibration is not None
    assert calibration.threshold is not None
    return calibration.threshold.value


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def test_install_replace_and_roll_back(tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = run_folder(tmp_path / "old", 1.0), run_folder(tmp_path / "new", 2.0)
    code, out, _ = call(capsys, old, "top", "--models", models)
    assert code == 0
    assert "no model under this name before" in out
    assert names(models) == ["top"]
    assert (models / "top" / "parity" / "000.png").read_bytes() == b"x"

    code, out, _ = call(capsys, new / "models" / "0", "top", "--models", models)
    assert code == 0
    assert "Previous: small" in out
    assert f"`inspectd install --rollback top --models {models}` returns to it" in out
    assert (threshold_of(models / "top"), threshold_of(models / "top.previous")) == (2.0, 1.0)

    code, out, _ = call(capsys, new, "top", "--models", models)
    assert "this very model already" in out
    assert threshold_of(models / "top.previous") == 1.0

    for expected in (1.0, 2.0):
        assert call(capsys, "--rollback", "top", "--models", models)[0] == 0
        assert threshold_of(models / "top") == expected
    assert names(models) == ["top", "top.previous"]


def test_one_of_several_models_is_chosen_by_number(
    tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_folder(tmp_path / "run", 1.0, 2.0)
    code, _, err = call(capsys, run, "top", "--models", models)
    assert code == 2
    assert "0: part0 with lite0; 1: part1 with lite0" in err
    assert call(capsys, run, "top", "--model", 1, "--models", models)[0] == 0
    assert threshold_of(models / "top") == 2.0


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("nowhere", "top"), 2, "neither a run folder nor a model folder"),
        (("{run}", "Top!"), 2, "NAME is 'Top!'"),
        (("{run}", "../top"), 2, "NAME is"),
        (("{run}",), 2, "expected two"),
        (("{run}", "top", "--model", "7"), 2, "choose one with --model"),
        (("--rollback", "top"), 2, "no previous model"),
        (("--rollback",), 2, "expected one"),
        (("{bare}", "top"), 2, "no threshold"),
        (("{damaged}", "top"), 2, "ckpt.pth"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_changes_nothing(
    tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, says: str
) -> None:
    places = {
        "{run}": run_folder(tmp_path / "run", 1.0),
        "{bare}": write_small_model(tmp_path / "bare", None),
        "{damaged}": run_folder(tmp_path / "damaged", 1.0),
    }
    (tmp_path / "damaged/models/0/ckpt.pth").write_bytes(b"")
    ended, out, err = call(capsys, *(places.get(one, one) for one in arguments), "--models", models)
    assert (ended, out) == (code, "")
    assert says in err
    assert err.count("\n") == 1
    assert not models.exists() or names(models) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = call(capsys, run_folder(tmp_path / "run", 1.0), "top", "--models", tmp_path / "file")
    assert code == 3
    assert "--models" in err


def test_a_full_disk_leaves_the_old_model(tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = run_folder(tmp_path / "old", 1.0), run_folder(tmp_path / "new", 2.0)
    assert call(capsys, old, "top", "--models", models)[0] == 0
    with largest_file(20_000):
        code, _, err = call(capsys, new, "top", "--models", models)
    assert code == 3
    assert "cannot be written" in err
    assert threshold_of(models / "top") == 1.0
    assert names(models) == ["top"]


def test_a_reader_never_finds_the_model_missing_or_half(tmp_path: Path, models: Path) -> None:
    from inspectd.model.store import install

    runs = [run_folder(tmp_path / str(i), float(i)) / "models" / "0" for i in (1, 2)]
    install(runs[0], "top", models)
    done = threading.Event()
    seen: set[float] = set()

    def read() -> None:
        while not done.is_set():
            content = json.loads((models / "top" / "calibration.json").read_text())
            seen.add(content["threshold"]["value"])

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(6):
        install(runs[(i + 1) % 2], "top", models)
    done.set()
    reader.join()
    assert seen == {1.0, 2.0}


def test_a_disk_that_fills_up_while_files_are_copied_is_one_short_sentence(
    tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_folder(tmp_path / "run", 1.0)

    def full(*_: object, **__: object) -> None:
        many = [(f"from{i}", f"to{i}", f"[Errno 28] No space left on device: 'to{i}'") for i in range(200)]
        raise shutil.Error(many)

    monkeypatch.setattr(shutil, "copytree", full)
    ended, _, err = call(capsys, run, "top", "--models", models)
    assert ended == 3
    assert "No space left on device" in err
    assert len(err) < 400
