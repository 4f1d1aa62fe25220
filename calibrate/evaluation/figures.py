"""One picture of a result for people: what was seen, what is true, where the model looked, and its verdict.

The heat map's colours are fixed: blue is the map's median or less, red the threshold or more; cyan and yellow
lie a third and two thirds of the way. Without a threshold, red is the map's own largest value.
"""

from __future__ import annotations

import functools
import math
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from inspectd.cameras.image_files import as_picture
from inspectd.line.judge import exceeds
from inspectd.records import Picture

Pixels = NDArray[np.uint8]
"""BGR, [h, w, 3]."""
Map = NDArray[np.float32]
Truth = NDArray[np.bool_]
Colour = tuple[int, int, int]
"""Blue, green, red."""

TALLEST, WIDEST = 360, 640
"""Pixels that a panel's picture is scaled to: it touches one of them."""
NARROWEST, SHORTEST = 280, 120
"""Pixels that a panel takes at least, so that its text has room."""
GAP, TITLE_HEIGHT, LABEL_HEIGHT, FOOTER_HEIGHT = 16, 48, 26, 64
TITLE_SIZE, TEXT_SIZE, WORD_SIZE = 20, 15, 26
"""Heights of letters in pixels."""

PAPER, WHITE, INK, GREY = (236, 236, 236), (255, 255, 255), (40, 40, 40), (110, 110, 110)
GREEN, RED, YELLOW = (60, 140, 20), (40, 30, 210), (0, 225, 255)
WORDS = {"OK": GREEN, "NG": RED, "no threshold": GREY}
HEAT = ((190, 60, 30), (220, 200, 40), (30, 225, 250), (30, 20, 220))
"""The heat map's colours, evenly spaced."""
HEAT_SHARE = 0.65
"""How much of the heat map covers the picture."""
TRUTH_SHARE = 0.5
DARKENED = 0.45
"""What is left of the picture's brightness behind the truth."""
SUBPIXEL_BITS = 4


def segmentation_figure(
    picture: Picture, truth: Truth | None, map_: Map, *, score: float, threshold: float | None, title: str
) -> Pixels:
    """Return four labelled panels side by side, BGR [h, w, 3]: picture, truth, anomaly map, verdict.

    `truth` [H, W] is where the defect is: nowhere for a good part, None when nobody drew it. `map_` [H, W] may
    be NaN where nothing was inspected; there the plain picture is shown. A score above the threshold is NG; the
    verdict outlines where the map reaches the threshold. In 16-bit pictures the brightest pixel is white. The
    panels keep the picture's aspect and are 360 pixels high, or 640 wide where that comes first.

    UsageError for what is no picture; ValueError when truth or map are not of its size, the map is infinite
    somewhere or NaN everywhere, or score or threshold are not finite.
    """
    picture = as_picture(picture, "the picture")
    _check(picture.shape[:2], truth, map_, score, threshold)
    seen = _fit(picture)
    scale = _Scale.of(map_, threshold)
    word = _word(score, threshold)
    width = max(seen.shape[1], NARROWEST)
    panels = [
        _panel("picture", seen, _caption(f"{picture.shape[1]} x {picture.shape[0]} pixels", width)),
        _panel("truth", _truth_view(seen, truth), _caption(_truth_line(truth), width)),
        _panel("anomaly map", _heat_view(seen, map_, scale), _heat_bar(scale, width)),
        _panel("verdict", _verdict_view(seen, map_, threshold), _verdict_box(word, score, threshold, width)),
    ]
    return _page(title, panels)


def _check(size: tuple[int, ...], truth: Truth | None, map_: Map, score: float, threshold: float | None) -> None:
    if map_.shape != size or (truth is not None and truth.shape != size):
        found = f"the map is {map_.shape}" + ("" if truth is None else f" and the truth {truth.shape}")
        raise ValueError(f"{found}, but the picture {size}; expected one size")
    if np.isinf(map_).any() or np.isnan(map_).all():
        raise ValueError("the map is infinite somewhere or NaN everywhere; expected numbers where it was inspected")
    if not math.isfinite(score) or (threshold is not None and not math.isfinite(threshold)):
        raise ValueError(f"score {score} and threshold {threshold} must be finite")


# The four views, each as large as `seen`


def _fit(picture: Picture) -> Pixels:
    """Scale a picture into 640 × 360 pixels, 8 bits, three channels."""
    height, width = picture.shape[:2]
    factor = min(TALLEST / height, WIDEST / width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    scaled = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    if picture.dtype == np.uint16:
        scaled = scaled * (255 / max(1, int(picture.max())))
    return np.array(scaled if scaled.ndim == 3 else cv2.merge([scaled] * 3), np.uint8)


def _truth_view(seen: Pixels, truth: Truth | None) -> Pixels:
    view = _mixed(np.zeros_like(seen), seen, 1 - DARKENED)
    if truth is None or not truth.any():
        if load_font(WORD_SIZE).getlength(_truth_line(truth)) < view.shape[1]:  # else the caption alone says it
            _write(view, (view.shape[1] // 2, view.shape[0] // 2), _truth_line(truth), WORD_SIZE, WHITE, "mm")
        return view
    polygons = _polygons(truth, seen)
    filled = cv2.fillPoly(view.copy(), polygons, YELLOW, cv2.LINE_AA, SUBPIXEL_BITS)
    view = _mixed(np.asarray(filled, np.uint8), view, TRUTH_SHARE)
    _outline(view, polygons, YELLOW, INK)
    return view


def _truth_line(truth: Truth | None) -> str:
    if truth is None:
        return "no mask"
    return f"defect: {100 * truth.mean():.2g} % of the picture" if truth.any() else "good: no defect"


def _heat_view(seen: Pixels, map_: Map, scale: _Scale) -> Pixels:
    size = (seen.shape[1], seen.shape[0])
    how = cv2.INTER_AREA if seen.shape[0] < map_.shape[0] else cv2.INTER_LINEAR
    inspected = ~np.isnan(map_)
    levels = np.where(inspected, scale.level(map_), 0).astype(np.float32)
    share = cv2.resize(inspected.astype(np.float32), size, interpolation=how)
    scaled = cv2.resize(levels, size, interpolation=how) / np.maximum(share, 1e-6)  # by what was inspected alone
    return np.where((share >= 0.5)[:, :, None], _mixed(_heat(scaled), seen, HEAT_SHARE), seen)


def _verdict_view(seen: Pixels, map_: Map, threshold: float | None) -> Pixels:
    view = seen.copy()
    if threshold is not None:
        _outline(view, _polygons(map_ >= threshold, seen), RED, WHITE)
    return view


def _word(score: float, threshold: float | None) -> str:
    if threshold is None:
        return "no threshold"
    return "NG" if exceeds(score, threshold) else "OK"


def _mixed(over: Pixels, under: Pixels, share: float) -> Pixels:
    return np.asarray(cv2.addWeighted(over, share, under, 1 - share, 0), np.uint8)


def _polygons(mask: Truth, seen: Pixels) -> list[NDArray[np.int32]]:
    """Return the borders of a mask [H, W], of holes too, in pixels of `seen` × 2^SUBPIXEL_BITS.

    They are found before anything is scaled: a region of one pixel in a large picture must not vanish.
    """
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    factor = np.array([seen.shape[1] / mask.shape[1], seen.shape[0] / mask.shape[0]])
    return [
        np.rint(((contour + 0.5) * factor - 0.5) * (1 << SUBPIXEL_BITS)).astype(np.int32)  # [points, 1, 2]
        for contour in contours
    ]


def _outline(view: Pixels, polygons: Sequence[NDArray[np.int32]], colour: Colour, halo: Colour) -> None:
    for drawn, thickness in ((halo, 4), (colour, 2)):
        cv2.polylines(view, polygons, True, drawn, thickness, cv2.LINE_AA, SUBPIXEL_BITS)


# The colour scale


@dataclass(frozen=True, slots=True)
class _Scale:
    low: float
    """The map's median: blue."""
    high: float
    """What is red, with all above it; if it is not above the median, everything below it is blue."""
    high_name: str

    @classmethod
    def of(cls, map_: Map, threshold: float | None) -> _Scale:
        low = float(np.nanmedian(map_))
        if threshold is not None:
            return cls(low, threshold, "threshold or more")
        high = max(float(np.nanmax(map_)), math.nextafter(low, math.inf))  # a constant map is not red
        return cls(low, high, "its own maximum")

    def level(self, map_: Map) -> NDArray[np.float64]:
        """Return 0 … 1, from blue to red, for each value of a map; what is NaN has none."""
        if self.high <= self.low:
            return (map_ >= self.high).astype(np.float64)
        return np.asarray(np.interp(map_, (self.low, self.high), (0, 1)))


def _heat(levels: NDArray[Any]) -> Pixels:
    """Return the colours [..., 3] of levels 0 … 1."""
    stops = np.linspace(0, 1, len(HEAT))
    channels = [np.interp(levels, stops, channel) for channel in zip(*HEAT, strict=True)]
    return np.asarray(np.rint(np.stack(channels, axis=-1)), np.uint8)


# What stands below and around them


def _caption(line: str, width: int) -> Pixels:
    footer = _paper(FOOTER_HEIGHT, width)
    _write(footer, (0, 8), line, TEXT_SIZE, INK)
    return footer


def _heat_bar(scale: _Scale, width: int) -> Pixels:
    footer = _paper(FOOTER_HEIGHT, width)
    footer[8:22] = _heat(np.linspace(0, 1, width))
    for x, anchor, value, name in ((0, "la", scale.low, "median or less"), (width, "ra", scale.high, scale.high_name)):
        _write(footer, (x, 26), f"{value:.4g}", TEXT_SIZE, INK, anchor, width // 2)
        _write(footer, (x, 44), name, TEXT_SIZE, GREY, anchor, width // 2)
    return footer


def _verdict_box(word: str, score: float, threshold: float | None, width: int) -> Pixels:
    footer = _paper(FOOTER_HEIGHT, width)
    footer[8:42] = WORDS[word]
    _write(footer, (width // 2, 25), word, WORD_SIZE, WHITE, "mm")
    line = f"score {score:.4g}" + ("" if threshold is None else f", threshold {threshold:.4g}")
    _write(footer, (width // 2, 46), line, TEXT_SIZE, INK, "ma")
    return footer


def _panel(label: str, view: Pixels, footer: Pixels) -> Pixels:
    """Put a view in the middle between its label and its footer, which is as wide as the panel."""
    width = footer.shape[1]
    head = _paper(LABEL_HEIGHT, width)
    _write(head, (0, 2), label, TEXT_SIZE, INK)
    room = _paper(max(view.shape[0], SHORTEST), width)
    top, left = (room.shape[0] - view.shape[0]) // 2, (width - view.shape[1]) // 2
    room[top : top + view.shape[0], left : left + view.shape[1]] = view
    return np.vstack([head, room, footer])


def _page(title: str, panels: Sequence[Pixels]) -> Pixels:
    height, width = panels[0].shape[:2]
    page = _paper(TITLE_HEIGHT + height + GAP, GAP + len(panels) * (width + GAP))
    _write(page, (GAP, GAP), title, TITLE_SIZE, INK, room=page.shape[1] - 2 * GAP)
    for i, panel in enumerate(panels):
        left = GAP + i * (width + GAP)
        page[TITLE_HEIGHT : TITLE_HEIGHT + height, left : left + width] = panel
    return page


def _paper(height: int, width: int) -> Pixels:
    return np.full((height, width, 3), PAPER, np.uint8)


# Text


def _write(
    pixels: Pixels,
    at: tuple[int, int],
    text: str,
    size: int,
    colour: Colour,
    anchor: str = "la",
    room: int | None = None,
) -> None:
    """Write one line into `pixels`, anchored as Pillow says, shortened to `room` pixels (default: its width)."""
    font = load_font(size)
    image = Image.fromarray(pixels)  # Pillow takes our blue for red, in the picture as in the colour
    line = shortened(_plain(text), font, pixels.shape[1] if room is None else room)
    ImageDraw.Draw(image).text(at, line, fill=colour, font=font, anchor=anchor)
    pixels[...] = np.asarray(image)


@functools.cache
def load_font(size: int) -> Any:
    """Return the font of all letters, so many pixels high."""
    return ImageFont.load_default(size=size)


def _plain(text: str) -> str:
    """Return one line of what the font has, which is ASCII: without accents, other letters as `?`."""
    letters = (c for c in unicodedata.normalize("NFKD", " ".join(text.split())) if not unicodedata.combining(c))
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in letters)


def shortened(text: str, font: Any, room: int) -> str:
    """Return a text that is at most `room` pixels wide, with an ellipsis in its middle where it was cut."""
    if font.getlength(text) <= room:
        return text

    def keep(count: int) -> str:
        return f"{text[: count - count // 2]}…{text[len(text) - count // 2 :]}"

    fitting = bisect_right(range(len(text)), room, key=lambda count: font.getlength(keep(count)))
    return keep(max(0, fitting - 1))
