"""A calibrated model on disk, as data: the files of one `models/<i>` folder, written whole and read strictly.

    ckpt.pth          discriminator and projection, as the published code nests them (+ standardisation)
    params.pkl        the published parameters, a plain dict
    calibration.json  threshold and how it was chosen, camera, geometry, normalisation, digests
    backbone.pth      the backbone up to its last used layer
    parity/           a few of the calibration's pictures, for the parity gate

Everything that is read is data: the pickle may hold only builtin containers, numbers and text, and every file must
have the digest that calibration.json notes. A folder with only the first two files (the published code's) is a model
too, and has no threshold. What the tensors in these files mean is known to `inspectd.simplenet.bundle`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, cast

import msgspec
import numpy as np

from inspectd.errors import UsageError
from inspectd.model.calibration import CALIBRATION_VERSION, Calibration, Params
from inspectd.model.geometry import IMAGENET_MEAN, IMAGENET_STD, Channels, Geometry
from inspectd.model.locate import find_model
from inspectd.reading import read_regular
from inspectd.records import Picture

MAX_PARAMS_BYTES = 1 << 20
MAX_FILE_BYTES = 4 << 30
PARITY = "parity"


def no_pictures() -> list[Picture]:
    """Return nothing: what a model without pictures of its own gives."""
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """What is known of a model without computing. `name` and `digest` identify it in verdicts."""

    params: Params
    calibration: Calibration | None
    """None: the published code's two files; there is no threshold."""
    name: str
    digest: str
    parity: Callable[[], list[Picture]] = no_pictures
    """Gives a few of the calibration's pictures, as the camera gave them: read when they are needed."""

    @property
    def label(self) -> str:
        """Run name and the first 12 digits of the digest, as published."""
        return f"{self.name} {self.digest[:12]}"

    @property
    def geometry(self) -> Geometry:
        """What part of a picture the model was calibrated on, and its input size."""
        _, height, width = self.params.input_shape
        if self.calibration is None:
            return Geometry(height, width)
        camera = self.calibration.camera
        size = (camera.width, camera.height) if camera.width and camera.height else None
        return Geometry(height, width, self.calibration.roi, size, self.calibration.resize)

    @property
    def normalisation(self) -> tuple[Channels, Channels]:
        """Mean and spread of the input's channels."""
        if self.calibration is None:
            return IMAGENET_MEAN, IMAGENET_STD
        return self.calibration.mean, self.calibration.std

    @property
    def white_level(self) -> int:
        """The value of a 16-bit picture that is white."""
        return 65535 if self.calibration is None else self.calibration.white_level


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A folder whose files are those that its calibration was written for."""

    folder: Path
    artefact: Artefact
    checkpoint: bytes
    """ckpt.pth; not looked into yet."""


def read(folder: Path) -> ModelFiles:
    """Read a model folder; UsageError says in one sentence what is missing, damaged or not allowed."""
    if not (folder / "params.pkl").exists() and (folder / "models" / "index.json").exists():
        folder = find_model(folder, None)  # a run folder: its only model is meant
    if not folder.is_dir():
        raise UsageError(
            f"There is no model folder {folder}; expected a folder with ckpt.pth and params.pkl, as "
            "`inspectd calibrate` writes it."
        )
    calibration, seal = _read_calibration(folder)
    files = {name: _read(folder / name) for name in ("ckpt.pth", "params.pkl")}
    if calibration is not None:
        for name, data in (files | {"backbone.pth": _read(folder / "backbone.pth")}).items():
            if calibration.files.get(name) != sha256(data):
                raise UsageError(
                    f"{folder / name} is not the file that calibration.json was written for: it was changed or "
                    "damaged. Calibrate again, or restore the whole folder."
                )
    pictures = {name: sha for name, sha in calibration.files.items() if name.startswith(PARITY)} if calibration else {}
    artefact = Artefact(
        params=_read_params(files["params.pkl"], folder / "params.pkl"),
        calibration=calibration,
        name=calibration.run if calibration else folder.name,
        digest=seal or sha256(files["ckpt.pth"] + files["params.pkl"]),
        parity=partial(_read_parity, folder, pictures),
    )
    return ModelFiles(folder, artefact, files["ckpt.pth"])


def write(folder: Path, model: Artefact, checkpoint: bytes, backbone: bytes) -> None:
    """Write the files of one model into an existing, empty folder; `calibration.files` is filled in here."""
    files = {
        "ckpt.pth": checkpoint,
        "params.pkl": pickle.dumps(model.params.to_plain(), protocol=4),
        "backbone.pth": backbone,
        **{f"{PARITY}/{i:03d}.png": _png(picture) for i, picture in enumerate(model.parity())},
    }
    if any(name.startswith(PARITY) for name in files):
        (folder / PARITY).mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    if model.calibration is not None:
        digests = {name: sha256(data) for name, data in files.items()}
        record = msgspec.structs.replace(model.calibration, files=digests)
        (folder / "calibration.json").write_bytes(_seal(record))


def sha256(data: bytes) -> str:
    """Return the SHA-256 of some bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


def _png(picture: Picture) -> bytes:
    import cv2

    _, data = cv2.imencode(".png", picture)  # without loss, 8 and 16 bit
    return bytes(data)


def _seal(record: Calibration) -> bytes:
    content = msgspec.to_builtins(record)
    return json.dumps({"digest": content_digest(content), **content}, indent=1, allow_nan=False).encode()


def content_digest(content: Mapping[str, Any]) -> str:
    """Return the seal of what calibration.json holds beside it."""
    return sha256(json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())


def _read_parity(folder: Path, digests: Mapping[str, str]) -> list[Picture]:
    import cv2

    pictures = []
    for name, digest in sorted(digests.items()):
        data = _read(folder / name)
        try:
            is_whole = bool(data) and sha256(data) == digest
            picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if is_whole else None
        except cv2.error:
            picture = None
        if picture is None:
            raise UsageError(f"{folder / name} was changed or damaged; restore the whole folder or calibrate again.")
        pictures.append(cast("Picture", picture))
    return pictures


def _read(path: Path) -> bytes:
    try:
        return read_regular(path, MAX_PARAMS_BYTES if path.suffix == ".pkl" else MAX_FILE_BYTES)
    except FileNotFoundError:
        raise UsageError(f"The model folder {path.parent} lacks {path.name}; restore it or calibrate again.") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None


def _read_calibration(folder: Path) -> tuple[Calibration | None, str]:
    path = folder / "calibration.json"
    if not os.path.lexists(path):
        return None, ""
    try:
        content = json.loads(_read(path), parse_constant=_refuse_constant)
        digest = content.pop("digest")
        calibration = msgspec.convert(content, Calibration)
        is_sealed = digest == content_digest(content)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise UsageError(f"{path} is damaged: {first_line(error)}. Restore it or calibrate again.") from None
    if not is_sealed:
        raise UsageError(
            f"{path} was changed after the calibration. To use another threshold, set the camera's `threshold` in "
            "the configuration; otherwise restore the file or calibrate again."
        )
    if calibration.version != CALIBRATION_VERSION:
        raise UsageError(
            f"{path} has version {calibration.version}; expected {CALIBRATION_VERSION}. "
            "Calibrate again with this inspectd."
        )
    return calibration, digest


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}, which is no number")


class _PlainUnpickler(pickle.Unpickler):
    """Admits builtin containers, numbers and text, which need no class to be found."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError("it refers to something outside")


def _read_params(data: bytes, path: Path) -> Params:
    if len(data) > MAX_PARAMS_BYTES:
        raise UsageError(f"{path} has {len(data)} bytes; expected a small dictionary of parameters.")
    try:
        plain = _PlainUnpickler(io.BytesIO(data)).load()
    except Exception as error:  # noqa: BLE001 - a hostile pickle chooses the exception
        raise UsageError(
            f"{path} is refused, and nothing in it was run: {first_line(error)}. Expected a dictionary of numbers, "
            "text, lists and tuples."
        ) from None
    try:
        return msgspec.convert(plain, Params)
    except (msgspec.ValidationError, RecursionError) as error:
        raise UsageError(f"{path} does not hold the published parameters: {first_line(error)}.") from None


def first_line(error: BaseException) -> str:
    """Return the beginning of what an error says, for a sentence."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".:")[:300]
