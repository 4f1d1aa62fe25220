"""`SimpleNet`: every form of `predict`, `fit`, and its complaints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from conftest import write_small_model
from torch.utils.data import DataLoader

from inspectd import SimpleNet
from inspectd.errors import UsageError


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> SimpleNet:
    return SimpleNet("cpu").load_from_path(write_small_model(tmp_path_factory.mktemp("m") / "model"))


@pytest.fixture
def picture() -> np.ndarray[Any, Any]:
    return np.random.default_rng(3).integers(0, 255, (70, 90, 3), np.uint8)


def test_one_picture(net: SimpleNet, picture: np.ndarray[Any, Any]) -> None:
    score, map_ = net.predict(picture)
    assert isinstance(score, float)
    assert (map_.dtype, map_.shape) == (np.float32, (70, 90))
    assert np.isfinite(map_).all()


def test_a_path_is_the_same_as_its_picture(net: SimpleNet, picture: np.ndarray[Any, Any], tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    assert net.predict(tmp_path / "a.png")[0] == net.predict(str(tmp_path / "a.png"))[0] == net.predict(picture)[0]


def test_a_list(net: SimpleNet, picture: np.ndarray[Any, Any]) -> None:
    scores, maps = net.predict([picture, picture[:40]])
    assert (scores.dtype, scores.shape) == (np.float32, (2,))
    assert [m.shape for m in maps] == [(70, 90), (40, 90)]
    empty_scores, empty_maps = net.predict([])
    assert empty_scores.shape == (0,)
    assert empty_maps == []


@pytest.mark.parametrize("count", [1, 3])
def test_a_tensor(net: SimpleNet, count: int) -> None:
    scores, maps = net.predict(torch.randn(count, 3, 64, 64))
    assert (scores.shape, maps.shape) == ((count,), (count, 64, 64))
    assert scores.dtype == maps.dtype == np.float32


def test_a_loader(net: SimpleNet) -> None:
    inputs = torch.randn(5, 3, 64, 64)
    as_dicts = DataLoader([{"image": x} for x in inputs], batch_size=2)  # type: ignore[arg-type]
    plain = DataLoader(list(inputs), batch_size=2)  # type: ignore[arg-type]
    scores, maps = net.predict(as_dicts)
    assert (scores.shape, len(maps)) == ((5,), 5)
    assert np.allclose(scores, net.predict(plain)[0])
    assert np.allclose(scores, net.predict(inputs)[0], atol=1e-5)


def test_grey_is_grey_in_every_channel(net: SimpleNet) -> None:
    grey = np.random.default_rng(1).integers(0, 255, (64, 64), np.uint8)
    assert net.predict(grey)[0] == net.predict(np.dstack([grey] * 3))[0]


def test_sixteen_bits_are_scaled_by_their_range(net: SimpleNet, picture: np.ndarray[Any, Any]) -> None:
    score, _ = net.predict(picture)
    sixteen, _ = net.predict(picture.astype(np.uint16) * 257)
    assert abs(score - sixteen) < 0.05 * abs(score) + 0.05


def test_colour_order_is_bgr(net: SimpleNet) -> None:
    blue = np.zeros((64, 64, 3), np.uint8)
    blue[..., 0] = 255
    inputs = torch.zeros(1, 3, 64, 64)
    inputs[:, 2] = 1
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (inputs - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
    assert abs(net.predict(blue)[0] - float(net.predict(normalised)[0][0])) < 1e-5


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (np.zeros((4, 4, 3), np.float32), "float32; expected a picture of uint8"),
        (np.zeros((4, 4, 2), np.uint8), r"shape \(4, 4, 2\)"),
        (np.zeros((0, 4, 3), np.uint8), "shape"),
        (3, "expected a picture"),
        (torch.zeros(3, 64, 64), "expected normalised"),
        (torch.zeros(1, 3, 32, 32), "expected normalised"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), "expected normalised"),
        ("no/such/file.png", "no/such/file.png cannot be read"),
    ],
)
def test_what_cannot_be_predicted_is_said(net: SimpleNet, wrong: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        net.predict(wrong)


def test_before_there_is_a_model() -> None:
    with pytest.raises(UsageError, match="load_from_path"):
        SimpleNet("cpu").predict(np.zeros((4, 4), np.uint8))


def test_fit_refuses_unknown_parameters() -> None:
    with pytest.raises(UsageError, match="nois_std"):
        SimpleNet("cpu").fit([], nois_std=1)


@pytest.mark.parametrize("device", ["banana", "cuda:x", "gpu", "", "cpu:onnx"])
def test_a_device_that_is_none_is_refused(device: str) -> None:
    with pytest.raises(UsageError, match="is not known"):
        SimpleNet(device)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [({"steps": 0}, "steps is 0"), ({"steps": -3}, "steps is -3"), ({"patches_per_step": 0}, "patches_per_step is 0")],
)
def test_fit_refuses_what_the_command_line_refuses(parameters: dict[str, int], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        SimpleNet("cpu").fit([np.zeros((64, 64, 3), np.uint8)] * 8, **parameters)
