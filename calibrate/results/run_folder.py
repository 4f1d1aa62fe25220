"""The run folder: written beside its place, read back, and put there in one step."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter

from calibrate.data.training_set import Pictures
from calibrate.evaluation.metrics import Metrics, mean
from calibrate.evaluation.testset import Evaluation
from calibrate.progress import Curve
from calibrate.training.fit import Learned
from inspectd.atomic import new_folder
from inspectd.engine.backend import Backend, Request
from inspectd.errors import StartError
from inspectd.simplenet import bundle

PUBLISHED_COLUMNS = ("Row Names", "instance_auroc", "full_pixel_auroc", "anomaly_pixel_auroc")
"""The published code writes PRO under the last of these names, and so do we."""
OWN_COLUMNS = ("backbone", "kept", "pro", "threshold", "missed", "defects", "false_rejects", "good")
READ_BACK_TOLERANCE = 1e-5
PICTURES = "segmentation_images"


@dataclass(frozen=True, slots=True)
class Row:
    """One model's line in results.csv."""

    name: str
    backbone: str
    kept: str
    threshold: float | None
    evaluation: Evaluation | None

    @property
    def cells(self) -> list[str]:
        """In the order of the columns; what is not known is empty."""
        metrics = self.evaluation.metrics if self.evaluation else Metrics(None, None, None)
        return [self.name, *_measured(metrics), self.backbone, self.kept, _number(metrics.pro), *self._counts()]

    def _counts(self) -> list[str]:
        threshold, tested = self.threshold, self.evaluation
        if tested is None:
            return [_number(threshold), "", "", "", ""]
        defects = sum(tested.is_defective)
        missed = "" if threshold is None else str(tested.missed(threshold))
        rejected = "" if threshold is None else str(tested.rejected(threshold))
        return [_number(threshold), missed, str(defects), rejected, str(len(tested.scores) - defects)]


class RunFolder:
    """A run while it is written. `models` are added one by one; `finish` writes what tells about all of them."""

    def __init__(self, folder: Path, backend: Backend) -> None:
        """`backend`: what the models are read back with."""
        self.folder = folder
        self._backend = backend
        self._index: list[dict[str, str | int]] = []
        self._rows: list[Row] = []
        (folder / "models").mkdir()

    def pictures_folder(self, number: int) -> Path:
        """Return where the test pictures of model `number` are drawn."""
        return self.folder / PICTURES / str(number)

    def add(self, name: str, row: Row, pictures: Pictures, learned: Learned, curve: Curve) -> None:
        """Write a model, read it back, and note its row. `name`: its class or camera."""
        number = len(self._index)
        folder = self.folder / "models" / str(number)
        folder.mkdir()
        bundle.save(folder, learned.model)
        _write_curve(self.folder / "tensorboard" / str(number), curve)
        _read_back(folder, pictures, learned, self._backend)
        self._index.append({"i": number, "class": name, "backbone": row.backbone})
        self._rows.append(row)

    def finish(self, report: str) -> None:
        """Write the index, the table and the report."""
        (self.folder / "models" / "index.json").write_text(json.dumps(self._index, indent=1) + "\n", encoding="utf-8")
        write_results(self.folder / "results.csv", self._rows)
        (self.folder / "report.html").write_text(report, encoding="utf-8")


@contextmanager
def new_run(target: Path, backend: Backend) -> Iterator[RunFolder]:
    """Give out a run folder that takes its place when the block ends well; an existing one stays until then."""
    with new_folder(target) as folder:
        yield RunFolder(folder, backend)


def write_results(path: Path, rows: Sequence[Row]) -> None:
    """Write results.csv: the published columns, ours, a row for each model, then the mean."""
    average = mean([row.evaluation.metrics for row in rows if row.evaluation])
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(PUBLISHED_COLUMNS + OWN_COLUMNS)
        for row in rows:
            writer.writerow(row.cells)
        writer.writerow(["Mean", *_measured(average), "", "", _number(average.pro), "", "", "", "", ""])


def write_png(path: Path, picture: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    """Write a picture without loss; OSError when the disk refuses, as for every other file."""
    _, data = cv2.imencode(".png", picture)
    path.write_bytes(data.tobytes())


def _measured(metrics: Metrics) -> list[str]:
    return [_number(metrics.image_auroc), _number(metrics.pixel_auroc), _number(metrics.pro)]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _write_curve(folder: Path, curve: Curve) -> None:
    with SummaryWriter(str(folder)) as writer:
        for name, value, step in curve:
            writer.add_scalar(name, value, step)


def _read_back(folder: Path, pictures: Pictures, learned: Learned, backend: Backend) -> None:
    """Load what was written and score a picture with it: a run that does not load is not a run."""
    written = bundle.load(folder)
    for model in (written, learned.model):
        backend.prepare(model)
    requests = [Request(model, model.geometry, pictures.raw[0]) for model in (written, learned.model)]
    read, expected = backend.score(requests)
    backend.forget(written)
    if not np.allclose(read, expected, rtol=READ_BACK_TOLERANCE, atol=READ_BACK_TOLERANCE):
        difference = float(np.abs(read - expected).max())
        raise StartError(
            f"The model that was written to {folder} scores differently from the one that was trained (by "
            f"{difference:.2g}); nothing was changed. Please report this."
        )
