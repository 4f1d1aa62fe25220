"""Augmentation: each parameter does its own kind of change, and only the generator decides how much."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch
from torch import Tensor

from calibrate.data.augment import Augmentation
from inspectd.errors import UsageError

EACH = [
    Augmentation(rotate_degrees=20),
    Augmentation(translate=0.2),
    Augmentation(scale=0.3),
    Augmentation(brightness=0.4),
    Augmentation(contrast=0.4),
    Augmentation(saturation=0.4),
    Augmentation(gray=1),
    Augmentation(hflip=1),
    Augmentation(vflip=1),
]
KINDS = [torch.uint8, torch.float32]
SEEDS = range(8)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def part(dtype: torch.dtype = torch.uint8) -> Tensor:
    """A coloured picture [3, 48, 64] without any symmetry, 20 … 200."""
    return torch.randint(20, 200, (3, 48, 64), generator=seeded(99)).to(dtype)


def disc(dtype: torch.dtype = torch.float32) -> Tensor:
    """A white disc of radius 10 in the middle of a black picture [3, 61, 81]."""
    y, x = torch.meshgrid(torch.arange(61) - 30, torch.arange(81) - 40, indexing="ij")
    return (255 * (x**2 + y**2 <= 100)).to(dtype).expand(3, -1, -1)


def centroid(pixels: Tensor) -> tuple[float, float]:
    """Return x and y of the centre of what is bright."""
    weight = pixels[0].double()
    y, x = torch.meshgrid(*map(torch.arange, weight.shape), indexing="ij")
    return float((weight * x).sum() / weight.sum()), float((weight * y).sum() / weight.sum())


def grey(pixels: Tensor) -> Tensor:
    return (pixels.double() * torch.tensor([0.2989, 0.587, 0.114]).view(3, 1, 1)).sum(0)


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("augmentation", EACH)
def test_each_alone_changes_a_picture_and_keeps_shape_type_and_input(
    augmentation: Augmentation, dtype: torch.dtype
) -> None:
    before = part(dtype)
    after = augmentation(before, seeded(1))
    assert augmentation.is_active
    assert (after.shape, after.dtype) == (before.shape, dtype)
    assert not torch.equal(after, before)
    assert torch.equal(before, part(dtype)), "the input was written to"
    assert 0 <= float(after.min()) <= float(after.max()) <= 255
    assert float(after.max()) > 5, "values left 0 … 255"


@pytest.mark.parametrize("dtype", KINDS)
def test_a_grey_picture_that_shares_its_channels_stays_grey(dtype: torch.dtype) -> None:
    everything = Augmentation(10, 0.1, 0.1, 0.2, 0.2, 0.2, 0.5, 0.5, 0.5)
    after = everything(disc(dtype), seeded(0)).float()
    assert float((after - after[:1]).abs().max()) <= 1


def test_flips_are_exact_mirrors() -> None:
    for dtype in KINDS:
        assert torch.equal(Augmentation(hflip=1)(part(dtype), seeded(0)), part(dtype).flip(2))
        assert torch.equal(Augmentation(vflip=1)(part(dtype), seeded(0)), part(dtype).flip(1))


@pytest.mark.parametrize("dtype", KINDS)
def test_gray_makes_the_channels_equal_and_keeps_the_grey(dtype: torch.dtype) -> None:
    after = Augmentation(gray=1)(part(dtype), seeded(0))
    assert torch.equal(after[0], after[1])
    assert torch.equal(after[0], after[2])
    assert float((grey(after) - grey(part())).abs().max()) < 1.1


@pytest.mark.parametrize("option", ["gray", "hflip", "vflip"])
def test_a_probability_is_met(option: str) -> None:
    augmentation, generator = Augmentation(**{option: 0.3}), seeded(5)
    changed = sum(not torch.equal(augmentation(part(), generator), part()) for _ in range(400))
    assert 80 < changed < 160


@pytest.mark.parametrize("dtype", KINDS)
def test_brightness_multiplies_by_a_factor_within_bounds(dtype: torch.dtype) -> None:
    before = torch.full((3, 8, 8), 100).to(dtype)
    factors = [float(Augmentation(brightness=0.4)(before, seeded(s)).float().mean()) / 100 for s in range(60)]
    assert 0.59 <= min(factors) < 0.7
    assert 1.3 < max(factors) <= 1.4


@pytest.mark.parametrize("option", ["brightness", "contrast", "saturation"])
def test_a_factor_is_never_negative(option: str) -> None:
    for seed in SEEDS:
        after = Augmentation(**{option: 3.0})(part(torch.float32), seeded(seed))
        assert torch.isfinite(after).all()
        assert 0 <= float(after.min()) <= float(after.max()) <= 255


@pytest.mark.parametrize("dtype", KINDS)
def test_contrast_scales_the_spread_and_keeps_the_mean(dtype: torch.dtype) -> None:
    before = part(dtype).float() * 0.3 + 90  # far from clipping
    for seed in SEEDS:
        after = Augmentation(contrast=0.4)(before.to(dtype), seeded(seed)).float()
        assert 0.58 <= float(after.std() / before.std()) <= 1.42
        assert float(grey(after).mean()) == pytest.approx(float(grey(before).mean()), abs=1.5)


@pytest.mark.parametrize("dtype", KINDS)
def test_saturation_moves_the_channels_apart_and_keeps_the_grey(dtype: torch.dtype) -> None:
    before = part(dtype).float() * 0.3 + 90
    for seed in SEEDS:
        after = Augmentation(saturation=0.4)(before.to(dtype), seeded(seed)).float()
        assert 0.58 <= float((after[0] - after[2]).std() / (before[0] - before[2]).std()) <= 1.42
        assert float((grey(after) - grey(before)).abs().max()) < 2


def test_colour_changes_come_in_both_orders() -> None:
    """Brighter and then flatter, black and white still add up to 255; flatter and then brighter, to more."""
    halves = torch.cat([torch.zeros(3, 8, 8), torch.full((3, 8, 8), 255.0)], dim=2)
    sums = []
    for seed in range(40):
        after = Augmentation(brightness=0.5, contrast=0.5)(halves, seeded(seed))
        if float(after.min()) > 1:
            sums.append(float(after.min() + after.max()))
    assert any(254.9 < total < 255.1 for total in sums)
    assert any(total > 256 for total in sums)


@pytest.mark.parametrize("dtype", KINDS)
def test_translate_moves_by_whole_pixels_within_its_share(dtype: torch.dtype) -> None:
    moves = []
    for seed in range(40):
        x, y = centroid(Augmentation(translate=0.2)(disc(dtype), seeded(seed)))
        moves.append((x - 40, y - 30))
    assert all(abs(x) <= 0.2 * 81 + 0.5 and abs(y) <= 0.2 * 61 + 0.5 for x, y in moves)
    assert all(abs(d - round(d)) < 0.01 for move in moves for d in move)
    assert max(x for x, _ in moves) > 8 > -8 > min(x for x, _ in moves)
    assert max(y for _, y in moves) > 6 > -6 > min(y for _, y in moves)


def test_scale_changes_the_area_within_bounds() -> None:
    area = float(disc().sum())
    ratios = [float(Augmentation(scale=0.3)(disc(), seeded(s)).sum()) / area for s in range(40)]
    assert 0.7**2 * 0.95 <= min(ratios) < 0.7
    assert 1.4 < max(ratios) <= 1.3**2 * 1.05


def test_rotate_keeps_a_centred_disc_and_turns_what_is_beside_it() -> None:
    beside = torch.zeros(3, 61, 81)
    beside[:, 28:33, 65:70] = 255  # 27 pixels right of the centre
    angles = []
    for seed in range(40):
        turned = Augmentation(rotate_degrees=30)(disc(), seeded(seed))
        assert float((turned - disc()).abs().mean()) < 3
        x, y = centroid(Augmentation(rotate_degrees=30)(beside, seeded(seed)))
        assert ((x - 40) ** 2 + (y - 30) ** 2) ** 0.5 == pytest.approx(27, abs=0.5)
        angles.append(float(torch.rad2deg(torch.atan2(torch.tensor(y - 30), torch.tensor(x - 40)))))
    assert -31 <= min(angles) < -15 < 15 < max(angles) <= 31


def test_what_comes_into_view_is_black() -> None:
    white = torch.full((3, 40, 40), 255, dtype=torch.uint8)
    assert int(Augmentation(rotate_degrees=45)(white, seeded(2))[:, 0, 0].max()) == 0


@pytest.mark.parametrize("dtype", KINDS)
def test_a_seed_decides_everything(dtype: torch.dtype) -> None:
    everything = Augmentation(10, 0.1, 0.1, 0.2, 0.2, 0.2, 0.5, 0.5, 0.5)
    torch.manual_seed(1)
    first = [everything(part(dtype), seeded(s)) for s in SEEDS]
    torch.manual_seed(2)
    second = [everything(part(dtype), seeded(s)) for s in SEEDS]
    assert all(map(torch.equal, first, second))
    assert not torch.equal(first[0], first[1])


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    Augmentation(10, 0.1, 0.1, 0.2, 0.2, 0.2, 0.5, 0.5, 0.5)(part(), seeded(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_nothing_asked_for_does_and_draws_nothing() -> None:
    pixels, generator = part(), seeded(3)
    before = generator.get_state()
    assert not Augmentation().is_active
    assert Augmentation()(pixels, generator) is pixels
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("dtype", KINDS)
def test_both_types_see_the_same_change(dtype: torch.dtype) -> None:
    mild = Augmentation.mild()
    as_bytes = mild(part(), seeded(4)).float()
    assert float((mild(part(dtype), seeded(4)).float() - as_bytes).abs().max()) <= 3


def test_mild_makes_no_other_part() -> None:
    mild = asdict(Augmentation.mild())
    assert mild.pop("rotate_degrees") == 5
    assert {name for name, value in mild.items() if value} == {"translate", "scale", "brightness", "contrast"}


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("rotate_degrees", -5, "--rotate_degrees is -5; expected 0 to 180."),
        ("rotate_degrees", 181, "--rotate_degrees is 181; expected 0 to 180."),
        ("translate", 1.5, "--translate is 1.5; expected 0 to 1."),
        ("scale", 1, "--scale is 1; expected 0 to less than 1."),
        ("brightness", -0.1, "--brightness is -0.1; expected 0 or more."),
        ("contrast", float("inf"), "--contrast is inf; expected 0 or more."),
        ("saturation", float("nan"), "--saturation is nan; expected 0 or more."),
        ("gray", 2, "--gray is 2; expected 0 to 1, a probability."),
        ("hflip", float("nan"), "--hflip is nan; expected 0 to 1, a probability."),
        ("vflip", -1, "--vflip is -1; expected 0 to 1, a probability."),
    ],
)
def test_impossible_values_are_refused_by_name(option: str, value: float, sentence: str) -> None:
    with pytest.raises(UsageError) as refused:
        Augmentation(**{option: value})
    assert str(refused.value) == sentence


@pytest.mark.parametrize("option", list(asdict(Augmentation())))
def test_nan_is_refused_everywhere(option: str) -> None:
    with pytest.raises(UsageError, match=f"--{option} is nan"):
        Augmentation(**{option: float("nan")})


def test_the_limits_themselves_are_possible() -> None:
    extreme = Augmentation(180, 1, 0.999, 5, 5, 5, 1, 1, 1)
    assert extreme(part(), seeded(0)).shape == part().shape
