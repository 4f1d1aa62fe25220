"""report.html: one self-contained page that an engineer looks at before trusting a model."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence

import cv2
import numpy as np

from calibrate.fit import Learned, Pictures
from inspectd.simplenet.bundle import ThresholdRecord

WORST = 6
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
 body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }}
 h1 {{ font-size: 1.5rem; }} h2 {{ font-size: 1.15rem; margin-top: 2rem; }}
 figure {{ display: inline-block; margin: 0 .75rem .75rem 0; font-size: .85rem; }}
 figure img {{ display: block; width: 9rem; height: auto; }}
 table {{ border-collapse: collapse; }} td {{ padding: .15rem 1.5rem .15rem 0; vertical-align: top; }}
</style>
<h1>{title}</h1>
<p><b>{guarantee}</b></p>
{facts}
<h2>Scores of the held-out good parts</h2>
{histogram}
<h2>The held-out good parts that look worst to the model</h2>
<p>Look at them: a defective part among them raises the threshold, and defects will be missed.</p>
{worst}
{left_out}
"""


def guarantee(threshold: ThresholdRecord, held_out: int) -> str:
    """Say in a sentence what the threshold promises."""
    proven = f"at most {threshold.proven_rate:.2%} of good parts are rejected, {threshold.confidence:.0%} sure"
    if threshold.is_proven:
        return f"Proven from {held_out} held-out good parts: {proven}."
    return (
        f"For {threshold.rate:.2%} at {threshold.confidence:.0%} you need {threshold.parts_needed} held-out good "
        f"parts; with {held_out} the best provable bound is: {proven}."
    )


def render_report(name: str, pictures: Pictures, learned: Learned, left_out: Sequence[str]) -> str:
    """Return the page."""
    threshold = learned.threshold
    worst = sorted(zip(learned.scores, learned.held_out, strict=True), reverse=True)[:WORST]
    options = pictures.options
    facts = {
        "Pictures": f"{len(pictures.inputs)}, of which {len(learned.held_out)} were held out of the training",
        "Threshold": f"{threshold.value:.4g}"
        + (
            f" (the largest held-out score and an estimated margin of {threshold.margin:.3g})"
            if threshold.margin
            else ""
        ),
        "Backbone": f"{options.backbone}, layers {', '.join(options.layers)}, input {options.width}×{options.height}",
        "Seed": str(options.seed),
    }
    return PAGE.format(
        title=html.escape(f"Calibration of {name}"),
        guarantee=html.escape(guarantee(threshold, len(learned.held_out))),
        facts=_table(facts),
        histogram=_histogram(learned.scores, threshold.value),
        worst="".join(_figure(pictures, score, i) for score, i in worst),
        left_out=_left_out(left_out),
    )


def _table(facts: dict[str, str]) -> str:
    rows = "".join(f"<tr><td>{html.escape(k)}</td><td>{html.escape(v)}</td></tr>" for k, v in facts.items())
    return f"<table>{rows}</table>"


def _histogram(scores: Sequence[float], threshold: float) -> str:
    low, high = min(*scores, threshold), max(*scores, threshold)
    pad = (high - low or 1.0) * 0.08
    counts, edges = np.histogram(scores, bins=24, range=(low - pad, high + pad))
    width, height, base = 720.0, 180.0, 150.0
    step = width / len(counts)
    tallest = max(1, int(counts.max()))
    bars = "".join(
        f'<rect x="{i * step + 1:.1f}" y="{base - 130 * n / tallest:.1f}" width="{step - 2:.1f}" '
        f'height="{130 * n / tallest:.1f}" fill="#4a7ab5"/>'
        for i, n in enumerate(counts)
    )
    at = width * (threshold - edges[0]) / (edges[-1] - edges[0])
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="100%" role="img">{bars}'
        f'<line x1="0" x2="{width:g}" y1="{base}" y2="{base}" stroke="#999"/>'
        f'<line x1="{at:.1f}" x2="{at:.1f}" y1="8" y2="{base}" stroke="#c0392b" stroke-width="2"/>'
        f'<text x="{at - 6:.1f}" y="18" fill="#c0392b" font-size="13" text-anchor="end">'
        f"threshold {threshold:.3g}</text>"
        f'<text x="0" y="{base + 20}" font-size="13">{edges[0]:.3g}</text>'
        f'<text x="{width:g}" y="{base + 20}" font-size="13" text-anchor="end">{edges[-1]:.3g}</text></svg>'
    )


def _figure(pictures: Pictures, score: float, position: int) -> str:
    rgb = pictures.inputs[position].permute(1, 2, 0).clamp(0, 255).byte().numpy()
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(rgb[:, :, ::-1]))
    source = base64.b64encode(data.tobytes()).decode()
    caption = html.escape(f"{pictures.names[position]}: {score:.3g}")
    picture = f'<img alt="{caption}" src="data:image/jpeg;base64,{source}">'
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"


def _left_out(left_out: Sequence[str]) -> str:
    if not left_out:
        return ""
    items = "".join(f"<li>{html.escape(why)}</li>" for why in left_out)
    return f"<h2>Pictures that were left out</h2><ul>{items}</ul>"
