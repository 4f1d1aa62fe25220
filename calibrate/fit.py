"""Pictures of good parts in, a judged-ready model out: the whole of calibration without cameras or files.

The order matters: hold out, learn from the rest, score the held-out ones with the very model and engine
that will judge, set the threshold. Nothing is trained afterwards.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from calibrate.features import cache_features, patch_batches, picture_batches
from calibrate.loss import NoiseMaker, StepLoss
from calibrate.threshold import choose_threshold, held_out_positions
from calibrate.train import HeadTrainer, Recipe, standardise, train
from inspectd.engine.torch_backend import TorchBackend
from inspectd.errors import UsageError
from inspectd.records import Picture, Rect
from inspectd.simplenet import backbone as backbones
from inspectd.simplenet.bundle import (
    CALIBRATION_VERSION,
    Bundle,
    Calibration,
    CameraRecord,
    Params,
    ThresholdRecord,
)
from inspectd.simplenet.network import Head, HeadShape
from inspectd.simplenet.preprocess import IMAGENET_MEAN, IMAGENET_STD, Geometry, Normalise, resize
from inspectd.version import VERSION

FEWEST_PICTURES = 8
EMBEDDED_RECIPE = Recipe(noise_std=0.3, dsc_lr=1e-3, standardise=True, patches_per_step=2048, steps=300, cosine=True)
"""For EfficientNet-Lite0: noise relative to the features' own spread (README has what was tried)."""
EMBEDDED_SHAPE = HeadShape(512, 512, dsc_hidden=384)
PUBLISHED_LAYERS = ("layer2", "layer3")
IMAGE_SIZE = 288


@dataclass(frozen=True, slots=True)
class Options:
    """Everything that decides a calibration but its pictures."""

    backbone: str = backbones.EMBEDDED
    layers: tuple[str, ...] = backbones.EMBEDDED_LAYERS
    weights: Path | None = None
    height: int = IMAGE_SIZE
    width: int = IMAGE_SIZE
    roi: Rect | None = None
    white_level: int = 65535
    shape: HeadShape = EMBEDDED_SHAPE
    recipe: Recipe = EMBEDDED_RECIPE
    seed: int = 0
    rate: float = 0.01
    confidence: float = 0.95


def options_for(backbone: str | None, layers: Sequence[str], **changes: Any) -> Options:
    """Return the options of a backbone: tuned for the embedded one, the published ones for any other.

    `changes` are fields of Options, HeadShape or Recipe; None means: as it is.
    """
    name = backbone or backbones.EMBEDDED
    if backbones.resolve(name) == backbones.EMBEDDED:
        options = Options(layers=tuple(layers) or backbones.EMBEDDED_LAYERS)
    else:
        options = Options(name, tuple(layers) or PUBLISHED_LAYERS, shape=HeadShape(), recipe=Recipe())
    given = {key: value for key, value in changes.items() if value is not None}
    if given.keys() & {"meta_epochs", "gan_epochs", "batch_size"}:  # these ask for the published schedule
        options = dataclasses.replace(
            options, recipe=dataclasses.replace(options.recipe, patches_per_step=None, steps=None)
        )
    shape = _pick(given, HeadShape)
    recipe = _pick(given, Recipe)
    own = _pick(given, Options)
    if given:
        known = [f.name for kind in (Options, HeadShape, Recipe) for f in dataclasses.fields(kind)]
        raise UsageError(f"Unknown parameter {', '.join(given)}; expected some of {', '.join(sorted(known))}.")
    return dataclasses.replace(
        options,
        shape=dataclasses.replace(options.shape, **shape),
        recipe=dataclasses.replace(options.recipe, **recipe),
        **own,
    )


def _pick(given: dict[str, Any], kind: type[Any]) -> dict[str, Any]:
    return {f.name: given.pop(f.name) for f in dataclasses.fields(kind) if f.name in given}


class Watcher(Protocol):
    """Who is told how far a calibration is."""

    def stage(self, name: str, total: int) -> None:
        """A stage of `total` steps begins."""

    def step(self) -> None:
        """One step of the stage is done."""

    def loss(self, step: int, loss: float, p_true: float, p_fake: float) -> None:
        """The training loss at a step."""


class Unwatched:
    """Tells nobody."""

    def stage(self, name: str, total: int) -> None:
        """Ignore."""

    def step(self) -> None:
        """Ignore."""

    def loss(self, step: int, loss: float, p_true: float, p_fake: float) -> None:
        """Ignore."""


@dataclass(slots=True)
class Pictures:
    """The good parts, brought to the network's input, in the order in which they were seen."""

    options: Options
    inputs: list[Tensor] = field(default_factory=list)
    """uint8 or float32 [3, H, W], 0 … 255."""
    names: list[str] = field(default_factory=list)
    raw: list[Picture] = field(default_factory=list)
    """The first few as the camera gave them, for the parity gate."""
    size: tuple[int, int] = (0, 0)
    """Width and height of the first picture."""
    _sha: Any = field(default_factory=hashlib.sha256)

    KEPT_RAW = 4

    def add(self, picture: Picture, name: str) -> None:
        """Take one picture (it is copied)."""
        height, width = picture.shape[:2]
        if not self.inputs:
            self.size = (width, height)
        self.inputs.append(resize(picture, self.geometry, self.options.white_level).clone())
        self.names.append(name)
        self._sha.update(f"{picture.shape}{picture.dtype}".encode())
        self._sha.update(picture.tobytes())
        if len(self.raw) < self.KEPT_RAW:
            self.raw.append(picture.copy())

    @property
    def geometry(self) -> Geometry:
        """What is inspected of each picture."""
        roi = self.options.roi
        return Geometry(self.options.height, self.options.width, roi, self.size if roi else None)

    @property
    def digest(self) -> str:
        """SHA-256 over all pictures in order."""
        return str(self._sha.hexdigest())


@dataclass(frozen=True, slots=True)
class Learned:
    """A trained, judged-ready model and how it came about."""

    model: Bundle
    threshold: ThresholdRecord
    scores: list[float]
    """Of the held-out pictures, in their order."""
    held_out: list[int]
    """Their positions among the pictures."""


def learn(
    pictures: Pictures,
    backend: TorchBackend,
    *,
    run: str,
    camera: CameraRecord,
    watcher: Watcher | None = None,
) -> Learned:
    """Train on the pictures that are not held out and set the threshold on those that are."""
    watcher = watcher or Unwatched()
    options = pictures.options
    if len(pictures.inputs) < FEWEST_PICTURES:
        raise UsageError(
            f"There are {len(pictures.inputs)} usable pictures of good parts; expected at least {FEWEST_PICTURES}, "
            "and better 60 or more."
        )
    held_out = held_out_positions(len(pictures.inputs))
    kept = set(held_out)
    learned_from = [pixels for i, pixels in enumerate(pictures.inputs) if i not in kept]
    params = _params(options)
    torch.manual_seed(options.seed)
    backbone = backbones.pretrained(params.backbone, params.layers_to_extract_from, params.input_shape, options.weights)
    head = _train(learned_from, backbone, options, torch.device(backend.device), watcher)

    draft = Bundle(params, head, backbone, None, run, backbones.digest(backbone) + str(options.seed))
    scores = _scores([pictures.inputs[i] for i in held_out], draft, backend, watcher)
    threshold = choose_threshold(scores, options.rate, options.confidence)
    calibration = Calibration(
        version=CALIBRATION_VERSION,
        run=run,
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        threshold=threshold,
        held_out_scores=tuple(sorted(scores)),
        device=backend.device,
        precision=backend.precision,
        camera=camera,
        roi=options.roi,
        white_level=options.white_level,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        backbone_digest=backbones.digest(backbone),
        seed=options.seed,
        pictures=len(pictures.inputs),
        pictures_digest=pictures.digest,
        statistics=_statistics(learned_from),
        recipe=dataclasses.asdict(options.recipe),
        versions=_versions(),
        files={},
    )
    return Learned(dataclasses.replace(draft, calibration=calibration), threshold, scores, held_out)


def fit(images: Iterable[Picture], backend: TorchBackend, **parameters: Any) -> Bundle:
    """Train on arrays: the Python API's `SimpleNet.fit`.

    `parameters`: `backbone`, `layers_to_extract_from`, `imagesize` (pixels, or height and width), and any
    field of Options, HeadShape and Recipe, which carry the published names.
    """
    size = parameters.pop("imagesize", None)
    if size is not None:
        parameters["height"], parameters["width"] = (size, size) if isinstance(size, int) else size
    options = options_for(parameters.pop("backbone", None), parameters.pop("layers_to_extract_from", ()), **parameters)
    pictures = Pictures(options)
    for i, image in enumerate(images):
        pictures.add(image, str(i))
    camera = CameraRecord("fit", None, *pictures.size)
    return learn(pictures, backend, run="fit", camera=camera).model


def _params(options: Options) -> Params:
    shape = options.shape
    for name, value in (
        ("imagesize", options.height),
        ("imagesize", options.width),
        *dataclasses.asdict(shape).items(),
    ):
        if isinstance(value, int) and value < (0 if name in ("pre_proj", "proj_layer_type") else 1):
            raise UsageError(f"{name} is {value}; expected a whole number of at least 1.")
    return Params(
        options.backbone,
        options.layers,
        (3, options.height, options.width),
        **dataclasses.asdict(shape),
    )


def _train(
    inputs: Sequence[Tensor],
    backbone: backbones.Backbone,
    options: Options,
    device: torch.device,
    watcher: Watcher,
) -> Head:
    recipe = options.recipe
    watcher.stage("features", len(inputs))
    features = cache_features(inputs, backbone.to(device), options.shape, Normalise(device), device, watcher.step)
    head = Head(options.shape).to(device)
    if recipe.standardise:
        standardise(head, features.flatten(0, 1).float().to(device))
    draws = torch.Generator().manual_seed(options.seed)
    if recipe.patches_per_step is not None and recipe.steps is not None:
        steps = recipe.steps
        batches = patch_batches(features, recipe.patches_per_step, steps, draws)
    else:
        epochs = recipe.meta_epochs * recipe.gan_epochs
        steps = epochs * -(-len(features) // recipe.batch_size)
        batches = picture_batches(features, recipe.batch_size, epochs, draws)
    noise = NoiseMaker(recipe.noise_std, recipe.mix_noise, torch.Generator(device).manual_seed(options.seed))
    watcher.stage("training", steps)
    log_every = max(1, steps // 100)

    def on_step(number: int, result: StepLoss) -> None:
        watcher.step()
        if number % log_every == 0 or number == steps:
            watcher.loss(number, float(result.loss.detach()), float(result.p_true), float(result.p_fake))

    trainer = HeadTrainer(head, recipe, noise, steps)
    return train(trainer, (rows.to(device) for rows in batches), on_step).cpu()


def _scores(inputs: Sequence[Tensor], model: Bundle, backend: TorchBackend, watcher: Watcher) -> list[float]:
    watcher.stage("threshold", len(inputs))
    scores = []
    for pixels in inputs:
        scores.append(float(backend.score_inputs(model, pixels[None].float()).max()))
        watcher.step()
    return scores


def _statistics(inputs: Sequence[Tensor]) -> dict[str, float]:
    means = torch.stack([pixels.float().mean() for pixels in inputs])
    spreads = torch.stack([pixels.float().std() for pixels in inputs])
    return {
        "grey_mean": float(means.mean()),
        "grey_lowest": float(means.min()),
        "grey_highest": float(means.max()),
        "contrast_mean": float(spreads.mean()),
    }


def _versions() -> dict[str, str]:
    found = {name: importlib.metadata.version(name) for name in ("torch", "timm", "numpy", "opencv-python-headless")}
    return {"inspectd": VERSION, "python": platform.python_version(), **found}
