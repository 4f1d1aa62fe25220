"""Which alarms are raised: delays, repetition, and what hides what. Pure: time and what is the case come in."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from inspectd.alarms import Alarm, Priority

URGENCY = tuple(Priority)


@dataclass(frozen=True, slots=True)
class Raised:
    """An alarm that is raised."""

    alarm: Alarm
    since_s: float
    detail: str
    """What is the case, in figures or in the words of who found it; may be empty."""

    @property
    def sentence(self) -> str:
        """What is the case, as the end of a sentence about the camera, or the daemon."""
        return f"{self.alarm.meaning}: {self.detail}" if self.detail else self.alarm.meaning


@dataclass(frozen=True, slots=True)
class Change:
    """What became of an alarm. One that another one hides from now on is not told of: that one is."""

    raised: Raised
    is_over: bool


@dataclass(frozen=True, slots=True)
class Happened:
    """What happened since the last look."""

    times: int
    detail: str


NOTHING = Happened(0, "")


@dataclass(slots=True)
class _Watched:
    """What is known of one alarm."""

    happened_s: deque[float]
    lasts_since_s: float | None = None
    last_s: float = 0.0
    """When it was last seen to be the case, or happened."""
    raised: Raised | None = None

    @property
    def hides_others(self) -> bool:
        return self.raised is not None or self.lasts_since_s is not None

    def forget(self) -> None:
        """It follows from another one now, or is over."""
        self.happened_s.clear()
        self.lasts_since_s = self.raised = None


class Raising:
    """The alarms of one camera, or of the daemon."""

    def __init__(self, alarms: Iterable[Alarm]) -> None:
        """`alarms`: what hides others comes before them."""
        self.raised: tuple[Raised, ...] = ()
        """The most urgent first, of these the one that is raised for longest. From any thread."""
        self._alarms = [one for one in alarms if one.priority is not Priority.EVENT and not one.expression]
        self._watched = {alarm.name: _Watched(deque(maxlen=alarm.least)) for alarm in self._alarms}

    def look(self, now_s: float, happened: Mapping[str, Happened], lasting: Mapping[str, str]) -> list[Change]:
        """Return what has changed. `lasting`: by alarm that is the case now, its detail."""
        changes = []
        hid = {name for name, one in self._watched.items() if one.hides_others}
        for alarm in self._alarms:
            one = self._watched[alarm.name]
            if any(name in hid or self._watched[name].hides_others for name in alarm.suppressed_by):
                one.forget()
                continue
            change = _look(alarm, one, now_s, happened.get(alarm.name, NOTHING), lasting.get(alarm.name))
            if change is not None:
                changes.append(change)
        raised = [one.raised for one in self._watched.values() if one.raised is not None]
        self.raised = tuple(sorted(raised, key=lambda one: (URGENCY.index(one.alarm.priority), one.since_s)))
        return changes


def _look(alarm: Alarm, one: _Watched, now_s: float, happened: Happened, lasting: str | None) -> Change | None:
    """Take note of one alarm that nothing hides."""
    one.happened_s.extend([now_s] * min(happened.times, alarm.least))
    if lasting is None:
        one.lasts_since_s = None
    elif one.lasts_since_s is None:
        one.lasts_since_s = now_s
    if lasting is not None or happened.times:
        one.last_s = now_s
    detail = lasting if lasting is not None else happened.detail
    if one.raised is None:
        if not _is_due(alarm, one, now_s):
            return None
        one.raised = Raised(alarm, now_s, detail)
        return Change(one.raised, is_over=False)
    if lasting is None and now_s - one.last_s >= alarm.off_delay_s:
        change = Change(one.raised, is_over=True)
        one.forget()
        return change
    if detail:
        one.raised = Raised(alarm, one.raised.since_s, detail)
    return None


def _is_due(alarm: Alarm, one: _Watched, now_s: float) -> bool:
    is_often = 0 < alarm.least <= len(one.happened_s) and now_s - one.happened_s[0] <= alarm.within_s
    if one.lasts_since_s is None:
        return is_often
    return is_often or now_s - one.lasts_since_s >= (alarm.on_delay_s or 0.0)
