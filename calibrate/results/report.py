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
from calibrate.results.sentences import doubtful, equipment, guarantee, measured
from calibrate.training.fit import Learned
from calibrate.training.options import Options
from inspectd.line.thresholds import Known, table_of

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
    overview: NDArray[np.uint8] | None = None
    """The pictures that differ most, on one sheet."""
    parts: NDArray[np.uint8] | None = None
    """How parts that pass were told apart, on one sheet."""


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
        doubtful=doubtful(learned, pictures.names),
        withstood=_withstood(learned),
        equipment=equipment(learned),
        notes=model.notes,
        facts=_facts(model),
        scores=_scores(learned, model.evaluation),
        worst=[_figure(pictures, i, f"{score:.3g}") for score, i in worst],
        unlike=[] if is_each else _odd_ones(model, "unlike"),
        odd=_odd_ones(model, "unconfirmed"),
        examples=[_jpeg(_narrowed(image)) for image in model.examples],
        overview=None if model.overview is None else _jpeg(_narrowed(model.overview)),
        parts=None if model.parts is None else _png(model.parts),
        training=_training(model.curve),
        left_out=model.left_out,
    )


def _withstood(learned: Learned) -> list[list[str]]:
    """Return a table of what was tried, its head first."""
    if not learned.withstood:
        return []
    rows = [["good parts", "rejected", ""]]
    rows.append(["as they are", f"{learned.withstood[0].undisturbed} of {learned.withstood[0].of}", ""])
    for one in learned.withstood:
        verdict = "" if one.holds else "not withstood"
        rows.append([one.disturbance.name, f"{one.rejected} of {one.of}", verdict])
    return rows


def _facts(model: ModelReport) -> dict[str, str]:
    learned, options, pictures = model.learned, model.options, model.pictures
    threshold = learned.threshold
    held_out = len(learned.held_out)
    how = "each learned from, and held out once" if held_out == len(pictures) else f"of which {held_out} were held out"
    facts = {"Pictures": f"{len(pictures)}, {how}"}
    if threshold is not None:
        facts["Threshold"] = f"{threshold.value:.4g}" + (
            f" ({threshold.margin:.3g} above the lowest)" if threshold.margin else ""
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


def _choices(learned: Learned, tested: Evaluation | None) -> list[list[str]]:
    """Return a table of thresholds, its head first: what each would reject and miss."""
    if learned.threshold is None:
        return []
    defects = [] if tested is None else [s for s, b in zip(tested.scores, tested.is_defective, strict=True) if b]
    good = Known("good parts", learned.scores, is_good=True)
    painted = Known("painted defects", learned.painted, is_good=False)
    return table_of(learned.threshold.value, [good, painted, Known("known defects", defects, is_good=False)])


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


def _png(bgr: NDArray[np.uint8]) -> str:
    _, data = cv2.imencode(".png", bgr)
    return f"data:image/png;base64,{base64.b64encode(data.tobytes()).decode()}"


def _jpeg(bgr: NDArray[np.uint8]) -> str:
    _, data = cv2.imencode(".jpg", bgr)
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
