"""What a calibration has to say, in sentences: the same in the terminal and in the report."""

from __future__ import annotations

import math
from collections.abc import Sequence

from calibrate.training.fit import Learned
from calibrate.training.threshold import Evidence, is_worth_proving
from inspectd.line.judge import exceeds
from inspectd.model.calibration import ThresholdRecord

DEPENDENT = 0.8
"""Less than this share of the pictures are independent parts: then it is said."""
NAMED = 5
"""So many names are told; of the others only how many they are."""


def measured(learned: Learned) -> str:
    """Say what was seen at the threshold."""
    threshold, count = learned.threshold, len(learned.held_out)
    if threshold is None:
        return ""
    above = sum(exceeds(score, threshold.value) for score in learned.scores)
    said = f"Threshold {threshold.value:.4g}: of {count} held-out good parts {above} would be rejected"
    if not threshold.painted:
        return f"{said}."
    lowest = threshold.value - threshold.margin
    is_proven = evidence_of(learned, threshold).bound(_count_above(learned, lowest)) <= threshold.rate
    why = "the lowest that is proven" if is_proven else f"above which {threshold.rate:.2%} are expected"
    return (
        f"{said}, and {threshold.painted_found} of {threshold.painted} small painted defects found "
        f"({threshold.painted_found_at_lowest} at {lowest:.4g}, {why})."
    )


def guarantee(learned: Learned) -> str:
    """Say what the threshold promises."""
    threshold, held_out = learned.threshold, len(learned.held_out)
    if threshold is None:
        return "No good part was held out, so there is no threshold, and the daemon answers fault: no_threshold."
    evidence = evidence_of(learned, threshold)
    proven = f"at most {threshold.proven_rate:.2%} of good parts are rejected, {threshold.confidence:.0%} sure"
    parts, dependent = f"{held_out} held-out good parts", ""
    if evidence.parts < DEPENDENT * held_out:
        parts = f"{held_out} held-out pictures of about {evidence.parts} independent parts"
        dependent = (
            " Neighbouring pictures have scores that follow each other, as those of the same part do, so they count as "
            "fewer: take pictures of more parts, or at longer intervals."
        )
    if threshold.is_proven:
        return f"Proven from {parts}: {proven}.{dependent}"
    wanted = (
        f"For {threshold.rate:.2%} at {threshold.confidence:.0%} you need {threshold.parts_needed} held-out good parts"
    )
    if threshold.proven_rate >= 1:
        return f"{wanted}; from {parts} nothing is proven.{dependent}"
    unlike, above = set(learned.unconfirmed), _count_above(learned, threshold.value)
    usual = sorted(score for i, score in zip(learned.held_out, learned.scores, strict=True) if i not in unlike)
    allowed = evidence.allowed(threshold.rate, len(unlike))
    if evidence.bound(allowed) <= threshold.rate:
        told = _rounded_up(usual[-1 - (allowed - len(unlike))])
        there = sum(exceeds(score, float(told)) for score in learned.painted)
        return (
            f"At this threshold, from {parts}: {proven}. {threshold.rate:.2%} is proven at {told} (threshold: "
            f"{told} for the camera in the configuration), where {there} of {threshold.painted} small painted "
            f"defects are found.{dependent}"
        )
    twice = Evidence(2 * held_out, 2 * evidence.parts, threshold.confidence)
    then = twice.bound(twice.allowed(threshold.rate, 2 * len(unlike)))
    if then > threshold.rate:
        then = twice.bound(2 * above)
    elif not is_worth_proving(usual[-1], threshold.value, learned.painted):
        then = twice.careful().bound(2 * above)
    return (
        f"{wanted}; from {parts}, at this threshold {proven}. As many again like them would prove {then:.2%}."
        f"{dependent}"
    )


def evidence_of(learned: Learned, threshold: ThresholdRecord) -> Evidence:
    """Return how much the held-out parts prove."""
    count = len(learned.held_out)
    return Evidence(count, threshold.independent_parts or count, threshold.confidence)


def doubtful(learned: Learned, names: Sequence[str], how: str = "") -> str | None:
    """Say which held-out parts count as rejected and why, so that a person looks at them; None: there are none.

    `how`: the options by which the same pictures are calibrated on again.
    """
    if not learned.doubtful:
        return None
    kinds = ((learned.unconfirmed, "looks", "look", "unlike the rest"), (_above(learned), "scores", "score", "so high"))
    told = [
        f"{len(some)} {one if len(some) == 1 else many} {what} ({_some([names[i] for i in some])})"
        for some, one, many, what in kinds
        if some
    ]
    again = how + " ".join(f"--confirm {names[i]!r}" for i in learned.doubtful)
    return (
        f"Held-out pictures that count as false rejects: {' and '.join(told)}. Look at them in the report: calibrate "
        f"again without those that show a defect, or, if they show good parts, with {again}."
    )


def equipment(learned: Learned) -> str | None:
    """Say under which changes of the line good parts would be rejected; None: it was not tried."""
    tried = learned.withstood
    if not tried:
        return None
    broken = [f"{one.disturbance.name} ({one.rejected} of {one.of} rejected)" for one in tried if not one.holds]
    if not broken:
        return f"Good parts stay good under all {len(tried)} changes of the line that were tried (see the report)."
    return f"Good parts would be rejected if the picture were {', '.join(broken)}; all that was tried is in the report."


def _count_above(learned: Learned, value: float) -> int:
    """Return how many held-out parts count as rejected at a threshold: odd ones whatever they score."""
    odd = set(learned.unconfirmed)
    of_each = zip(learned.held_out, learned.scores, strict=True)
    return sum(i in odd or exceeds(score, value) for i, score in of_each)


def _above(learned: Learned) -> list[int]:
    """Return the doubtful ones that are so by their score."""
    return [i for i in learned.doubtful if i not in learned.unconfirmed]


def _rounded_up(value: float) -> str:
    """Return a threshold in four digits that is not below it."""
    step = 10.0 ** (math.floor(math.log10(abs(value) or 1.0)) - 3)
    return f"{math.ceil(value / step) * step:.4g}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
