"""Pictures of good parts in, a judged-ready model out: the whole of calibration without cameras or files.

The order matters: clean, learn, score what the scoring heads never saw (in the form of the engine that will judge),
set the threshold. Nothing is trained afterwards.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import msgspec
import torch

from calibrate.data.clean import Cleaning
from calibrate.data.sizing import Sizing
from calibrate.data.training_set import Pictures, check_enough
from calibrate.progress import Unwatched, Watcher
from calibrate.training.by_epochs import EpochTraining, Keeper, KeepLast
from calibrate.training.by_recipe import train_by_recipe
from calibrate.training.options import Options, options_for
from calibrate.training.scoring import score_pixels
from calibrate.training.threshold import choose_threshold, held_out_positions
from calibrate.training.trained import Trained
from inspectd.engine.backend import Backend, Variant
from inspectd.engine.choose import torch_device
from inspectd.errors import StartError
from inspectd.model.artefact import sha256
from inspectd.model.calibration import CALIBRATION_VERSION, Calibration, CameraRecord, ThresholdRecord
from inspectd.model.framing import find_framing, find_tint
from inspectd.model.geometry import IMAGENET_MEAN, IMAGENET_STD
from inspectd.records import Picture
from inspectd.simplenet import backbone as backbones
from inspectd.simplenet.bundle import Bundle
from inspectd.version import VERSION

TOGETHER = 8
"""Pictures that are given to the engine at once, which scores those of a small network side by side."""


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

    @property
    def unconfirmed(self) -> list[int]:
        """Positions of held-out pictures that look unlike the rest and that nobody has confirmed."""
        return [] if self.cleaning is None else [i for i in self.held_out if i in self.cleaning.unconfirmed]


def learn(
    pictures: Pictures,
    options: Options,
    backend: Backend,
    *,
    run: str,
    camera: CameraRecord,
    held_out: Sequence[int] | None = None,
    keeper: Keeper | None = None,
    watcher: Watcher | None = None,
) -> Learned:
    """Train on the pictures, and set the threshold on scores of heads that never saw what they score.

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
    return _with_threshold(pictures, trained, options, backend, run, camera, watcher)


def _with_threshold(
    pictures: Pictures,
    trained: Trained,
    options: Options,
    backend: Backend,
    run: str,
    camera: CameraRecord,
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
    scores, painted = _scores(pictures, trained, draft, backend, watcher)

    def choose(scores: Sequence[float], painted: Sequence[float]) -> ThresholdRecord | None:
        return choose_threshold(scores, options.rate, options.confidence, rejected, painted) if scores else None

    calibration = Calibration(
        version=CALIBRATION_VERSION,
        run=run,
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        threshold=choose(scores, painted),
        held_out_scores=tuple(sorted(scores)),
        device=variant.device,
        precision=variant.precision,
        camera=camera,
        roi=options.roi,
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
    model = dataclasses.replace(draft, calibration=calibration, digest=name)
    judges = backend.prepare(model).variant
    if judges != variant:  # the threshold shows that the faster one is too far from the textbook: set it in the other
        calibration = msgspec.structs.replace(calibration, device=judges.device, precision=judges.precision)
        model = dataclasses.replace(model, calibration=calibration)
        scores, painted = _scores(pictures, trained, model, backend, watcher)
        calibration = msgspec.structs.replace(
            calibration, threshold=choose(scores, painted), held_out_scores=tuple(sorted(scores))
        )
        model = dataclasses.replace(model, calibration=calibration)
    backend.forget(draft)
    return Learned(model, calibration.threshold, scores, positions, cleaning, trained.kept, painted)


def _scores(
    pictures: Pictures, trained: Trained, like: Bundle, backend: Backend, watcher: Watcher
) -> tuple[list[float], list[float]]:
    """Return the scores of the held-out pictures, in their order, and of painted ones, as `like` is judged."""
    watcher.stage("threshold", len(trained.held_out) + sum(len(trial.painted) for trial in trained.trials))
    good: dict[int, float] = {}
    painted: list[float] = []
    for number, trial in enumerate(trained.trials):
        is_judge = trial.head is trained.head
        model = like if is_judge else dataclasses.replace(like, head=trial.head, digest=f"{like.digest} {number}")
        _check_alike(backend.prepare(model, is_draft=True).variant, backend.prepare(like).variant)
        scores: list[float] = []
        inputs = trial.inputs(pictures)
        while some := list(islice(inputs, TOGETHER)):
            scores += score_pixels(backend, model, torch.stack(some)).reshape(len(some), -1).max(axis=1).tolist()
            for _ in some:
                watcher.step()
        good.update(zip(trial.positions, scores[: len(trial.positions)], strict=True))
        painted += scores[len(trial.positions) :]
        if not is_judge:
            backend.forget(model)
    return [good[i] for i in trained.held_out], painted


def _check_alike(ours: Variant, judges: Variant) -> None:
    if ours != judges:
        raise StartError(
            f"Heads of one model are scored in {ours} and in {judges}, so no threshold can be set; nothing was "
            "changed. Please report this."
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
    pictures = Pictures(options.geometry(), options.white_level, options.augmentation, draws)
    if options.sizing is not None:
        pictures.sized = lambda size: options.fitted(size).geometry()
    return pictures


def settled(options: Options, pictures: Pictures) -> Options:
    """Return the options with the size that the pictures have."""
    return dataclasses.replace(options, height=pictures.geometry.height, width=pictures.geometry.width, sizing=None)


def _versions() -> dict[str, str]:
    found = {name: importlib.metadata.version(name) for name in ("torch", "timm", "numpy", "opencv-python-headless")}
    return {"inspectd": VERSION, "python": platform.python_version(), **found}
