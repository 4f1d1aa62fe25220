"""How many parts were what in this shift, camera by camera; kept in a file, so that a restart loses none.

A part is counted once, by `epoch` and `seq`. Parts that this process did not hear of are asked of the journal
(`behind`); those that cannot be had are counted as such. Known parts (`inspectd challenge`) are no production.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from inspectd.atomic import write_whole
from inspectd.errors import UsageError
from inspectd.reading import read_regular
from inspectd.records import Outcome
from inspectd.wire.messages import VerdictMessage

MOST_BYTES = 1 << 20
PAST_SHIFTS = 3
"""Shifts before this one that are kept."""
Count = Annotated[int, Meta(ge=0)]


class CameraCount(msgspec.Struct):
    """One camera's parts."""

    ok: Count = 0
    ng: Count = 0
    fault: Count = 0
    reasons: dict[str, Count] = {}
    """Of the faults."""
    uncounted: Count = 0
    """Verdicts that there were, and of which nothing is known here."""

    def add(self, outcome: Outcome, reason: str | None) -> None:
        """Count a part."""
        match outcome:
            case Outcome.OK:
                self.ok += 1
            case Outcome.NG:
                self.ng += 1
            case Outcome.FAULT:
                self.fault += 1
                key = reason or "fault"
                self.reasons[key] = self.reasons.get(key, 0) + 1


class Shift(msgspec.Struct):
    """One shift's counts."""

    since: str
    """Local time, ISO 8601 with its offset."""
    cameras: dict[str, CameraCount] = {}
    by: str | None = None
    """Who began this count; None: the clock did."""
    why: str | None = None


class Place(msgspec.Struct, frozen=True):
    """Up to where a camera's verdicts are counted."""

    epoch: str
    seq: Count


@dataclass(frozen=True, slots=True)
class Gap:
    """Verdicts of a camera that did not arrive here."""

    camera: str
    epoch: str
    after: int
    until: int | None
    """The next one that did; None: the epoch is over, and nobody knows how many there were."""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    shifts: list[Shift]
    """The present one first."""
    places: dict[str, Place]


def parse_starts(text: str) -> tuple[time, ...]:
    """Return the times of day at which shifts begin, from `06:00,14:00,22:00`; UsageError."""
    try:
        found = tuple(sorted({datetime.strptime(one.strip(), "%H:%M").time() for one in text.split(",")}))
    except ValueError:
        raise UsageError(f"--shifts is {text!r}; expected times of day such as 06:00,14:00,22:00.") from None
    return found


class Counts:
    """The counts of all cameras. Only the event loop's thread touches it."""

    def __init__(
        self,
        path: Path | None,
        starts: tuple[time, ...],
        now: Callable[[], datetime] = datetime.now,
        localize: Callable[[datetime], datetime] = datetime.astimezone,
    ) -> None:
        """Read what was kept; UsageError: there is something, and it cannot be understood.

        `now` is the wall clock without an offset; `localize` gives it the one that holds at that moment.
        """
        self._path, self._starts, self._now, self._localize = path, starts, now, localize
        self.number = 1
        """Of the last change."""
        self.shifts = [Shift(self._localize(now()).isoformat(timespec="seconds"))]  # nothing is known of before
        self._places: dict[str, Place] = {}
        self._saved = 0
        if path is not None and (kept := _read(path)) is not None:
            self.shifts, self._places = kept.shifts or self.shifts, dict(kept.places)
        self.turn()

    @property
    def present(self) -> Shift:
        """The shift that is on."""
        return self.shifts[0]

    def place(self, camera: str) -> Place | None:
        """Return up to where a camera is counted; None: it never was."""
        return self._places.get(camera)

    def take(self, verdict: VerdictMessage) -> list[Gap]:
        """Count a verdict; return what is missing before it."""
        camera, epoch, seq = verdict.camera, verdict.epoch, verdict.seq
        place = self._places.get(camera)
        if place is not None and place.epoch == epoch and seq <= place.seq:
            return []
        self._places[camera] = Place(epoch, seq)
        self._add(verdict)
        self.number += 1
        if place is None:
            return []
        if place.epoch == epoch:
            return [Gap(camera, epoch, place.seq, seq)] if seq > place.seq + 1 else []
        tail = Gap(camera, place.epoch, place.seq, None)
        return [tail, Gap(camera, epoch, 0, seq)] if seq > 1 else [tail]

    def fill(self, gap: Gap, found: Sequence[VerdictMessage]) -> None:
        """Count what could be had of a gap, and the rest of it as not counted."""
        for one in found:
            self._add(one)
        if gap.until is not None:
            self._of(gap.camera).uncounted += gap.until - gap.after - 1 - len(found)
        self.number += 1

    def reset(self, by: str | None, why: str | None) -> None:
        """Begin a new count now."""
        self._start(Shift(self._localize(self._now()).isoformat(timespec="seconds"), by=by, why=why))

    def turn(self) -> None:
        """Begin a new shift where the clock says so."""
        begin = self._begin_of(self._now())
        if datetime.fromisoformat(self.present.since) < begin:
            self._start(Shift(begin.isoformat(timespec="minutes")))

    def unsaved(self) -> Callable[[], None] | None:
        """Return what keeps the counts as they are now, for any thread; None: nothing changed since the last time.

        It raises StartError where they cannot be written.
        """
        if self._path is None or self._saved == self.number:
            return None
        self._saved = self.number
        encoded = msgspec.json.format(msgspec.json.encode(_File(1, self.shifts, self._places)), indent=1)
        return partial(write_whole, self._path, encoded)

    def _add(self, verdict: VerdictMessage) -> None:
        """Count a verdict in the shift in which its picture was taken; known parts are no production."""
        if verdict.challenge is None:
            at = None if verdict.at is None else datetime.fromisoformat(verdict.at)
            self._of(verdict.camera, at).add(verdict.verdict, verdict.reason)

    def _of(self, camera: str, at: datetime | None = None) -> CameraCount:
        shift = self.present
        if at is not None:  # of an older one than is kept the oldest
            shift = next((one for one in self.shifts if datetime.fromisoformat(one.since) <= at), self.shifts[-1])
        return shift.cameras.setdefault(camera, CameraCount())

    def _start(self, shift: Shift) -> None:
        self.shifts = [shift, *self.shifts[:PAST_SHIFTS]]
        self.number += 1

    def _begin_of(self, moment: datetime) -> datetime:
        """Return when the shift began that is on at a moment of the wall clock."""
        starts = self._starts or (time(0, 0),)
        today = [moment.replace(hour=one.hour, minute=one.minute, second=0, microsecond=0) for one in starts]
        begun = [one for one in today if one <= moment]
        return self._localize(begun[-1] if begun else today[-1] - timedelta(days=1))


def _read(path: Path) -> _File | None:
    try:
        found = msgspec.json.decode(read_regular(path, MOST_BYTES), type=_File)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(
            f"{path}, which holds the shifts' counts, cannot be read: {why}. Remove it to count anew."
        ) from None
    if found.version != 1:
        raise UsageError(f"{path} has version {found.version}; this inspectd knows 1. Remove it to count anew.")
    return found
