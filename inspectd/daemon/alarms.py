"""The alarms of the running daemon: what is the case, held against the table `inspectd.alarms`, and said in the log.

An alarm is said when it is raised and when it is over. What repeats from part to part is also counted: at once, and
then once a minute while it lasts.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from inspectd.alarms import OF_CAMERA, OF_DAEMON, Priority
from inspectd.cameras.supervisor import State
from inspectd.daemon.raising import Change, Happened, Raised, Raising
from inspectd.line.camera import Camera
from inspectd.line.challenges import Challenges
from inspectd.line.drift import MovedScores
from inspectd.line.fitness import told_of
from inspectd.logs import about
from inspectd.records import Counts, Reason

LOG = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
TELL_EVERY_S = 60.0
"""A line a second and camera would bury everything else within a day."""
TELL_DISPLACED_EVERY_S = 3600.0
"""That the newest picture goes first, where a camera is faster than the engine, is as it should be."""
NEAR = 0.8
"""Of the deadline, taken by one scored picture in a hundred."""
LEVELS = {
    Priority.CRITICAL: logging.ERROR,
    Priority.HIGH: logging.ERROR,
    Priority.MEDIUM: logging.WARNING,
    Priority.LOW: logging.WARNING,
}
REPEATING = tuple(Reason(alarm.name) for alarm in OF_CAMERA if alarm.least and alarm.name in set(Reason))
"""Reasons that repeat from part to part."""
LEAST = {reason: alarm.least for alarm in OF_CAMERA for reason in REPEATING if alarm.name == reason}
APART_S = {
    reason: min(alarm.within_s, alarm.off_delay_s)
    for alarm in OF_CAMERA
    for reason in REPEATING
    if alarm.name == reason
}
"""The last faults of a slow line lie so far apart that they would be over in between."""


@dataclass(frozen=True, slots=True)
class OfDaemon:
    """What the daemon knows of itself. Each is asked once a second."""

    lasting: Callable[[], Mapping[str, str]]
    """By alarm that is the case now, its detail."""
    refused: Callable[[], int]
    """How many connections were not let in."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one camera's figures were when they were last looked at."""

    faults: dict[Reason, int] = field(default_factory=dict)
    returns: int = 0
    last_seq: int = 0
    judged_by: object = None


@dataclass(frozen=True, slots=True)
class _Told:
    """What one camera's counts were when they were last told of."""

    since_s: float
    next_s: float = 0.0
    captured: int = 0
    faults: dict[Reason, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Displaced:
    """The same, of pictures that gave way to newer ones."""

    since_s: float
    next_s: float = 0.0
    captured: int = 0
    displaced: int = 0


class Alarms:
    """`look` is called from the daemon's main loop, as often as it likes; what is raised may be asked by any thread."""

    def __init__(
        self, cameras: Mapping[str, Camera], daemon: OfDaemon, changed: Callable[[str], None] = lambda _: None
    ) -> None:
        """`changed`: called with the name of a camera whose alarms have changed."""
        self._cameras = cameras
        self._daemon = daemon
        self._changed = changed
        self._raising: dict[str, Raising] = {}
        self._own = Raising(OF_DAEMON)
        self._seen: dict[str, _Seen] = {}
        self._refused = 0
        self._told: dict[str, _Told] = {}
        self._displaced: dict[str, _Displaced] = {}
        self._streaks: dict[str, dict[Reason, deque[float]]] = {}
        """By camera, when its last verdicts came, where all were faults of this reason."""
        self._next_look_s = 0.0

    def of_camera(self, name: str) -> tuple[Raised, ...]:
        """Return what is raised at a camera, the most urgent first."""
        raising = self._raising.get(name)
        return raising.raised if raising is not None else ()

    @property
    def of_daemon(self) -> tuple[Raised, ...]:
        """What is raised of the daemon itself, the most urgent first."""
        return self._own.raised

    def look(self, now_s: float) -> None:
        """Raise what is due, end what is over, and tell of it."""
        if now_s < self._next_look_s:
            return
        self._next_look_s = now_s + LOOK_EVERY_S
        refused = self._daemon.refused()
        new, self._refused = refused - self._refused, refused
        for change in self._own.look(
            now_s, {"clients_refused": Happened(new, f"{refused} so far")}, self._daemon.lasting()
        ):
            _say(None, change, now_s)
        for name in set(self._raising) - set(self._cameras):  # it is gone, and its alarms with it; its counts go on
            del self._raising[name]
            self._streaks.pop(name, None)
        for name, camera in self._cameras.items():
            counts = camera.counts
            changes = self._raising.setdefault(name, Raising(OF_CAMERA)).look(
                now_s, self._happened(name, camera, counts, now_s), self._lasting(name, camera)
            )
            for change in changes:
                _say(name, change, now_s)
            if changes:
                self._changed(name)
            self._count_faults(camera, counts, now_s)
            self._count_displaced(name, counts, now_s)

    def _happened(self, name: str, camera: Camera, counts: Counts, now_s: float) -> dict[str, Happened]:
        """Return what happened at a camera since the last look, by alarm."""
        seen, returns = self._seen.get(name, _Seen()), camera.health.returns
        faults, judged_by = counts.faults, camera.products
        if judged_by is not seen.judged_by:  # what was so before need not be so any more
            self._streaks.pop(name, None)
        new = {reason: faults.get(reason, 0) - seen.faults.get(reason, 0) for reason in REPEATING}
        found = {str(reason): Happened(times, camera.last_detail(reason)) for reason, times in new.items() if times > 0}
        self._follow(name, new, counts.last_seq - seen.last_seq, now_s)
        came_back = returns - seen.returns if returns >= seen.returns else returns  # it was opened anew by a reload
        if came_back:
            found["unsteady"] = Happened(came_back, f"it came back {returns} times so far")
        self._seen[name] = _Seen(dict(faults), returns, counts.last_seq, judged_by)
        return found

    def _follow(self, name: str, new: Mapping[Reason, int], verdicts: int, now_s: float) -> None:
        """Take note of which reason all verdicts of a camera have had of late: on a slow line few are many."""
        if verdicts <= 0:
            return
        streaks = self._streaks.setdefault(name, {})
        for reason, times in new.items():
            if times < verdicts:
                streaks.pop(reason, None)
            else:
                streaks.setdefault(reason, deque(maxlen=LEAST[reason])).extend([now_s] * times)

    def _lasting(self, name: str, camera: Camera) -> dict[str, str]:
        """Return what is the case with a camera now: by alarm, its detail."""
        slow = {
            str(reason): camera.last_detail(reason)
            for reason, times in self._streaks.get(name, {}).items()
            if len(times) == times.maxlen and (LEAST[reason] == 1 or times[-1] - times[0] > APART_S[reason])
        }
        return {**slow, **lasting_of(camera)}

    def _count_faults(self, camera: Camera, counts: Counts, now_s: float) -> None:
        """Say in numbers what repeats: at once, and then once a minute while it lasts."""
        name = camera.name
        told = self._told.setdefault(name, _Told(now_s))
        if now_s < told.next_s:
            return
        faults = {reason: counts.faults.get(reason, 0) - told.faults.get(reason, 0) for reason in REPEATING}
        faults = {reason: count for reason, count in faults.items() if count > 0}
        frames, seconds = counts.captured - told.captured, now_s - told.since_s
        next_s = now_s + TELL_EVERY_S if faults else 0.0
        self._told[name] = _Told(now_s, next_s, counts.captured, dict(counts.faults))
        if faults:
            LOG.warning(
                "camera %s: of %d frames in %.0f s %s%s",
                name,
                frames,
                seconds,
                ", ".join(f"{count} fault: {reason}" for reason, count in faults.items()),
                _what_it_takes(camera) if faults.keys() & {Reason.DEADLINE, Reason.OVERLOAD} else "",
                extra=about(camera=name),
            )

    def _count_displaced(self, name: str, counts: Counts, now_s: float) -> None:
        """Say how many pictures gave way to newer ones: once an hour, as it is no trouble."""
        told = self._displaced.setdefault(name, _Displaced(now_s))
        if now_s < told.next_s or counts.displaced == told.displaced:
            return
        frames, displaced = counts.captured - told.captured, counts.displaced - told.displaced
        text, seconds = "camera %s: of %d frames in %.0f s %d displaced by newer frames", now_s - told.since_s
        LOG.info(text, name, frames, seconds, displaced, extra=about(camera=name))
        next_s = now_s + TELL_DISPLACED_EVERY_S
        self._displaced[name] = _Displaced(now_s, next_s, counts.captured, counts.displaced)


def lasting_of(camera: Camera) -> dict[str, str]:
    """Return what is the case with a camera now: by alarm, its detail."""
    health, found = camera.health, dict[str, str]()
    if health.state is State.LOST:
        found[Reason.CAMERA_LOST] = health.detail or ""
    elif health.state is State.FROZEN:
        found[Reason.CAMERA_FROZEN] = health.detail or ""
    if (unjudged := camera.unjudged) is not None and unjudged.reason is not None:
        is_untold = unjudged.reason is Reason.BYPASS and camera.pause_reason is None
        found[_untold(camera.challenges) if is_untold else unjudged.reason] = unjudged.detail or ""
    if camera.challenges.is_due_soon:
        found["challenge_soon"] = f"within {(camera.challenges.due_in_s() or 0.0) / 60:.0f} minutes"
    if camera.trouble is not None and health.state is State.RUNNING:
        found["parts_unseen"] = camera.trouble
    if health.leaks:
        found["driver_leaks"] = ""
    if moved := [told_of(one) for one in camera.drift.pictures if one.is_beyond]:
        found["picture_drift"] = "; ".join(moved)
    if far := [_told_of_scores(one) for one in camera.drift.scores if one.is_far]:
        found["score_drift"] = "; ".join(far)
    slowest_ms, allowed_ms = camera.latencies.one_in_a_hundred_ms, camera.terms.deadline_ms
    is_known = slowest_ms is not None and allowed_ms is not None and health.state is State.RUNNING
    if is_known and slowest_ms > NEAR * allowed_ms:  # type: ignore[operator]  # both are known
        found["near_deadline"] = f"one in a hundred takes {slowest_ms:.0f} ms or more; {allowed_ms:g} ms are allowed"
    return found


def _untold(challenges: Challenges) -> str:
    return "challenge_failed" if challenges.has_failed else "challenge_due"


def _told_of_scores(scores: MovedScores) -> str:
    where = f"in {scores.area} " if scores.area else ""
    return (
        f"{where}half of them lie {scores.moved:.0%} of the way from the median good score of the calibration to the "
        "threshold, or further"
    )


def _what_it_takes(camera: Camera) -> str:
    allowed_ms, latencies_ms = camera.config.deadline_ms, camera.latencies.scored_ms
    if latencies_ms is None:
        return f". No frame was scored; deadline_ms allows {allowed_ms:g} ms"
    return (
        f". From capture to verdict those that were scored took {latencies_ms[0]:.0f} ms (median) and "
        f"{latencies_ms[1]:.0f} ms (p99); deadline_ms allows {allowed_ms:g} ms"
    )


def _say(camera: str | None, change: Change, now_s: float) -> None:
    alarm, since_s = change.raised.alarm, change.raised.since_s
    who = "the daemon" if camera is None else f"camera {camera}"
    extra = about(camera=camera, alarm=alarm.name)
    if change.is_over:
        LOG.info("%s: alarm %s is over after %.0f s", who, alarm.name, now_s - since_s, extra=extra)
        return
    sentence = change.raised.sentence.rstrip(".")
    LOG.log(LEVELS[alarm.priority], "%s %s. %s", who, sentence, alarm.action, extra=extra)
