"""The daemon's life: startup, main loop, shutdown, inside captured signals."""

from __future__ import annotations

import gc
import logging
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from inspectd.config import Config
from inspectd.daemon import pipeline
from inspectd.daemon.heartbeat import STALL_S, Heartbeat
from inspectd.daemon.notify import Notifier
from inspectd.errors import LostError, StartError

LOG = logging.getLogger(__name__)

TICK_S = 0.25
STATUS_EVERY_S = 5.0
MOST_DESCRIPTORS = 65_536
FORCED_EXIT = 130  # as a shell reports a program that SIGINT ended


class _StartCancelled(BaseException):
    """A signal came while models were loaded. No Exception: whatever is under way must not take it for its own."""


class Daemon:
    """One run of the daemon."""

    def __init__(self, config: Config, read: pipeline.ReadConfig, *, exit_when_done: bool = False) -> None:
        """`read`: reads the configuration again, when that is asked for."""
        self._config = config
        self._read = read
        self._exit_when_done = exit_when_done
        self._notifier = Notifier()
        self._heartbeat = Heartbeat()
        self._is_ready = False
        self._lost: str | None = None
        self._stop = threading.Event()
        self._next_status_s = 0.0
        self._wants_reload = self._is_reloaded = False
        self._is_starting = False

    def run(self) -> None:
        """Live until a signal, the last finite source, or a loss; StartError and LostError say why it failed."""
        with self._captured_signals():
            try:
                self.startup()
            except _StartCancelled:
                LOG.info("stopped while it was starting")
                self._notifier.close()
                return
            try:
                self.main_loop()
            finally:
                self.shutdown()
        if self._lost is not None:
            raise LostError(f"inspectd stopped: {self._lost}.")
        unreadable = self.pipeline.unreadable
        if self._exit_when_done and unreadable:
            raise StartError(f"Nothing could be read from the source of {', '.join(unreadable)}; see the log above.")

    def startup(self) -> None:
        """Load, bind, start; say so."""
        _raise_descriptor_limit()
        self._notifier.status("loading the models")
        self._is_starting = True  # nothing has begun that would have to end in order: a signal may end it anywhere
        self.pipeline = pipeline.build(self._config, on_lost=self.lose, heartbeat=self._heartbeat, read=self._read)
        self._is_starting = False
        if self._stop.is_set():
            raise _StartCancelled
        self.pipeline.start()
        gc.collect()
        gc.freeze()  # what was built now lives until the end: later collections need not look at it
        daemon = self.pipeline.status.daemon()
        LOG.info(
            "inspectd %s: epoch %s, engine %s in %s, verdicts on %s, metrics on %s",
            daemon.version,
            daemon.epoch,
            daemon.device,
            daemon.precision,
            self._config.publish.bind,
            self._config.metrics.listen,
        )

    def main_loop(self) -> None:
        """Tick until there is a reason to stop."""
        while not self._stop.wait(TICK_S):
            self._tick()

    def shutdown(self) -> None:
        """End in order: cameras, engine, ledger, publisher."""
        self._notifier.stopping("shutting down")
        self.pipeline.stop()
        LOG.info("stopped: %s", self.pipeline.status.sentence())
        self._notifier.close()

    def lose(self, why: str) -> None:
        """A vital part is lost; called from any thread. The first reason is the one that is told."""
        if self._lost is None:
            self._lost = why
        self._stop.set()

    def _tick(self) -> None:
        if not self._heartbeat.stalled(STALL_S):
            self._notifier.watchdog()
        status = self.pipeline.status
        if not self._is_ready and status.is_settled:
            self._is_ready = True
            self._notifier.ready(status.sentence())
            LOG.info("ready: %s", status.sentence())
        if (now_s := time.monotonic()) >= self._next_status_s and self._is_ready:
            self._next_status_s = now_s + STATUS_EVERY_S
            self._notifier.status(status.sentence())
        self._reload_if_asked()
        self.pipeline.alarms.look(now_s)
        if self._exit_when_done and self.pipeline.is_done:
            self._stop.set()

    def _reload_if_asked(self) -> None:
        """Begin to read the configuration again, or tell that this has ended."""
        if self._is_reloaded:
            self._is_reloaded = False
            self._notifier.ready(self.pipeline.status.sentence())
        if not (self._wants_reload and self._is_ready):
            return
        self._wants_reload = False
        self._notifier.reloading()

        def done() -> None:
            self._is_reloaded = True

        self.pipeline.reload(done)

    @contextmanager
    def _captured_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self.on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self.on_hangup)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def on_signal(self, number: int, _frame: FrameType | None) -> None:
        """Ask for the stop; a second Ctrl-C ends at once."""
        if number == signal.SIGINT and self._stop.is_set():
            os._exit(FORCED_EXIT)
        self._stop.set()
        if self._is_starting:
            self._is_starting = False
            raise _StartCancelled

    def on_hangup(self, number: int, frame: FrameType | None) -> None:
        """Ask for the configuration to be read again; the end of the terminal that it was started in is a stop."""
        if sys.stderr is not None and sys.stderr.isatty():
            self.on_signal(number, frame)
        else:
            self._wants_reload = True


def _raise_descriptor_limit() -> None:
    """Take as many descriptors as we may: connections must not use up those that a camera needs."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if most == resource.RLIM_INFINITY else min(most, MOST_DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
