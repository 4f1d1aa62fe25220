"""One soak: begins the daemon, listens to it, has things done to it, and says what came of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from inspectd.addresses import free_port
from inspectd.bench.repeated import Repeated
from inspectd.client import Control, Subscription
from inspectd.following import Follower, Missed
from inspectd.sim.line import SIZES
from inspectd.soak.daemon import EXTRA, Configured, Model, Settings, Soaked
from inspectd.soak.events import Events
from inspectd.soak.gauges import EVERY_S, Gauges, Sample, Trend, trends_of
from inspectd.soak.latency import Latencies
from inspectd.soak.truth import Truth
from inspectd.wire.messages import StateMessage, VerdictMessage
from inspectd.wire.requests import MOST_ROWS

QUARTERS = 4
SLOWER = 1.5
"""By this factor the slowest of a hundred verdicts may be slower in the last quarter than in the first …"""
SLOWER_MS = 5.0
"""… and by so much in any case."""
SAMPLES = 500
SAY_EVERY_S = 60.0
LISTEN_S = 0.5
SETTLE_S = 8.0
"""After the last thing that was done: what was disturbed is as before, and the disk has room."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a soak."""

    seconds: float
    settings: Settings
    verdicts: int
    said: dict[str, int]
    """By verdict, or a fault's reason."""
    displaced: int
    filled: int
    """Verdicts that the subscriber missed, and was given when it asked."""
    troubles: dict[str, int]
    """How often what went wrong at a camera."""
    events: dict[str, int]
    """What was done to the daemon, and how often."""
    wrong: dict[str, int]
    """By what must never be, how often it was."""
    told: list[str]
    """Of what was wrong the first, in sentences."""
    trends: list[Trend]
    p99_ms: tuple[float | None, float | None]
    """Of the first quarter, and of the last."""
    found: dict[str, tuple[int, int]]
    """By size of defect: rejected, of so many shown."""
    has_disk: bool
    """It had a small disk of its own, which was filled."""
    stop_s: float
    lines: int
    """That the daemon wrote into its log."""
    samples: list[Sample]
    """What it took of the machine, some of all measurements."""

    @property
    def is_slower(self) -> bool:
        """Whether verdicts take longer at the end."""
        first, last = self.p99_ms
        return first is not None and last is not None and last > max(SLOWER * first, first + SLOWER_MS)

    @property
    def is_good(self) -> bool:
        """Whether it was as it should be."""
        return not self.wrong and not self.is_slower and all(one.is_flat is not False for one in self.trends)


def soak(
    folder: Path,
    models: Sequence[Model],
    settings: Settings,
    seconds: float,
    every_s: float,
    say: Callable[[str], None],
) -> Result:
    """Soak a daemon; StartError: it does not come up. `every_s`: between two things that are done to it."""
    truth = Truth(settings.shown)
    soaked = Soaked(folder, Configured(models, settings), free_port())
    listener = _Listener(soaked, truth, seconds)
    try:
        gauges = Gauges(soaked.process.pid)
        with listener, Repeated(EVERY_S, gauges.measure):
            listener.wait_until_ready()
            began_s, began_ns = time.monotonic(), time.monotonic_ns()
            with Events(soaked, truth, every_s, settings.seed) as events:
                listener.listen(began_s + seconds, events, say)
            listener.listen(time.monotonic() + SETTLE_S, events, say)
            samples = [one for one in gauges.samples if one.at_s >= began_s]
            ended_ns = time.monotonic_ns()
            if soaked.process.poll() is None:
                _look_at_what_is_kept(soaked, truth)
            stop_s = listener.stop(ended_ns)
    finally:
        soaked.close()
    for sentence in events.wrong:
        truth.note("events", sentence)
    if not samples:
        truth.note("events", "nothing could be measured of the daemon's process")
    truth.check_late()
    return Result(
        seconds=seconds,
        settings=settings,
        verdicts=truth.verdicts,
        said=dict(truth.said.most_common()),
        displaced=truth.displaced,
        filled=listener.filled,
        troubles=_troubles(settings, began_ns, ended_ns),
        events=dict(sorted(events.done.items())),
        wrong=dict(truth.wrong),
        told=truth.told,
        trends=trends_of(samples),
        p99_ms=(listener.quarters[0].percentile(0.99), listener.quarters[-1].percentile(0.99)),
        found={size: truth.found(size) for size in SIZES},
        has_disk=soaked.has_disk,
        stop_s=stop_s,
        lines=soaked.log.read_text(errors="replace").count("\n"),
        samples=samples[:: 1 + len(samples) // SAMPLES],
    )


class _Listener:
    """A subscriber that wants every verdict, and holds it against the truth."""

    def __init__(self, soaked: Soaked, truth: Truth, seconds: float) -> None:
        self._soaked = soaked
        self._truth = truth
        self._seconds = seconds
        self._began_s = 0.0
        self._heard: set[str] = set()
        self._follower = Follower(soaked.published, soaked.control)
        self._states = Subscription(soaked.published, "state/", high_water=0)
        self.quarters = [Latencies() for _ in range(QUARTERS)]

    def __enter__(self) -> _Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self._follower.close()
        self._states.close()

    @property
    def filled(self) -> int:
        """How many verdicts it had to ask for."""
        return self._follower.filled

    def wait_until_ready(self) -> None:
        """Listen until each camera judges."""
        while not self._soaked.is_ready():
            self._receive()

    def listen(self, until_s: float, events: Events, say: Callable[[str], None]) -> None:
        """Listen for a while; StartError: the daemon has ended."""
        self._began_s = self._began_s or time.monotonic()
        next_s = time.monotonic() + SAY_EVERY_S
        while (now_s := time.monotonic()) < until_s:
            self._receive()
            while self._states.receive(0) is not None:
                pass  # only the last ones count
            if now_s >= next_s:
                next_s += SAY_EVERY_S
                say(self._so_far(now_s, events.done.total()))
            if self._soaked.process.poll() is not None:
                self._truth.note("ended", f"The daemon ended by itself: {self._soaked.last_words()}")
                return

    def _so_far(self, now_s: float, done: int) -> str:
        minutes, of = (now_s - self._began_s) / 60, self._seconds / 60
        wrong = ", ".join(f"{count} {what}" for what, count in self._truth.wrong.items()) or "nothing wrong"
        return f"{minutes:.0f} of {of:g} min: {self._truth.verdicts} verdicts, {done} things done to it; {wrong}"

    def stop(self, ended_ns: int) -> float:
        """End the daemon, hear it out, and hold its own counts against what was heard; return how long it took.

        `ended_ns`: until then each camera must have been inspected.
        """
        has_ended = self._soaked.process.poll() is not None
        took_s = 0.0 if has_ended else self._soaked.stop(self._receive)
        while self._receive():
            pass
        last: dict[str, StateMessage] = {}
        while (message := self._states.receive(LISTEN_S)) is not None:
            if (state := message.state) is not None:
                last[state.camera] = state
        if has_ended:
            return took_s
        configured = self._soaked.configured
        for name in [*configured.settings.names, *([EXTRA] if configured.has_extra else [])]:
            self._truth.check_end(name, ended_ns)
            if name not in last:
                self._truth.note("missing", f"camera {name}: there was no state/ of it at the end")
        for name, state in last.items():
            counts = state.counts
            judged = counts.ok + counts.ng + counts.fault
            self._truth.check_counts(name, counts.captured, judged, counts.displaced)
        return took_s

    def _receive(self) -> bool:
        """Take what comes next; False: nothing came."""
        one = self._follower.receive(LISTEN_S)
        if isinstance(one, Missed):
            self._truth.missed(one.camera, one.first, one.last, one.why)
        elif one is not None:
            self._fill_up_to(one)
            self._hear(one)
        return one is not None

    def _fill_up_to(self, first: VerdictMessage) -> None:
        """Ask for what was said before we were heard."""
        if first.camera in self._heard:
            return
        self._heard.add(first.camera)
        if first.seq > 1:
            with Control(self._soaked.control) as control:
                for verdict in control.verdicts(first.camera, 0, first.epoch, min(MOST_ROWS, first.seq - 1)).verdicts:
                    self._hear(verdict)

    def _hear(self, verdict: VerdictMessage) -> None:
        self._truth.heard(verdict)
        if verdict.t.captured is not None and verdict.verdict in ("ok", "ng") and self._began_s:
            share = (time.monotonic() - self._began_s) / self._seconds
            if share < 1:
                self.quarters[int(QUARTERS * share)].note((verdict.t.published - verdict.t.captured) / 1e6)


def _look_at_what_is_kept(soaked: Soaked, truth: Truth) -> None:
    """See that journal and archive are written again."""
    with Control(soaked.control) as control:
        said = control.status()
    for what in ("journal", "archive"):
        if said[what] is not None and not said[what]["ok"]:
            truth.note("kept", f"the {what} is not written at the end: {said[what]['detail']}")


def _troubles(settings: Settings, began_ns: int, ended_ns: int) -> dict[str, int]:
    found = Counter(
        str(episode.trouble)
        for name in settings.names
        for episode in settings.shown(name).script.between(began_ns, ended_ns)
    )
    return dict(sorted(found.items()))


def as_json(result: Result) -> bytes:
    """Return a result for machines."""
    return msgspec.json.format(msgspec.json.encode(result), indent=1)
