"""Another threshold: what it would have done, and whether it makes sense at all."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec

from inspectd.history import reading
from inspectd.line.judge import Criterion, exceeds
from inspectd.line.recipe import Area, Recipe
from inspectd.wire.messages import AreaMessage, VerdictMessage
from inspectd.wire.requests import RefusedError
from inspectd.wire.results import TrialMessage

MOST_TRIED = 1000
"""Verdicts that another threshold is tried on."""
WIDEST = 20.0
"""A threshold may lie so many times as far above the median good part as the calibration's does."""


def check_threshold(value: float, area: Area) -> None:
    """Refuse a threshold by which everything, or nothing, would be ok: RefusedError."""
    if not math.isfinite(value):
        raise RefusedError("bad_value", f"value is {value}; expected a number.")
    calibration = area.model.calibration
    if calibration is None or calibration.threshold is None or not calibration.held_out_scores:
        return  # nothing is known of its scores
    own = Criterion(calibration.threshold.value, calibration.held_out_scores, area.model.label)
    lowest, highest = min(calibration.held_out_scores), own.typical + WIDEST * own.span
    if not lowest <= value <= highest:
        what = "every part would be ng" if value < lowest else "every defect might be ok"
        raise RefusedError(
            "bad_value",
            f"value is {value:.6g}, with which {what}: the held-out good parts of {area.model.label} scored "
            f"{lowest:.4g} to {max(calibration.held_out_scores):.4g}, and its own threshold is {own.threshold:.4g}; "
            f"expected {lowest:.4g} to {highest:.4g}.",
        )


def try_threshold(journal: Path, camera: str, threshold: float, recipe: Recipe, area: Area) -> TrialMessage:
    """Hold a threshold against the camera's last verdicts by the model that is in force."""
    latest = (
        msgspec.json.decode(header, type=VerdictMessage)
        for header in reading.latest_verdicts(journal, camera, MOST_TRIED)
    )
    said = [(one, _said_of(one, area.name)) for one in latest if one.recipe == recipe.name]
    scored = [
        (one, found, found.score)
        for one, found in said
        if found is not None and found.model == area.model.label and found.score is not None
    ]
    then = [exceeds(score, threshold) for _, _, score in scored]
    now = [found.verdict == "ng" for _, found, _ in scored]
    return TrialMessage(
        verdicts=len(scored),
        since=scored[-1][0].at if scored else None,
        ng=sum(now),
        ng_then=sum(then),
        passed=sum(is_now and not is_then for is_now, is_then in zip(now, then, strict=True)),
        rejected=sum(is_then and not is_now for is_now, is_then in zip(now, then, strict=True)),
    )


def _said_of(message: VerdictMessage, area: str | None) -> VerdictMessage | AreaMessage | None:
    """Return what a verdict says of an area; None: it is of other areas."""
    if area is None:
        return None if message.areas else message
    return next((one for one in message.areas if one.name == area), None)
