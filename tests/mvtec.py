"""A tiny dataset in the MVTec layout, and the published command line on it."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest

from calibrate import published
from calibrate.training.options import Options
from inspectd.cli import main

NET = ("-b", "tf_efficientnet_lite0", "-le", "blocks.2", "-le", "blocks.4")
SMALL = ("--pretrain_embed_dimension", "48", "--target_embed_dimension", "32")
SIZE = ("--resize", "72", "--imagesize", "64")


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The one line that says what went wrong."""
        lines = [line for line in self.err.splitlines() if line.startswith("inspectd: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        assert self.err.rstrip().splitlines()[-1] == lines[0]
        return lines[0]


def write_class(root: Path, name: str, train: int = 10, seed: int = 0) -> Path:
    """Write a class: grey discs on a table; its defects are bright squares."""
    rng = np.random.default_rng(seed)
    for kind, count in (("train/good", train), ("test/good", 4), ("test/dent", 4)):
        folder = root / name / kind
        folder.mkdir(parents=True)
        for i in range(count):
            picture = rng.normal(70, 5, (80, 96, 3))
            cv2.circle(picture, (48, 40), 22 + i % 3, (120, 140, 130), -1)
            if kind == "test/dent":
                mask = np.zeros((80, 96), np.uint8)
                mask[30:44, 40 + i : 56 + i] = 255
                picture[mask > 0] = (10, 240, 250)
                truth = root / name / "ground_truth" / "dent"
                truth.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(truth / f"{i:03d}_mask.png"), mask)
            cv2.imwrite(str(folder / f"{i:03d}.png"), np.clip(picture, 0, 255).astype(np.uint8))
    return root


def call(*arguments: object) -> Ended:
    """Run `inspectd calibrate …` in this process, which has torch loaded already."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main(["calibrate", *map(str, arguments)])
    return Ended(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def run(
    results: Path,
    data: Path,
    *,
    main_: tuple[object, ...] = (),
    net: tuple[object, ...] = (),
    dataset: tuple[object, ...] = ("-d", "bolt"),
) -> Ended:
    """Run a small training (or test) on the CPU; what is given comes after the small values, and so wins."""
    line = ["--results_path", results, "--gpu", -1, *main_]
    line += ["net", *([] if "-b" in net else NET), *SMALL, *net]
    return call(*line, "dataset", *SIZE, *dataset, "mvtec", data)


def options(net: tuple[object, ...] = (), dataset: tuple[object, ...] = (), number: int = 0, **more: Any) -> Options:
    """Return what the published command line makes of its options, without reading a picture."""
    net = net if "-b" in net else (*NET, *net)
    net_part = published.net.main([str(one) for one in net], standalone_mode=False)
    data_part = published.dataset.main([*map(str, dataset), "mvtec", "x"], standalone_mode=False)
    return published.options_of(net_part, data_part, number, **{"seed": 0, "rate": 0.01, "confidence": 0.95, **more})
