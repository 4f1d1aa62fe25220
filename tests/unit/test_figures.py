"""The figure of a result: every kind of picture gives four panels, and the colours mean what they say."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from calibrate.evaluation import figures
from calibrate.evaluation.figures import (
    GREEN,
    GREY,
    HEAT,
    HEAT_SHARE,
    RED,
    YELLOW,
    Map,
    Pixels,
    Truth,
    segmentation_figure,
)
from inspectd.errors import UsageError
from inspectd.records import Picture

SIDE = 360
TOP = figures.TITLE_HEIGHT + figures.LABEL_HEIGHT


def picture(height: int = SIDE, width: int = SIDE, level: int = 100) -> NDArray[np.uint8]:
    """Plain, and as large as a panel: nothing is scaled."""
    return np.full((height, width, 3), level, np.uint8)


def hot(height: int = SIDE, width: int = SIDE) -> Map:
    """0 with a square of 1 in the middle, a third wide."""
    map_ = np.zeros((height, width), np.float32)
    map_[height // 3 : 2 * height // 3, width // 3 : 2 * width // 3] = 1
    return map_


def figure(
    seen: Picture | None = None,
    truth: Truth | None = None,
    map_: Map | None = None,
    *,
    score: float = 1.0,
    threshold: float | None = 0.5,
    title: str = "part",
) -> Pixels:
    seen = picture() if seen is None else seen
    map_ = hot(*seen.shape[:2]) if map_ is None else map_
    return segmentation_figure(seen, truth, map_, score=score, threshold=threshold, title=title)


def panel(page: Pixels, number: int) -> Pixels:
    """Return the view of a panel (0 … 3) of a square picture."""
    left = figures.GAP + number * (SIDE + figures.GAP)
    return page[TOP : TOP + SIDE, left : left + SIDE]


def footer(page: Pixels, number: int) -> Pixels:
    left = figures.GAP + number * (SIDE + figures.GAP)
    return page[TOP + SIDE : TOP + SIDE + figures.FOOTER_HEIGHT, left : left + SIDE]


def has(pixels: Pixels, colour: tuple[int, int, int]) -> bool:
    return bool((pixels == colour).all(axis=-1).any())


def over(colour: tuple[int, int, int], level: int = 100) -> NDArray[np.float64]:
    """Return what a colour of the heat map looks like over a grey picture."""
    return HEAT_SHARE * np.array(colour) + (1 - HEAT_SHARE) * level


def test_four_panels_stand_side_by_side() -> None:
    page = figure()
    assert page.dtype == np.uint8
    assert (page.ndim, page.shape[2]) == (3, 3)
    assert page.shape[1] == 4 * SIDE + 5 * figures.GAP
    assert (panel(page, 0) == 100).all()


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (3, 5), (1, 3000), (3000, 1), (200, 1600), (1600, 200), (2400, 3200)]
)
@pytest.mark.parametrize("kind", ["colour", "grey", "sixteen bits"])
def test_any_size_and_kind_of_picture_is_shown(kind: str, height: int, width: int) -> None:
    seen: Picture = picture(height, width)
    if kind == "grey":
        seen = seen[:, :, 0]
    elif kind == "sixteen bits":
        seen = seen[:, :, 0].astype(np.uint16) * 40
    map_ = np.linspace(0, 1, height * width, dtype=np.float32).reshape(height, width)
    page = figure(seen, map_ > 0.7, map_)
    tall, wide = page.shape[:2]
    assert figures.SHORTEST < tall < 600
    assert 4 * figures.NARROWEST < wide < 4 * figures.WIDEST + 6 * figures.GAP


def test_the_aspect_is_kept() -> None:
    seen = picture(480, 640, 7)
    shown = (figure(seen, np.zeros((480, 640), np.bool_))[TOP:] == 7).all(axis=-1)
    columns = np.flatnonzero(shown[180, : 480 + figures.GAP])
    assert (len(columns), int(shown[:, columns[0]].sum())) == (480, 360)


def test_grey_looks_like_the_same_in_colour() -> None:
    assert (figure(picture()[:, :, 0]) == figure(picture())).all()


def test_sixteen_bits_are_shown_with_their_brightest_as_white() -> None:
    seen = np.full((SIDE, SIDE), 1000, np.uint16)
    seen[:180] = 4000
    shown = panel(figure(seen), 0)
    assert (shown[:180] == 255).all()
    assert (shown[180:] == 63).all()
    assert (panel(figure(np.zeros((SIDE, SIDE), np.uint16)), 0) == 0).all()


@pytest.mark.parametrize(
    ("score", "threshold", "colour"), [(0.4, 0.5, GREEN), (0.5, 0.5, GREEN), (0.6, 0.5, RED), (0.6, None, GREY)]
)
def test_the_verdict_is_told_by_its_colour(score: float, threshold: float | None, colour: tuple[int, int, int]) -> None:
    box = footer(figure(score=score, threshold=threshold), 3)[:42]
    assert [each for each in (GREEN, RED, GREY) if has(box, each)] == [colour]


def test_the_verdict_outlines_the_map_at_the_threshold() -> None:
    view = panel(figure(), 3)
    outlined = (view == RED).all(axis=-1)
    rows, columns = np.nonzero(outlined)
    assert (rows.min(), columns.min()) == pytest.approx((120, 120), abs=2)
    assert (rows.max(), columns.max()) == pytest.approx((240, 240), abs=2)
    assert not outlined[130:230, 130:230].any(), "it is an outline"
    assert has(panel(figure(map_=hot() * np.float32(0.5)), 3), RED), "at the threshold"
    assert (panel(figure(threshold=1.5), 3) == 100).all()
    assert (panel(figure(threshold=None), 3) == 100).all()


def test_one_hot_pixel_of_a_huge_picture_is_still_outlined() -> None:
    map_ = np.zeros((3600, 3600), np.float32)
    map_[1800, 1800] = 1
    assert (panel(figure(picture(3600, 3600), map_ > 0, map_), 3)[170:190, 170:190] != 100).any()


def test_the_heat_map_is_blue_at_its_median_and_red_at_the_threshold() -> None:
    view = panel(figure(), 2)
    assert view[20, 20] == pytest.approx(over(HEAT[0]), abs=1.5)
    assert view[180, 180] == pytest.approx(over(HEAT[-1]), abs=1.5)
    assert panel(figure(threshold=1.5), 2)[180, 180] == pytest.approx(over(HEAT[2]), abs=2)


def test_without_a_threshold_red_is_the_maps_own_maximum() -> None:
    small = hot() * np.float32(1e-3)
    assert panel(figure(map_=small, threshold=None), 2)[180, 180] == pytest.approx(over(HEAT[-1]), abs=1.5)
    with_threshold, without = figure(threshold=1.0), figure(threshold=None)
    assert (panel(with_threshold, 2) == panel(without, 2)).all()
    assert (footer(with_threshold, 2) != footer(without, 2)).any(), "the bar says so"


@pytest.mark.parametrize(("threshold", "colour"), [(0.5, HEAT[0]), (-0.5, HEAT[-1]), (0.0, HEAT[-1])])
def test_a_constant_map_has_the_colour_of_its_side_of_the_threshold(
    threshold: float, colour: tuple[int, int, int]
) -> None:
    view = panel(figure(map_=np.zeros((SIDE, SIDE), np.float32), threshold=threshold), 2)
    assert np.abs(view - over(colour)).max() < 1.5


@pytest.mark.parametrize("value", [0.0, 0.3, -1e6])
def test_a_constant_map_without_a_threshold_is_not_red(value: float) -> None:
    side = 2 * SIDE
    view = panel(figure(picture(side, side), None, np.full((side, side), value, np.float32), threshold=None), 2)
    assert np.abs(view - over(HEAT[0])).max() < 1.5


@pytest.mark.parametrize("factor", [1, 2])
def test_what_was_not_inspected_is_plain_picture(factor: int) -> None:
    side = SIDE * factor
    map_ = hot(side, side)
    map_[:, : side // 2] = np.nan
    page = figure(picture(side, side), None, map_)
    assert (panel(page, 2)[:, :180] == 100).all()
    assert (panel(page, 2)[:, 180:] != 100).any(axis=-1).all()
    assert panel(page, 2)[180, 181] == pytest.approx(over(HEAT[-1]), abs=1.5), "NaN does not bleed"
    assert (panel(page, 3)[:, :170] == 100).all()


def test_the_truth_is_yellow_on_the_darkened_picture() -> None:
    view = panel(figure(truth=hot() > 0), 1)
    assert has(view, YELLOW)
    assert (view[20, 20] == 45).all()
    inside = view[180, 180].astype(int)
    assert inside[2] > 100 > inside[0], "filled with yellow"


def test_good_and_no_mask_are_told_apart_and_show_no_defect() -> None:
    good, nobody = figure(truth=np.zeros((SIDE, SIDE), np.bool_)), figure()
    for page in (good, nobody):
        assert not has(panel(page, 1), YELLOW)
        assert has(panel(page, 1), figures.WHITE)
    assert (panel(good, 1) != panel(nobody, 1)).any()
    assert (footer(good, 1) != footer(nobody, 1)).any()


@pytest.mark.parametrize(
    "title", ["", "x", "a" * 5000, "two\nlines\tand a tab", "bouteille fêlée 破 \U0001f37e", "bad \udcff byte \x00"]
)
def test_any_title_is_one_line_that_fits(title: str) -> None:
    page = figure(title=title)
    assert page.shape == figure().shape
    margin = figures.GAP - 2  # letters may reach a little to the left of where they begin
    assert (page[:, :margin] == figures.PAPER).all()
    assert (page[:, -margin:] == figures.PAPER).all()


def test_a_long_title_keeps_both_ends_and_is_as_long_as_fits() -> None:
    font = figures.load_font(20)
    short = figures.shortened("first " + "middle " * 100 + "last", font, 400)
    assert short.startswith("first middle")
    assert short.endswith("middle last")
    assert short.count("…") == 1
    assert 380 < font.getlength(short) <= 400
    assert figures.shortened("fits", font, 400) == "fits"


def test_the_input_is_not_drawn_into() -> None:
    seen, map_ = picture(), hot()
    figure(seen, map_ > 0, map_)
    assert (seen == picture()).all()
    assert (map_ == hot()).all()


@pytest.mark.parametrize(
    "bad", [np.zeros((9, 9, 2), np.uint8), np.zeros((9, 9), np.float32), np.zeros((0, 9), np.uint8)]
)
def test_what_is_no_picture_is_refused(bad: Picture) -> None:
    with pytest.raises(UsageError, match="the picture"):
        figure(bad)


def test_sizes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match=r"the map is \(9, 9\), but the picture \(360, 360\)"):
        figure(map_=hot(9, 9))
    with pytest.raises(ValueError, match=r"the truth \(9, 9\)"):
        figure(truth=hot(9, 9) > 0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="must be finite"):
        figure(score=bad)
    with pytest.raises(ValueError, match="must be finite"):
        figure(threshold=bad)
    with pytest.raises(ValueError, match="infinite somewhere or NaN everywhere"):
        figure(map_=np.full((SIDE, SIDE), bad, np.float32))
