"""A training by the recipe: pictures in, a cross-fitted head out, and what its parts are tried on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from calibrate.data.clean import find_unlike
from calibrate.data.training_set import Pictures
from calibrate.progress import Watcher
from calibrate.training.crossfit import cross_fit
from calibrate.training.embedding import FoldedEmbedder
from calibrate.training.material import embed_good, fitting, made_from, make_material, make_probes
from calibrate.training.options import Options
from calibrate.training.recipe import MEMBERS, Recipe, folds_of
from calibrate.training.trained import Trained, Trial, confirmed_of, told
from calibrate.training.withstood import chosen_of
from inspectd.errors import UsageError
from inspectd.simplenet import backbone as backbones

FEWEST_SEEN = 2
"""Pictures that every member of the ensemble must see."""


def train_by_recipe(
    pictures: Pictures,
    options: Options,
    recipe: Recipe,
    backbone: backbones.Backbone,
    device: torch.device,
    watcher: Watcher,
) -> Trained:
    embedder = FoldedEmbedder(backbone, options.shape, options.params.input_shape, device)
    embedder.leave_out(pictures.seen(embedder.grid))
    everyone, folds = range(len(pictures)), folds_of(len(pictures))
    watcher.stage("features", len(pictures))
    good = embed_good(pictures, embedder, options.cache, options.cache_folder, watcher.report, watcher.step)
    cleaning = find_unlike(good, everyone, everyone, confirmed_of(options, pictures)) if options.clean else None
    usable = [i for i in everyone if cleaning is None or i not in cleaning.unlike]
    check_left(usable, folds, pictures)
    recipe = dataclasses.replace(recipe, made=fitting(recipe.made, good))
    watcher.stage("made up", 2 * len(made_from(usable, recipe)))
    material = make_material(pictures, good, folds, usable, embedder, recipe, options.seed, watcher.step)
    watcher.stage("training", recipe.steps)
    found = cross_fit(material, options.shape, recipe, options.seed, told(watcher, recipe.steps))
    disturbed = chosen_of(usable)
    probes = make_probes(pictures, folds, usable, embedder.grid, recipe, options.seed)
    trials = tuple(
        Trial(
            head,
            tuple(i for i in everyone if folds[i] == fold),
            tuple(pixels for of, pixels in probes if of == fold),
            tuple(i for i in disturbed if folds[i] == fold),
        )
        for fold, head in enumerate(found.without)
    )
    return Trained(found.head, backbone.eval(), "last", tuple(everyone), trials, cleaning)


def check_left(usable: Sequence[int], folds: Sequence[int], pictures: Pictures) -> None:
    """Refuse a set of which too little is left for some member of the ensemble to learn from (UsageError)."""
    left = [sum(folds[i] not in unseen for i in usable) for unseen in MEMBERS]
    if min(left) < FEWEST_SEEN:
        raise UsageError(
            f"Of the {len(pictures)} pictures {len(pictures) - len(usable)} look unlike the rest, and in some "
            "stretches of time too few are left to learn from. Take more pictures of good parts, or --confirm those "
            "that are good."
        )
