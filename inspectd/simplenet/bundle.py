"""A model that can compute: what its folder's tensors are, read without running anything, and written.

Tensors are read with `weights_only`. The folder's files, seals and digests are `inspectd.model.artefact`'s.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from inspectd.errors import UsageError
from inspectd.model import artefact
from inspectd.model.artefact import Artefact, first_line
from inspectd.model.calibration import Calibration, Params
from inspectd.simplenet import backbone as backbones
from inspectd.simplenet.network import Head, HeadShape, Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle(Artefact):
    """A loaded model: what is known of it, with its backbone and head."""

    head: Head
    backbone: nn.Module

    @property
    def head_shape(self) -> HeadShape:
        """The head's arithmetic."""
        return head_shape(self.params)

    @property
    def network(self) -> Network:
        """Backbone and head in one, in evaluation mode."""
        network = Network(self.backbone, self.head)
        network.eval()
        return network


def head_shape(params: Params) -> HeadShape:
    """Return the arithmetic of the head that params.pkl describes."""
    return HeadShape(
        params.pretrain_embed_dimension,
        params.target_embed_dimension,
        params.patchsize,
        params.patchstride,
        params.pre_proj,
        params.proj_layer_type,
        params.dsc_layers,
        params.dsc_hidden,
        params.embedding_size,
        params.memory_patches,
        params.memory_width,
        params.score_window,
    )


def save(folder: Path, model: Bundle) -> None:
    """Write the files of one model into an existing, empty folder."""
    head, backbone = model.head, model.backbone
    checkpoint: dict[str, Any] = {"discriminator": head.discriminator.state_dict()}
    if head.pre_projection is not None:
        checkpoint["pre_projection"] = head.pre_projection.state_dict()
    checkpoint["standardisation"] = {"mean": head.feature_mean, "spread": head.feature_spread}
    if head.memory is not None:
        checkpoint["memory"] = head.memory.state_dict()
    state = backbone.model.state_dict() if isinstance(backbone, backbones.Backbone) else backbone.state_dict()
    artefact.write(folder, model, _tensor_bytes(checkpoint), _tensor_bytes(dict(state)))


def _tensor_bytes(state: Mapping[str, Any]) -> bytes:
    # Through memory: torch's own writer turns a full disk into something else than an OSError.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def load(folder: Path, backbone: Path | nn.Module | None = None, shared: dict[str, nn.Module] | None = None) -> Bundle:
    """Read a model folder; UsageError says in one sentence what is missing, damaged or not allowed.

    `backbone` is a weights file or a ready module, for folders that do not hold their backbone. `shared` holds
    backbones by their digest: models that are loaded with the same `shared` have equal backbones in common.
    """
    files = artefact.read(folder)
    known, folder = files.artefact, files.folder
    params, calibration = known.params, known.calibration
    head = _read_head(files.checkpoint, folder / "ckpt.pth", params)
    module = _shared_backbone(calibration, params, shared) if backbone is None else None
    if module is None:
        module = _read_backbone(folder, params, backbone)
        if shared is not None and calibration is not None:
            shared[_backbone_key(calibration, params)] = module
    _probe(folder, params, module, head)
    return Bundle(
        params=params,
        calibration=calibration,
        name=known.name,
        digest=known.digest,
        parity=known.parity,
        head=head,
        backbone=module,
    )


def _backbone_key(calibration: Calibration, params: Params) -> str:
    return f"{calibration.backbone_digest} {params.input_shape}"


def _shared_backbone(
    calibration: Calibration | None, params: Params, shared: dict[str, nn.Module] | None
) -> nn.Module | None:
    if calibration is None or shared is None:
        return None
    return shared.get(_backbone_key(calibration, params))


def _read_head(data: bytes, path: Path, params: Params) -> Head:
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        _check_shapes(params, state)
        head = Head(head_shape(params))
        head.discriminator.load_state_dict(state["discriminator"])
        if head.pre_projection is not None:
            head.pre_projection.load_state_dict(state["pre_projection"])
        if head.memory is not None:
            head.memory.load_state_dict(state["memory"])
        if "standardisation" in state:
            head.feature_mean.copy_(state["standardisation"]["mean"])
            head.feature_spread.copy_(state["standardisation"]["spread"])
    except Exception as error:  # noqa: BLE001 - torch.load raises whatever the broken file provokes
        raise UsageError(
            f"{path} is refused, and nothing in it was run: {first_line(error)}. Expected the discriminator and "
            "projection (and memory bank) that params.pkl describes."
        ) from None
    _check_finite(head, path)
    return head.eval()


def _check_shapes(params: Params, state: Mapping[str, Any]) -> None:
    """Compare the shapes before memory is taken for them: what params.pkl asks for must be in the file."""
    if params.score_window % 2 == 0:
        raise ValueError(f"params.pkl says score_window {params.score_window}, which is no odd number")
    with torch.device("meta"):
        head = Head(head_shape(params))
    for part in ("discriminator", "pre_projection", "memory"):
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
            shape = params.input_shape
            if isinstance(backbone, backbones.Backbone):
                shape = backbone.example_of(shape)
            scores: Tensor = head(backbone(torch.zeros(1, *shape)))
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"The files of {folder} do not fit each other: {first_line(error)}.") from None
    if not bool(scores.isfinite().all()):
        raise UsageError(f"The model {folder} is refused: it scores a black picture with NaN. Calibrate again.")
