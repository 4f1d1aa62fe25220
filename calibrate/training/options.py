"""Everything that decides a training but its pictures, and what is refused before anything is read."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calibrate.data.augment import Augmentation
from calibrate.data.painting import ALLOWED
from calibrate.data.sizing import Size, Sizing
from calibrate.training.features import Cache
from calibrate.training.recipe import Recipe
from calibrate.training.train import Schedule
from inspectd.errors import UsageError
from inspectd.model.calibration import WIDEST_WINDOW, Params
from inspectd.model.geometry import Geometry
from inspectd.model.ignored import Ignored
from inspectd.records import Rect
from inspectd.simplenet import backbone as backbones
from inspectd.simplenet.network import HeadShape

EPOCHS = Schedule(noise="differences", noise_std=0.6, dsc_lr=1e-3, standardise=True)
"""What epochs are trained with where a camera's calibration asks for them: the published noise vanishes in the spread
of small backbones' features."""
EMBEDDED_SHAPE = HeadShape(512, 512, pre_proj=0, dsc_hidden=512)
STABLE_SHAPE = HeadShape(1536, 1536, pre_proj=0, dsc_hidden=512)
"""Without a projection: with standardised features it changed nothing but the time."""
LARGER_RECIPE = Recipe(memory_patches=4000)
"""Of all backbones but the embedded one: beside them a larger memory bank costs little, and textures gain by it."""
IMAGE_SIZE = 288
RECIPES_OWN = frozenset(field.name for field in dataclasses.fields(Recipe))
HEADS_OF_EPOCHS = frozenset({"pre_proj", "proj_layer_type", "embedding_size", "dsc_layers", "dsc_hidden"})
"""What the recipe decides by itself."""
HEADS_PUBLISHED = frozenset(field.name for field in dataclasses.fields(HeadShape)) - RECIPES_OWN
PUBLISHED_SCHEDULE = HEADS_OF_EPOCHS | {field.name for field in dataclasses.fields(Schedule)} - RECIPES_OWN
"""Who gives one of these asks for the published schedule."""
MOST = 65_536
"""More than this of anything is a slip of the keyboard, and no machine has the memory."""
MOST_STEPS = 10_000_000
MAY_BE_ZERO = ("pre_proj", "proj_layer_type", "memory_patches", "memory_whitening", "varied", "painted")
FEWEST_PATCHES = 64
"""Of a step: every member of the ensemble must see some."""
MOST_SEEDS = 2**63  # what torch takes


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of one model's training. Names and units are the published ones where there are any."""

    backbone: str = backbones.EMBEDDED
    title: str = ""
    """What the backbone is called in tables, where another of the same name stands beside it."""
    layers: tuple[str, ...] = backbones.EMBEDDED_LAYERS
    weights: Path | None = None
    sizing: Sizing | None = None
    """How height and width follow from the pictures; None: they are decided."""
    height: int = IMAGE_SIZE
    width: int = IMAGE_SIZE
    resize: int | None = None
    """The shorter side before a centre crop; None: no crop, everything is inspected."""
    roi: Rect | None = None
    rois: tuple[Rect, ...] = ()
    """Several places of each picture that are learned from as one, `roi` the first of them."""
    ignored: Ignored | None = None
    """What of the pictures is left out."""
    white_level: int = 65535
    shape: HeadShape = EMBEDDED_SHAPE
    recipe: Recipe | None = field(default_factory=Recipe)
    """None: `schedule` is trained with instead."""
    schedule: Schedule = EPOCHS
    augmentation: Augmentation = field(default_factory=Augmentation)
    cache: Cache = "auto"
    cache_folder: Path | None = None
    """Where a cache that does not fit into memory is made; None: the current folder."""
    clean: bool = True
    """Whether training pictures that look unlike the rest are left out."""
    confirmed: tuple[str, ...] = ()
    """Names of held-out pictures that look unlike the rest and that a person has confirmed to be good."""
    seed: int = 0
    rate: float = 0.01
    confidence: float = 0.95

    def geometry(self, size: tuple[int, int] | None = None) -> Geometry:
        """Return what is inspected of each picture; `size`: of the picture that the ROI was given for."""
        return Geometry(self.height, self.width, self.roi, size if self.roi else None, self.resize)

    def fitted(self, picture: Size) -> Options:
        """Return the options with an input that fits pictures of this width and height; UsageError as `Sizing` says."""
        if self.sizing is None:
            return self
        region = picture if self.roi is None else self.roi[2:]
        stride = 1 if self.sizing.smallest_defect is None else backbones.stride(self.backbone, self.layers)
        width, height = self.sizing.input_size(region, stride)
        return check(dataclasses.replace(self, height=height, width=width, sizing=None))

    def with_shape(self, shape: HeadShape) -> Options:
        """Return the options with another shape of head."""
        return dataclasses.replace(self, shape=shape)

    @property
    def params(self) -> Params:
        """What params.pkl will hold."""
        size = (3, self.height, self.width)
        return Params(self.backbone, self.layers, size, **dataclasses.asdict(self.shape))


def options_for(backbone: str | None, layers: Sequence[str], **changes: Any) -> Options:
    """Return the options that `calibrate --camera` and `SimpleNet.fit` train a backbone with.

    `changes` are fields of Options, HeadShape, and Recipe or Schedule; None means: as it is. What only the published
    schedule has (epochs, a batch size, a projection …) asks for that in the recipe's place. UsageError names what
    cannot be.
    """
    name = backbone or backbones.EMBEDDED
    if backbones.resolve(name) == backbones.EMBEDDED:
        options = Options(layers=tuple(layers) or backbones.EMBEDDED_LAYERS)
    else:
        options = Options(
            name, layers=tuple(layers) or backbones.PUBLISHED_LAYERS, shape=STABLE_SHAPE, recipe=LARGER_RECIPE
        )
    given = {name: value for name, value in changes.items() if value is not None}
    if given.keys() & PUBLISHED_SCHEDULE:
        options = dataclasses.replace(options, recipe=None)
    shape = _pick(given, HeadShape, HEADS_PUBLISHED)
    recipe = None if options.recipe is None else dataclasses.replace(options.recipe, **_pick(given, Recipe))
    schedule = _pick(given, Schedule)
    own = _pick(given, Options)
    if given and given.keys() <= RECIPES_OWN:
        raise UsageError(
            f"{', '.join(given)} belongs to calibration's own recipe, and what else was given (epochs, a batch size, a "
            "projection …) asks for the published schedule in its place; leave one of the two out."
        )
    if given:
        known = {f.name for kind in (Options, HeadShape, Recipe, Schedule) for f in dataclasses.fields(kind)}
        raise UsageError(f"Unknown parameter {', '.join(given)}; expected some of {', '.join(sorted(known))}.")
    return check(
        dataclasses.replace(
            options,
            shape=dataclasses.replace(options.shape, **shape),
            recipe=recipe,
            schedule=dataclasses.replace(options.schedule, **schedule),
            **own,
        )
    )


def _pick(given: dict[str, Any], kind: type[Any], among: Collection[str] | None = None) -> dict[str, Any]:
    names = [f.name for f in dataclasses.fields(kind) if among is None or f.name in among]
    return {name: given.pop(name) for name in names if name in given}


def check_ignored(options: Options, size: Size) -> None:
    """Refuse a mask that is not for pictures of this width and height, or leaves nothing of them (UsageError)."""
    if options.ignored is None:
        return
    area = options.geometry().area(*size)
    if (why := options.ignored.problem(area, *size)) is not None:
        raise UsageError(f"--ignore: {why}.")


def check(options: Options) -> Options:
    """Return the options if they can be; UsageError in one sentence if not."""
    schedule, shape = options.schedule, options.shape
    whole = {"imagesize": options.height, **dataclasses.asdict(shape), "imagesize (width)": options.width}
    counts = ("meta_epochs", "gan_epochs", "mix_noise", "batch_size")
    whole |= {name: getattr(schedule, name) for name in counts}
    if options.recipe is not None:
        whole |= {f.name: getattr(options.recipe, f.name) for f in dataclasses.fields(Recipe) if f.type == "int"}
    for name, value in whole.items():
        least = 0 if name in MAY_BE_ZERO else 1
        if value is not None and value < least:
            raise UsageError(f"{name} is {value}; expected a whole number of at least {least}.")
        if value is not None and value > (MOST_STEPS if name == "steps" else MOST):
            raise UsageError(f"{name} is {value}; expected at most {MOST}.")
    for name in ("noise_std", "auto_noise", "dsc_margin", "dsc_lr"):
        value = getattr(options.recipe or schedule, name, None)
        value = getattr(schedule, name) if value is None else value
        if not math.isfinite(value) or value < 0 or (name == "dsc_lr" and value == 0):
            raise UsageError(f"{name} is {value:g}; expected a number above 0.")
    if schedule.noise_std == 0 and schedule.auto_noise == 0:
        raise UsageError("noise_std and auto_noise are both 0: without noise there is nothing to learn from.")
    if options.resize is not None and options.resize < max(options.height, options.width):
        raise UsageError(
            f"resize is {options.resize}, less than imagesize {options.height}; expected at least the size that is "
            "cropped from it."
        )
    if shape.pre_proj == 0 and shape.embedding_size not in (None, shape.target_embed_dimension):
        raise UsageError(
            f"embedding_size is {shape.embedding_size}, but there is no projection that could bring "
            f"{shape.target_embed_dimension} values to so many; give --pre_proj 1, or leave it out."
        )
    if not 0 <= options.seed < MOST_SEEDS:
        raise UsageError(f"The seed is {options.seed}; expected a whole number from 0 to {MOST_SEEDS - 1}.")
    _check_narrowing(shape)
    _check_schedule(schedule)
    if options.recipe is not None:
        _check_recipe(options, options.recipe)
    backbones.resolve(options.backbone)
    return options


def _check_narrowing(shape: HeadShape) -> None:
    width = shape.adapted_width
    for layer in range(1, shape.dsc_layers if shape.dsc_hidden is None else 1):
        width = int(width // 1.5)
        if width == 0:
            raise UsageError(
                f"dsc_layers is {shape.dsc_layers}, but each layer is 1.5 times narrower than the one before, and of "
                f"{shape.adapted_width} values layer {layer} would have none left; give fewer, or --dsc_hidden."
            )


def _check_schedule(schedule: Schedule) -> None:
    adapting = schedule.aed_meta_epochs
    if adapting is not None and not 0 < adapting <= schedule.meta_epochs:
        raise UsageError(
            f"aed_meta_epochs is {adapting}; expected 1 to {schedule.meta_epochs}, the meta_epochs that it is part of."
        )
    if schedule.cos_lr and schedule.meta_epochs <= (adapting or 1):
        raise UsageError(
            f"cos_lr has no epochs to fall over: {schedule.meta_epochs} meta_epochs less {adapting or 1} "
            "aed_meta_epochs leave none; give more --meta_epochs, or leave --cos_lr out."
        )


def _check_recipe(options: Options, recipe: Recipe) -> None:
    if recipe.noise_std == 0:
        raise UsageError("noise_std is 0: without noise there is nothing to learn from.")
    for name, least in (("patches_per_step", FEWEST_PATCHES), ("memory_patches", 1), ("memory_from", 2)):
        if getattr(recipe, name) < least:
            raise UsageError(f"{name} is {getattr(recipe, name)}; expected a whole number of at least {least}.")
    for name in ("varied", "painted", "weakest", "least_variance", "memory_whitening"):
        if not 0 <= getattr(recipe, name) <= 1 or (name not in MAY_BE_ZERO and getattr(recipe, name) == 0):
            raise UsageError(f"{name} is {getattr(recipe, name):g}; expected a share between 0 and 1.")
    if not 0 < recipe.memory_weight < math.inf:
        raise UsageError(f"memory_weight is {recipe.memory_weight:g}; expected a number above 0.")
    for name, (lowest, highest) in ALLOWED.items():
        value = getattr(recipe, f"vary_{name}")
        if not lowest <= value <= highest:
            raise UsageError(f"vary_{name} is {value:g}; expected a number from {lowest:g} to {highest:g}.")
    if recipe.score_window % 2 == 0 or recipe.score_window > WIDEST_WINDOW:
        raise UsageError(f"score_window is {recipe.score_window}; expected an odd number of at most {WIDEST_WINDOW}.")
    if options.cache == "none" or options.augmentation.is_active:
        raise UsageError(
            "Augmentation and --cache none belong to the published schedule; give --meta_epochs to ask for it."
        )
