"""Real parts, end to end: calibrate on good ones, run the daemon on the test set, collect with plain pyzmq."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from daemon_process import DaemonProcess
from sklearn.metrics import roc_auc_score

from inspectd import SimpleNet

pytestmark = pytest.mark.realdata
PARTS = {"bottle": "60", "magnetic_tile": "120", "ball_screw": "80"}
"""Good parts that are learned from; of the tiles there are 200, of the ball screws 120."""


@pytest.fixture(scope="module", params=list(PARTS))
def inspected(request: pytest.FixtureRequest, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Inspected:
    """One class: its model, and everything that a daemon said about its test set."""
    name = request.param
    folder = tmp_path_factory.mktemp(name)
    data = shared / "data" / name
    command = [sys.executable, "-m", "inspectd", "calibrate", "--camera", str(data / "train" / "good")]
    command += ["--results_path", str(folder / "results"), "--run_name", name]
    # Fewer than by default, for the time it takes.
    command += ["--pixels", "83000", "--steps", "300", "--parts", PARTS[name]]
    calibrated = subprocess.run(command, capture_output=True, text=True, check=False)
    assert calibrated.returncode == 0, calibrated.stderr
    model = folder / "results" / "project" / "group" / name / "models" / "0"
    camera = f"{{name: top, source: {data / 'test'}, model: {model}}}"
    with DaemonProcess(folder / "daemon", camera, arguments=("--exit-when-done",)) as daemon:
        assert daemon.listen_to_the_end(300) == 0
    print(f"\n{name}: {calibrated.stdout.splitlines()[0]}")
    return Inspected(name, data, model, daemon)


class Inspected:
    """What `inspected` collects."""

    def __init__(self, name: str, data: Path, model: Path, daemon: DaemonProcess) -> None:
        self.name = name
        self.data = data
        self.model = model
        self.verdicts = daemon.verdicts
        self.masks = {seq: mask for (_, seq), mask in daemon.masks.items()}

    @property
    def image_auroc(self) -> float:
        """Over raw scores; everything but `good` is a defect."""
        labels = [not v["part"].startswith("good/") for v in self.verdicts]
        return float(roc_auc_score(labels, [v["score"] for v in self.verdicts]))

    def truth(self, part: str) -> np.ndarray | None:  # type: ignore[type-arg]
        """The defect's mask, or None for a good part."""
        path = Path(part)
        if path.parts[0] == "good":
            return None
        mask = cv2.imread(str(self.data / "ground_truth" / path.parent / f"{path.stem}_mask.png"), cv2.IMREAD_GRAYSCALE)
        return np.asarray(mask) > 0

    def mask_is_higher_inside(self, verdict: dict) -> bool | None:  # type: ignore[type-arg]
        """Whether the mask's bytes lie higher inside the defect than outside; None for a good part."""
        truth = self.truth(verdict["part"])
        if truth is None:
            return None
        size = (truth.shape[1], truth.shape[0])
        mask = cv2.resize(self.masks[verdict["seq"]], size, interpolation=cv2.INTER_NEAREST).astype(float)
        return bool(mask[truth].mean() > mask[~truth].mean())


def test_every_picture_has_one_verdict_and_every_ng_a_region_and_a_mask(inspected: Inspected) -> None:
    pictures = sorted(
        p.relative_to(inspected.data / "test").as_posix() for p in (inspected.data / "test").rglob("*") if p.is_file()
    )
    assert sorted(v["part"] for v in inspected.verdicts) == pictures
    assert [v["seq"] for v in inspected.verdicts] == list(range(1, len(pictures) + 1))
    assert {v["verdict"] for v in inspected.verdicts} <= {"ok", "ng"}
    rejected = [v for v in inspected.verdicts if v["verdict"] == "ng"]
    assert all(v["regions"] and v["seq"] in inspected.masks for v in rejected)

    inside = [inspected.mask_is_higher_inside(v) for v in rejected]
    defects = [v for v in inspected.verdicts if not v["part"].startswith("good/")]
    found = sum(v["verdict"] == "ng" for v in defects)
    print(
        f"\n{inspected.name}: image AUROC {inspected.image_auroc:.4f}; {found} of {len(defects)} defects found, "
        f"{inside.count(None)} of {len(pictures) - len(defects)} good parts rejected; "
        f"mask higher inside the defect for {inside.count(True)} of {inside.count(True) + inside.count(False)}"
    )
    if inspected.name == "bottle":
        assert inspected.image_auroc >= 0.99
        assert False not in inside
    else:  # reported as they are; a model that knows nothing would still be noticed
        assert inspected.image_auroc > 0.65
        assert inside.count(True) > inside.count(False)


def test_predict_agrees_with_the_daemon(inspected: Inspected) -> None:
    net = SimpleNet("cpu").load_from_path(inspected.model)
    for verdict in inspected.verdicts[:: 1 if inspected.name == "bottle" else 10]:
        score, map_ = net.predict(inspected.data / "test" / verdict["part"])
        assert abs(score - verdict["score"]) < 1e-5
        assert map_.shape == (verdict["image"]["h"], verdict["image"]["w"])
