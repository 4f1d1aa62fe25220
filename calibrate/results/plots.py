"""Small SVG plots for the report: no scripts, no files beside it."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WIDTH, HEIGHT, BASE, TOP = 720.0, 210.0, 165.0, 30.0
BINS = 32


@dataclass(frozen=True, slots=True)
class Series:
    """Some numbers, what they are, and their colour."""

    name: str
    colour: str
    values: Sequence[float]


def histogram(series: Sequence[Series], marked: float | None) -> str:
    """Draw how often values occur, each series scaled to its own tallest bar, and a line at `marked`."""
    values = [value for one in series for value in one.values] + ([] if marked is None else [marked])
    low, high = min(values), max(values)
    pad = (high - low or 1.0) * 0.06
    low, high = low - pad, high + pad
    step = WIDTH / BINS
    bars = []
    for one in series:
        counts, _ = np.histogram(one.values, bins=BINS, range=(low, high))
        tallest = max(1, int(counts.max()))
        for i, count in enumerate(counts):
            tall = (BASE - TOP) * count / tallest
            bars.append(
                f'<rect x="{i * step + 1:.1f}" y="{BASE - tall:.1f}" width="{step - 2:.1f}" height="{tall:.1f}" '
                f'fill="{one.colour}" fill-opacity="0.6"/>'
            )
    line = ""
    if marked is not None:
        at = WIDTH * (marked - low) / (high - low)
        anchor, shift = ("end", -6) if at > WIDTH / 2 else ("start", 6)
        line = (
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="8" y2="{BASE}" stroke="#c0392b" stroke-width="2"/>'
            f'<text x="{at + shift:.1f}" y="18" fill="#c0392b" font-size="13" text-anchor="{anchor}">'
            f"threshold {marked:.3g}</text>"
        )
    return _svg("".join(bars) + line + _axis(f"{low:.3g}", f"{high:.3g}"), series)


def line_plot(series: Sequence[Series]) -> str:
    """Draw values in their order, all on one scale that begins at 0."""
    high = max((value for one in series for value in one.values), default=1.0) or 1.0
    lines = []
    for one in series:
        across = WIDTH / max(1, len(one.values) - 1)
        points = " ".join(f"{i * across:.1f},{BASE - (BASE - TOP) * v / high:.1f}" for i, v in enumerate(one.values))
        lines.append(f'<polyline points="{points}" fill="none" stroke="{one.colour}" stroke-width="1.5"/>')
    top = f'<text x="0" y="{TOP - 6}" font-size="13">{high:.3g}</text>'
    return _svg("".join(lines) + top + _axis("first step", "last step"), series)


def _axis(left: str, right: str) -> str:
    return (
        f'<line x1="0" x2="{WIDTH:g}" y1="{BASE}" y2="{BASE}" stroke="#999"/>'
        f'<text x="0" y="{BASE + 17}" font-size="13">{left}</text>'
        f'<text x="{WIDTH:g}" y="{BASE + 17}" font-size="13" text-anchor="end">{right}</text>'
    )


def _svg(content: str, series: Sequence[Series]) -> str:
    legend = "".join(
        f'<rect x="{i * 190:g}" y="{HEIGHT - 14}" width="11" height="11" fill="{one.colour}"/>'
        f'<text x="{i * 190 + 16:g}" y="{HEIGHT - 4}" font-size="13">{html.escape(one.name)} ({len(one.values)})</text>'
        for i, one in enumerate(series)
    )
    return f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" width="{WIDTH:g}" role="img">{content}{legend}</svg>'
