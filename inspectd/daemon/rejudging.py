"""A known part's pictures of another day, judged by what judges now: has the camera changed, or what judges?

The picture that was taken when the part was told last is scored again. If that is judged as it was then, and the
picture of today is not, then the picture has changed: camera, lamp, or the part. If it is not, what judges has changed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from inspectd.engine.backend import Request, Scorer
from inspectd.errors import UsageError
from inspectd.history import pictures
from inspectd.history.pictures import KeptPicture
from inspectd.line.challenges import EXPECTED
from inspectd.line.inspection import conclude
from inspectd.line.recipe import Recipe
from inspectd.line.shadow import wait_for_idle
from inspectd.model.compared import compare
from inspectd.records import Challenge, Finding, Outcome
from inspectd.wire.messages import VerdictMessage
from inspectd.wire.results import RejudgedMessage

MOVED = 0.25
"""Of the way from the calibration's median good score to the threshold: with less, a score has not moved."""
SAME = 1e-4
"""Of that way: by the same model on the same machine a picture's score does not differ by more."""


@dataclass(frozen=True, slots=True)
class Rejudging:
    """Scores pictures that are kept, at moments when the engine is idle."""

    scorer: Scorer
    is_idle: Callable[[], bool]
    stop: threading.Event

    def told_before(self, archive: Path, now: KeptPicture, challenge: Challenge) -> KeptPicture | None:
        """Return the newest earlier picture with which a known part was told, as the same product; None: none."""
        wanted = f"_{EXPECTED[challenge.known]}{pictures.SUFFIX}"
        header = now.said.header
        try:
            found = pictures.of_known_part(archive, header.camera, challenge)
        except OSError:
            return None
        for path in reversed([path for path in found if path.name.endswith(wanted) and path.name < now.path.name]):
            try:
                kept = pictures.read(path)
            except UsageError:  # a damaged one says nothing; there may be others
                continue
            if kept.said.header.recipe == header.recipe:
                return kept
        return None

    def rejudge(self, now: KeptPicture, then: KeptPicture, recipe: Recipe) -> RejudgedMessage:
        """Say what has changed between two pictures of a part; the recipe is what judged `now`."""
        again = self._judge(recipe, then)
        moved = _moved(then.said.header, again, now.said.header, recipe)
        picture, model = moved
        parts = []
        if picture:
            parts.append(_of_picture(now, then, recipe))
        if model:
            parts.append(_of_model(then.said.header, again, now.said.header))
        if not parts:
            parts.append(f"Nothing has changed since {_day(then)}: the picture of then scores {_score(again)} now.")
        return RejudgedMessage(
            at=then.said.header.at or "",
            verdict_then=then.said.header.verdict,
            score_then=then.said.header.score,
            verdict_now=again.outcome,
            score_now=again.score,
            picture_moved=picture,
            model_moved=model,
            detail=" ".join(parts),
        )

    def _judge(self, recipe: Recipe, kept: KeptPicture) -> Finding:
        wait_for_idle(self.is_idle, self.stop.is_set, time.sleep)
        height, width = kept.picture.shape[:2]
        with self.scorer.seat() as score:
            scores = score([Request(area.model, area.geometry, kept.picture) for area in recipe.areas])
        return conclude(recipe, (width, height), scores)


def _moved(then: VerdictMessage, again: Finding, now: VerdictMessage, recipe: Recipe) -> tuple[bool, bool]:
    """Return whether the picture has changed, and whether what judges has."""
    picture = _is_other(again.score, now.score, recipe, MOVED) or (
        again.outcome in (Outcome.OK, Outcome.NG) and again.outcome is not _judged(now)
    )
    is_same = (then.model, then.threshold) == (now.model, now.threshold)
    model = again.outcome is not then.verdict or (is_same and _is_other(again.score, then.score, recipe, SAME))
    return picture, model


def _judged(header: VerdictMessage) -> Outcome:
    """Return what a score says, also where nothing was passed for it."""
    if header.score is None or header.threshold is None:
        return header.verdict
    return Outcome.NG if header.verdict is Outcome.NG else Outcome.OK


def _is_other(a: float | None, b: float | None, recipe: Recipe, share: float) -> bool:
    criterion = recipe.areas[0].criterion
    if len(recipe.areas) > 1:  # the two scores may be of two areas, and of two models
        return False
    if a is None or b is None or criterion is None:
        return a is not b
    return abs(a - b) > share * max(criterion.span, abs(a) * 1e-3)


def _of_picture(now: KeptPicture, then: KeptPicture, recipe: Recipe) -> str:
    area, (height, width) = recipe.areas[0], now.picture.shape[:2]
    found = compare(now.picture, then.picture, area.geometry.area(width, height), area.model.white_level)
    what = "it has another size" if found is None else ", ".join(found.sentences(min(height, width)))
    why = f": {what}" if what else ""
    return (
        f"The picture has changed since {_day(then)}{why}. Look at camera, lens and lamp, and whether it is the same "
        "part, before you touch the model."
    )


def _of_model(then: VerdictMessage, again: Finding, now: VerdictMessage) -> str:
    day, was, is_ = (then.at or "")[:10], f"{_number(then.score)} ({then.verdict})", f"{_number(again.score)}"
    if then.model != now.model:
        why = f"{now.model} judges now, and {then.model} did then"
    elif then.threshold != now.threshold:
        why = f"the threshold is {_number(now.threshold)} now, and was {_number(then.threshold)}"
    else:
        why = "model and threshold are the same: the machine, or its software, computes otherwise"
    now_ = f"the picture of then scores {is_} ({again.outcome}) now, and had {was}"
    return f"What judges has changed since {day}: {now_}; {why}."


def _day(kept: KeptPicture) -> str:
    return (kept.said.header.at or "")[:10]


def _score(finding: Finding) -> str:
    return _number(finding.score)


def _number(value: float | None) -> str:
    return "no score" if value is None else f"{value:.4g}"
