"""Pictures of good parts in, a judged-ready model out: the whole of calibration without cameras or files.

The order matters: clean, learn, score what the scoring heads never saw (in the form of the engine that will judge),
set the threshold. Nothing is trained afterwards.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import math
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import torch

from calibrate.data.clean import Cleaning
from calibrate.data.sizing import Sizing
from calibrate.data.training_set import Pictures, check_enough
from calibrate.progress import Unwatched, Watcher
from calibrate.training.by_epochs import EpochTraining, Keeper, KeepLast
from calibrate.training.by_recipe import train_by_recipe
from calibrate.training.independence import independent_parts
from calibrate.training.options import Options, options_for
from calibrate.training.scoring import score_pixels
from calibrate.training.threshold import choose_threshold, held_out_positions
from calibrate.training.trained import Trained, confirmed_of
from calibrate.training.tried import Tried, try_out
from calibrate.training.withstood import Withstood, find_optics
from inspectd.engine.backend import Backend
from inspectd.engine.choose import torch_device
from inspectd.line.judge import exceeds
from inspectd.model.artefact import sha256
from inspectd.model.calibration import (
    CALIBRATION_VERSION,
    Calibration,
    CameraRecord,
    IgnoredPatches,
    ThresholdRecord,
)
from inspectd.model.framing import find_framing, find_tint
from inspectd.model.geometry import IMAGENET_MEAN, IMAGENET_STD
from inspectd.model.presence import Presence
from inspectd.records import Picture
from inspectd.simplenet import backbone as backbones
from inspectd.simplenet.bundle import Bundle
from inspectd.version import VERSION


@dataclass(frozen=True, slots=True)
class Learned:
    """A trained, judged-ready model and how it came about."""

    model: Bundle
    threshold: ThresholdRecord | None
    """None: no part was held out."""
    scores: list[float]
    """Of the held-out pictures, in their order."""
    held_out: list[int]
    """Their positions among the pictures."""
    cleaning: Cleaning | None
    kept: str
    painted: list[float] = dataclasses.field(default_factory=list)
    """Scores of held-out parts with a painted defect, by heads that never saw them."""
    withstood: list[Withstood] = dataclasses.field(default_factory=list)
    """What some held-out parts stand before they are rejected."""

    confirmed: frozenset[int] = frozenset()
    """Positions of pictures that a person has confirmed."""

    @property
    def unconfirmed(self) -> list[int]:
        """Positions of held-out pictures that look unlike the rest and that nobody has confirmed."""
        return [] if self.cleaning is None else [i for i in self.held_out if i in self.cleaning.unconfirmed]

    @property
    def doubtful(self) -> list[int]:
        """Positions of all held-out pictures that count as rejected and that a person should look at."""
        threshold, odd = self.threshold, set(self.unconfirmed)
        if threshold is None or not threshold.painted or threshold.is_proven:
            return self.unconfirmed
        high = {i for i, s in zip(self.held_out, self.scores, strict=True) if exceeds(s, threshold.value)}
        return [i for i in self.held_out if i in odd | (high - self.confirmed)]


def learn(
    pictures: Pictures,
    options: Options,
    backend: Backend,
    *,
    run: str,
    camera: CameraRecord,
    presence: Presence | None = None,
    held_out: Sequence[int] | None = None,
    keeper: Keeper | None = None,
    watcher: Watcher | None = None,
) -> Learned:
    """Train on the pictures, and set the threshold on scores of heads that never saw what they score.

    `presence`: what a part is, where the pictures were cut out around parts that pass.
    With the published schedule: train on those that are not `held_out` (None: as `held_out_positions` says), and let
    the head that judges score the others. With our recipe every picture is learned from and held out once.
    """
    watcher = watcher or Unwatched()
    params = options.params
    torch.manual_seed(options.seed)
    backbone = backbones.pretrained(params.backbone, params.layers_to_extract_from, params.input_shape, options.weights)
    device = torch_device(backend.variant.device)
    if options.recipe is not None:
        trained = train_by_recipe(pictures, options, options.recipe, backbone, device, watcher)
    else:
        held = held_out_positions(len(pictures)) if held_out is None else list(held_out)
        training = EpochTraining(pictures, set(held), options, backbone, device, watcher)
        trained = training.run(keeper or KeepLast())
    return _with_threshold(pictures, trained, options, backend, run, camera, presence, watcher)


def _with_threshold(
    pictures: Pictures,
    trained: Trained,
    options: Options,
    backend: Backend,
    run: str,
    camera: CameraRecord,
    presence: Presence | None,
    watcher: Watcher,
) -> Learned:
    digest = backbones.digest(trained.backbone)
    # Of the head too: a second training with the same settings, on other pictures, is another model.
    weights = b"".join(tensor.numpy().tobytes() for tensor in trained.head.state_dict().values())
    name = sha256(digest.encode() + weights)
    draft = Bundle(
        params=options.with_shape(trained.head.shape).params,
        calibration=None,
        name=run,
        digest=f"{name} draft",
        parity=lambda: pictures.raw,
        head=trained.head,
        backbone=trained.backbone,
    )
    variant = backend.prepare(draft, is_draft=True).variant
    positions, cleaning = list(trained.held_out), trained.cleaning
    rejected = [cleaning is not None and i in cleaning.unconfirmed for i in positions]
    confirmed = confirmed_of(options, pictures)
    is_sure = [i in confirmed for i in positions]
    scored_by = {i: number for number, trial in enumerate(trained.trials) for i in trial.positions}
    heads = [scored_by[i] for i in positions]
    usable = [i for i in positions if cleaning is None or i not in cleaning.unlike]
    light_varies = options.recipe.vary_light if options.recipe else 0.0
    tried = try_out(pictures, trained, draft, backend, watcher)

    def with_limits(calibration: Calibration, tried: Tried) -> Calibration:
        good = [tried.good[i] for i in positions]
        # The published way of holding out is left as it is.
        parts = independent_parts(good, heads) if options.recipe else math.inf
        found = None
        if good:
            found = choose_threshold(
                good, options.rate, options.confidence, rejected, tried.painted, is_sure, independent=parts
            )
        withstood = tried.withstood(found)
        return msgspec.structs.replace(
            calibration,
            threshold=found,
            held_out_scores=tuple(sorted(good)),
            optics=find_optics(pictures, usable, withstood, light_varies) if withstood else None,
        )

    calibration = Calibration(
        version=CALIBRATION_VERSION,
        run=run,
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        threshold=None,
        held_out_scores=(),
        device=variant.device,
        precision=variant.precision,
        camera=camera,
        presence=presence,
        roi=options.roi,
        rois=options.rois,
        ignored=_ignored_patches(pictures, draft, backend),
        resize=options.resize,
        framing=find_framing(pictures.smalls),
        tint=find_tint(pictures.tints),
        white_level=options.white_level,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        backbone_digest=digest,
        seed=options.seed,
        pictures=len(pictures),
        pictures_digest=pictures.digest,
        statistics=pictures.statistics(),
        recipe={**dataclasses.asdict(options.recipe or options.schedule), "kept": trained.kept},
        versions=_versions(),
        files={},
    )
    model = dataclasses.replace(draft, calibration=with_limits(calibration, tried), digest=name)
    judges = backend.prepare(model).variant
    if judges != variant:  # the threshold shows that the faster one is too far from the textbook: set it in the other
        calibration = msgspec.structs.replace(calibration, device=judges.device, precision=judges.precision)
        model = dataclasses.replace(model, calibration=calibration)
        tried = try_out(pictures, trained, model, backend, watcher)
        model = dataclasses.replace(model, calibration=with_limits(calibration, tried))
    backend.forget(draft)
    assert model.calibration is not None
    threshold = model.calibration.threshold
    scores = [tried.good[i] for i in positions]
    return Learned(
        model,
        threshold,
        scores,
        positions,
        cleaning,
        trained.kept,
        tried.painted,
        tried.withstood(threshold),
        frozenset(confirmed),
    )


def fit(images: Iterable[Picture], backend: Backend, **parameters: Any) -> Bundle:
    """Train on arrays: the Python API's `SimpleNet.fit`.

    `parameters`: `backbone`, `layers_to_extract_from`, `imagesize` (pixels, or height and width; by default the first
    picture decides), and any field of Options, HeadShape, Recipe and Schedule, which carry the published names.
    """
    size = parameters.pop("imagesize", None)
    if size is not None:
        parameters["height"], parameters["width"] = (size, size) if isinstance(size, int) else size
    elif not parameters.keys() & {"height", "width"}:
        parameters.setdefault("sizing", Sizing())
    options = options_for(parameters.pop("backbone", None), parameters.pop("layers_to_extract_from", ()), **parameters)
    pictures = pictures_for(options)
    for i, image in enumerate(images):
        pictures.add(image, str(i))
    check_enough(len(pictures), (), "those given")
    camera = CameraRecord("fit", None, *pictures.size)
    return learn(pictures, settled(options, pictures), backend, run="fit", camera=camera).model


def pictures_for(options: Options) -> Pictures:
    """Return room for pictures, as the options want them."""
    draws = torch.Generator().manual_seed(options.seed)
    pictures = Pictures(
        options.geometry(), options.white_level, options.ignored, options.rois, options.augmentation, draws
    )
    if options.sizing is not None:
        pictures.sized = lambda size: options.fitted(size).geometry()
    return pictures


def settled(options: Options, pictures: Pictures) -> Options:
    """Return the options with the size that the pictures have."""
    return dataclasses.replace(options, height=pictures.geometry.height, width=pictures.geometry.width, sizing=None)


def _ignored_patches(pictures: Pictures, model: Bundle, backend: Backend) -> IgnoredPatches | None:
    """Return the patches that are left out, for the model to keep; None: none are."""
    if pictures.ignored is None:
        return None
    _, height, width = score_pixels(backend, model, pictures.input(0)[None]).shape
    seen = pictures.seen((height, width))
    return None if seen is None else IgnoredPatches((height, width), tuple(np.flatnonzero(~seen).tolist()))


def _versions() -> dict[str, str]:
    found = {name: importlib.metadata.version(name) for name in ("torch", "timm", "numpy", "opencv-python-headless")}
    return {"inspectd": VERSION, "python": platform.python_version(), **found}
