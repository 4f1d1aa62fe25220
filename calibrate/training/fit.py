"""Pictures of good parts in, a judged-ready model out: the whole of calibration without cameras or files.

The order matters: clean, learn, score what the scoring heads never saw (in the form of the engine that will judge),
set the threshold. Nothing is trained afterwards.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Protocol

import msgspec
import torch
from torch import Tensor

from calibrate.data.clean import Cleaning, find_unlike
from calibrate.data.sizing import Sizing
from calibrate.data.training_set import Chosen, Pictures, check_enough
from calibrate.progress import Unwatched, Watcher
from calibrate.training.crossfit import cross_fit
from calibrate.training.embedding import FoldedEmbedder
from calibrate.training.features import CachedPictures, Embedder, FreshPictures, cache_features
from calibrate.training.loss import StepLoss
from calibrate.training.material import embed_good, fitting, made_from, make_material, make_probes
from calibrate.training.options import Options, options_for
from calibrate.training.recipe import MEMBERS, Recipe, folds_of
from calibrate.training.scoring import score_pixels
from calibrate.training.threshold import choose_threshold, held_out_positions
from calibrate.training.train import HeadTrainer, noise_for, standardise, train
from inspectd.engine.backend import Backend, Variant
from inspectd.engine.choose import torch_device
from inspectd.errors import StartError, UsageError
from inspectd.model.artefact import sha256
from inspectd.model.calibration import CALIBRATION_VERSION, Calibration, CameraRecord, ThresholdRecord
from inspectd.model.framing import find_framing, find_tint
from inspectd.model.geometry import IMAGENET_MEAN, IMAGENET_STD
from inspectd.records import Picture
from inspectd.simplenet import backbone as backbones
from inspectd.simplenet.bundle import Bundle
from inspectd.simplenet.network import Head
from inspectd.version import VERSION

FEWEST_SEEN = 2
"""Pictures that every member of the ensemble must see."""
TOGETHER = 8
"""Pictures that are given to the engine at once, which scores those of a small network side by side."""
LOG_LINES = 100
"""How often in a training the loss is looked at: each time the host waits for the device."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a head is tried on that never saw it."""

    head: Head
    positions: tuple[int, ...]
    """Of held-out pictures."""
    painted: tuple[Tensor, ...] = ()
    """Good parts with a painted defect, uint8 [3, H, W]."""

    def inputs(self, pictures: Pictures) -> Iterator[Tensor]:
        """Yield the held-out pictures, then the painted ones."""
        yield from map(pictures.input, self.positions)
        yield from (pixels.float() for pixels in self.painted)


@dataclass(frozen=True, slots=True)
class Trained:
    """A head, the backbone it belongs to, and which checkpoint of the training it is."""

    head: Head
    backbone: backbones.Backbone
    kept: str = "last"
    held_out: tuple[int, ...] = ()
    """Positions of the pictures that the threshold rests on."""
    trials: tuple[Trial, ...] = ()
    """Who scores them."""
    cleaning: Cleaning | None = None


class Keeper(Protocol):
    """Sees the network after every meta epoch and says in the end which checkpoint is kept."""

    def on_meta_epoch(self, number: int, head: Head, embedder: Embedder) -> None:
        """Meta epoch `number` (from 1) has ended; the head is in training mode and must be left so."""

    def choose(self, head: Head, backbone: backbones.Backbone) -> Trained:
        """Return what is kept of a training that ended with `head`."""


class KeepLast:
    """The last checkpoint, which nobody has chosen."""

    def on_meta_epoch(self, number: int, head: Head, embedder: Embedder) -> None:
        """Look at nothing."""

    def choose(self, head: Head, backbone: backbones.Backbone) -> Trained:
        """Keep what there is."""
        return Trained(head, backbone)


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
        trained = _cross_fitted(pictures, options, options.recipe, backbone, device, watcher)
    else:
        held = held_out_positions(len(pictures)) if held_out is None else list(held_out)
        training = _Training(pictures, set(held), options, backbone, device, watcher)
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


def _cross_fitted(
    pictures: Pictures,
    options: Options,
    recipe: Recipe,
    backbone: backbones.Backbone,
    device: torch.device,
    watcher: Watcher,
) -> Trained:
    embedder = FoldedEmbedder(backbone, options.shape, options.params.input_shape, device)
    everyone, folds = range(len(pictures)), folds_of(len(pictures))
    watcher.stage("features", len(pictures))
    good = embed_good(pictures, embedder, options.cache, options.cache_folder, watcher.report, watcher.step)
    cleaning = find_unlike(good, everyone, everyone, confirmed_of(options, pictures)) if options.clean else None
    usable = [i for i in everyone if cleaning is None or i not in cleaning.unlike]
    _check_left(usable, folds, pictures)
    recipe = dataclasses.replace(recipe, made=fitting(recipe.made, good))
    watcher.stage("made up", 2 * len(made_from(usable, recipe)))
    material = make_material(pictures, good, folds, usable, embedder, recipe, options.seed, watcher.step)
    watcher.stage("training", recipe.steps)
    found = cross_fit(material, options.shape, recipe, options.seed, _told(watcher, recipe.steps))
    probes = make_probes(pictures, folds, usable, embedder.grid, recipe, options.seed)
    trials = tuple(
        Trial(
            head,
            tuple(i for i in everyone if folds[i] == fold),
            tuple(pixels for of, pixels in probes if of == fold),
        )
        for fold, head in enumerate(found.without)
    )
    return Trained(found.head, backbone.eval(), "last", tuple(everyone), trials, cleaning)


def _check_left(usable: Sequence[int], folds: Sequence[int], pictures: Pictures) -> None:
    """Refuse a set of which too little is left for some member of the ensemble to learn from (UsageError)."""
    left = [sum(folds[i] not in unseen for i in usable) for unseen in MEMBERS]
    if min(left) < FEWEST_SEEN:
        raise UsageError(
            f"Of the {len(pictures)} pictures {len(pictures) - len(usable)} look unlike the rest, and in some "
            "stretches of time too few are left to learn from. Take more pictures of good parts, or --confirm those "
            "that are good."
        )


def _told(watcher: Watcher, steps: int) -> Callable[[int, StepLoss], None]:
    """Return what tells the watcher of each step, and now and then of the loss."""
    log_every = max(1, steps // LOG_LINES)

    def on_step(number: int, result: StepLoss) -> None:
        watcher.step()
        if number % log_every == 0 or number == steps:
            # Where the host waits for the device.
            for name, value in zip(("loss", "p_true", "p_fake"), _read(result), strict=True):
                watcher.scalar(name, value, number)

    return on_step


def confirmed_of(options: Options, pictures: Pictures) -> set[int]:
    """Return the positions of the pictures that a person has confirmed."""
    names = set(options.confirmed)
    return {i for i, name in enumerate(pictures.names) if name in names}


class _Training:
    """One model's training: from pictures to a head, on one device."""

    def __init__(
        self,
        pictures: Pictures,
        held_out: set[int],
        options: Options,
        backbone: backbones.Backbone,
        device: torch.device,
        watcher: Watcher,
    ) -> None:
        self.cleaning: Cleaning | None = None
        self._pictures = pictures
        self._held_out = sorted(held_out)
        self._positions = [i for i in range(len(pictures)) if i not in held_out]
        self._options = options
        self._watcher = watcher
        self._device = device
        self._backbone = backbone
        trains = options.schedule.train_backbone
        self._embedder = Embedder(backbone, options.shape, device, trains=trains)
        self._head = Head(options.shape).to(device)
        self._draws = torch.Generator().manual_seed(options.seed)
        is_fresh = trains or options.augmentation.is_active or options.cache == "none"
        self._batches = self._fresh() if is_fresh else self._cached()

    def run(self, keeper: Keeper) -> Trained:
        """Train; what is kept comes back on the CPU, in evaluation mode."""
        schedule = self._options.schedule
        meta_epochs, gan_epochs = schedule.epochs
        steps = meta_epochs * gan_epochs * len(self._batches)
        self._watcher.stage("training", steps)

        def on_meta_epoch(number: int) -> None:
            keeper.on_meta_epoch(number, self._head, self._embedder)

        draws = torch.Generator(self._device).manual_seed(self._options.seed)
        noise = noise_for(schedule, draws)
        trainer = HeadTrainer(self._head, schedule, noise, self._backbone if schedule.train_backbone else None)
        train(trainer, self._batches, _told(self._watcher, steps), on_meta_epoch)
        kept = keeper.choose(self._head, self._backbone)
        backbone = kept.backbone.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        head, held_out = kept.head.cpu().eval(), tuple(self._held_out)
        return Trained(head, backbone.eval(), kept.kept, held_out, (Trial(head, held_out),), self.cleaning)

    def _fresh(self) -> FreshPictures:
        chosen, size = Chosen(self._pictures, self._positions), self._options.schedule.batch_size
        if self._options.schedule.standardise:  # with draws of its own: the training's are the cached one's
            once = FreshPictures(chosen, self._embedder, size, torch.Generator())
            with torch.no_grad():
                standardise(self._head, torch.cat(list(once.epoch())))
        return FreshPictures(chosen, self._embedder, size, self._draws)

    def _cached(self) -> CachedPictures:
        schedule = self._options.schedule
        inputs = Chosen(self._pictures, range(len(self._pictures)) if self._options.clean else self._positions)
        self._watcher.stage("features", len(inputs))
        features = cache_features(
            inputs,
            self._embedder,
            wanted=self._options.cache,
            folder=self._options.cache_folder,
            report=self._watcher.report,
            on_picture=self._watcher.step,
        )
        if self._options.clean:
            confirmed = confirmed_of(self._options, self._pictures)
            self.cleaning = find_unlike(features, self._positions, self._held_out, confirmed)
            self._positions = [i for i in self._positions if i not in self.cleaning.unlike]
            features = _only(features, self._positions)
        if schedule.standardise:
            standardise(self._head, features.flatten(0, 1).to(self._device).float())
        return CachedPictures(features, schedule.batch_size, self._draws, self._device)


def _only(features: Tensor, positions: Sequence[int]) -> Tensor:
    """Move the pictures at `positions` (ascending) to the front, in place, and return that part."""
    for to, i in enumerate(positions):
        if to != i:
            features[to] = features[i]
    return features[: len(positions)]


def _read(result: StepLoss) -> list[float]:
    values: list[float] = torch.stack([result.loss.detach(), result.p_true, result.p_fake]).tolist()
    return values


def _versions() -> dict[str, str]:
    found = {name: importlib.metadata.version(name) for name in ("torch", "timm", "numpy", "opencv-python-headless")}
    return {"inspectd": VERSION, "python": platform.python_version(), **found}
