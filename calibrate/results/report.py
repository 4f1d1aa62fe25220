"""report.html: one self-contained page that an engineer looks at before trusting a model."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from calibrate.data.training_set import Pictures
from calibrate.evaluation.metrics import Metrics
from calibrate.evaluation.testset import Evaluation
from calibrate.progress import Curve
from calibrate.results.plots import Series, histogram, line_plot
from calibrate.training.fit import Learned
from calibrate.training.options import Options
from calibrate.training.threshold import allowed_above, proven_rate
from inspectd.line.judge import exceeds

WORST = 6
WIDEST_PX = 1100
TEMPLATES = Environment(
    loader=PackageLoader("calibrate.results"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def _four_digits(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


TEMPLATES.filters["four_digits"] = _four_digits


@dataclass(frozen=True, slots=True)
class ModelReport:
    """What is told of one model."""

    title: str
    options: Options
    pictures: Pictures
    learned: Learned
    curve: Curve
    left_out: Sequence[str] = ()
    notes: Sequence[str] = ()
    """What the capture checks had to say."""
    evaluation: Evaluation | None = None
    examples: Sequence[NDArray[np.uint8]] = field(default_factory=list)
    """Drawn test pictures, BGR."""


def measured(learned: Learned) -> str:
    """Say in a sentence what was seen at the threshold."""
    threshold, count = learned.threshold, len(learned.held_out)
    if threshold is None:
        return ""
    above = _above(learned.scores, threshold.value)
    said = f"Threshold {threshold.value:.4g}: of {count} held-out good parts {above} would be rejected"
    if not threshold.painted:
        return f"{said}."
    lowest = threshold.value - threshold.margin
    return (
        f"{said}, and {threshold.painted_found} of {threshold.painted} small painted defects found "
        f"({threshold.painted_found_at_lowest} at {lowest:.4g}, the lowest that these parts allow)."
    )


def guarantee(learned: Learned) -> str:
    """Say in a sentence what the threshold promises."""
    threshold, held_out = learned.threshold, len(learned.held_out)
    if threshold is None:
        return "No good part was held out, so there is no threshold, and the daemon answers fault: no_threshold."
    proven = f"at most {threshold.proven_rate:.2%} of good parts are rejected, {threshold.confidence:.0%} sure"
    if threshold.is_proven:
        return f"Proven from {held_out} held-out good parts: {proven}."
    twice, marked = 2 * held_out, len(learned.unconfirmed)
    by_share = bool(threshold.painted)
    above = allowed_above(twice, marked, threshold.rate, threshold.confidence, by_share=by_share)
    return (
        f"For {threshold.rate:.2%} at {threshold.confidence:.0%} you need {threshold.parts_needed} held-out good "
        f"parts; with {held_out} the best provable bound is: {proven}. As many again like them would prove "
        f"{proven_rate(twice, above, threshold.confidence):.2%}."
    )


def _above(scores: Sequence[float], value: float) -> int:
    return sum(exceeds(score, value) for score in scores)


def unconfirmed(learned: Learned, names: Sequence[str], how: str = "") -> str | None:
    """Say which held-out parts count as rejected until a person has looked at them, or None.

    `how`: the options by which the same pictures are calibrated on again.
    """
    if not learned.unconfirmed:
        return None
    odd = [names[i] for i in learned.unconfirmed]
    again = how + " ".join(f"--confirm {name!r}" for name in odd)
    return (
        f"{len(odd)} held-out {'pictures look' if len(odd) > 1 else 'picture looks'} unlike the rest and "
        f"{'count' if len(odd) > 1 else 'counts'} as a false reject: {', '.join(odd)}. Look at them in the report; if "
        f"they show good parts, calibrate again with {again}."
    )


def render_report(title: str, models: Sequence[str], summary: Sequence[tuple[str, Metrics]] = ()) -> str:
    """Return the page; `models` come from `render_model`, `summary` is a table of each model's three figures."""
    return TEMPLATES.get_template("report.html").render(title=title, models=models, summary=summary)


def render_model(model: ModelReport) -> str:
    """Return the part of the page that tells of one model."""
    learned, pictures = model.learned, model.pictures
    worst = sorted(zip(learned.scores, learned.held_out, strict=True), reverse=True)[:WORST]
    is_each = len(learned.held_out) == len(pictures)  # then those that are left out count as rejects too
    return TEMPLATES.get_template("model.html").render(
        title=model.title,
        measured=measured(learned),
        guarantee=guarantee(learned),
        choices=_choices(learned, model.evaluation),
        unconfirmed=unconfirmed(learned, pictures.names),
        notes=model.notes,
        facts=_facts(model),
        scores=_scores(learned, model.evaluation),
        worst=[_figure(pictures, i, f"{score:.3g}") for score, i in worst],
        unlike=[] if is_each else _odd_ones(model, "unlike"),
        odd=_odd_ones(model, "unconfirmed"),
        examples=[_jpeg(_narrowed(image)) for image in model.examples],
        training=_training(model.curve),
        left_out=model.left_out,
    )


def _facts(model: ModelReport) -> dict[str, str]:
    learned, options, pictures = model.learned, model.options, model.pictures
    threshold = learned.threshold
    held_out = len(learned.held_out)
    how = "each learned from, and held out once" if held_out == len(pictures) else f"of which {held_out} were held out"
    facts = {"Pictures": f"{len(pictures)}, {how}"}
    if threshold is not None:
        facts["Threshold"] = f"{threshold.value:.4g}" + (
            f" ({threshold.margin:.3g} above the lowest that the held-out scores allow)" if threshold.margin else ""
        )
    crop = f", the centre of pictures resized to {options.resize}" if options.resize else ", everything is inspected"
    facts |= {
        "Backbone": f"{options.backbone}, layers {', '.join(options.layers)}",
        "Input": f"{options.width}×{options.height}{crop}",
        "Checkpoint": learned.kept + (" (chosen on the test set)" if learned.kept != "last" else ""),
        "Seed": str(options.seed),
    }
    tested = model.evaluation
    if tested is None:
        return facts
    metrics = tested.metrics
    facts["Test set" if tested.has_own_good else "Known defects against held-out parts"] = (
        f"image AUROC {_four_digits(metrics.image_auroc)}, pixel AUROC {_four_digits(metrics.pixel_auroc)}, "
        f"PRO {_four_digits(metrics.pro)}"
    )
    if threshold is not None:
        defects = sum(tested.is_defective)
        facts["At the threshold"] = (
            f"{tested.missed(threshold.value)} of {defects} defects are missed, {tested.rejected(threshold.value)} of "
            f"{len(tested.scores) - defects} good parts are rejected"
        )
    return facts


CHOICES = 6
"""Rows of the table on either side of the threshold."""


def _choices(learned: Learned, tested: Evaluation | None) -> list[list[str]]:
    """Return a table of thresholds, its head first: what each would reject and miss."""
    threshold = learned.threshold
    if threshold is None:
        return []
    defects = [] if tested is None else [s for s, b in zip(tested.scores, tested.is_defective, strict=True) if b]
    kinds = [("good parts rejected", learned.scores, True)]
    kinds += [("painted defects missed", learned.painted, False)] if learned.painted else []
    kinds += [("known defects missed", defects, False)] if defects else []
    every = sorted({*learned.scores, *learned.painted, *defects})
    lower = [score for score in every if score < threshold.value and _above(learned.scores, score) <= CHOICES]
    higher = [score for score in every if score > threshold.value]
    rows = [["threshold", *(title for title, _, _ in kinds)]]
    for value in sorted({*_spread(lower), threshold.value, *_spread(higher)}):
        cells = [f"{value:.4g}" + (" (chosen)" if value == threshold.value else "")]
        for _, scores, is_good in kinds:
            above = _above(scores, value)
            cells.append(f"{above if is_good else len(scores) - above} of {len(scores)}")
        rows.append(cells)
    return rows


def _spread(ascending: Sequence[float]) -> list[float]:
    """Return some of the values, from the first to the last."""
    last = len(ascending) - 1
    return [ascending[round(i * last / (CHOICES - 1))] for i in range(CHOICES)] if last >= 0 else []


def _scores(learned: Learned, tested: Evaluation | None) -> str:
    series = [Series("held-out good parts", "#4a7ab5", learned.scores)] if learned.scores else []
    if learned.painted:
        series.append(Series("the same with a painted defect", "#b0a040", learned.painted))
    if tested is not None:
        by_kind = list(zip(tested.scores, tested.is_defective, strict=True))
        if tested.has_own_good:
            series.append(Series("good test parts", "#6aa84f", [score for score, bad in by_kind if not bad]))
        series.append(Series("defects", "#cc6633", [score for score, bad in by_kind if bad]))
    if not series:
        return ""
    threshold = learned.threshold.value if learned.threshold else None
    return histogram(series, threshold)


def _odd_ones(model: ModelReport, which: Literal["unlike", "unconfirmed"]) -> list[_Figure]:
    """Return pictures that the cleaning found odd, the oddest first."""
    cleaning = model.learned.cleaning
    if cleaning is None:
        return []
    ordered = sorted(getattr(cleaning, which), key=lambda i: -cleaning.oddness[i])
    return [_figure(model.pictures, i, f"{cleaning.oddness[i] / cleaning.limit:.2f} × the limit") for i in ordered]


def _training(curve: Curve) -> str:
    names = [name for name in ("loss", "p_true", "p_fake") if any(point[0] == name for point in curve)]
    colours = {"loss": "#444444", "p_true": "#4a7ab5", "p_fake": "#cc6633"}
    lines = [Series(name, colours[name], [point[1] for point in curve if point[0] == name]) for name in names]
    return line_plot(lines) if lines else ""


@dataclass(frozen=True, slots=True)
class _Figure:
    caption: str
    data: str
    """A data URL."""


def _figure(pictures: Pictures, position: int, says: str) -> _Figure:
    rgb = pictures.input(position).permute(1, 2, 0).clamp(0, 255).byte().numpy()
    return _Figure(f"{pictures.names[position]}: {says}", _jpeg(np.ascontiguousarray(rgb[:, :, ::-1])))


def _narrowed(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    if width <= WIDEST_PX:
        return image
    return np.asarray(
        cv2.resize(image, (WIDEST_PX, round(height * WIDEST_PX / width)), interpolation=cv2.INTER_AREA), np.uint8
    )


def _jpeg(bgr: NDArray[np.uint8]) -> str:
    _, data = cv2.imencode(".jpg", bgr)
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
