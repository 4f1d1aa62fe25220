"""The recipe of `calibrate --camera`: who sees what, and that its parts become one head."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter

import numpy as np
import pytest
import torch

from calibrate.data.painting import Variation, paint, paint_one, vary
from calibrate.progress import Unwatched
from calibrate.training import fit
from calibrate.training.by_recipe import check_left, train_by_recipe
from calibrate.training.crossfit import cross_fit
from calibrate.training.embedding import FoldedEmbedder
from calibrate.training.ensemble import find_whitening, together, train_members
from calibrate.training.features import Embedder
from calibrate.training.fit import pictures_for
from calibrate.training.material import Material, made_from
from calibrate.training.memory import coreset
from calibrate.training.options import options_for
from calibrate.training.recipe import FOLDS, MEMBERS, Recipe, folds_of, unseeing
from inspectd.engine.choose import choose_backend
from inspectd.errors import UsageError
from inspectd.model.calibration import CameraRecord
from inspectd.simplenet import backbone as backbones
from inspectd.simplenet.network import Discriminator, HeadShape, average_scores
from inspectd.simplenet.preprocess import normalised

WIDTH = 12
SMALL = Recipe(steps=5, patches_per_step=64, hidden=4, memory_patches=20, memory_width=6, memory_from=400)
SHAPE = HeadShape(WIDTH, WIDTH, pre_proj=0)

pytestmark = pytest.mark.usefixtures("one_thread")


def material(garbled: int | None = None) -> Material:
    """Sixteen pictures of 3 × 5 patches; those of the fold `garbled` show something else."""
    draws = torch.Generator().manual_seed(0)
    folds = torch.tensor(folds_of(16))
    good = torch.randn(16, 15, WIDTH, generator=draws).half()
    painted = torch.randn(40, WIDTH, generator=draws).half() + 3
    painted_folds = torch.arange(40) % FOLDS
    varied = good + 0.1
    if garbled is not None:
        good[folds == garbled] = 50
        varied[folds == garbled] = -50
        painted[painted_folds == garbled] = 99
    return Material(good, folds, torch.arange(16), varied, folds, painted, painted_folds, (3, 5), torch.device("cpu"))


@pytest.mark.parametrize("count", [8, 9, 15, 60, 997])
def test_every_fold_has_two_stretches_of_time(count: int) -> None:
    folds = folds_of(count)
    assert len(folds) == count
    assert set(folds) == set(range(FOLDS))
    assert max(Counter(folds).values()) - min(Counter(folds).values()) <= 2
    changes = sum(a != b for a, b in itertools.pairwise(folds))
    assert changes == 2 * FOLDS - 1


def test_every_fold_is_unseen_by_half_of_the_members() -> None:
    for fold in range(FOLDS):
        assert len(unseeing(fold)) == len(MEMBERS) / 2
        assert all(fold in MEMBERS[number] for number in unseeing(fold))


@pytest.mark.parametrize("fold", range(FOLDS))
def test_who_must_not_see_a_fold_is_the_same_whatever_it_shows(fold: int) -> None:
    """The members, and the memory bank: only then is a held-out score one of a part that nobody knew."""
    whiten = find_whitening(material(), SMALL, torch.Generator().manual_seed(0))
    ours, others = (
        train_members(some, whiten, SMALL, 3, lambda *_: None) for some in (material(), material(garbled=fold))
    )
    for number, (one, other) in enumerate(zip(ours, others, strict=True)):
        weights = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in weights) == (number in unseeing(fold))


def test_a_banks_patches_come_from_the_folds_that_it_may_know() -> None:
    some = material(garbled=2)
    fitted = cross_fit(some, SHAPE, SMALL, 0, lambda *_: None)
    farthest = [float(head.memory.patches.norm(dim=1).max()) for head in (*fitted.without, fitted.head) if head.memory]
    assert farthest[2] < min(farthest[:2] + farthest[3:]) / 2


def test_the_mean_of_the_members_is_one_discriminator() -> None:
    torch.manual_seed(0)
    some = material()
    whiten = find_whitening(some, SMALL, torch.Generator().manual_seed(0))
    members = train_members(some, whiten, SMALL, 0, lambda *_: None)
    one = together(members, whiten, 2.5)
    rows = some.good[:4].flatten(0, 1).float()
    with torch.no_grad():
        mean = torch.stack([member(whiten(rows)) for member in members]).mean(0)
        assert torch.allclose(one(whiten.standardise(rows)), mean / 2.5, atol=1e-5)


def test_scores_are_in_the_units_in_which_held_out_parts_vary() -> None:
    some = material()
    fitted = cross_fit(some, SHAPE, SMALL, 0, lambda *_: None)
    with torch.no_grad():
        for part, weight in (("discriminator", 1.0), ("memory", SMALL.memory_weight)):
            largest = []
            for rows, fold in zip(some.good.float(), some.folds.tolist(), strict=True):
                head = fitted.without[fold]
                assert head.memory is not None
                bank = head.memory(head.standardise(rows))
                scores = bank if part == "memory" else -head.discriminator(head.adapt(rows))
                largest.append(float(average_scores(scores.view(1, 3, 5), SMALL.score_window).max()))
            assert np.std(largest, ddof=1) == pytest.approx(weight, abs=2e-3)


def test_whitened_patches_are_uncorrelated() -> None:
    draws = torch.Generator().manual_seed(0)
    some = material()
    turn = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=draws))[0]
    mixed = (torch.randn(16, 600, WIDTH, generator=draws) * torch.linspace(1, 5, WIDTH) @ turn).half()
    some = dataclasses.replace(some, good=mixed, varied=mixed)
    whiten = find_whitening(some, dataclasses.replace(SMALL, least_variance=1e-4), draws)
    rows = whiten(mixed.flatten(0, 1).float())
    assert torch.allclose(rows.T @ rows / len(rows), torch.eye(WIDTH), atol=0.08)
    standard = whiten.standardise(mixed.flatten(0, 1).float())
    kept = standard @ whiten.principal(WIDTH, 0.0).T
    assert torch.allclose(torch.cdist(kept[:9], kept[:9]), torch.cdist(standard[:9], standard[:9]), atol=1e-3)
    few = standard @ whiten.principal(2, 1.0).T
    assert torch.allclose(few.T @ few / len(few), torch.eye(2), atol=0.08)
    assert whiten.principal(2, 0.5).shape == (2, WIDTH)


def test_a_coreset_takes_what_is_farthest_from_all_before() -> None:
    rows = torch.tensor([[0.0], [1.0], [10.0], [4.0], [4.1]])
    assert coreset(rows, 3).tolist() == [0, 2, 4]
    assert len(coreset(rows, 99)) == 5


def test_pictures_that_are_made_come_evenly_from_all() -> None:
    assert made_from(range(3), Recipe(made=300, made_of_each=2)) == [0, 0, 1, 1, 2, 2]
    many = made_from(range(1000), Recipe(made=300))
    assert len(many) == len(set(many)) == 300
    assert max(b - a for a, b in itertools.pairwise(many)) <= 4


def test_painted_and_varied_pictures_are_pictures_and_always_the_same() -> None:
    picture, other = (np.random.default_rng(i).uniform(0, 255, (70, 90, 3)).astype(np.float32) for i in range(2))
    for make in (
        lambda draws: paint(picture, other, draws),
        lambda draws: paint_one(picture, other, (5, 20), draws),
        lambda draws: vary(picture, draws, Variation()),
        lambda draws: vary(picture, draws, Variation(zoom=0.2, turn=180)),
    ):
        for seed in range(40):
            made = make(np.random.default_rng(seed))
            assert made.dtype == np.float32
            assert made.shape == picture.shape
            assert 0 <= made.min() <= made.max() <= 255
            assert np.array_equal(made, make(np.random.default_rng(seed)))
        assert not np.array_equal(made, picture)


@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 64, 96)])
def test_the_folded_embedder_gives_the_textbooks_patches(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    backbone = backbones.create(backbones.EMBEDDED, backbones.EMBEDDED_LAYERS, shape)
    pixels, cpu = torch.rand(2, *shape) * 255, torch.device("cpu")
    kind = HeadShape(48, 40)
    folded, textbook = FoldedEmbedder(backbone, kind, shape, cpu), Embedder(backbone, kind, cpu)
    ours, theirs = folded(pixels), textbook(pixels)
    assert folded.grid == textbook.grid
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) <= 1e-4 * float(theirs.abs().max())


def test_members_are_discriminators_of_the_published_kind() -> None:
    some = material()
    whiten = find_whitening(some, SMALL, torch.Generator().manual_seed(0))
    seen: list[int] = []
    members = train_members(some, whiten, SMALL, 0, lambda number, loss: seen.append(number))
    assert seen == list(range(1, SMALL.steps + 1))
    assert all(isinstance(member, Discriminator) and not member.training for member in members)


def test_each_picture_is_scored_by_the_head_that_never_saw_it() -> None:
    draws = np.random.default_rng(0)
    options = options_for(None, (), height=64, width=64, steps=3, memory_patches=50)
    pictures = pictures_for(options)
    for i in range(12):
        pictures.add(draws.normal(100 + 5 * i, 20, (64, 64, 3)).clip(0, 255).astype(np.uint8), str(i))
    backbone = backbones.pretrained(options.backbone, options.layers, options.params.input_shape)
    assert options.recipe is not None
    trained = train_by_recipe(pictures, options, options.recipe, backbone, torch.device("cpu"), Unwatched())
    camera = CameraRecord("test", None, 64, 64)
    backend = choose_backend("cpu", "float32")
    learned = fit._with_threshold(pictures, trained, options, backend, "run", camera, None, Unwatched())
    assert learned.held_out == list(range(12))
    folds = folds_of(12)
    expected = {}
    for fold, trial in enumerate(trained.trials):
        assert trial.positions == tuple(i for i in range(12) if folds[i] == fold)
        for i in trial.positions:
            pixels = normalised(pictures.input(i), *learned.model.normalisation)
            with torch.inference_mode():
                expected[i] = float(trial.head(backbone(torch.from_numpy(pixels)[None])).max())
    assert learned.scores == pytest.approx([expected[i] for i in range(12)], rel=1e-3)
    assert len({round(score, 3) for score in learned.scores}) == 12, "or the test could not tell them apart"
    assert len(learned.painted) == options.recipe.probes


def test_too_few_pictures_that_look_like_the_rest_are_refused() -> None:
    pictures = pictures_for(options_for(None, (), height=64, width=64))
    folds = folds_of(8)
    check_left(range(1, 8), folds, pictures)
    with pytest.raises(UsageError, match="too few are left to learn from"):
        check_left([i for i in range(8) if folds[i] in (2, 3)], folds, pictures)
