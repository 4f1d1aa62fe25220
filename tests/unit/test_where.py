"""Which part of a camera's picture is learned from, by the command line or a configuration."""

from __future__ import annotations

import pytest

from calibrate.where import Where, look_at
from inspectd.config import CameraConfig
from inspectd.config_file import parse
from inspectd.errors import UsageError

A, B = (0, 0, 10, 10), (20, 0, 10, 10)
TWO = f"areas: {{a: {{roi: {list(A)}}}, b: {{roi: {list(B)}}}}}"


def camera(text: str) -> CameraConfig:
    return parse(f"cameras: [{{name: top, source: 0, {text}}}]").cameras[0]


@pytest.mark.parametrize(
    ("text", "asked", "rois"),
    [
        ("model: m", {}, ()),
        ("model: m, roi: [1, 2, 3, 4]", {}, ((1, 2, 3, 4),)),
        ("model: m, roi: [1, 2, 3, 4]", {"rois": (A,)}, (A,)),
        (f"model: m, {TWO}", {}, (A, B)),
        (f"model: m, {TWO}", {"areas": ("b",)}, (B,)),
        (f"model: m, recipes: {{x: {{{TWO}}}, y: {{}}}}", {"product": "x"}, (A, B)),
        (f"model: m, recipes: {{x: {{{TWO}}}, y: {{}}}}", {"product": "y"}, ()),
    ],
)
def test_where_to_look(text: str, asked: dict[str, object], rois: tuple[object, ...]) -> None:
    given = {"product": None, "areas": (), "rois": (), "ignore": None, **asked}
    assert look_at(camera(text), **given).rois == rois  # type: ignore[arg-type]


def test_what_is_ignored_is_the_recipes_unless_the_command_line_says_otherwise() -> None:
    text = "model: m, ignore: a.png, recipes: {x: {}, y: {ignore: b.png}}"
    assert look_at(camera(text), "x", (), (), None).ignore == "a.png"
    assert look_at(camera(text), "y", (), (), None).ignore == "b.png"
    assert look_at(camera(text), "y", (), (), "c.png").ignore == "c.png"


@pytest.mark.parametrize(
    ("text", "asked", "says"),
    [
        ("model: m, recipes: {x: {}, y: {}}", {}, "has the recipes x, y; say with --recipe which one is shown"),
        ("model: m", {"product": "x"}, "--recipe is 'x', which camera top does not have: it has no recipes"),
        ("model: m, recipes: {x: {}}", {"product": "z"}, "--recipe is 'z', which camera top does not have: it has x"),
        (f"model: m, {TWO}", {"areas": ("c",)}, "--area is 'c'; camera top has the areas: a, b"),
        ("model: m", {"areas": ("c",)}, "--area is 'c'; camera top has the areas: none"),
        (f"model: m, {TWO}", {"areas": ("a",), "rois": (A,)}, "--roi and --area each say where to look"),
        ("areas: {a: {model: m}, b: {model: n}}", {}, "areas a, b have models of their own; say with --area"),
        ("model: m, areas: {a: {}, b: {}}", {}, "some have no roi, and so look at everything"),
        ("model: m", {"rois": (A, (0, 0, 5, 5))}, "have different sizes; areas that share a model have the same"),
        ("model: m", {"rois": (A, B), "ignore": "x.png"}, "cannot be learned from as one; leave one out"),
    ],
)
def test_what_is_not_clear_is_said(text: str, asked: dict[str, object], says: str) -> None:
    given = {"product": None, "areas": (), "rois": (), "ignore": None, **asked}
    with pytest.raises(UsageError, match=says):
        look_at(camera(text), **given)  # type: ignore[arg-type]


def test_a_place_outside_the_picture_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--roi is \[20, 0, 10, 10\]; expected x y w h inside the picture of 25x48"):
        Where((A, B), ()).check((25, 48))
