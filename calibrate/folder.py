"""The run folder: written beside its place, read back, and put there in one step."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from torch.utils.tensorboard import SummaryWriter

from calibrate.fit import Learned, Pictures
from calibrate.report import render_report
from inspectd.engine.station import Request
from inspectd.engine.torch_backend import TorchBackend
from inspectd.errors import StartError
from inspectd.simplenet import bundle
from inspectd.simplenet.files import new_folder

CSV_COLUMNS = ("Row Names", "instance_auroc", "full_pixel_auroc", "anomaly_pixel_auroc")
READ_BACK_TOLERANCE = 1e-5

LossCurve = Sequence[tuple[int, float, float, float]]
"""Step, loss, p_true, p_fake."""


def write_run(
    target: Path, name: str, pictures: Pictures, learned: Learned, curve: LossCurve, left_out: Sequence[str]
) -> None:
    """Write a whole run; an existing one is replaced in one step, and stays if anything fails."""
    model = learned.model
    with new_folder(target) as folder:
        models = folder / "models"
        (models / "0" / "parity").mkdir(parents=True)
        bundle.save(models / "0", model.params, model.head, model.backbone, model.calibration)
        for i, picture in enumerate(pictures.raw):
            _, data = cv2.imencode(".png", picture)
            (models / "0" / "parity" / f"{i:03d}.png").write_bytes(data.tobytes())
        index = [{"i": 0, "class": name, "backbone": model.params.backbone}]
        (models / "index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
        _write_curves(folder / "tensorboard" / "0", curve)
        _write_csv(folder / "results.csv", name)
        report = render_report(name, pictures, learned, left_out)
        (folder / "report.html").write_text(report, encoding="utf-8")
        _read_back(models / "0", pictures, learned)


def _write_curves(folder: Path, curve: LossCurve) -> None:
    with SummaryWriter(str(folder)) as writer:
        for step, loss, p_true, p_fake in curve:
            writer.add_scalar("loss", loss, step)
            writer.add_scalar("p_true", p_true, step)
            writer.add_scalar("p_fake", p_fake, step)


def _write_csv(path: Path, name: str) -> None:
    """Without defects there is no AUROC: the columns are there, and empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(CSV_COLUMNS)
        writer.writerow([name, "", "", ""])
        writer.writerow(["Mean", "", "", ""])


def _read_back(folder: Path, pictures: Pictures, learned: Learned) -> None:
    """Load what was written and score a picture with it: a run that does not load is not a run."""
    written = bundle.load(folder)
    backend = TorchBackend(learned.model.calibration.device if learned.model.calibration else "cpu")
    request = [Request(written, written.geometry, pictures.raw[0])]
    read = backend.score(request)[0]
    expected = backend.score_inputs(learned.model, pictures.inputs[0][None].float())[0]
    if not np.allclose(read, expected, rtol=READ_BACK_TOLERANCE, atol=READ_BACK_TOLERANCE):
        difference = float(np.abs(read - expected).max())
        raise StartError(
            f"The model that was written to {folder} scores differently from the one that was trained (by "
            f"{difference:.2g}); nothing was changed. Please report this."
        )
