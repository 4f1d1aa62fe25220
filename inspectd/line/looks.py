"""One verdict from several looks at a part.

`ng` as soon as so many looks are; `ok` as soon as not so many can be any more; what could not be inspected is no look.
The verdict's picture, score and regions are those of the worst look that agrees with it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from inspectd.config import LooksConfig
from inspectd.line.entries import Entry
from inspectd.records import Finding, Frame, Outcome, Reason, fault


@dataclass(frozen=True, slots=True)
class Owed:
    """A picture that is to be inspected, and the promise that it keeps."""

    entry: Entry
    frame: Frame
    """The camera's, or a part that was cut out of it and is held."""
    case: Case | None = None


class Case:
    """What was found of one part so far. Looks come from the engine's threads; the camera's asks for more."""

    def __init__(self, entry: Entry, looks: LooksConfig) -> None:
        self.entry = entry
        self._looks = looks
        self._lock = threading.Lock()
        self._asked = 0
        self._is_over = False
        """The part is gone: no more looks will come."""
        self._seen: list[Outcome] = []
        self._worst: dict[Outcome, tuple[Finding, Frame]] = {}
        """By outcome; frames of earlier looks are copies: nobody knows when the next look comes, and slots are few."""

    @property
    def is_wanting(self) -> bool:
        """Whether one more look may be taken."""
        return self.entry.is_open and not self._is_over and self._asked < self._looks.best_of

    def wants_more(self) -> bool:
        """Whether one more look shall be taken; then it counts as asked for."""
        with self._lock:
            if not self.is_wanting:
                return False
            self._asked += 1
            return True

    def add(self, frame: Frame, finding: Finding) -> tuple[Finding, Frame] | None:
        """Add a look; return the verdict with its frame, which then is the caller's to release; None: not yet."""
        with self._lock:
            if not self.entry.is_open:  # others have decided
                frame.release()
                return None
            self._seen.append(finding.outcome)
            is_kept = self._keep(frame, finding)
            self.entry.lacks = f"only {len(self._seen)} of {self._looks.best_of} looks were scored"
            decided = self._decided()
            if decided is None and is_kept:
                self._worst[finding.outcome] = (finding, frame.detached())
                frame.release()
            return decided

    def end(self) -> tuple[Finding, Frame] | None:
        """Take no more looks: the part is gone. Returns as `add` does."""
        with self._lock:
            self._is_over = True
            return self._decided()

    def drop(self) -> None:
        """Release what is held: the verdict is out without it."""
        with self._lock:
            self._drop()

    def _decided(self) -> tuple[Finding, Frame] | None:
        outcome = self._outcome()
        if outcome is None and self._is_over and self._worst and len(self._seen) >= self._asked:
            _, frame = self._worst.pop(next(iter(self._worst)))
            decided = fault(Reason.DEADLINE, f"{self.entry.lacks} before the part was gone"), frame
        elif outcome is None:
            return None
        else:
            decided = self._worst.pop(outcome)
        self._drop()
        return decided

    def _outcome(self) -> Outcome | None:
        if not self._worst:
            return None
        bad, good = self._seen.count(Outcome.NG), self._seen.count(Outcome.OK)
        if bad >= self._looks.ng_if:
            return Outcome.NG
        if good > self._looks.best_of - self._looks.ng_if:
            return Outcome.OK
        return Outcome.FAULT if len(self._seen) >= self._looks.best_of and Outcome.FAULT in self._worst else None

    def _keep(self, frame: Frame, finding: Finding) -> bool:
        held = self._worst.get(finding.outcome)
        if held is None or (finding.score or 0.0) > (held[0].score or 0.0):
            self._worst[finding.outcome] = (finding, frame)
            if held is not None:
                held[1].release()
            return True
        frame.release()
        return False

    def _drop(self) -> None:
        for _, frame in self._worst.values():
            frame.release()
        self._worst.clear()
