"""Fixtures that several tests share: real things, only small."""

from __future__ import annotations

import functools
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from inspectd.model.artefact import Artefact
from inspectd.model.calibration import CALIBRATION_VERSION, Calibration, CameraRecord, Params, ThresholdRecord

if TYPE_CHECKING:  # tests that compute nothing do not wait for torch
    from archived import Line

    from inspectd.simplenet.backbone import Backbone

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


def pytest_configure() -> None:
    """Tests that run side by side (pytest -n) share the cores: threads that wait for each other there only burn time.

    What they start inherits it; torch reads it when it is loaded, which is later.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers > 1:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // workers)))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`realdata` runs where ../shared lies beside the project, and says so where it does not.

    The slowest tests are among these, so they come first: at the end others would have nothing to do beside them.
    """
    items.sort(key=lambda item: item.get_closest_marker("realdata") is None)
    for item in items:
        if item.get_closest_marker("realdata") and not SHARED.is_dir():
            item.add_marker(pytest.mark.skip(reason="../shared does not lie beside the project"))
        if item.get_closest_marker("gpu") and not _has_gpu():
            item.add_marker(pytest.mark.skip(reason="this machine has no NVIDIA GPU"))


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The pictures, weights and golden numbers beside the project."""
    return SHARED


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """So many threads compute inside torch."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """torch on one thread: with networks this small, threads on busy cores wait twenty times as long as they work."""
    with torch_threads(1):
        yield


def small_params(size: int = 64) -> Params:
    """The embedded backbone with a small head, 8 × 8 patches."""
    return Params("tf_efficientnet_lite0", ("blocks.2", "blocks.4"), (3, size, size), 48, 32, dsc_hidden=16)


@functools.cache
def small_backbone() -> Backbone:
    """The embedded backbone, loaded once for all tests."""
    from inspectd.simplenet import backbone as backbones

    params = small_params()
    return backbones.pretrained(params.backbone, params.layers_to_extract_from, params.input_shape)


def small_calibration(threshold: float, **changes: object) -> Calibration:
    """A calibration as `calibrate` writes it."""
    facts = {
        "version": CALIBRATION_VERSION,
        "run": "small",
        "created": "2026-01-01T00:00:00Z",
        "threshold": ThresholdRecord(threshold, 0.01, 0.95, 0.2, 299, 0.0),
        "held_out_scores": (threshold - 2.0, threshold - 1.0),
        "device": "cpu",
        "precision": "float32",
        "camera": CameraRecord("folder", None, 64, 48),
        "roi": None,
        "white_level": 65535,
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "backbone_digest": "",
        "seed": 0,
        "pictures": 10,
        "pictures_digest": "",
        "statistics": {},
        "recipe": {},
        "versions": {},
        "files": {},
    }
    return Calibration(**{**facts, **changes})  # type: ignore[arg-type]


def small_artefact(threshold: float = 1.0, **changes: object) -> Artefact:
    """A model as plain data, without weights."""
    return Artefact(
        params=small_params(), calibration=small_calibration(threshold, **changes), name="m", digest="0" * 64
    )


def write_small_model(folder: Path, threshold: float | None = 1.0, *, memory: bool = False, **changes: object) -> Path:
    """Write a model with random head weights; `threshold` None: only the published code's two files.

    `memory`: it has a memory bank, and averages its scores.
    """
    import msgspec
    import torch

    from inspectd.simplenet import backbone as backbones
    from inspectd.simplenet import bundle
    from inspectd.simplenet.bundle import Bundle, head_shape
    from inspectd.simplenet.network import Head

    params, backbone = small_params(), small_backbone()
    if memory:
        params = msgspec.structs.replace(params, memory_patches=20, memory_width=16, score_window=3)
    torch.manual_seed(7)
    folder.mkdir(parents=True)
    changes.setdefault("backbone_digest", backbones.digest(backbone))
    calibration = None if threshold is None else small_calibration(threshold, **changes)
    head = Head(head_shape(params)).eval()
    if head.memory is not None:
        head.memory.matrix.normal_(std=0.1)
        head.memory.patches.normal_()
    facts = {"params": params, "calibration": calibration, "name": "small", "digest": "unsaved"}
    bundle.save(folder, Bundle(**facts, head=head, backbone=backbone))  # type: ignore[arg-type]
    if threshold is None:
        (folder / "backbone.pth").unlink()
    return folder


@pytest.fixture
def small_model(tmp_path: Path) -> Path:
    """A model folder whose threshold lies so high that everything is ok."""
    return write_small_model(tmp_path / "model", threshold=1e6)


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, Path]:
    """Two models of one backbone that score alike; their thresholds tell which of them judged."""
    return write_small_model(tmp_path / "low", threshold=1.0), write_small_model(tmp_path / "high", threshold=50.0)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of twelve different 64 × 48 pictures."""
    folder = tmp_path / "pictures"
    write_pictures(folder, 12)
    return folder


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file grow beyond so many bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[0][1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before[0])
        signal.signal(signal.SIGXFSZ, before[1])


def write_pictures(folder: Path, count: int, seed: int = 0) -> None:
    """Write noise pictures, PNG, 64 × 48."""
    import cv2

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        cv2.imwrite(str(folder / f"{i:03d}.png"), rng.integers(0, 255, (48, 64, 3), np.uint8))


@pytest.fixture
def make_line(tmp_path: Path) -> Iterator[Callable[..., Line]]:
    """Start archives that are fed by hand, and stopped in the end."""
    from archived import Line

    made: list[Line] = []

    def start(**more: object) -> Line:
        made.append(Line(tmp_path, **more))  # type: ignore[arg-type]
        return made[-1]

    yield start
    for one in made:
        one.stop()
