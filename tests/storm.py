"""A storm of triggers on four simulated cameras, in simulated time: whatever goes wrong, each part has its own verdict.

The product's camera, ledger, batcher, inspection and sinks are real; time, belts, cameras and the engine's duration are
simulated, event by event, by a seed. Beside them a second, much simpler bookkeeping says what has to come of each
trigger, and an independent reader reads the number of the part from the very picture that was judged.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
from conftest import small_artefact

from inspectd.cameras.protocol import Opened
from inspectd.cameras.supervisor import Health, State
from inspectd.config import CameraConfig
from inspectd.engine.backend import Floats, Request, Score
from inspectd.line.batcher import Batcher, Job
from inspectd.line.camera import Camera
from inspectd.line.inspection import Inspection
from inspectd.line.ledger import MOST_WAITING, Ledger
from inspectd.line.products import Products
from inspectd.line.recipe import NoRecipe, Recipe, recipe_of
from inspectd.line.sinks import Sinks
from inspectd.model.calibration import CameraRecord
from inspectd.plan import AreaPlan, Plan
from inspectd.records import Frame, Outcome, Picture, Reason, Stamp, Verdict
from inspectd.sim.faults import Episode, Script

MS = 1_000_000
CAMERAS = ("north", "east", "south", "west")
PERIOD, DELAY, DEADLINE = 33 * MS, 20 * MS, 200 * MS
WAY = (4 * MS, 15 * MS)
"""From the camera to us."""
GAP = (60 * MS, 500 * MS)
"""Between two parts, mostly."""
SERVICE = 4 * MS
"""Of the engine, for a batch."""
OPENED = Opened(6, 4096, 16, 8, 30.0, True, "YUYV")
LOOK_AT_LAWS_EVERY = 997


class Wrong(StrEnum):
    """What goes wrong at a camera."""

    LOST = "lost"
    FROZEN = "frozen"
    SILENT = "silent"
    """No pictures come, and nobody knows yet."""
    LATE = "late"
    """Pictures lie in a buffer before they come."""
    TORN = "torn"
    FULL = "full"
    """No slot is free for a picture."""
    UNTIMED = "untimed"
    """Nobody says when a picture was taken."""
    PAUSED = "paused"


GONE = {Wrong.LOST: (State.LOST, Reason.CAMERA_LOST), Wrong.FROZEN: (State.FROZEN, Reason.CAMERA_FROZEN)}


def paint(number: int) -> Picture:
    """Return a picture [8, 16] that shows the number of a part, and its complement."""
    bits = np.unpackbits(np.array([number, ~number & 0xFFFFFFFF], ">u4").view(np.uint8))
    return np.asarray(np.tile(bits.reshape(8, 8), (1, 2)) * np.uint8(200), np.uint8)


NOBODYS = paint(0)


def read(picture: Picture) -> int:
    """Return the number of the part that a picture shows."""
    bits = (picture[:, :8] > 100).astype(np.uint8)
    number, complement = np.packbits(bits.reshape(-1)).view(">u4")
    assert int(number) == ~int(complement) & 0xFFFFFFFF, "the picture is none of ours"
    return int(number)


def truth(number: int) -> Outcome | Reason:
    """What a part is: one in seven is defective, and at one in 199 the network returns no number."""
    if number % 199 == 0:
        return Reason.ENGINE
    return Outcome.NG if number % 7 == 0 else Outcome.OK


@dataclass(slots=True, eq=False)
class Trigger:
    """What the second bookkeeping knows of a trigger."""

    at_ns: int
    number: int
    part: str | None
    product: str | None
    until_ns: int | None = None
    """When the next one came."""
    expected: Outcome | Reason | None = None
    """What has to be said of it next; None: nothing yet."""
    has_verdict: bool = False


class FakeCapture:
    """A camera that is there or not."""

    state = State.RUNNING

    @property
    def health(self) -> Health:
        return Health(self.state, f"it is {self.state}", None, None, OPENED, openings=1)

    def start(self) -> None:
        """Nothing to do."""

    def stop(self) -> None:
        """Nothing to do."""

    def join(self, _timeout_s: float) -> bool:
        return True

    def want(self, _at_ns: int) -> None:
        """It takes pictures by itself."""


@dataclass(slots=True, eq=False)
class Station:
    """One camera, its belt, and its triggers."""

    name: str
    camera: Camera
    capture: FakeCapture
    script: Script[Wrong]
    random: random.Random
    frames: int = 0
    number: int = 0
    shown: int = 0
    belt: deque[tuple[int, int]] = field(default_factory=deque)
    """From when on which part is in front of the camera."""
    arrives_ns: int = 0
    triggers: dict[str, Trigger] = field(default_factory=dict)
    waiting: list[Trigger] = field(default_factory=list)
    """Without a picture."""
    queued: list[Trigger] = field(default_factory=list)
    """With a picture that waits for the engine."""
    is_paused: bool = False


def product(name: str) -> Recipe:
    model = replace(small_artefact(1.0, camera=CameraRecord("0", None, 16, 8)), name=name, digest=name * 64)
    return recipe_of("top", Plan(name, (AreaPlan(None, "m", None, None),), (), None), lambda _: (model, None))


class Storm:
    """Four cameras, one engine, and everything that happens to them."""

    max_batch, depth = 8, 1

    def __init__(self, seed: int) -> None:
        self.now_ns = 10**12
        self.began_ns = self.now_ns
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.outcomes: Counter[str] = Counter()
        self.taken = self.given_back = self.judged_pictures = 0
        self.mixed_up: list[str] = []
        self._engine_is_busy = False
        self._stalls = Script(seed, [True], every_s=40, longest_s=1.5)
        self.ledger = Ledger(self._hear, lambda: self.now_ns)
        self.batcher = Batcher(self.max_batch, 0, lambda: self.now_ns)
        self._under_way: dict[Job, Trigger] = {}
        sinks = Sinks([self])
        self._inspection = Inspection(self, self.batcher, self.ledger, sinks)
        self.stations = {name: self._station(name, seed + i, sinks) for i, name in enumerate(CAMERAS)}

    def _station(self, name: str, seed: int, sinks: Sinks) -> Station:
        recipes: dict[str | None, Recipe | NoRecipe] = {
            "A": product("a"),
            "B": product("b"),
            "C": NoRecipe("it is gone", "C"),
        }
        recipes = {key: replace(one, name=key) for key, one in recipes.items()}
        capture = FakeCapture()
        delay_ms, deadline_ms = DELAY / MS, DEADLINE / MS
        config = CameraConfig(
            name=name, source=0, model="m", mode="trigger", trigger_delay_ms=delay_ms, deadline_ms=deadline_ms
        )
        camera = Camera(
            config,
            Products(recipes, "A", {"A": "A-*", "B": "B-*"}),
            ledger=self.ledger,
            batcher=self.batcher,
            sinks=sinks,
            open_capture=lambda *_: capture,
        )
        camera.start()
        camera.on_opened(OPENED)
        script = Script(seed, tuple(Wrong), every_s=4, longest_s=1.2)
        station = Station(name, camera, capture, script, random.Random(seed))
        self.later(station.random.randrange(PERIOD), lambda: self._capture(station))
        self.later(station.random.randrange(*GAP), lambda: self._trigger(station))
        self._plan(station, self.now_ns // (4 * 10**9))
        return station

    # Time

    def later(self, ns: int, event: Callable[[], None]) -> None:
        """Have something happen after a while."""
        heapq.heappush(self._events, (self.now_ns + ns, next(self._order), event))

    @property
    def asked(self) -> int:
        """How many triggers there were."""
        return sum(len(station.triggers) for station in self.stations.values())

    def run(self, triggers: int) -> None:
        """Let things happen until so many triggers came and all have their verdicts."""
        for steps in itertools.count():
            due_ns = self.ledger.expire()
            if due_ns is None and self.asked >= triggers:
                break
            if due_ns is not None and due_ns <= self._events[0][0]:
                self.now_ns = max(self.now_ns, due_ns)
                continue
            self.now_ns, _, event = heapq.heappop(self._events)
            self.ledger.expire()
            event()
            if steps % LOOK_AT_LAWS_EVERY == 0:
                self.check_laws()
        self.check_laws()

    # What happens

    def _plan(self, station: Station, turn: int) -> None:
        """Have the next episode of a camera's script begin and end, and after it the one after it."""
        episode = station.script.episode(turn)
        if episode.start_ns > self.now_ns:
            self.later(episode.start_ns - self.now_ns, lambda: self._begin(station, episode))
            self.later(episode.end_ns - self.now_ns, lambda: self._end(station, episode))
        self.later((turn + 1) * 4 * 10**9 - self.now_ns, lambda: self._plan(station, turn + 1))

    def _begin(self, station: Station, episode: Episode[Wrong]) -> None:
        if episode.trouble in GONE:
            state, reason = GONE[episode.trouble]
            station.capture.state = state
            for one in station.waiting:
                one.expected = reason
            station.camera.on_gone(reason, "it is gone")
            station.waiting.clear()
        elif episode.trouble is Wrong.PAUSED:
            station.is_paused = True
            station.camera.pause("cleaning")

    def _end(self, station: Station, episode: Episode[Wrong]) -> None:
        if episode.trouble in GONE:
            station.camera.on_opened(OPENED)
            station.capture.state = State.RUNNING
        elif episode.trouble is Wrong.PAUSED:
            station.is_paused = False
            station.camera.resume()

    def _trigger(self, station: Station) -> None:
        """A part comes: mostly one after the other, some twice, some in a burst, some unknown, a few in a flood."""
        dice = station.random
        station.number += 1
        station.belt.append((self.now_ns + DELAY, station.number))
        kind = dice.random()
        letter = "X" if kind < 0.01 else dice.choice("AB")
        part = None if 0.01 < kind < 0.02 else f"{letter}-{station.number}"
        asked = "C" if 0.02 < kind < 0.03 else None
        self._ask(station, part, asked)
        if 0.03 < kind < 0.05:  # the sensor bounces
            self.later(MS, lambda: self._ask(station, part, asked))
        if 0.05 < kind < 0.0505:  # a PLC that has gone mad
            for _ in range(3 * MOST_WAITING):
                self._ask(station, part, asked)
        gap_ns = dice.randrange(*GAP) if dice.random() > 0.05 else dice.randrange(1 * MS, 40 * MS)
        self.later(gap_ns, lambda: self._trigger(station))

    def _ask(self, station: Station, part: str | None, asked: str | None) -> None:
        named = {"A": "A", "B": "B", "X": None}.get((part or "A")[0])
        trigger = Trigger(self.now_ns, station.number, part, asked or named)
        if station.triggers:
            station.triggers[str(len(station.triggers))].until_ns = self.now_ns
        station.triggers[str(len(station.triggers) + 1)] = trigger
        if len(station.waiting) >= MOST_WAITING:
            trigger.expected = Reason.OVERLOAD
        elif station.capture.state is not State.RUNNING:
            trigger.expected = next(reason for state, reason in GONE.values() if state is station.capture.state)
        elif station.is_paused:
            trigger.expected = Reason.BYPASS
        elif trigger.product in (None, "C"):
            trigger.expected = Reason.NO_MODEL
        else:
            station.waiting.append(trigger)
        station.camera.trigger(part, asked)

    def _capture(self, station: Station) -> None:
        """The camera takes a picture of what is in front of it now."""
        self.later(PERIOD + station.random.randrange(-MS, MS), lambda: self._capture(station))
        episode = station.script.now(self.now_ns)
        wrong = episode.trouble if episode is not None else None
        while station.belt and station.belt[0][0] <= self.now_ns:
            station.shown = station.belt.popleft()[1]
        if wrong in (Wrong.LOST, Wrong.FROZEN, Wrong.SILENT):
            return
        station.frames += 1
        stamp = Stamp(station.name, station.frames, self.now_ns, is_arrival_time=wrong is Wrong.UNTIMED)
        shown = station.shown
        way_ns = station.random.randrange(*WAY) + (station.random.randrange(300 * MS) if wrong is Wrong.LATE else 0)
        station.arrives_ns = max(station.arrives_ns + 1, self.now_ns + way_ns)
        self.later(station.arrives_ns - self.now_ns, lambda: self._arrive(station, stamp, shown, wrong))

    def _arrive(self, station: Station, stamp: Stamp, shown: int, wrong: Wrong | None) -> None:
        """A picture comes to us; it belongs to the last trigger whose part it can show."""
        if station.capture.state is not State.RUNNING:
            return  # its child was killed
        taken_ns = stamp.captured_ns - DELAY
        mine = [one for one in station.waiting if taken_ns > one.at_ns and not stamp.is_arrival_time]
        station.waiting = station.waiting[len(mine) :]
        for one in [one for one in mine if one.until_ns is not None and taken_ns > one.until_ns]:
            one.expected = Reason.OVERLOAD
            mine.remove(one)
        is_queued = False
        if mine and station.is_paused and wrong is not Wrong.FULL:
            mine[-1].expected = Reason.BYPASS
        elif mine and wrong in (Wrong.TORN, Wrong.FULL):
            mine[-1].expected = Reason.PICTURE if wrong is Wrong.TORN else Reason.OVERLOAD
        elif mine and len(station.queued) >= station.camera.terms.waiting:
            mine[-1].expected = Reason.OVERLOAD
        elif mine:
            station.queued.append(mine[-1])
            is_queued = True
        if wrong is Wrong.TORN:
            station.camera.on_unreadable(stamp, "it is torn")
        elif wrong is Wrong.FULL:
            station.camera.on_missed(stamp)
        else:
            self.taken += 1
            picture = paint(shown) if mine else NOBODYS  # which takes most of the time
            station.camera.on_frame(Frame(stamp, picture, self._give_back))
        if is_queued:
            self._start_engine()

    def _give_back(self) -> None:
        self.given_back += 1

    # The engine

    def _start_engine(self) -> None:
        if self._engine_is_busy or not (jobs := self.batcher.take(0)):
            return
        self._engine_is_busy = True
        stall = self._stalls.now(self.now_ns)
        for job in jobs:
            station = self.stations[job.entry.camera]
            self._under_way[job] = station.queued.pop(0)
        done_ns = max(self.now_ns + SERVICE, stall.end_ns if stall is not None else 0)
        self.later(done_ns - self.now_ns, lambda: self._finish(jobs))

    def _finish(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            trigger = self._under_way.pop(job)
            if not trigger.has_verdict:
                trigger.expected = truth(trigger.number)
        self._inspection.inspect(jobs, self.score)
        self._engine_is_busy = False
        self._start_engine()

    def seat(self) -> AbstractContextManager[Score]:
        return nullcontext(self.score)

    def score(self, requests: Sequence[Request]) -> list[Floats]:
        scores = {Outcome.OK: 0.5, Outcome.NG: 2.0, Reason.ENGINE: np.nan}
        return [np.full((2, 2), scores[truth(read(request.picture))], np.float32) for request in requests]

    # What is said

    def _hear(self, verdict: Verdict) -> None:
        """Hold a verdict against what had to come."""
        station = self.stations[verdict.camera]
        assert verdict.trigger is not None, f"a verdict that nobody asked for: {verdict}"
        trigger = station.triggers[verdict.trigger]
        finding = verdict.finding
        where = (trigger, verdict)
        assert not trigger.has_verdict, where
        trigger.has_verdict = True
        assert verdict.part == trigger.part, where
        assert verdict.recipe == (trigger.product if trigger.product is not None else None), where
        came = finding.reason or finding.outcome
        self.outcomes[str(came)] += 1
        if trigger.expected is None:
            assert came is Reason.DEADLINE, where
            assert self.now_ns >= trigger.at_ns + DEADLINE, where
            if trigger in station.waiting:
                station.waiting.remove(trigger)
        else:
            assert came is trigger.expected, where
            assert self.now_ns <= trigger.at_ns + DEADLINE, where
        if finding.outcome is not Outcome.FAULT:
            label = "a" if trigger.product == "A" else "b"
            assert finding.model == f"{label} {label * 12}", where

    def wants(self, _stamp: Stamp, verdict: Verdict | None) -> bool:
        """As a sink: whether a picture was judged."""
        return verdict is not None and verdict.finding.outcome is not Outcome.FAULT

    def take(self, stamp: Stamp, picture: Picture, verdict: Verdict | None) -> None:
        """As a sink: read the part's number from the picture that was judged."""
        assert verdict is not None
        assert verdict.stamp is stamp
        assert verdict.trigger is not None
        number = read(picture)
        self.judged_pictures += 1
        asked = self.stations[stamp.camera].triggers[verdict.trigger]
        has_its_own = verdict.part is None or verdict.part.partition("-")[2] == str(number)
        if number != asked.number or not has_its_own or verdict.finding.outcome is not truth(number):
            self.mixed_up.append(f"part {asked.number} has the verdict of part {number}: {verdict}")

    def check_laws(self) -> None:
        """AssertionError where the ledger's books do not balance, or a part has another one's verdict."""
        assert self.mixed_up == []
        for station in self.stations.values():
            counts = self.ledger.counts(station.name)
            assert counts.broken_law() is None, counts
            assert counts.triggers == len(station.triggers)

    def check_end(self) -> None:
        """AssertionError where a trigger has no verdict, or a picture is still held."""
        for station in self.stations.values():
            counts = self.ledger.counts(station.name)
            missing = [key for key, one in station.triggers.items() if not one.has_verdict]
            assert missing == []
            assert counts.triggers_closed == counts.last_seq == len(station.triggers)
            assert counts.in_flight == 0
        assert self.taken == self.given_back
        assert self.judged_pictures == self.outcomes["ok"] + self.outcomes["ng"]
