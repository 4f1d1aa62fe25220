"""What is done to the daemon while it is soaked, one thing after the other, by a seed."""

from __future__ import annotations

import errno
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil

from inspectd.client import Control, RefusalError
from inspectd.soak.daemon import EXTRA, OPENS_S, Soaked
from inspectd.soak.truth import Truth
from inspectd.wire.requests import (
    BypassRequest,
    CaptureRequest,
    MarkRequest,
    ModelRequest,
    ReloadRequest,
    Request,
    RevertRequest,
    SnapshotRequest,
    StatusRequest,
    ThresholdRequest,
)

PATIENCE_S = 60.0
LISTENER = (
    "import sys, zmq; s = zmq.Context().socket(zmq.SUB); s.subscribe(b''); s.connect(sys.argv[1])\nwhile 1: s.recv()"
)
LISTENS_S, STOPPED_S, FULL_S, BYPASS_S = 3.0, 6.0, 6.0, 1.0
ANSWER_S = 5.0
"""A bypass is written down first, on a disk that may be full."""
UNDER_WAY_S = 0.5
"""A picture that was captured before something is done to its camera may be admitted after it."""
MOST_MARKS = 50
HIGHER = 0.01
"""By so much of itself a threshold is raised: a little."""
BLOCK = bytes(1 << 20)
BY = "soak"
MAY_FAIL = frozenset({"journal", "timeout", "failed", "bad_model", "busy"})
"""Codes that say that something cannot be done just now: the disk is full, or the camera is not there."""


class Events:
    """Does one thing after the other on a thread of its own, until it is closed."""

    def __init__(self, soaked: Soaked, truth: Truth, every_s: float, seed: int) -> None:
        self._soaked = soaked
        self._truth = truth
        self._every_s = every_s
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []
        """What the daemon should have done, and did not."""
        self._gone_ns = 0
        """Since when the camera that comes and goes is not there."""
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)

    def __enter__(self) -> Events:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Finish what is under way, and do no more."""
        self._stop.set()
        self._thread.join()

    @property
    def table(self) -> list[Callable[[], None]]:
        """All that is done, each as often as the others."""
        found = [
            self.threshold_by_command,
            self.model_by_command,
            self.revert,
            self.bypass,
            self.threshold_by_reload,
            self.model_by_reload,
            self.camera_comes,
            self.camera_goes,
            self.configuration_is_broken,
            self.snapshot,
            self.raw_frames,
            self.mark,
            self.status,
            self.scrape,
            self.subscriber_dies,
            self.subscriber_stops_reading,
            self.capture_process_is_killed,
            self.capture_process_hangs,
        ]
        return [*found, self.disk_is_full] if self._soaked.has_disk else found

    def _run(self) -> None:
        with Control(self._soaked.control) as control:
            self._control = control
            while not self._stop.is_set():
                turn = self.table
                self._random.shuffle(turn)
                for one in turn:
                    if self._stop.wait(self._every_s * self._random.uniform(0.5, 1.5)):
                        return
                    self._do(one)

    def _do(self, one: Callable[[], None]) -> None:
        name = one.__name__.replace("_", " ")
        try:
            one()
        except Exception as error:  # noqa: BLE001 - a thread's top: whatever it is, it is told, and the rest is done
            if self._soaked.process.poll() is None:
                self.wrong.append(f"{name}: {type(error).__name__}: {error}")
        self.done[name] += 1

    # Commands

    def threshold_by_command(self) -> None:
        """Another threshold, a little higher than the calibration's."""
        camera = self._any()
        judging = self._state(camera)["model"]
        own = next((model.threshold for model in self._soaked.configured.models if model.label == judging), None)
        if own is not None:
            value = own + abs(own) * self._random.uniform(0, HIGHER)
            self._ask(ThresholdRequest(camera=camera, value=value, by=BY), MAY_FAIL)

    def model_by_command(self) -> None:
        """Another model, with its own threshold."""
        model = self._random.choice(self._soaked.configured.models)
        self._ask(ModelRequest(camera=self._any(), path=str(model.path), by=BY), MAY_FAIL)

    def revert(self) -> None:
        """Back to the configuration."""
        self._ask(RevertRequest(camera=self._any(), by=BY), MAY_FAIL)

    def bypass(self) -> None:
        """Nothing is inspected for a moment."""
        camera = self._any()
        self._disturb(camera, BYPASS_S + ANSWER_S)
        self._ask(BypassRequest(camera=camera, seconds=BYPASS_S, by=BY, why="soak"), MAY_FAIL)

    def snapshot(self) -> None:
        """A picture for people."""
        self._ask(SnapshotRequest(camera=self._any()), MAY_FAIL)

    def raw_frames(self) -> None:
        """What a calibration asks for."""
        self._ask(CaptureRequest(camera=self._any(), n=4), MAY_FAIL)

    def mark(self) -> None:
        """What a person says of a part; its picture is kept for ever, so that not too many may be."""
        if self.done["mark"] >= MOST_MARKS:
            return
        camera = self._any()
        seq = self._state(camera)["last_seq"]
        self._ask(MarkRequest(camera=camera, seq=max(1, seq - 30), say="good", by=BY), MAY_FAIL | {"bad_value"})

    def status(self) -> None:
        """How it is."""
        self._ask(StatusRequest())

    def scrape(self) -> None:
        """What Prometheus asks for."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._soaked.port}/metrics", timeout=PATIENCE_S) as answer:
            if b"inspectd_verdicts_total" not in answer.read():
                self.wrong.append("scrape: /metrics says nothing of verdicts")

    # The configuration is read again

    def threshold_by_reload(self) -> None:
        """Another threshold in the file, or the calibration's again."""
        camera, configured = self._any(), self._soaked.configured
        own = configured.models[configured.model_of.get(camera, 0)].threshold
        is_back = configured.thresholds.get(camera) is not None
        configured.thresholds[camera] = None if is_back else own + abs(own) * HIGHER
        self._reload()

    def model_by_reload(self) -> None:
        """Another model in the file."""
        camera, configured = self._any(), self._soaked.configured
        configured.model_of[camera] = (configured.model_of.get(camera, 0) + 1) % len(configured.models)
        configured.thresholds[camera] = None
        self._reload()

    def camera_comes(self) -> None:
        """One camera more, which is opened; or it is there already."""
        self._soaked.configured.has_extra = True
        self._truth.happened(EXTRA, self._gone_ns, time.monotonic_ns())
        self._reload()
        self._truth.happened(EXTRA, self._gone_ns, time.monotonic_ns())

    def camera_goes(self) -> None:
        """It is taken away again."""
        if self._soaked.configured.has_extra:
            self._gone_ns = time.monotonic_ns()
        self._soaked.configured.has_extra = False
        self._disturb(EXTRA)
        self._reload()

    def configuration_is_broken(self) -> None:
        """A file that cannot be used is refused, and nothing is changed."""
        configured = self._soaked.configured
        configured.is_broken = True
        self._soaked.write()
        try:
            self._control.ask(ReloadRequest(), PATIENCE_S)
        except RefusalError as error:
            if error.code != "bad_value":
                raise
        else:
            self.wrong.append("a broken configuration was accepted")
        finally:
            configured.is_broken = False
            self._soaked.write()

    def _reload(self) -> None:
        """Have it read; that a camera's pictures have another size just now is a reason to refuse its new model."""
        self._soaked.write()
        asked_ns, names = time.monotonic_ns(), self._soaked.configured.settings.names
        try:
            self._ask(ReloadRequest())
        except RefusalError:
            if not self._truth.is_resized(names, asked_ns, time.monotonic_ns()):
                raise

    # From outside

    def subscriber_dies(self) -> None:
        """One that hears everything, and is killed."""
        with self._listener() as listener:
            self._stop.wait(LISTENS_S)
            listener.kill()

    def subscriber_stops_reading(self) -> None:
        """One that hangs, with its connection open."""
        with self._listener() as listener:
            self._stop.wait(LISTENS_S)
            listener.send_signal(signal.SIGSTOP)
            self._stop.wait(STOPPED_S)
            listener.kill()

    def capture_process_is_killed(self) -> None:
        """The out-of-memory killer has chosen it."""
        self._signal(signal.SIGKILL)

    def capture_process_hangs(self) -> None:
        """It does not get on, and is replaced."""
        self._signal(signal.SIGSTOP)

    def disk_is_full(self) -> None:
        """Neither journal nor archive can be written for a while."""
        ballast = self._soaked.seen_disk / "ballast"
        try:
            with ballast.open("wb", buffering=0) as file:
                while file.write(BLOCK):
                    pass
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            self._stop.wait(FULL_S)
        finally:
            ballast.unlink(missing_ok=True)

    def _listener(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", LISTENER, self._soaked.published])

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal to one of the processes that read cameras."""
        for name in (*self._soaked.configured.settings.names, EXTRA):  # it is not known which camera is whose
            self._disturb(name, OPENS_S)
        children = self._soaked.children()
        if children:
            with suppress(psutil.NoSuchProcess):  # its camera was unplugged just now
                self._random.choice(children).send_signal(number)

    def _disturb(self, camera: str, seconds: float = 0.0) -> None:
        now_ns = time.monotonic_ns()
        self._truth.happened(camera, now_ns - int(UNDER_WAY_S * 1e9), now_ns + int(seconds * 1e9))

    def _any(self) -> str:
        return self._random.choice(self._soaked.configured.settings.names)

    def _state(self, camera: str) -> dict[str, Any]:
        found: dict[str, Any] = self._ask(StatusRequest())["cameras"][camera]
        return found

    def _ask(self, request: Request, may_fail: frozenset[str] = frozenset()) -> Any:
        try:
            result, _ = self._control.ask(request, PATIENCE_S)
        except RefusalError as error:
            if error.code not in may_fail:
                raise
            return None
        return result
