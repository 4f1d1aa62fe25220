"""One running camera: everything that belongs to it, and the unit of start, stop and change."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Protocol

from inspectd.cameras.protocol import Opened
from inspectd.cameras.sources import parse_source
from inspectd.cameras.supervisor import Health, State
from inspectd.config import CameraConfig
from inspectd.errors import UsageError
from inspectd.line.admission import admission_of
from inspectd.line.batcher import Batcher, Job
from inspectd.line.challenges import Challenges, Trial, limits_of
from inspectd.line.drift import Drift
from inspectd.line.duty import Duty
from inspectd.line.entries import Entry
from inspectd.line.fitness import Beyond, find_problem
from inspectd.line.latencies import Latencies
from inspectd.line.ledger import Ledger
from inspectd.line.looks import Case, Owed
from inspectd.line.products import Products
from inspectd.line.recipe import NoRecipe, Recipe
from inspectd.line.sinks import Sinks
from inspectd.line.terms import terms_of
from inspectd.records import Counts, Finding, Frame, Outcome, Picture, Reason, Stamp, Verdict, fault


class Capture(Protocol):
    """What brings a camera's pictures, on a thread of its own: a supervisor with its capture child."""

    @property
    def health(self) -> Health:
        """What is known about the camera now."""

    def start(self) -> None:
        """Begin to call the camera's events."""

    def stop(self) -> None:
        """Ask it to end."""

    def join(self, timeout_s: float) -> bool:
        """Wait until it has ended; False when it has not."""

    def want(self, at_ns: int) -> None:
        """Have a picture taken after this time, where the camera takes one when it is told."""


class Camera:
    """Owns a camera's capture, its account in the ledger, its queue in the batcher, and its recipes.

    It has its account and queue from construction to `close`; `start` and `stop` may alternate meanwhile. Its events
    come from its capture's thread. `use`, `choose`, `pause`, `resume` and `trigger` may be called from any thread: each
    frame is judged by what was in force when it was admitted, or when its trigger came.
    """

    def __init__(
        self,
        config: CameraConfig,
        products: Products,
        *,
        ledger: Ledger,
        batcher: Batcher,
        sinks: Sinks,
        open_capture: Callable[[Camera, int], Capture],
        challenges: Challenges | None = None,
        changed: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`open_capture`: makes a capture; given the highest number that a frame of this camera has had.

        `challenges`: what is known of this camera from before it was opened anew; None: nothing.
        `changed`: called with the camera's name whenever its state has changed. ValueError when the camera exists.
        """
        self.config = config
        self.name = config.name
        self.source = parse_source(config.source)
        self.terms = terms_of(config)
        self._ledger = ledger
        self._batcher = batcher
        self._sinks = sinks
        self._open_capture = open_capture
        self._changed = changed
        silent = Reason.CAMERA_LOST if config.triggered_by == "camera" else Reason.DEADLINE
        self.challenges = challenges if challenges is not None else Challenges(self.name, {})
        ledger.add_camera(self.name, self.terms.deadline_ms, config.trigger_delay_ms, silent, self.challenges)
        batcher.add_camera(self.name, self.terms.policy, self.terms.waiting)
        self._admission = admission_of(config, self.terms.policy, ledger)

        self._capture: Capture | None = None
        self._duty = Duty(self.source, products)
        self._beyond = Beyond()
        self._trouble = self._admission.trouble
        """Why no part would be noticed."""
        self._details: dict[Reason, str] = {}
        self._silence: str | None = None
        """Why a camera that is triggered by its own input is taken for dead: an announced trigger brought nothing."""
        self._is_closed = False
        """From then on its events are nobody's: a camera of the same name may have taken its place."""
        self._lock = threading.Lock()
        """Held while the duty is replaced, and from where a frame is given its recipe until it is queued: whoever has
        put another recipe in force knows that every frame of the last one is in the batcher, or has its verdict."""
        self._old: list[Recipe] = []
        """Recipes that were replaced, and that a frame may still have."""
        self.latencies = Latencies()
        self.drift = Drift()

    # Start, stop and change

    def start(self) -> None:
        """Begin to capture; ValueError while an earlier capture has not ended."""
        if self._capture is not None and not self._capture.join(0):
            raise ValueError(f"camera {self.name} is running; it is not started twice")
        self._capture = self._open_capture(self, self._ledger.last_frame(self.name))
        self._capture.start()

    def stop(self) -> None:
        """Ask the capture to end; `join` waits for it."""
        if self._capture is not None:
            self._capture.stop()

    def join(self, timeout_s: float) -> bool:
        """Wait until nothing is captured any more; False when the capture is stuck."""
        return self._capture is None or self._capture.join(timeout_s)

    def close(self, detail: str) -> None:
        """End for good: what has no verdict yet becomes `fault: shutdown`, and its slots are given back."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        waiting = self._batcher.remove_camera(self.name)
        self._ledger.remove_camera(self.name, detail)
        for job in waiting:
            self._sinks.finish(job.frame, job.entry.verdict)

    def use(self, recipe: Recipe) -> None:
        """Judge every frame and trigger from the next one on by another recipe of the same product.

        UsageError when it was made for another camera or picture size: the recipe in force stays in force.
        """
        with self._lock:
            self._check(recipe)
            if isinstance(old := self._duty.products.named(recipe.name), Recipe):
                self._old = [*filter(self._is_held, self._old), old]
            self._duty = self._duty.with_recipe(recipe)
            self.drift = Drift()
        self._changed(self.name)

    def reconfigure(self, config: CameraConfig, products: Products, chosen: str | None) -> None:
        """Judge every frame and trigger from the next one on by other products; how it captures stays as it is.

        `chosen`: the product that was in force when they were made (see `Products.chosen_as`). What does not fit the
        camera, as it was opened, is `fault: identity`; `check` says so before.
        """
        with self._lock:
            replaced = [one for one in self._duty.products.all if isinstance(one, Recipe)]
            self._old = [*filter(self._is_held, self._old), *replaced]
            self._duty = self._duty.with_products(products.chosen_as(self._duty.products, chosen))
            self.config = config
        self.challenges.limit(limits_of(config.challenge))
        self.latencies, self.drift = Latencies(), Drift()
        self._changed(self.name)

    def choose(self, product: str | None) -> None:
        """Take every frame from the next one on, and every trigger that says nothing else, for this product.

        UsageError when there is no such product.
        """
        with self._lock:
            self._duty = replace(self._duty, products=self._duty.products.with_choice(product))
        self._changed(self.name)

    def trigger(self, part: str | None = None, product: str | None = None, trial: Trial | None = None) -> Entry:
        """Owe a verdict for a part that is there now; return the promise, which may be kept already.

        `trial`: the part is a known one; None: any, or the one that is expected.
        `product`: what the part is; None: as its id says, or as is in force. UsageError: there is no such product, or
        the camera takes no triggers; then nothing is owed.
        """
        if self.config.mode != "trigger":
            raise UsageError(f"Camera {self.name} inspects by itself (mode: {self.config.mode}); it takes no triggers.")
        with self._lock:
            if self._is_closed:
                raise UsageError(f"Camera {self.name} is not inspected any more.")
            duty = self._duty
            recipe = duty.products.of_part(part) if product is None else duty.products.named(product)
            entry = self._ledger.open_trigger(self.name, part, recipe, trial)
        if entry is None:
            raise UsageError(f"Camera {self.name} is not inspected any more.")
        finding = self._unseen() or self._unjudged(duty, recipe, entry.trial)
        if finding is not None:
            self._ledger.close(entry, finding)
        elif self._capture is not None and entry.is_open and entry.trigger_ns is not None:
            self._capture.want(entry.trigger_ns + round(self.config.trigger_delay_ms * 1e6))
        return entry

    def take_picture(self) -> None:
        """Have a picture taken that is for nobody, where the camera takes one when it is told."""
        if self._capture is not None:
            self._capture.want(time.monotonic_ns())

    def check(self, recipe: Recipe) -> None:
        """UsageError when `use` would refuse it now."""
        with self._lock:
            self._check(recipe)

    def look(self, recipe: Recipe, picture: Picture) -> Finding | None:
        """Return why a picture of this camera may not be judged by a recipe, in force or not; None: it may."""
        mismatch = self._duty.mismatch(recipe)
        if mismatch is not None:
            return fault(Reason.IDENTITY, mismatch, model=recipe.label)
        return find_problem(recipe, picture, is_camera=self.source.is_camera)

    def is_done_with_old(self) -> bool:
        """Whether no frame is left that was admitted with a recipe that is not in force any more."""
        with self._lock:
            self._old = [*filter(self._is_held, self._old)]
            return not self._old

    def pause(self, why: str) -> None:
        """Inspect nothing until `resume`: every frame is `fault: bypass` and says why."""
        with self._lock:
            self._duty = replace(self._duty, pause=why)
        self._changed(self.name)

    def resume(self) -> None:
        """Inspect again."""
        with self._lock:
            self._duty = replace(self._duty, pause=None)
        self._changed(self.name)

    # What its capture says

    def on_opened(self, opened: Opened) -> None:
        """Check that this is a camera that the recipes were made for."""
        with self._lock:
            if self._is_closed:
                return
            self._admission.opened(opened)
            self._trouble = self._admission.trouble
            self._duty = self._duty.with_opened(opened, self._refusal(opened))
        self._changed(self.name)

    def on_frame(self, frame: Frame) -> None:
        """Owe a verdict, and queue the picture for the engine, or publish at once why it cannot be judged."""
        if self._silence is not None:
            self._silence = None
            self._changed(self.name)
        with self._lock:
            if self._is_closed:
                frame.release()
                return
            duty = self._duty
            owed = self._admission.admit(frame, duty.products.current)
            ends = [self._queue(duty, one) for one in owed]
        if not any(one.frame is frame for one in owed):
            self._sinks.pass_by(frame)
        for end in ends:
            end()
        self._tell_trouble()

    def _queue(self, duty: Duty, owed: Owed) -> Callable[[], None]:
        """Queue a picture for the engine; return what is left to do about it without the lock."""
        entry, frame = owed.entry, owed.frame
        admitted = self._recipe_or_fault(duty, entry, frame)
        if isinstance(admitted, Finding):
            return partial(self._end, owed, admitted)
        gives_way = self._batcher.put(Job(frame, entry, admitted, case=owed.case))
        return partial(self._give_way, gives_way) if gives_way is not None else _nothing

    def _end(self, owed: Owed, finding: Finding) -> None:
        self._ledger.close(owed.entry, finding, owed.frame.stamp)
        self._finish(owed.frame, owed.entry, owed.case)

    def _give_way(self, job: Job) -> None:
        self._admission.give_way(job.entry)
        self._finish(job.frame, job.entry, job.case)

    def _finish(self, frame: Frame, entry: Entry, case: Case | None) -> None:
        finish = self._sinks.finish if case is None else self._sinks.finish_look
        finish(frame, entry.verdict)

    def _tell_trouble(self) -> None:
        """Say so when parts are noticed no more, or again."""
        if self._trouble != self._admission.trouble:
            self._trouble = self._admission.trouble
            self._changed(self.name)

    def on_missed(self, stamp: Stamp) -> None:
        """A frame for which no slot was free."""
        with self._lock:
            entry = None if self._is_closed else self._admission.admit_unseen(stamp, self._duty.products.current)
            if entry is not None:
                self._admission.give_way(entry)
        self._tell_trouble()

    def on_unreadable(self, stamp: Stamp, why: str) -> None:
        """A picture that cannot be read, or that came damaged, still gets its verdict."""
        with self._lock:
            duty = self._duty
            entry = None if self._is_closed else self._admission.admit_unseen(stamp, duty.products.current)
            if entry is not None:
                self._ledger.close(entry, duty.bypass() or fault(Reason.PICTURE, why))
        self._tell_trouble()

    def on_gone(self, reason: Reason, why: str) -> None:
        """One fault at the transition; afterwards `state/` repeats it."""
        with self._lock:
            if not self._is_closed:
                self._admission.gone(self.name, fault(reason, why))

    def on_state(self) -> None:
        """The capture's health has changed."""
        self._changed(self.name)

    # What is known of it

    @property
    def recipe(self) -> Recipe | NoRecipe:
        """What the next frame is judged by."""
        return self._duty.products.current

    @property
    def products(self) -> Products:
        """All that a part may be judged by."""
        return self._duty.products

    @property
    def health(self) -> Health:
        """What the capture knows; before the first start, that there is none."""
        if self._capture is None:
            return Health(State.STOPPED, "it was not started", None, None, None)
        health = self._capture.health
        if self._silence is not None and health.state is State.RUNNING:
            return replace(health, state=State.LOST, detail=self._silence)
        return health

    @property
    def caveats(self) -> list[str]:
        """What cannot be promised of its pictures, in sentences."""
        opened = self._duty.opened
        found = [opened.caveat] if opened is not None and opened.caveat else []
        found += [self._trouble] if self._trouble is not None else []
        if self.config.allow_arrival_time and opened is not None and not opened.has_driver_time:
            found.append(
                "the camera gives its pictures no time of its own: they are matched to triggers by when they arrive "
                "(allow_arrival_time), and one that was long under way may show the part before"
            )
        return found

    @property
    def trouble(self) -> str | None:
        """Why no part would be noticed at present; None: it would."""
        return self._trouble

    @property
    def unjudged(self) -> Finding | None:
        """Why a picture that comes now would not be judged, whatever it shows; None: it would."""
        duty = self._duty
        return self._unjudged(duty, duty.products.current, None)

    def last_detail(self, reason: Reason) -> str:
        """Return what the last fault of this reason said; empty: there was none."""
        return self._details.get(reason, "")

    @property
    def pause_reason(self) -> str | None:
        """Why nothing is inspected until `resume`; None: nobody has asked for that."""
        return self._duty.pause

    @property
    def is_left(self) -> bool:
        """Whether it is closed, and nothing of it is under way."""
        recipes = [*self._old, *(one for one in self._duty.products.all if isinstance(one, Recipe))]
        return self._is_closed and not any(map(self._batcher.holds, recipes))

    @property
    def is_paused(self) -> bool:
        """Whether frames are captured and not inspected, because somebody, or a known part, has it so."""
        is_wanted = self._duty.pause is not None or self.challenges.why_not() is not None
        return is_wanted and self.health.state is State.RUNNING

    @property
    def is_inspecting(self) -> bool:
        """Whether a part that passes this camera now would be inspected."""
        return self.health.state is State.RUNNING and self._trouble is None and self.unjudged is None

    @property
    def is_settled(self) -> bool:
        """Whether it judges, or is known not to: what READY waits for. Triggers and parts may be long in coming."""
        if self.health.state is State.RUNNING and self.config.mode != "stream":
            return True
        return self.counts.last_seq > 0 or self.health.state in (State.LOST, State.FROZEN, State.STOPPED)

    @property
    def has_ended(self) -> bool:
        """Whether a finite source has been read to its end, or cannot be read at all."""
        health = self.health
        return health.state is State.STOPPED or (health.state is State.LOST and not health.is_readable)

    @property
    def counts(self) -> Counts:
        """Its bookkeeping."""
        return self._ledger.counts(self.name)

    def on_published(self, verdict: Verdict, published_ns: int) -> None:
        """Note how long a verdict took, and what it says of the camera. Called from the publisher's thread."""
        is_silent = verdict.stamp is None and verdict.finding.reason is Reason.CAMERA_LOST
        if verdict.trigger is not None and is_silent and self.config.triggered_by == "camera":
            self._silence = verdict.finding.detail
            self._changed(self.name)
        if verdict.finding.reason is not None:
            self._details[verdict.finding.reason] = verdict.finding.detail or ""
        finding = verdict.finding
        if finding.outcome is Outcome.OK and self.config.looks.best_of == 1:  # of several looks the worst is told
            for area, one in [(area.name, area.finding) for area in finding.areas] or [("", finding)]:
                if one.excess is not None:
                    self.drift.accepted(area, one.model, one.threshold, one.excess)
        self.latencies.note(verdict, published_ns)

    def _recipe_or_fault(self, duty: Duty, entry: Entry, frame: Frame) -> Recipe | Finding:
        """Return the recipe that a frame is to be judged by, or the fault of one that is not to be inspected."""
        recipe = entry.recipe
        if (why := self._unjudged(duty, recipe, entry.trial)) is not None:
            return why
        assert isinstance(recipe, Recipe)
        is_camera = self.source.is_camera
        problem = find_problem(recipe, frame.picture, is_camera=is_camera, beyond=self._beyond, drift=self.drift)
        return problem or recipe

    def _unjudged(self, duty: Duty, recipe: object, trial: object) -> Finding | None:
        """Return why no picture would be judged by a recipe at present; None: it would. `trial`: of a known part."""
        if (why := duty.unjudged(recipe)) is not None:
            return why
        untold = self.challenges.why_not() if trial is None else None
        return None if untold is None else fault(Reason.BYPASS, untold)

    def _unseen(self) -> Finding | None:
        """Return why the camera gives no picture at present; None: it gives some."""
        if self._capture is None:
            return fault(Reason.CAMERA_LOST, "the camera was not started")
        health = self._capture.health
        if health.state is State.RUNNING:
            return None
        why = health.detail or "the camera is being opened"
        return fault(Reason.CAMERA_FROZEN if health.state is State.FROZEN else Reason.CAMERA_LOST, why)

    def _refusal(self, opened: Opened) -> str | None:
        if self.config.mode != "trigger" or opened.has_driver_time or self.config.allow_arrival_time:
            return None
        return (
            "the camera gives its pictures no time of its own, and one that was long under way could show the part "
            "before; use a camera whose driver does, or accept that (allow_arrival_time: true)"
        )

    def _is_held(self, recipe: Recipe) -> bool:
        """Whether a frame may still be judged by this recipe."""
        return self._batcher.holds(recipe) or self._ledger.holds(self.name, recipe)

    def _check(self, recipe: Recipe) -> None:
        mismatch = self._duty.mismatch(recipe)
        if mismatch is not None:
            raise UsageError(
                f"Camera {self.name} cannot use the recipe of {recipe.label}: {mismatch}. Its recipe stays as it was."
            )


def join_all(cameras: Iterable[Camera], timeout_s: float) -> None:
    """Wait for cameras that were asked to stop, side by side: many that are stuck take no longer than one."""
    give_up_s = time.monotonic() + timeout_s
    for camera in cameras:
        camera.join(max(0.0, give_up_s - time.monotonic()))


def _nothing() -> None:
    """What is mostly left to do."""
