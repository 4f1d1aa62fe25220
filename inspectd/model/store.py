"""Putting a calibrated model where the daemon looks, so that it is always there, whole, and can be taken back."""

from __future__ import annotations

import fcntl
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from inspectd.atomic import exchange, new_folder
from inspectd.errors import StartError, UsageError
from inspectd.model import artefact
from inspectd.model.artefact import Artefact

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
PREVIOUS = ".previous"


@dataclass(frozen=True, slots=True)
class Installed:
    """What stands under a name now, and what is kept of what stood there before."""

    folder: Path
    model: Artefact
    previous: str | None
    """Label of the model that a rollback returns to."""
    is_new: bool = True
    """False: the very same model was there already, and nothing was changed."""


def install(source: Path, name: str, models: Path) -> Installed:
    """Copy a model folder to `models/name`; what was there is kept as `name.previous`.

    UsageError when the model cannot judge, StartError when the place cannot be written; then nothing is changed.
    """
    _check_name(name)
    model = artefact.read(source).artefact
    if model.calibration is None or model.calibration.threshold is None:
        raise UsageError(
            f"The model {source} has no threshold: the daemon would answer fault: no_threshold to everything. "
            "Calibrate with held-out good parts (--camera, or --train_val_split below 1)."
        )
    target = models / name
    with _only_one(models):
        there = _label(target)
        if there == model.label:
            return Installed(target, model, _label(_previous(target)), is_new=False)
        with new_folder(_previous(target)) as scratch:
            shutil.copytree(source, scratch, dirs_exist_ok=True, symlinks=False)
            artefact.read(scratch)  # what was copied is what was read
        # The new model stands under the name of the previous one; one exchange puts both where they belong.
        if target.exists():
            exchange(_previous(target), target)
        else:
            _previous(target).rename(target)
    return Installed(target, model, there)


def roll_back(name: str, models: Path) -> Installed:
    """Exchange `name` and `name.previous`; UsageError when there is nothing to return to."""
    _check_name(name)
    target = models / name
    with _only_one(models):
        if not _previous(target).is_dir():
            raise UsageError(f"{target} has no previous model to return to; nothing was changed.")
        model = artefact.read(_previous(target)).artefact
        exchange(_previous(target), target)
    return Installed(target, model, _label(_previous(target)))


def _previous(target: Path) -> Path:
    return target.with_name(target.name + PREVIOUS)


def _label(folder: Path) -> str | None:
    """Return what stands in a folder; None: nothing that can be used."""
    try:
        return artefact.read(folder).artefact.label
    except UsageError:
        return None


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise UsageError(f"NAME is {name!r}; expected a lower-case name such as top: a-z, 0-9, _ and -, at most 32.")


@contextmanager
def _only_one(models: Path) -> Iterator[None]:
    """Let one installation at a time into a folder; an OSError becomes a sentence."""
    try:
        models.mkdir(parents=True, exist_ok=True)
        lock = (models / ".lock").open("w")
    except OSError as error:
        raise StartError(
            f"{models} cannot be written: {error.strerror}. Use sudo, or another folder with --models."
        ) from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
