"""A calibrated model on disk: the files of one `models/<i>` folder, written whole and read strictly.

    ckpt.pth          discriminator and projection, as the published code nests them (+ standardisation)
    params.pkl        the published parameters, a plain dict
    calibration.json  threshold and how it was chosen, camera, geometry, normalisation, digests
    backbone.pth      the backbone up to its last used layer
    parity/           a few of the calibration's pictures, for the parity gate

Everything that is read is data: the pickle may hold only builtin containers, numbers and text, tensors are
read with `weights_only`, and every file must have the digest that calibration.json notes. A folder with
only the first two files (the published code's) loads too, and has no threshold.
"""

from __future__ import annotations

import io
import json
import os
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, cast

import cv2
import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from inspectd.errors import UsageError
from inspectd.reading import read_regular
from inspectd.records import Picture
from inspectd.simplenet import backbone as backbones
from inspectd.simplenet.files import sha256
from inspectd.simplenet.locate import find_model
from inspectd.simplenet.network import Head, Network
from inspectd.simplenet.preprocess import IMAGENET_MEAN, IMAGENET_STD, Geometry
from inspectd.simplenet.schema import CALIBRATION_VERSION, Calibration, Params

MAX_PARAMS_BYTES = 1 << 20
MAX_FILE_BYTES = 4 << 30
PARITY = "parity"


def no_pictures() -> list[Picture]:
    """Return nothing: what a model without pictures of its own gives."""
    return []


@dataclass(frozen=True, slots=True)
class Bundle:
    """A loaded model. `name` and `digest` identify it in verdicts; `calibration` None: no threshold."""

    params: Params
    head: Head
    backbone: nn.Module
    calibration: Calibration | None
    name: str
    digest: str
    parity: Callable[[], list[Picture]] = no_pictures
    """Gives a few of the calibration's pictures, as the camera gave them: read when they are needed."""

    @property
    def label(self) -> str:
        """Run name and the first 12 digits of the digest, as published."""
        return f"{self.name} {self.digest[:12]}"

    @property
    def network(self) -> Network:
        """Backbone and head in one, in evaluation mode."""
        network = Network(self.backbone, self.head)
        network.eval()
        return network

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
    def normalisation(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Mean and spread of the input's channels."""
        if self.calibration is None:
            return IMAGENET_MEAN, IMAGENET_STD
        return self.calibration.mean, self.calibration.std

    @property
    def white_level(self) -> int:
        """The value of a 16-bit picture that is white."""
        return 65535 if self.calibration is None else self.calibration.white_level


# Writing


def save(folder: Path, model: Bundle) -> None:
    """Write the files of one model into an existing, empty folder; `calibration.files` is filled in here."""
    params, head, backbone, calibration = model.params, model.head, model.backbone, model.calibration
    checkpoint: dict[str, Any] = {"discriminator": head.discriminator.state_dict()}
    if head.pre_projection is not None:
        checkpoint["pre_projection"] = head.pre_projection.state_dict()
    checkpoint["standardisation"] = {"mean": head.feature_mean, "spread": head.feature_spread}
    state = backbone.model.state_dict() if isinstance(backbone, backbones.Backbone) else backbone.state_dict()
    files = {
        "ckpt.pth": _tensor_bytes(checkpoint),
        "params.pkl": pickle.dumps(msgspec.to_builtins(params, builtin_types=(tuple,)), protocol=4),
        "backbone.pth": _tensor_bytes(dict(state)),
        **{f"{PARITY}/{i:03d}.png": _png(picture) for i, picture in enumerate(model.parity())},
    }
    if any(name.startswith(PARITY) for name in files):
        (folder / PARITY).mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    if calibration is not None:
        digests = {name: sha256(data) for name, data in files.items()}
        record = msgspec.structs.replace(calibration, files=digests)
        (folder / "calibration.json").write_bytes(_seal(record))


def _tensor_bytes(state: Mapping[str, Any]) -> bytes:
    # Through memory: torch's own writer turns a full disk into something else than an OSError.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _png(picture: Picture) -> bytes:
    _, data = cv2.imencode(".png", picture)  # without loss, 8 and 16 bit
    return bytes(data)


def _seal(record: Calibration) -> bytes:
    content = msgspec.to_builtins(record)
    return json.dumps({"digest": _content_digest(content), **content}, indent=1, allow_nan=False).encode()


def _content_digest(content: Mapping[str, Any]) -> str:
    return sha256(json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())


# Reading


def load(folder: Path, backbone: Path | nn.Module | None = None, shared: dict[str, nn.Module] | None = None) -> Bundle:
    """Read a model folder; UsageError says in one sentence what is missing, damaged or not allowed.

    `backbone` is a weights file or a ready module, for folders that do not hold their backbone. `shared` holds
    backbones by their digest: models that are loaded with the same `shared` have equal backbones in common.
    """
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
        files["backbone.pth"] = _read(folder / "backbone.pth")
        for name, data in files.items():
            if calibration.files.get(name) != sha256(data):
                raise UsageError(
                    f"{folder / name} is not the file that calibration.json was written for: it was changed or "
                    "damaged. Calibrate again, or restore the whole folder."
                )
    params = _read_params(files["params.pkl"], folder / "params.pkl")
    head = _read_head(files["ckpt.pth"], folder / "ckpt.pth", params)
    module = _shared_backbone(calibration, params, shared) if backbone is None else None
    if module is None:
        module = _read_backbone(folder, params, backbone)
        if shared is not None and calibration is not None:
            shared[_backbone_key(calibration, params)] = module
    _probe(folder, params, module, head)
    digest = seal or sha256(files["ckpt.pth"] + files["params.pkl"])
    name = calibration.run if calibration else folder.name
    pictures = {name: sha for name, sha in calibration.files.items() if name.startswith(PARITY)} if calibration else {}
    return Bundle(params, head, module, calibration, name, digest, partial(_read_parity, folder, pictures))


def _backbone_key(calibration: Calibration, params: Params) -> str:
    return f"{calibration.backbone_digest} {params.input_shape}"


def _shared_backbone(
    calibration: Calibration | None, params: Params, shared: dict[str, nn.Module] | None
) -> nn.Module | None:
    if calibration is None or shared is None:
        return None
    return shared.get(_backbone_key(calibration, params))


def _read_parity(folder: Path, digests: Mapping[str, str]) -> list[Picture]:
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
        is_sealed = digest == _content_digest(content)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise UsageError(f"{path} is damaged: {_first_line(error)}. Restore it or calibrate again.") from None
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
            f"{path} is refused, and nothing in it was run: {_first_line(error)}. Expected a dictionary of numbers, "
            "text, lists and tuples."
        ) from None
    try:
        return msgspec.convert(plain, Params)
    except (msgspec.ValidationError, RecursionError) as error:
        raise UsageError(f"{path} does not hold the published parameters: {_first_line(error)}.") from None


def _read_head(data: bytes, path: Path, params: Params) -> Head:
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        _check_shapes(params, state)
        head = Head(params.head_shape)
        head.discriminator.load_state_dict(state["discriminator"])
        if head.pre_projection is not None:
            head.pre_projection.load_state_dict(state["pre_projection"])
        if "standardisation" in state:
            head.feature_mean.copy_(state["standardisation"]["mean"])
            head.feature_spread.copy_(state["standardisation"]["spread"])
    except Exception as error:  # noqa: BLE001 - torch.load raises whatever the broken file provokes
        raise UsageError(
            f"{path} is refused, and nothing in it was run: {_first_line(error)}. Expected the discriminator and "
            "projection that params.pkl describes."
        ) from None
    _check_finite(head, path)
    return head.eval()


def _check_shapes(params: Params, state: Mapping[str, Any]) -> None:
    """Compare the shapes before memory is taken for them: what params.pkl asks for must be in the file."""
    with torch.device("meta"):
        head = Head(params.head_shape)
    for part in ("discriminator", "pre_projection"):
        module = getattr(head, part)
        for name, tensor in () if module is None else module.state_dict().items():
            if state[part][name].shape != tensor.shape:
                found, expected = list(state[part][name].shape), list(tensor.shape)
                raise ValueError(f"{part}.{name} has the shape {found}, and params.pkl says {expected}")


def _read_backbone(folder: Path, params: Params, given: Path | nn.Module | None) -> nn.Module:
    if isinstance(given, nn.Module):
        return given.eval()
    stored = folder / "backbone.pth"
    weights = given if given is not None else stored if stored.exists() else None
    backbone = backbones.pretrained(params.backbone, params.layers_to_extract_from, params.input_shape, weights)
    _check_finite(backbone, weights or Path(params.backbone))
    return backbone


def _check_finite(module: nn.Module, path: Path) -> None:
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise UsageError(f"{path} is refused: its weights {name!r} are not finite numbers. Calibrate again.")


def _probe(folder: Path, params: Params, backbone: nn.Module, head: Head) -> None:
    """Run one black picture through: backbone and head must fit each other."""
    try:
        with torch.inference_mode():
            scores: Tensor = head(backbone(torch.zeros(1, *params.input_shape)))
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"The files of {folder} do not fit each other: {_first_line(error)}.") from None
    if not bool(scores.isfinite().all()):
        raise UsageError(f"The model {folder} is refused: it scores a black picture with NaN. Calibrate again.")


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".:")[:300]
