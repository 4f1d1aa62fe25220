"""Models with random weights: what they say is nonsense, what they cost is not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from inspectd.model.calibration import CALIBRATION_VERSION, Calibration, CameraRecord, Params, ThresholdRecord
from inspectd.model.geometry import IMAGENET_MEAN, IMAGENET_STD
from inspectd.simplenet import backbone as backbones
from inspectd.simplenet import bundle
from inspectd.simplenet.bundle import Bundle, head_shape
from inspectd.simplenet.network import Head

THRESHOLD = 1e3
"""Far above any score: every part is ok."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a benchmark's models look like."""

    backbone: str
    layers: tuple[str, ...]
    width: int
    height: int

    @property
    def params(self) -> Params:
        """The shape of head that `calibrate --camera` gives the embedded backbone, and the published one to others."""
        shape = (3, self.height, self.width)
        if backbones.resolve(self.backbone) == backbones.EMBEDDED:
            return Params(
                self.backbone,
                self.layers,
                shape,
                512,
                512,
                pre_proj=0,
                dsc_hidden=288,
                memory_patches=1000,
                score_window=3,
            )
        return Params(self.backbone, self.layers, shape, 1536, 1536)


def random_models(kind: Kind, count: int) -> list[Bundle]:
    """Return models that share a backbone."""
    torch.manual_seed(0)
    params = kind.params
    backbone = backbones.create(kind.backbone, kind.layers, params.input_shape)
    digest = backbones.digest(backbone)
    return [
        Bundle(
            params=params,
            calibration=_calibration(kind, digest),
            name="bench",
            digest=f"{i:064x}",
            head=Head(head_shape(params)).eval(),
            backbone=backbone,
        )
        for i in range(count)
    ]


def write_random_model(folder: Path, kind: Kind) -> None:
    """Write one for a daemon."""
    folder.mkdir(parents=True)
    bundle.save(folder, random_models(kind, 1)[0])


def _calibration(kind: Kind, backbone_digest: str) -> Calibration:
    return Calibration(
        version=CALIBRATION_VERSION,
        run="bench",
        created="",
        threshold=ThresholdRecord(THRESHOLD, 0.01, 0.95, 1.0, 299, 0.0),
        held_out_scores=(0.0,),
        device="",
        precision="",
        camera=CameraRecord("bench", None, kind.width, kind.height),
        roi=None,
        white_level=65535,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        backbone_digest=backbone_digest,
        seed=0,
        pictures=0,
        pictures_digest="",
        statistics={},
        recipe={},
        versions={},
        files={},
    )
