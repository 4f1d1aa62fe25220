"""report.html: one self-contained page that an engineer looks at before trusting a model."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from calibrate.data.training_set import Pictures
from calibrate.evaluation.metrics import Metrics
from calibrate.evaluation.testset import Evaluation
from calibrate.progress import Curve
from calibrate.results.plots import Series, histogram, line_plot
from calibrate.training.fit import Learned
from calibrate.training.options import Options
from inspectd.model.calibration import ThresholdRecord

WORST = 6
WIDEST_PX = 1100
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
 body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; color: #222; }}
 h1 {{ font-size: 1.5rem; }}
 h2 {{ font-size: 1.3rem; margin-top: 2.5rem; border-top: 1px solid #ccc; padding-top: 1rem; }}
 h3 {{ font-size: 1.05rem; margin-top: 1.75rem; }}
 figure {{ display: inline-block; margin: 0 .75rem .75rem 0; font-size: .85rem; vertical-align: top; }}
 figure img {{ display: block; width: 9.5rem; height: auto; }}
 img.wide {{ display: block; width: 100%; margin: .5rem 0; }}
 figcaption {{ max-width: 9.5rem; overflow-wrap: anywhere; }}
 table {{ border-collapse: collapse; }}
 td, th {{ padding: .15rem 1.5rem .15rem 0; vertical-align: top; text-align: left; }}
 svg {{ max-width: 100%; height: auto; }} .warn {{ color: #a33; }}
</style>
<h1>{title}</h1>
{summary}
{models}
"""


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


def guarantee(threshold: ThresholdRecord | None, held_out: int) -> str:
    """Say in a sentence what the threshold promises."""
    if threshold is None:
        return "No good part was held out, so there is no threshold, and the daemon answers fault: no_threshold."
    proven = f"at most {threshold.proven_rate:.2%} of good parts are rejected, {threshold.confidence:.0%} sure"
    if threshold.is_proven:
        return f"Proven from {held_out} held-out good parts: {proven}."
    return (
        f"For {threshold.rate:.2%} at {threshold.confidence:.0%} you need {threshold.parts_needed} held-out good "
        f"parts; with {held_out} the best provable bound is: {proven}."
    )


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


def render_report(title: str, models: Sequence[str], summary: str = "") -> str:
    """Return the page; `models` come from `render_model`."""
    return PAGE.format(title=html.escape(title), summary=summary, models="\n".join(models))


def summary_table(rows: Iterable[tuple[str, Metrics]]) -> str:
    """Return a table with the three figures of each model."""
    cells = "".join(
        f"<tr><td>{html.escape(name)}</td>"
        + "".join(f"<td>{_figure4(value)}</td>" for value in (m.image_auroc, m.pixel_auroc, m.pro))
        + "</tr>"
        for name, m in rows
    )
    return f"<table><tr><th></th><th>image AUROC</th><th>pixel AUROC</th><th>PRO</th></tr>{cells}</table>"


def render_model(model: ModelReport) -> str:
    """Return the part of the page that tells of one model."""
    learned, pictures = model.learned, model.pictures
    parts = [
        f"<h2>{html.escape(model.title)}</h2>",
        f"<p><b>{html.escape(guarantee(learned.threshold, len(learned.held_out)))}</b></p>",
        _warning(unconfirmed(learned, pictures.names)),
        "".join(f'<p class="warn">{html.escape(note)}</p>' for note in model.notes),
        _table(_facts(model)),
        _scores(learned, model.evaluation),
        _worst(pictures, learned),
        _cleaned(pictures, learned),
        _examples(model.examples),
        _training(model.curve),
        _left_out(model.left_out),
    ]
    return "\n".join(part for part in parts if part)


def _warning(text: str | None) -> str:
    return "" if text is None else f'<p class="warn"><b>{html.escape(text)}</b></p>'


def _facts(model: ModelReport) -> dict[str, str]:
    learned, options, pictures = model.learned, model.options, model.pictures
    threshold = learned.threshold
    facts = {"Pictures": f"{len(pictures)}, of which {len(learned.held_out)} were held out of the training"}
    if threshold is not None:
        facts["Threshold"] = f"{threshold.value:.4g}" + (
            f" (the largest held-out score and an estimated margin of {threshold.margin:.3g})"
            if threshold.margin
            else ""
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
        f"image AUROC {_figure4(metrics.image_auroc)}, pixel AUROC {_figure4(metrics.pixel_auroc)}, "
        f"PRO {_figure4(metrics.pro)}"
    )
    if threshold is not None:
        defects = sum(tested.is_defective)
        facts["At the threshold"] = (
            f"{tested.missed(threshold.value)} of {defects} defects are missed, {tested.rejected(threshold.value)} of "
            f"{len(tested.scores) - defects} good parts are rejected"
        )
    return facts


def _figure4(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _table(facts: dict[str, str]) -> str:
    rows = "".join(f"<tr><td>{html.escape(k)}</td><td>{html.escape(v)}</td></tr>" for k, v in facts.items())
    return f"<table>{rows}</table>"


def _scores(learned: Learned, tested: Evaluation | None) -> str:
    series = [Series("held-out good parts", "#4a7ab5", learned.scores)] if learned.scores else []
    if tested is not None:
        by_kind = list(zip(tested.scores, tested.is_defective, strict=True))
        if tested.has_own_good:
            series.append(Series("good test parts", "#6aa84f", [score for score, bad in by_kind if not bad]))
        series.append(Series("defects", "#cc6633", [score for score, bad in by_kind if bad]))
    if not series:
        return ""
    threshold = learned.threshold.value if learned.threshold else None
    return f"<h3>Scores: higher is worse</h3>{histogram(series, threshold)}"


def _worst(pictures: Pictures, learned: Learned) -> str:
    worst = sorted(zip(learned.scores, learned.held_out, strict=True), reverse=True)[:WORST]
    if not worst:
        return ""
    figures = "".join(_figure(pictures, i, f"{score:.3g}") for score, i in worst)
    return (
        "<h3>The held-out good parts that look worst to the model</h3><p>Look at them: a defective part among them "
        f"raises the threshold, and defects will be missed.</p>{figures}"
    )


def _cleaned(pictures: Pictures, learned: Learned) -> str:
    cleaning = learned.cleaning
    if cleaning is None or not (cleaning.unlike or cleaning.unconfirmed):
        return ""

    def figures(positions: Iterable[int]) -> str:
        ordered = sorted(positions, key=lambda i: -cleaning.oddness[i])
        return "".join(_figure(pictures, i, f"{cleaning.oddness[i] / cleaning.limit:.2f} × the limit") for i in ordered)

    parts = []
    if cleaning.unlike:
        parts.append(f"<p>Left out of the training:</p>{figures(cleaning.unlike)}")
    if cleaning.unconfirmed:
        parts.append(
            f"<p>Held out; each counts as a false reject until it is confirmed:</p>{figures(cleaning.unconfirmed)}"
        )
    return "<h3>Pictures that look unlike the rest</h3>" + "".join(parts)


def _examples(examples: Sequence[NDArray[np.uint8]]) -> str:
    if not examples:
        return ""
    images = "".join(f'<img class="wide" alt="example" src="{_jpeg(_narrowed(image))}">' for image in examples)
    return f"<h3>Examples: picture, truth, map, verdict</h3>{images}"


def _training(curve: Curve) -> str:
    names = [name for name in ("loss", "p_true", "p_fake") if any(point[0] == name for point in curve)]
    colours = {"loss": "#444444", "p_true": "#4a7ab5", "p_fake": "#cc6633"}
    lines = [Series(name, colours[name], [point[1] for point in curve if point[0] == name]) for name in names]
    if not lines:
        return ""
    return (
        "<h3>Training</h3><p>p_true: share of good patches beyond the margin; p_fake: share of noisy patches.</p>"
        f"{line_plot(lines)}"
    )


def _figure(pictures: Pictures, position: int, says: str) -> str:
    rgb = pictures.input(position).permute(1, 2, 0).clamp(0, 255).byte().numpy()
    caption = html.escape(f"{pictures.names[position]}: {says}")
    picture = f'<img alt="{caption}" src="{_jpeg(np.ascontiguousarray(rgb[:, :, ::-1]))}">'
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"


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


def _left_out(left_out: Sequence[str]) -> str:
    if not left_out:
        return ""
    items = "".join(f"<li>{html.escape(why)}</li>" for why in left_out)
    return f"<h3>Pictures that could not be read and were left out</h3><ul>{items}</ul>"
