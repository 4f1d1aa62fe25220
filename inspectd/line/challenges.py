"""Known parts that are shown to a camera: whether it tells them apart, and how long that is believed.

A part that is known to be bad must be `ng`, one that is known to be good `ok`. While one was not told, or none was
shown for too long, nothing may be `ok`: `why_not` says why. A known bad part is never `ok` itself.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from inspectd.config import ChallengeConfig
from inspectd.errors import UsageError
from inspectd.records import Challenge, Finding, Known, Outcome, Reason

MOST_FAILED = 32
"""Known parts of a camera that were not told; each must be told before anything is `ok` again."""
SOON = 0.1
"""Of an interval: when so much is left, somebody is told."""
EXPECTED = {Known.GOOD: Outcome.OK, Known.BAD: Outcome.NG}
TOLD = {Known.GOOD: "accepted", Known.BAD: "found"}

Limits = Mapping[Known, float | None]
"""Seconds within which a part of a kind must be told again; None: whenever somebody likes."""


def limits_of(config: ChallengeConfig) -> Limits:
    """Return how often known parts must be told, as it is configured."""
    hours = {Known.GOOD: config.good_every_h, Known.BAD: config.bad_every_h}
    return {known: None if every_h is None else every_h * 3600 for known, every_h in hours.items()}


class Trial:
    """One part that is known. The ledger concludes it, or gives it back."""

    def __init__(self, challenge: Challenge, challenges: Challenges) -> None:
        self.challenge = challenge
        self.seq: int | None = None
        """Of its verdict; None: there is none yet."""
        self.passed: bool | None = None
        """Whether it was told; None: it was not judged, or is not yet."""
        self._challenges = challenges

    def conclude(self, finding: Finding) -> Finding:
        """Return what is said of the part, and note whether it was told.

        A known bad part is never `ok`; nor is a good one while others say that nothing may be.
        """
        if finding.outcome is Outcome.FAULT:
            return finding
        challenge, figures = self.challenge, _figures(finding)
        self.passed = finding.outcome is EXPECTED[challenge.known]
        if not challenge.is_study:
            self._challenges.note(challenge, figures, passed=self.passed)
        if finding.outcome is not Outcome.OK:
            return finding
        why = f"the {challenge} was not found: {figures}"
        if challenge.known is Known.GOOD and (reason := self._challenges.why_not()) is not None:
            why = f"the {challenge} was accepted, but {reason}"
        elif challenge.known is Known.GOOD:
            return finding
        return replace(finding, outcome=Outcome.FAULT, reason=Reason.BYPASS, detail=why)

    def give_back(self) -> None:
        """Expect the part again: the picture that was taken for it got no verdict."""
        self._challenges.put_back(self)


@dataclass(frozen=True, slots=True)
class Failure:
    """A known part that was not told."""

    at_s: float
    """Wall clock."""
    figures: str


class Challenges:
    """Those of one camera, however often it is opened anew. For any thread."""

    def __init__(
        self,
        camera: str,
        limits: Limits,
        clock_s: Callable[[], float] = time.monotonic,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._camera = camera
        self._limits = dict(limits)
        self._clock_s = clock_s
        self._wall_s = wall_s
        self._lock = threading.Lock()
        self._next: tuple[Trial, int] | None = None
        """What the next part is, and from when on (ns)."""
        self._wanted: Trial | None = None
        """The trial that somebody waits for."""
        self._passed_s: dict[Known, tuple[float, float]] = {}
        """When a part of a kind was told last: by the monotonic clock, and by the wall clock."""
        self._failed: dict[Challenge, Failure] = {}

    # What is known from before

    def limit(self, limits: Limits) -> None:
        """Ask for known parts so often from now on."""
        self._limits = dict(limits)

    def recall(self, challenge: Challenge, at_s: float, figures: str | None) -> None:
        """Take over what came of an earlier one at a wall clock's time; `figures` None: it was told.

        What lies in the future is not believed: the clock was, or is, wrong.
        """
        if figures is not None:
            self._failed[challenge] = Failure(at_s, figures)
        elif (age_s := self._wall_s() - at_s) >= 0:
            self._passed_s[challenge.known] = (self._clock_s() - age_s, at_s)

    # A part is shown

    def trial(self, challenge: Challenge) -> Trial:
        """Return a trial for an entry; UsageError: too many known parts were not told."""
        if not challenge.is_study and challenge not in self._failed and len(self._failed) >= MOST_FAILED:
            raise UsageError(
                f"{MOST_FAILED} known parts were not told at camera {self._camera}; show those again first."
            )
        return Trial(challenge, self)

    def expect(self, trial: Trial) -> None:
        """Take the next part that comes for this one; UsageError: another one is expected."""
        with self._lock:
            if self._next is not None:
                raise UsageError(f"A {self._next[0].challenge} is expected at camera {self._camera} already.")
            self._next = (trial, time.monotonic_ns())
            self._wanted = trial

    def give_up(self, trial: Trial) -> bool:
        """Expect a part no more; False: it has come, and may have its verdict yet."""
        with self._lock:
            if self._wanted is trial:
                self._wanted = None
            was_expected = self._next is not None and self._next[0] is trial
            if was_expected:
                self._next = None
            return was_expected

    def take(self, began_ns: int | None) -> Trial | None:
        """Return the trial that a part is, which came at this time (monotonic); None: it is any part."""
        if self._next is None or began_ns is None:
            return None
        with self._lock:
            if self._next is None or began_ns < self._next[1]:
                return None
            trial, _ = self._next
            self._next = None
            return trial

    def put_back(self, trial: Trial) -> None:
        """Expect the part again: the picture that was taken for it got no verdict."""
        with self._lock:
            if self._wanted is trial:
                self._next = (trial, 0)

    def note(self, challenge: Challenge, figures: str, *, passed: bool) -> None:
        """Take note of what came of a known part."""
        with self._lock:
            if not passed:
                self._failed = {**self._failed, challenge: Failure(self._wall_s(), figures)}
                return
            self._passed_s[challenge.known] = (self._clock_s(), self._wall_s())
            self._failed = {one: how for one, how in self._failed.items() if not _ends(challenge, one)}

    # What follows

    def why_not(self) -> str | None:
        """Return why nothing may be `ok` at present; None: it may."""
        if failed := self._failed:
            challenge, how = next(iter(failed.items()))
            at = time.strftime("%Y-%m-%d %H:%M", time.gmtime(how.at_s))
            told = TOLD[challenge.known]
            return (
                f"the {challenge} was not {told} at {at} UTC: {how.figures}. Show it again: {self._command(challenge)}"
            )
        for known, limit_s in self._limits.items():
            if limit_s is not None and self._age_s(known) >= limit_s:
                hours, told = f"{limit_s / 3600:g} h", TOLD[known]
                return (
                    f"no known {known} part was {told} for {hours} (challenge.{known}_every_h). Show one: "
                    f"{self._command(Challenge(known))}"
                )
        return None

    @property
    def has_failed(self) -> bool:
        """Whether a known part was not told, and not since."""
        return bool(self._failed)

    @property
    def failed(self) -> Mapping[Challenge, Failure]:
        """The known parts that were not told, and not since."""
        return self._failed

    @property
    def told_at_s(self) -> Mapping[Known, float]:
        """By kind, when a known part was told last, by the wall clock."""
        return {known: wall_s for known, (_, wall_s) in tuple(self._passed_s.items())}

    def due_in_s(self) -> float | None:
        """Return when the next known part is due; None: never. Negative: it is."""
        due = [limit_s - self._age_s(known) for known, limit_s in self._limits.items() if limit_s is not None]
        return min(due, default=None)

    @property
    def is_due_soon(self) -> bool:
        """Whether a tenth of an interval, or less, is left."""
        found = [(limit_s, self._age_s(known)) for known, limit_s in self._limits.items() if limit_s is not None]
        return any((1 - SOON) * limit_s <= age_s < limit_s for limit_s, age_s in found)

    def _age_s(self, known: Known) -> float:
        """Return how long ago one was told: by the clock that says more, as one may be set, and the other may sleep."""
        if (told := self._passed_s.get(known)) is None:
            return math.inf
        return max(self._clock_s() - told[0], self._wall_s() - told[1])

    def _command(self, challenge: Challenge) -> str:
        part = f" --part {challenge.part}" if challenge.part is not None else ""
        return f"inspectd challenge {self._camera} {challenge.known}{part}"


def _ends(passed: Challenge, failed: Challenge) -> bool:
    """Whether a part that was told makes up for one that was not: the same, or any where it has no name."""
    return failed.known is passed.known and failed.part in (None, passed.part)


def _figures(finding: Finding) -> str:
    if finding.score is None or finding.threshold is None:
        return "it has no score"
    return f"it scored {finding.score:.4g}, and the threshold is {finding.threshold:.4g}"
