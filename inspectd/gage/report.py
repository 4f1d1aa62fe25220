"""The study as one page that a quality engineer files, and as lines for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from jinja2 import Environment, PackageLoader, StrictUndefined

from inspectd.gage.statistics import MOST_FALSE_ALARMS, MOST_MISSES, Analysis, Criterion, Interval, parts_to_prove
from inspectd.gage.study import Trial
from inspectd.records import Known

TEMPLATES = Environment(
    loader=PackageLoader("inspectd.gage"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
WIDTH, LEFT, RIGHT, ROW, TOP = 760, 150, 20, 18, 24
"""Of the chart, in pixels."""


@dataclass(frozen=True, slots=True)
class Dot:
    """One trial in the chart."""

    x: float
    y: float
    is_right: bool
    is_bad: bool


@dataclass(frozen=True, slots=True)
class Chart:
    """Scores, a row for each part."""

    height: float
    names: list[tuple[str, float, bool]]
    """Name of the part, its y, and whether it is a bad one."""
    dots: list[Dot]
    thresholds: list[float]
    grey: tuple[float, float] | None
    ticks: list[tuple[float, str]]


def render(title: str, trials: Sequence[Trial], analysis: Analysis) -> str:
    """Return the page."""
    return TEMPLATES.get_template("gage.html").render(
        title=title,
        analysis=analysis,
        notes=notes_of(analysis),
        rows=[row_of(one) for one in analysis.criteria],
        repeatability=repeatability_of(analysis),
        chart=chart_of(trials, analysis),
        width=WIDTH,
        left=LEFT,
        dates=_dates(trials),
    )


def row_of(one: Criterion) -> list[str]:
    """Return what is told of a criterion: name, meaning, figure, interval, limit, whether it is met, and proven."""
    is_share = one.name != "kappa"
    sign = "≥" if one.is_least else "≤"
    return [
        one.name,
        f"{one.meaning}: {one.basis}",
        _figure(one.interval.value, is_share=is_share),
        between(one.interval, is_share=is_share),
        f"{sign} {_figure(one.limit, is_share=is_share)}",
        "accepted" if one.is_met else "not accepted",
        "proven" if one.is_proven else "not proven",
    ]


def between(interval: Interval, *, is_share: bool) -> str:
    """Write an interval."""
    return f"{_figure(interval.low, is_share=is_share)} to {_figure(interval.high, is_share=is_share)}"


def repeatability_of(analysis: Analysis) -> list[tuple[str, str]]:
    """Return what is told of how a score repeats, name and text."""
    found = []
    if analysis.same is not None:
        same = analysis.same
        text = f"{same.count} of {same.of} ({between(same.interval, is_share=True)})"
        found.append(("parts decided the same each time", text))
    for known, spread in analysis.spread.items():
        value, low, high = spread.interval.value, spread.interval.low, spread.interval.high
        text = f"{value:.4g} ({low:.4g} to {high:.4g}), from {spread.trials} trials of {spread.parts} parts"
        found.append((f"standard deviation of a {known} part's score from showing to showing", text))
    if analysis.grey is not None:
        low, high = analysis.grey
        found.append(("a part that scores within may be decided either way", f"{low:.4g} to {high:.4g}"))
    if analysis.flips is not None:
        text = f"{_percent(analysis.flips.value)} ({between(analysis.flips, is_share=True)})"
        found.append(("share of production that would be decided otherwise if shown again", text))
    for one in analysis.labels:
        by = "" if one.shift is None else f"; its good parts score {one.shift:+.3g} beside their mean"
        found.append((one.label or "no label", f"{one.right} of {one.trials} right{by}"))
    return found


def notes_of(analysis: Analysis) -> list[str]:
    """Return what must be known before the figures are believed."""
    found = analysis.lacks
    if analysis.unjudged:
        found.append(f"{analysis.unjudged} of {analysis.trials} trials were faults: no decision, counted nowhere.")
    if len(analysis.models) > 1 or len(analysis.thresholds) > 1:
        by = ", ".join([*analysis.models, *(f"{one:.4g}" for one in analysis.thresholds)])
        found.append(
            f"The trials were judged by several models or thresholds ({by}): unless the camera has several areas, that "
            "is no study of one inspection."
        )
    if analysis.same is None:
        found.append("No part was shown twice: nothing is said of repeatability.")
    for one in analysis.criteria:
        if one.is_met and not one.is_proven and one.name in ("miss rate", "false alarm rate"):
            most, kind = (MOST_MISSES, "bad") if one.name == "miss rate" else (MOST_FALSE_ALARMS, "good")
            needed = parts_to_prove(most)
            found.append(
                f"The {one.name} is accepted and not proven: {needed} {kind} parts without a wrong decision would "
                f"prove {_percent(most)} with 95 %; there were {analysis.parts[Known(kind)]}."
            )
    return found


def chart_of(trials: Sequence[Trial], analysis: Analysis) -> Chart | None:
    """Return where everything lies in the chart; None: nothing has a score."""
    scored = [one for one in trials if one.score is not None]
    if not scored:
        return None
    scores = [one.score for one in scored if one.score is not None] + analysis.thresholds
    low, high = min(scores), max(scores)
    span = (high - low) or 1.0

    def across(score: float) -> float:
        return round(LEFT + (score - low) / span * (WIDTH - LEFT - RIGHT), 1)

    of = {one.part for one in scored}
    means = {part: fmean(one.score or 0.0 for one in scored if one.part == part) for part in of}
    parts = sorted(
        {one.part: one.known for one in scored}.items(), key=lambda one: (one[1] is Known.BAD, means[one[0]])
    )
    rows: dict[str, float] = {part: TOP + i * ROW for i, (part, _) in enumerate(parts)}
    dots = [
        Dot(across(one.score), rows[one.part], not one.is_judged or one.is_right, one.known is Known.BAD)
        for one in scored
        if one.score is not None
    ]
    names = [(part, rows[part], known is Known.BAD) for part, known in parts]
    grey = analysis.grey
    return Chart(
        height=TOP + len(parts) * ROW + TOP,
        names=names,
        dots=dots,
        thresholds=[across(one) for one in analysis.thresholds],
        grey=None if grey is None else (max(LEFT, across(grey[0])), min(WIDTH - RIGHT, across(grey[1]))),
        ticks=[(across(low + span * i / 4), f"{low + span * i / 4:.3g}") for i in range(5)],
    )


def _dates(trials: Sequence[Trial]) -> str:
    at = sorted(one.at for one in trials if one.at)
    if not at:
        return ""
    return at[0][:10] if at[0][:10] == at[-1][:10] else f"{at[0][:10]} to {at[-1][:10]}"


def _figure(value: float, *, is_share: bool) -> str:
    return _percent(value) if is_share else f"{value:.2f}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"
