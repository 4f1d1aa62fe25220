"""One camera's supervisor: keeps a capture child alive, for ever, and says when the camera is not there.

It alone knows the camera's health. What comes out goes to `CameraEvents`: frames, frames that were given
up, pictures that cannot be read, and one fault at each transition to lost or frozen.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import msgspec

from inspectd.cameras.child import Child
from inspectd.cameras.process import START_S
from inspectd.cameras.protocol import Alive, Captured, CaptureSettings, Ended, Failed, Grown, Opened, Unreadable
from inspectd.cameras.ring import Pin
from inspectd.errors import CameraError
from inspectd.logs import about
from inspectd.records import Frame, Reason, Stamp

LOG = logging.getLogger(__name__)

RETRY_S = (0.25, 0.5, 1.0)
"""From one child's start to the next one's, while they do not live long: first, second, every later one."""
PAUSE_S, JITTER = 0.1, 0.2
"""The shortest pause after a child, and the share by which each varies: cameras that return at once do not start at
once."""
WELL_S = 2.0
"""A child that gave pictures for longer was well: after it the next one is started at once."""
LISTEN_S = 0.25
FILE_READ_TIMEOUT_S = 30.0
"""A file is given longer than a camera: nobody waits for it, and a large picture takes time to decode."""
RATE_FRAMES = 30


class State(StrEnum):
    """What `state/` says."""

    STARTING = "starting"
    RUNNING = "running"
    LOST = "lost"
    FROZEN = "frozen"
    STOPPED = "stopped"


class CameraEvents(Protocol):
    """Who wants to know. Called from the supervisor's thread."""

    def on_opened(self, opened: Opened) -> None:
        """The camera was opened, by a new capture child."""

    def on_frame(self, frame: Frame) -> None:
        """A picture was captured; `frame.release` must be called once."""

    def on_missed(self, stamp: Stamp) -> None:
        """A live camera's frame was given up because all slots were in use."""

    def on_unreadable(self, stamp: Stamp, why: str) -> None:
        """A picture of a finite source cannot be read."""

    def on_gone(self, reason: Reason, why: str) -> None:
        """The camera was there (or expected) and is not: called once, at the transition."""

    def on_state(self) -> None:
        """`Supervisor.health` has changed."""


@dataclass(frozen=True, slots=True)
class Health:
    """A snapshot for people and subscribers."""

    state: State
    detail: str | None
    fps: float | None
    last_frame_ns: int | None
    opened: Opened | None
    openings: int = 0
    """How often it was opened."""
    returns: int = 0
    """How often it was lost, or frozen, and came back."""
    unreadable: int = 0
    """Pictures that could not be read, or came damaged."""
    leaks: bool = False
    """Its driver takes more and more memory."""

    @property
    def last_frame_age_s(self) -> float | None:
        """How long ago its last picture was taken; None: there was none."""
        return None if self.last_frame_ns is None else (time.monotonic_ns() - self.last_frame_ns) / 1e9

    @property
    def is_readable(self) -> bool:
        """Whether the source has ever been opened."""
        return self.openings > 0


@dataclass(frozen=True, slots=True)
class _Gone:
    reason: Reason
    why: str


class Supervisor:
    """Owns one camera. Settings: how to open it, and how long it may be silent or frozen."""

    def __init__(
        self,
        name: str,
        settings: CaptureSettings,
        events: CameraEvents,
        *,
        frozen_ms: float = 1000,
        is_finite: bool = False,
        last_frame: int = 0,
        pin: Pin | None = None,
    ) -> None:
        """`last_frame`: the highest frame number of earlier supervisors of this camera."""
        self.name = name
        self._about = about(camera=name)
        self.is_finite = is_finite
        self._settings = settings
        self._events = events
        self._pin = pin
        self._frozen_ms = frozen_ms

        self._state = State.STARTING
        self._detail: str | None = None
        self._opened: Opened | None = None
        self._openings = self._returns = self._unreadable = 0
        self._leaks = False  # the present child, or the last
        self._is_open = False  # and the next: of the present child, or the last
        self._running_s: float | None = None
        self._known_as = ""
        self._last_frame = last_frame
        self._taken = 0  # frames of all children
        self._arrivals: deque[int] = deque(maxlen=RATE_FRAMES)
        self._child: Child | None = None
        self._stuck: Child | None = None

        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"camera-{name}", daemon=True)

    def start(self) -> None:
        """Begin; frames arrive on the supervisor's own thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the supervisor to end its child; `join` waits for it."""
        self._stop.set()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until the child has ended; False when it has not."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def want(self, at_ns: int) -> None:
        """Have a picture taken after this time (CLOCK_MONOTONIC), where the camera takes one when it is told.

        May be called from any thread. Where the camera is gone meanwhile `CameraEvents` tell.
        """
        child = self._child
        if child is not None:
            child.want(at_ns)

    @property
    def health(self) -> Health:
        """What is known about the camera now."""
        arrivals = tuple(self._arrivals)
        span_ns = arrivals[-1] - arrivals[0] if len(arrivals) > 1 else 0
        fps = (len(arrivals) - 1) * 1e9 / span_ns if span_ns > 0 and self._state is State.RUNNING else None
        last_ns = arrivals[-1] if arrivals else None
        return Health(
            self._state,
            self._detail,
            fps,
            last_ns,
            self._opened,
            openings=self._openings,
            returns=self._returns,
            unreadable=self._unreadable,
            leaks=self._leaks,
        )

    def _run(self) -> None:
        failures, was_not_there = 0, False
        while not self._stop.is_set():
            began_s, self._is_open, self._running_s = time.monotonic(), False, None
            known_as = "" if was_not_there else self._known_as
            try:
                gone = self._run_child(known_as)
                if gone is None:
                    break
                self._report_gone(gone)
            except Exception as error:  # a thread's top: this camera is restarted, the others go on
                LOG.exception("camera %s: unexpected error; it is restarted", self.name, extra=self._about)
                self._state, self._detail = State.LOST, f"an unexpected error ({type(error).__name__}); see the log"
            was_not_there = bool(known_as) and not self._is_open
            was_well = self._running_s is not None and time.monotonic() - self._running_s > WELL_S
            failures = 0 if was_well else failures + 1
            every_s = RETRY_S[min(failures, len(RETRY_S)) - 1] if failures else 0.0
            left_s = every_s - (time.monotonic() - began_s)
            self._stop.wait(max(PAUSE_S, left_s) * random.uniform(1 - JITTER, 1 + JITTER))
        why = "it was stopped" if self._stop.is_set() else "the source was read to its end"
        self._set(State.STOPPED, why)

    def _run_child(self, known_as: str) -> _Gone | None:
        """Start a child and listen to it; whatever goes wrong in handling this camera costs only its child.

        `known_as`: what an earlier one found its source by, where that is to be tried; it may be somewhere else by now.
        """
        if self._stuck is not None and not self._stuck.is_gone:
            return _Gone(
                Reason.CAMERA_LOST,
                f"its last capture process ({self._stuck.pid}) is stuck in the kernel; re-plug the camera",
            )
        try:
            settings = msgspec.structs.replace(self._settings, first=self._taken, known_as=known_as)
            child = Child(settings, self._pin)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            return _Gone(Reason.CAMERA_LOST, f"no capture process could be started: {why}")
        self._child, self._leaks = child, False
        try:
            return self._listen(child)
        except CameraError as error:
            return _Gone(Reason.CAMERA_LOST, str(error))
        except Exception:  # a thread's top: this camera is restarted, the others go on
            LOG.exception("camera %s: unexpected error while handling its messages", self.name, extra=self._about)
            return _Gone(Reason.CAMERA_LOST, "an unexpected error; the log has the details")
        finally:
            self._child = None
            self._stuck = None if child.kill() else child
            self._opened = None

    def _listen(self, child: Child) -> _Gone | None:
        """Listen to a child until it ends well (None) or is gone."""
        watch = _Watch(child, self._settings, self._frozen_ms)
        while not self._stop.is_set():
            message = child.receive(min(LISTEN_S, watch.left_s()))
            if message is not None:
                watch.heard(message)
            match message:
                case Opened():
                    if message.caveat and not self._openings:
                        LOG.warning("camera %s: %s", self.name, message.caveat, extra=self._about)
                    self._opened = message
                    self._openings += not self._is_open
                    self._is_open, self._known_as = True, message.known_as
                    if self._settings.is_triggered or message.on_demand:  # it is there, whether a part is or not
                        self._set_running()
                    self._events.on_opened(message)
                case Captured():
                    self._give_up(message.missed)
                    self._take(child, message)
                case Alive():
                    self._give_up(message.missed)
                case Unreadable():
                    self._give_up(message.missed)
                    self._taken += 1
                    self._unreadable += 1
                    stamp = Stamp(self.name, self._last_frame + self._taken, message.captured_ns, message.part)
                    self._events.on_unreadable(stamp, message.why)
                case Grown():
                    self._leaks = True
                    LOG.warning("camera %s: its driver takes more and more memory", self.name, extra=self._about)
                case Failed():
                    self._skip_if_file(child, message.why)
                    return _Gone(Reason.CAMERA_LOST, message.why)
                case Ended():
                    return None
            gone = watch.verdict()
            if gone is not None:
                self._skip_if_file(child, gone.why)
                return gone
        return None

    def _take(self, child: Child, captured: Captured) -> None:
        self._taken += 1
        self._arrivals.append(captured.captured_ns)
        number = self._last_frame + self._taken
        stamp = Stamp(self.name, number, captured.captured_ns, captured.part, captured.is_arrival_time)
        self._set_running()
        self._events.on_frame(child.frame(captured, stamp))

    def _give_up(self, missed: int) -> None:
        for _ in range(missed):
            self._taken += 1
            self._events.on_missed(Stamp(self.name, self._last_frame + self._taken, time.monotonic_ns()))

    def _skip_if_file(self, child: Child, why: str) -> None:
        """A picture that kills its reader must not be read again: it is passed over, with a fault."""
        if child.opened is not None and self._settings.kind in ("video", "folder"):
            self._taken += 1
            stamp = Stamp(self.name, self._last_frame + self._taken, time.monotonic_ns())
            self._events.on_unreadable(stamp, f"picture {self._taken} of the source could not be read: {why}")

    def _report_gone(self, gone: _Gone) -> None:
        state = State.FROZEN if gone.reason is Reason.CAMERA_FROZEN else State.LOST
        is_transition = state is not self._state
        self._set(state, gone.why)
        if is_transition:
            LOG.warning("camera %s is %s: %s", self.name, state, gone.why, extra=self._about)
            self._events.on_gone(gone.reason, gone.why)

    def _set_running(self) -> None:
        self._running_s = self._running_s or time.monotonic()
        if self._state is not State.RUNNING:
            self._set(State.RUNNING, None)

    def _set(self, state: State, detail: str | None) -> None:
        if state is State.RUNNING and self._state in (State.LOST, State.FROZEN):
            self._returns += 1
            LOG.warning("camera %s is back", self.name, extra=self._about)
        is_new = (state, detail) != (self._state, self._detail)
        self._state, self._detail = state, detail
        if is_new:
            self._events.on_state()


class _Watch:
    """Decides from what a child says, and when, whether its camera is there."""

    def __init__(self, child: Child, settings: CaptureSettings, frozen_ms: float) -> None:
        self._child = child
        self._settings = settings
        self._frozen_s = frozen_ms / 1000
        self._heard_s = self._fresh_s = time.monotonic()
        self._repeats = 0
        self._has_begun = False  # its first word says that it has started; from then on the source is waited for

    def heard(self, message: object) -> None:
        """Note a message of the child."""
        if isinstance(message, Grown):  # nothing about pictures
            return
        self._heard_s = time.monotonic()
        self._has_begun = True
        if isinstance(message, Alive) and message.is_repeat:
            self._repeats += 1
        else:
            self._fresh_s, self._repeats = self._heard_s, 0

    def left_s(self) -> float:
        """Return how long the child may still be silent."""
        return self._heard_s + self._limit_s() - time.monotonic()

    def verdict(self) -> _Gone | None:
        """Return why the camera is gone, or None."""
        now_s = time.monotonic()
        if self._child.is_full and self._child.opened is not None and not self._child.opened.is_live:
            self._heard_s = now_s  # a finite source is waiting for us
        if now_s - self._heard_s >= self._limit_s():
            silent_ms = (now_s - self._heard_s) * 1000
            if self._child.opened is None:
                return _Gone(Reason.CAMERA_LOST, f"it could not be opened within {silent_ms:.0f} ms")
            return _Gone(Reason.CAMERA_LOST, f"it gave no new picture for {silent_ms:.0f} ms")
        if self._repeats and self._frozen_s and now_s - self._fresh_s >= self._frozen_s:
            return _Gone(
                Reason.CAMERA_FROZEN,
                f"its picture has not changed by a single bit for {(now_s - self._fresh_s) * 1000:.0f} ms",
            )
        return None

    def _limit_s(self) -> float:
        opened = self._child.opened
        if not self._has_begun:
            return START_S
        if opened is None:
            return self._settings.open_timeout_ms / 1000
        fps = self._settings.fps or opened.fps
        period_s = 1.5 / fps if fps else 0.0
        limit_s = self._settings.read_timeout_ms / 1000 if opened.is_live else FILE_READ_TIMEOUT_S
        if self._settings.is_triggered:  # it says that it is there each time that V4L2 has waited
            return self._settings.select_s + limit_s
        return max(limit_s, period_s)
