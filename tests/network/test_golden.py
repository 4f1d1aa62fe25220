"""The published code's own numbers: features, scores, maps and training agree with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import torch_threads
from PIL import Image

from calibrate.training.train import HeadTrainer, Schedule
from inspectd import SimpleNet
from inspectd.simplenet import bundle
from inspectd.simplenet.network import Head, HeadShape, Network, embed, image_scores
from inspectd.simplenet.preprocess import Normalise

pytestmark = pytest.mark.realdata


def error(ours: object, theirs: object) -> float:
    """max|a−b| / max|b|."""
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert a.shape == b.shape
    return float(np.abs(a - b).max() / np.abs(b).max())


@pytest.mark.parametrize("device", ["cpu:torch", "cpu:openvino"])
@pytest.mark.parametrize("case", ["lite0_288", "resnet50_288"])
def test_features_scores_and_maps(shared: Path, case: str, device: str) -> None:
    expected = np.load(shared / "golden" / case / "expected.npz")
    weights = shared / "weights" / "resnet50_upto_layer3.pth" if "resnet" in case else None
    model = bundle.load(shared / "golden" / case, weights)
    inputs = torch.from_numpy(expected["inputs"])
    with torch.inference_mode():
        rows, _ = embed(model.backbone(inputs), model.head_shape)
        patch_scores = Network(model.backbone, model.head)(inputs)
    assert error(rows[expected["feature_rows"]], expected["features"]) < 1e-4
    assert error(patch_scores, expected["patch_scores"]) < 1e-4
    assert error(image_scores(patch_scores), expected["image_scores"]) < 1e-4

    net = SimpleNet(device, "float32").load_from_path(shared / "golden" / case, weights)
    scores, maps = net.predict(inputs)
    assert error(scores, expected["image_scores"]) < 1e-4
    assert error(maps, expected["masks"]) < 1e-4
    assert net.threshold is None


@pytest.fixture
def as_many_threads_as_then() -> Iterator[None]:
    """A sum in another order is another float: after eight steps a share of patches differs in its third digit."""
    with torch_threads(2):
        yield


@pytest.mark.usefixtures("as_many_threads_as_then")
def test_training(shared: Path) -> None:
    folder = shared / "golden" / "train_lite0_288"
    trace = np.load(folder / "trace.npz")
    model = bundle.load(shared / "golden" / "lite0_288")
    init = torch.load(folder / "init.pth", weights_only=True)
    head = Head(HeadShape(512, 512, dsc_hidden=384))
    assert head.pre_projection is not None
    head.discriminator.load_state_dict(init["discriminator"])
    head.pre_projection.load_state_dict(init["pre_projection"])

    normalise = Normalise(torch.device("cpu"))
    pictures = torch.stack([_published_input(shared / "data" / str(name)) for name in trace["images"]])
    with torch.inference_mode():
        rows = [embed(model.backbone(normalise(pictures[i : i + 2])), head.shape)[0].clone() for i in (0, 2)]
    draws = np.random.RandomState(5)

    def noise(good: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy((draws.standard_normal(tuple(good.shape)) * 0.015).astype(np.float32))

    trainer = HeadTrainer(head, Schedule(), noise)
    for step in range(8):
        result = trainer.step(rows[step % 2])
        assert abs(float(result.loss.detach()) - trace["loss"][step]) < 1e-4 * abs(trace["loss"]).max()
        assert abs(float(result.p_true) - trace["p_true"][step]) < 1e-3
        assert abs(float(result.p_fake) - trace["p_fake"][step]) < 1e-3
    final = torch.load(folder / "final.pth", weights_only=True)
    for part, module in (("discriminator", head.discriminator), ("pre_projection", head.pre_projection)):
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                assert error(tensor, final[part][name]) < 1e-3, name


def _published_input(path: Path) -> torch.Tensor:
    """Shorter side to 329, centre crop 288: uint8 as floats [3, 288, 288]."""
    picture = Image.open(path).convert("RGB")
    width, height = picture.size
    scale = 329 / min(width, height)
    picture = picture.resize((round(width * scale), round(height * scale)), Image.Resampling.BILINEAR)
    left, top = (picture.width - 288) // 2, (picture.height - 288) // 2
    return torch.from_numpy(np.array(picture.crop((left, top, left + 288, top + 288)))).permute(2, 0, 1).float()


def test_our_decoder_and_resize_see_what_the_published_ones_see(shared: Path) -> None:
    """cv2 and torch here, PIL there: within one grey level on real pictures."""
    path = shared / "data" / "bottle" / "test" / "good" / "000.png"
    ours = torch.from_numpy(cv2.imread(str(path))[:, :, ::-1].copy()).permute(2, 0, 1)[None]
    ours = F.interpolate(ours, size=(288, 288), mode="bilinear", antialias=True)[0]
    theirs = Image.open(path).convert("RGB").resize((288, 288), Image.Resampling.BILINEAR)
    difference = np.abs(ours.permute(1, 2, 0).numpy().astype(int) - np.array(theirs).astype(int))
    assert difference.max() <= 1
