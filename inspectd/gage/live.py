"""Trials with a running daemon: somebody puts a known part in place, and the daemon's own verdict is taken.

The part is shown as a challenge from which nothing follows: whoever listens sees that it is none of the production,
and a bad one that is not found is no `ok` to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Self

import msgspec

from inspectd.client import Control, Keys, RefusalError
from inspectd.errors import StartError
from inspectd.gage.study import Trial
from inspectd.records import Known, Outcome
from inspectd.wire.requests import MOST_ROWS, ChallengeRequest
from inspectd.wire.results import ChallengeResult

ANSWER_S = 60.0
"""Beside the time for which a part is waited: its picture is kept."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A known part, which is in place."""

    part: str
    known: Known
    label: str


class Inspection:
    """One camera of a running daemon."""

    def __init__(self, camera: str, control: str, keys: Keys | None, by: str) -> None:
        self.camera = camera
        self._by = by
        self._control = Control(control, keys=keys)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._control.close()

    def check(self) -> None:
        """StartError: there is no such camera, or it inspects nothing."""
        cameras: dict[str, Any] = self._control.status()["cameras"]
        if self.camera not in cameras:
            raise StartError(f"There is no camera {self.camera}; there are: {', '.join(cameras)}.")
        state = cameras[self.camera]
        if not state["inspecting"]:
            raise StartError(f"Camera {self.camera} inspects nothing at present: {state['detail'] or state['state']}.")

    def production(self) -> list[float]:
        """Return scores of its latest parts, by the model that judges now; none where no journal is kept."""
        state = self._control.status()["cameras"][self.camera]
        try:
            found = self._control.verdicts(self.camera, max(0, state["last_seq"] - MOST_ROWS)).verdicts
        except RefusalError:
            return []
        of_production = [one for one in found if one.challenge is None and one.model == state["model"]]
        return [one.score for one in of_production if one.score is not None]

    def judge(self, shown: Shown, within_s: float) -> Trial:
        """Have the part judged; RefusalError says why it was not."""
        request = ChallengeRequest(
            camera=self.camera,
            say="good" if shown.known is Known.GOOD else "bad",
            part=shown.part,
            study=True,
            within_s=within_s,
            by=self._by,
            why=f"study {shown.label}".strip(),
        )
        result, _ = self._control.ask(request, within_s + ANSWER_S)
        return trial_of(shown, msgspec.convert(result, ChallengeResult))


def trial_of(shown: Shown, result: ChallengeResult) -> Trial:
    """Return what was decided of a part, as a study has it."""
    verdict = result.verdict
    is_passed = result.passed is (shown.known is Known.GOOD)
    decided = Outcome.FAULT if result.passed is None else Outcome.OK if is_passed else Outcome.NG
    return Trial(
        shown.part,
        shown.known,
        shown.label,
        decided,
        str(verdict.reason or "") if result.passed is None else "",
        verdict.score,
        verdict.threshold,
        verdict.model or "",
        verdict.at or "",
        PurePath(result.picture).name if result.picture is not None else "",
    )
