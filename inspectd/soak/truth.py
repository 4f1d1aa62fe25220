"""What must be said of the simulated cameras' pictures, by a bookkeeping of its own. Pure.

The simulator numbers its pictures, and its script says what was wrong at each moment. From these alone follows: no
verdict is missing or comes twice, no picture is unaccounted for or judged twice, and none that was not fit is `ok`.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from inspectd.records import Reason
from inspectd.sim.faults import Script, Trouble
from inspectd.sim.line import Defect
from inspectd.wire.messages import VerdictMessage

SECOND = 1_000_000_000
AFTER_NS = 4 * SECOND
"""So long after something has happened to a camera its pictures may still be missing: it is opened again."""
REMEMBERED_NS = 300 * SECOND
"""So long it is remembered that something happened; pictures are followed sooner than that."""
SILENCE_NS = 2 * SECOND
"""So long no verdict on a picture may be missing while nothing is wrong, and nothing has just happened."""
LATE = frozenset({Reason.DEADLINE, Reason.OVERLOAD})
"""What a machine that is busy may say now and then."""
MOST_LATE = 0.001
"""Of all verdicts."""
UNFIT = frozenset({Trouble.TORN, Trouble.DARK, Trouble.BLURRED, Trouble.BUMPED, Trouble.SWAPPED, Trouble.RESIZED})
"""A picture that was taken meanwhile may not be `ok`."""
SILENT = frozenset(Trouble) - UNFIT | {Trouble.RESIZED}
"""No pictures come meanwhile."""
MOST_TOLD = 20
AT_ODDS = 90
"""Verdicts of a camera that may come in another order than its pictures."""
NEWEST = 3000
"""Frames of a camera that are remembered: none gets a verdict after that many others."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a camera shows, as it is known here."""

    script: Script[Trouble]
    defect: Callable[[int], Defect | None]
    """What is wrong with the part that a picture of this number shows."""


class _Picture(NamedTuple):
    """One that got a verdict."""

    frame: int
    """The daemon's number."""
    part: int
    """The simulator's."""
    captured_ns: int


@dataclass(slots=True)
class _Camera:
    shown: Shown
    epoch: str | None = None
    seq: int = 0
    judged: int = 0
    """Pictures that got a verdict."""
    frames: set[int] = field(default_factory=set)
    order: deque[int] = field(default_factory=deque)
    waiting: list[_Picture] = field(default_factory=list)
    """The newest, a heap: what is not fit has its verdict at once, and may come before what waits for the engine."""
    last: _Picture | None = None
    displaced: int = 0
    said: Counter[str] = field(default_factory=Counter)
    defects: Counter[tuple[str, bool]] = field(default_factory=Counter)
    """By size of the defect, and whether it was found."""


class Truth:
    """The bookkeeping of all cameras. One thread's, but `happened`."""

    def __init__(self, shown: Callable[[str], Shown]) -> None:
        """`shown`: by camera's name, what it shows."""
        self._shown = cache(shown)
        self._cameras: dict[str, _Camera] = {}
        self._happened: list[tuple[str, int, int]] = []
        self.wrong: Counter[str] = Counter()
        """What must never be, and how often it was."""
        self.late = 0
        """Verdicts `deadline` and `overload`."""
        self.told: list[str] = []
        """The first of it, in sentences."""

    def happened(self, camera: str, start_ns: int, end_ns: int) -> None:
        """Take note that something was done to a camera, which may cost it pictures. From any thread."""
        young = [one for one in self._happened if one[2] > end_ns - REMEMBERED_NS]
        self._happened = [*young, (camera, start_ns, end_ns)]

    def is_resized(self, cameras: Iterable[str], start_ns: int, end_ns: int) -> bool:
        """Whether a camera's pictures had another size within a while, or shortly before. From any thread."""
        return any(
            one.trouble is Trouble.RESIZED
            for name in cameras
            for one in self._shown(name).script.between(start_ns - AFTER_NS, end_ns)
        )

    def missed(self, camera: str, first: int, last: int | None, why: str) -> None:
        """Take note of verdicts that could not be had."""
        count = 1 if last is None else last - first + 1
        self._note("missing", count, f"camera {camera}: verdicts {first} to {last} cannot be had: {why}")
        if last is not None:
            self._of(camera).seq = last

    def heard(self, verdict: VerdictMessage) -> None:
        """Hold a verdict against all that is known."""
        camera = self._of(verdict.camera)
        if camera.epoch not in (None, verdict.epoch):
            self._note("restarted", 1, f"camera {verdict.camera}: another epoch; the daemon was started anew")
            self._cameras[verdict.camera] = camera = _Camera(camera.shown)
        elif verdict.seq != camera.seq + 1:
            what = "doubled" if verdict.seq <= camera.seq else "missing"
            order = f"verdict {verdict.seq} comes after verdict {camera.seq}"
            self._note(what, abs(verdict.seq - camera.seq - 1) or 1, f"camera {verdict.camera}: {order}")
        camera.epoch, camera.seq = verdict.epoch, verdict.seq
        camera.said[verdict.reason or verdict.verdict] += 1
        camera.displaced = verdict.displaced
        if verdict.frame is not None:
            self._count(verdict.camera, camera, verdict.frame)
        if verdict.verdict == "fault" and verdict.reason is not None:
            self._blame(verdict, camera, verdict.reason)
        if verdict.part is not None and verdict.t.captured is not None and verdict.frame is not None:
            part = int(verdict.part.removeprefix("part-"))
            self._look(verdict, camera, part, verdict.t.captured)
            heapq.heappush(camera.waiting, _Picture(verdict.frame, part, verdict.t.captured))
            if len(camera.waiting) > AT_ODDS:
                self._follow(verdict.camera, camera, heapq.heappop(camera.waiting))

    def _count(self, name: str, camera: _Camera, frame: int) -> None:
        camera.judged += 1
        if frame in camera.frames:
            self._note("doubled", 1, f"camera {name}: frame {frame} has two verdicts")
            return
        camera.frames.add(frame)
        camera.order.append(frame)
        if len(camera.order) > NEWEST:
            camera.frames.discard(camera.order.popleft())

    def _look(self, verdict: VerdictMessage, camera: _Camera, part: int, captured_ns: int) -> None:
        episode = camera.shown.script.now(captured_ns)
        if verdict.verdict == "ok" and episode is not None and episode.trouble in UNFIT:
            was = f"verdict {verdict.seq} is ok, and the picture was {episode.trouble}"
            self._note("passed", 1, f"camera {verdict.camera}: {was}")
        if verdict.verdict in ("ok", "ng") and episode is None:
            defect = camera.shown.defect(part)
            if defect is not None:
                camera.defects[defect.size, verdict.verdict == "ng"] += 1

    def _blame(self, verdict: VerdictMessage, camera: _Camera, reason: Reason) -> None:
        """Find out why a verdict is a fault."""
        at_ns = verdict.t.captured or verdict.t.published
        if reason in LATE:
            self.late += 1
        elif reason is not Reason.SHUTDOWN and self._unexplained_ns(verdict.camera, camera, at_ns, at_ns + 1):
            why = f"verdict {verdict.seq} is fault: {reason}, and nothing was wrong ({verdict.detail})"
            self._note("faults", 1, f"camera {verdict.camera}: {why}")

    def _follow(self, name: str, camera: _Camera, new: _Picture) -> None:
        """Take the pictures in their order: each that the simulator gave has a number of the daemon's, too."""
        old, camera.last = camera.last, new
        if old is None:
            return
        self._listen(name, camera, old.captured_ns, new.captured_ns)
        if self._was_disturbed(name, camera, old.captured_ns, new.captured_ns):
            return
        if new.part <= old.part:
            self._note("doubled", 1, f"camera {name}: part {new.part} comes after part {old.part}")
        elif (lost := (new.part - old.part) - (new.frame - old.frame)) != 0:
            where = f"between part {old.part} (frame {old.frame}) and part {new.part} (frame {new.frame})"
            self._note("unaccounted", abs(lost), f"camera {name}: {lost} pictures {where} were not counted")

    def _listen(self, name: str, camera: _Camera, start_ns: int, end_ns: int) -> None:
        """Nothing was heard of a camera's pictures for a while: that must have a reason for all of it."""
        if end_ns - start_ns > SILENCE_NS:
            silent_ns = self._unexplained_ns(name, camera, start_ns, end_ns)
            if silent_ns > SILENCE_NS:
                self._note("silent", 1, f"camera {name}: no verdict on a picture for {silent_ns / 1e9:.1f} s")

    def _unexplained_ns(self, name: str, camera: _Camera, start_ns: int, end_ns: int) -> int:
        """Return for how much of a while nothing was wrong at a camera, and nothing had just happened to it."""
        known = [(one.start_ns, one.end_ns) for one in camera.shown.script.between(start_ns - AFTER_NS, end_ns)]
        known += [(begin_ns, over_ns) for who, begin_ns, over_ns in self._happened if who == name]
        at_ns, unexplained_ns = start_ns, 0
        for begin_ns, over_ns in sorted(known):
            unexplained_ns += max(0, min(begin_ns, end_ns) - at_ns)
            at_ns = max(at_ns, over_ns + AFTER_NS)
        return unexplained_ns + max(0, end_ns - at_ns)

    def _was_disturbed(self, camera: str, known: _Camera, start_ns: int, end_ns: int) -> bool:
        if any(one.trouble in SILENT for one in known.shown.script.between(start_ns - AFTER_NS, end_ns + 1)):
            return True
        return any(
            name == camera and begin_ns <= end_ns and start_ns <= over_ns + AFTER_NS
            for name, begin_ns, over_ns in self._happened
        )

    # What came of it

    @property
    def verdicts(self) -> int:
        """How many were heard."""
        return sum(sum(one.said.values()) for one in self._cameras.values())

    @property
    def said(self) -> Counter[str]:
        """How often what was said, by verdict or reason."""
        return sum((one.said for one in self._cameras.values()), Counter[str]())

    @property
    def displaced(self) -> int:
        """How many pictures gave way to newer ones."""
        return sum(one.displaced for one in self._cameras.values())

    def found(self, size: str) -> tuple[int, int]:
        """Return how many pictures with a defect of this size were rejected, and of how many."""
        of = [one.defects for one in self._cameras.values()]
        hits, misses = (sum(one[size, is_found] for one in of) for is_found in (True, False))
        return hits, hits + misses

    def check_end(self, camera: str, ended_ns: int) -> None:
        """See that a camera was inspected to the end."""
        own = self._of(camera)
        while own.waiting:
            self._follow(camera, own, heapq.heappop(own.waiting))
        if own.last is None:
            self._note("silent", 1, f"camera {camera}: there was no verdict on a picture at all")
        else:
            self._listen(camera, own, own.last.captured_ns, ended_ns)

    def check_late(self) -> None:
        """See that not too many verdicts were late."""
        if self.late > MOST_LATE * self.verdicts:
            self._note("late", self.late, f"{self.late} of {self.verdicts} verdicts came too late, or parts too fast")

    def note(self, what: str, sentence: str) -> None:
        """Take note of something else that must never be."""
        self._note(what, 1, sentence)

    def check_counts(self, camera: str, captured: int, judged: int, displaced: int) -> None:
        """Hold what the daemon counted of a camera against what was heard."""
        own = self._of(camera)
        if own.seq != judged:
            self._note("missing", abs(judged - own.seq), f"camera {camera}: {judged} verdicts counted, {own.seq} heard")
        if captured != own.judged + displaced:
            what = f"{captured} pictures captured, {own.judged} judged, {displaced} displaced"
            self._note("unaccounted", abs(captured - own.judged - displaced), f"camera {camera}: {what}")

    @property
    def cameras(self) -> Sequence[str]:
        """Names of all that were heard of."""
        return tuple(self._cameras)

    def _of(self, camera: str) -> _Camera:
        if camera not in self._cameras:
            self._cameras[camera] = _Camera(self._shown(camera))
        return self._cameras[camera]

    def _note(self, what: str, count: int, sentence: str) -> None:
        self.wrong[what] += count
        if len(self.told) < MOST_TOLD:
            self.told.append(sentence)
