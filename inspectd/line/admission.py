"""Which frames owe a verdict, and what becomes of one that gives way. One strategy per camera."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from inspectd.cameras.protocol import Opened
from inspectd.cameras.sources import Kind, Source, parse_source
from inspectd.config import CameraConfig
from inspectd.line.batcher import Policy
from inspectd.line.entries import Entry, Judged
from inspectd.line.ledger import Ledger
from inspectd.line.looks import Owed
from inspectd.line.parts import Parts
from inspectd.records import Finding, Frame, Reason, Stamp, fault

TOLD_WINDOW_MS = 100.0
"""A part is taken to be still in front of a camera that takes its picture so much too late, when it is told."""


class Admission(Protocol):
    """A camera's strategy. Called from the camera's thread."""

    def admit(self, frame: Frame, recipe: Judged) -> Sequence[Owed]:
        """Return what is owed a verdict from a captured frame; nothing: nobody waits for it.

        `recipe`: what is in force now. A trigger that came before has its own.
        """

    def admit_unseen(self, stamp: Stamp, recipe: Judged) -> Entry | None:
        """Return the entry of a frame whose picture nobody will see; None: nobody waits for it."""

    @property
    def trouble(self) -> str | None:
        """Why no part would be noticed at present; None: it would."""

    def give_way(self, entry: Entry) -> None:
        """Account for an admitted frame that cannot be inspected because another one is."""

    def opened(self, opened: Opened) -> None:
        """The camera was opened: what it shows now need not be what it showed before."""

    def gone(self, camera: str, finding: Finding) -> None:
        """Say once that the camera gives no frames any more."""


class _OfFrames(Admission):
    """What is alike where a frame owes one verdict, or none."""

    trouble: str | None = None

    def admit(self, frame: Frame, recipe: Judged) -> Sequence[Owed]:
        """Return the frame with its entry."""
        entry = self.admit_unseen(frame.stamp, recipe)
        return () if entry is None else (Owed(entry, frame),)

    def opened(self, opened: Opened) -> None:
        """Each frame is by itself: nothing follows from it."""


class Stream(_OfFrames):
    """Every frame owes a verdict.

    `latest`: unless a newer one takes its place, which is counted as displaced. `every`: a frame that does not fit is
    `fault: overload`.
    """

    def __init__(self, ledger: Ledger, policy: Policy) -> None:
        self._ledger = ledger
        self._policy = policy

    def admit_unseen(self, stamp: Stamp, recipe: Judged) -> Entry | None:
        """Open an entry; None once the camera's account is closed."""
        return self._ledger.open_frame(stamp, recipe)

    def give_way(self, entry: Entry) -> None:
        """Displace a frame, or close it as `fault: overload`."""
        if self._policy == "latest":
            self._ledger.displace(entry)
        else:
            _overload(self._ledger, entry, "frames come faster than they can be inspected; this one was not")

    def gone(self, camera: str, finding: Finding) -> None:
        """Publish one fault that belongs to no frame."""
        self._ledger.publish_fault(camera, finding)


class Commanded(_OfFrames):
    """A trigger owes a verdict, and takes the first frame that shows its part; all other frames are for nobody."""

    def __init__(self, ledger: Ledger, *, trusts_arrival: bool, window_ms: float | None) -> None:
        """`trusts_arrival`: a frame may be matched by when it arrived, where nobody says when it was taken.

        `window_ms`: so long after trigger and delay a frame may be taken; None: 100 where the camera is told to take
        it, and else as long as the deadline allows.
        """
        self._ledger = ledger
        self._trusts_arrival = trusts_arrival
        self._asked_ms = self._window_ms = window_ms

    def opened(self, opened: Opened) -> None:
        """Note whether the camera is told to take each picture."""
        is_told = opened.on_demand and self._asked_ms is None
        self._window_ms = TOLD_WINDOW_MS if is_told else self._asked_ms

    def admit_unseen(self, stamp: Stamp, recipe: Judged) -> Entry | None:
        """Return the trigger that the frame belongs to."""
        return self._match(stamp)

    def give_way(self, entry: Entry) -> None:
        """Close the trigger as `fault: overload`."""
        _overload(self._ledger, entry, "triggers come faster than their pictures can be inspected; this one was not")

    def gone(self, camera: str, finding: Finding) -> None:
        """Close all triggers that still wait for a picture; nobody else is owed anything."""
        self._ledger.close_waiting(camera, finding)

    def _match(self, stamp: Stamp, own: Judged | None = None) -> Entry | None:
        is_timed = self._trusts_arrival or not stamp.is_arrival_time
        window_ns = None if self._window_ms is None else round(self._window_ms * 1e6)
        return self._ledger.match(stamp, own, is_timed=is_timed, window_ns=window_ns)


class Triggering(Commanded):
    """The camera is triggered by its own input: a frame is a trigger, unless one was announced and takes it."""

    def admit_unseen(self, stamp: Stamp, recipe: Judged) -> Entry | None:
        """Return the announced trigger that the frame belongs to, or open one for it."""
        return self._match(stamp, recipe)

    def gone(self, camera: str, finding: Finding) -> None:
        """Close what was announced, and say once that parts pass unseen."""
        super().gone(camera, finding)
        self._ledger.publish_fault(camera, finding)


def untriggerable(config: CameraConfig, source: Source) -> str | None:
    """Return why a source cannot be inspected on triggers, as far as that is known without opening it; None: it can."""
    if config.mode != "trigger":
        return None
    if source.is_lossless:
        return "mode: trigger needs a source that goes on by itself, such as a camera; files have mode: stream"
    if source.is_finite:
        return "mode: trigger needs a source without an end; this one has mode: stream"
    if source.kind is Kind.URL and config.triggered_by == "camera":
        return "triggered_by: camera needs a camera with an input of its own, plugged into this machine"
    if source.kind is Kind.URL and not config.allow_arrival_time:
        return (
            "mode: trigger needs pictures with the time at which they were taken, which a camera on the network does "
            "not give: one that was long under way could show the part before. Use a camera whose driver does, or "
            "accept that (allow_arrival_time: true)"
        )
    return None


def admission_of(config: CameraConfig, policy: Policy, ledger: Ledger) -> Admission:
    """Return the strategy that a camera's configuration asks for."""
    if config.mode == "stream":
        return Stream(ledger, policy)
    if config.mode == "part":
        is_paced = config.fps is not None or not parse_source(config.source).is_lossless
        return Parts(config.name, ledger, config.looks, is_paced=is_paced)
    kind = Triggering if config.triggered_by == "camera" else Commanded
    return kind(ledger, trusts_arrival=config.allow_arrival_time, window_ms=config.trigger_window_ms)


def _overload(ledger: Ledger, entry: Entry, why: str) -> None:
    ledger.close(entry, fault(Reason.OVERLOAD, why))
