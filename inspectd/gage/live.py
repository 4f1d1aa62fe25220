"""Trials with a running daemon: somebody puts a known part in place, and the daemon's own verdict is taken."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Self

import msgspec

from inspectd.client import Control, Keys, RefusalError, Subscription
from inspectd.errors import StartError
from inspectd.gage.study import Trial
from inspectd.records import Known
from inspectd.wire.messages import VerdictMessage
from inspectd.wire.requests import MOST_ROWS, TriggerRequest

STREAM_GAP_NS = 300_000_000
"""Of a stream the first picture that comes may have been taken before the part was in place."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A known part, which is in place."""

    part: str
    known: Known
    label: str


class Inspection:
    """One camera of a running daemon."""

    def __init__(self, camera: str, published: str, control: str, keys: Keys | None) -> None:
        self.camera = camera
        self._control = Control(control, keys=keys)
        self._verdicts = Subscription(published, f"verdict/{camera}/", keys=keys)
        self._is_triggered = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._control.close()
        self._verdicts.close()

    def check(self) -> None:
        """RefusalError, StartError: there is no such camera, or it inspects nothing."""
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
            after = max(0, state["last_seq"] - MOST_ROWS)
            found = self._control.verdicts(self.camera, after).verdicts
        except RefusalError:
            return []
        return [
            one.score
            for one in found
            if one.score is not None and one.model == state["model"] and one.challenge is None
        ]

    def judge(self, shown: Shown, within_s: float) -> Trial:
        """Have the part judged; StartError: no verdict came in time."""
        while self._verdicts.receive(0) is not None:
            pass  # of what was there before
        verdict = self._triggered(shown.part) if self._is_triggered else None
        if verdict is None:
            verdict = self._next(within_s)
        return trial_of(shown, verdict)

    def _triggered(self, part: str) -> VerdictMessage | None:
        """Trigger; None: the camera inspects by itself."""
        try:
            result, _ = self._control.ask(TriggerRequest(camera=self.camera, part=part, wait=True), 60.0)
        except RefusalError as error:
            if error.code != "unsupported":
                raise
            self._is_triggered = False
            return None
        return msgspec.convert(result, VerdictMessage)

    def _next(self, within_s: float) -> VerdictMessage:
        """Return the verdict of the part that is in place now, or of the next one that comes."""
        give_up_s, first_ns = time.monotonic() + within_s, None
        while (now_s := time.monotonic()) < give_up_s:
            message = self._verdicts.receive(give_up_s - now_s)
            verdict = message.verdict if message is not None else None
            if verdict is None or verdict.t.captured is None:
                continue
            first_ns = first_ns or verdict.t.captured
            if verdict.trigger is not None or verdict.t.captured >= first_ns + STREAM_GAP_NS:
                return verdict
        raise StartError(f"No verdict of camera {self.camera} came within {within_s:g} s.")


def trial_of(shown: Shown, verdict: VerdictMessage) -> Trial:
    """Return what was said of a part, as a study has it."""
    return Trial(
        shown.part,
        shown.known,
        shown.label,
        verdict.verdict,
        str(verdict.reason or ""),
        verdict.score,
        verdict.threshold,
        verdict.model or "",
        verdict.at or "",
    )
