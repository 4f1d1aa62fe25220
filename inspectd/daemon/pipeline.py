"""The pipeline: builds the stages from the configuration and joins them. The file to read first.

How a frame becomes a verdict:

    Supervisor (one thread per camera)   hears from its capture child: a picture lies in a ring slot
      -> Intake.on_frame                 opens a ledger entry: from here on a verdict is owed
      -> Batcher.put                     the newest of each camera waits for the engine
    Engine (two threads)                 begins a batch; waits for its scores, judges each picture
      -> Ledger.close                    the first closer wins
      -> Publisher.put                   in the order of `seq`
    Publisher (one thread)               sends `verdict/` and `mask/`
    clock (one thread)                   closes what is past its deadline, whatever hangs
    Control (one thread)                 answers `status`, and `capture` from the cameras' taps
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from torch import nn

from inspectd.cameras.image_files import shown
from inspectd.cameras.settings import capture_settings
from inspectd.cameras.sources import parse_source, public_address
from inspectd.cameras.supervisor import State, Supervisor
from inspectd.config import CameraConfig, Config
from inspectd.daemon.exporter import Exporter
from inspectd.daemon.heartbeat import Progress
from inspectd.daemon.metrics import Metrics
from inspectd.daemon.status import Running, Status
from inspectd.engine.backend import Backend, Parity
from inspectd.engine.choose import choose_backend
from inspectd.errors import UsageError
from inspectd.line.batcher import Batcher, Policy
from inspectd.line.camera import Intake
from inspectd.line.inspection import Engine
from inspectd.line.ledger import Ledger
from inspectd.line.recipe import Station, make_station
from inspectd.line.tap import Tap
from inspectd.records import Verdict
from inspectd.simplenet import bundle
from inspectd.simplenet.bundle import Bundle
from inspectd.wire.control import Control
from inspectd.wire.messages import ModelMessage
from inspectd.wire.publisher import Publisher

LOG = logging.getLogger(__name__)

LIVE_SLOTS = 6  # one being written, one waiting, three under way in the engine, one being released
FILE_SLOTS = 4
CLOCK_S = 0.25
DRAIN_S = 2.0
"""How long the engine may work off what was captured before the shutdown."""


class Endpoints:
    """The three addresses that others connect to. They are taken first: a port in use is no news after minutes."""

    def __init__(self, config: Config, on_lost: Callable[[str], None], progress: Progress) -> None:
        self.epoch = secrets.token_hex(8)
        self.taps = {camera.name: Tap() for camera in config.enabled_cameras}
        self.publisher = Publisher(
            config.publish.bind,
            config.publish.masks,
            self.epoch,
            on_lost=on_lost,
            progress=progress.beat("publisher"),
        )
        self.control = Control(config.control.bind, self.taps, on_lost=on_lost)
        self.exporter = Exporter(config.metrics.listen)

    def bind(self) -> None:
        """Take all three; StartError when one cannot be had, and then none is."""
        self.publisher.bind()
        try:
            self.control.bind()
            self.exporter.listen()
        except Exception:
            self.close()
            raise

    def close(self) -> None:
        """Let them go."""
        self.control.stop()
        self.publisher.stop()
        self.exporter.close()


class Pipeline:
    """All stages of one daemon. `start` and `stop` are called once each, from the same thread."""

    def __init__(
        self,
        config: Config,
        stations: dict[str, Station | str],
        backend: Backend,
        endpoints: Endpoints,
        *,
        on_lost: Callable[[str], None],
        progress: Progress,
    ) -> None:
        """`stations`: by camera what it is judged by, or the sentence that says why it cannot be."""
        self._on_lost = on_lost
        self._endpoints = endpoints
        self.publisher = endpoints.publisher
        self.ledger = Ledger(self.publisher.put)
        self.batcher = Batcher(backend.max_batch, config.engine.batch_wait_ms if backend.max_batch > 1 else 0.0)
        self.engine = Engine(
            backend,
            self.batcher,
            self.ledger,
            beginning=progress.beat("engine"),
            landing=progress.beat("landing"),
            on_lost=on_lost,
        )
        self._pin = backend.pin
        self.supervisors: dict[str, Supervisor] = {}
        for camera in config.cameras:
            self._add_camera(camera, stations.get(camera.name, "it is disabled"))
        self.status = Status(
            Running(
                endpoints.epoch,
                backend.form.device,
                backend.form.precision,
                time.monotonic(),
                {
                    c.name: s.model.label if isinstance(s := stations.get(c.name), Station) else None
                    for c in config.cameras
                },
                {c.name: shown(public_address(str(c.source))) for c in config.cameras},
                _forms(stations.values()),
            ),
            self.ledger,
            self.supervisors,
        )
        self.metrics = Metrics(self.ledger, self.status)
        self._clock_beat = progress.beat("clock")
        self._is_stopping = threading.Event()
        self._clock = threading.Thread(target=self._close_what_is_late, name="clock", daemon=True)

    def start(self) -> None:
        """Start from the end to the beginning: cameras come last."""
        self.publisher.start(self.status, self._on_published)
        self._endpoints.control.start(self.status)
        self._endpoints.exporter.start(self.metrics.registry, self.status.health)
        self._clock.start()
        self.engine.start()
        for supervisor in self.supervisors.values():
            supervisor.start()

    def stop(self) -> None:
        """End from the beginning to the end, so that every promise is still kept; bounded in time."""
        self._endpoints.control.stop()
        for supervisor in self.supervisors.values():
            supervisor.stop()
        join_all(self.supervisors.values(), DRAIN_S)
        give_up_s = time.monotonic() + DRAIN_S
        while self.ledger.in_flight() and time.monotonic() < give_up_s:
            time.sleep(0.01)
        self.engine.stop()
        for job in self.batcher.close():
            job.frame.release()
        self.engine.join(DRAIN_S)
        self.ledger.shutdown("the daemon is stopping; this frame was not inspected")
        self._is_stopping.set()
        self._clock.join()
        self.publisher.stop()
        self._endpoints.exporter.close()

    @property
    def is_done(self) -> bool:
        """Whether every finite source has ended, or cannot be read, and its verdicts are given."""
        finite = [s for s in self.supervisors.values() if s.is_finite]
        return bool(finite) and all(map(_has_ended, finite)) and self.ledger.in_flight() == 0

    @property
    def unreadable(self) -> list[str]:
        """Finite sources that could never be opened."""
        return [name for name, s in self.supervisors.items() if s.is_finite and not s.health.is_readable]

    def _add_camera(self, camera: CameraConfig, station: Station | str) -> None:
        if not camera.enabled:
            self.ledger.add_camera(camera.name, camera.deadline_ms)
            return
        source = parse_source(camera.source)
        is_lossless = source.is_lossless and (source.is_file or camera.fps is None)
        is_paced = not is_lossless or camera.fps is not None
        self.ledger.add_camera(camera.name, camera.deadline_ms if is_paced else None, camera.trigger_delay_ms)
        slots = FILE_SLOTS if is_lossless else LIVE_SLOTS
        policy: Policy = "every" if is_lossless else camera.policy
        self.batcher.add_camera(camera.name, policy, slots if is_lossless else slots - 2)
        intake = Intake(
            camera,
            policy,
            source,
            station,
            self.ledger,
            self.batcher,
            self._endpoints.taps[camera.name],
            self.publisher.changed,
        )
        self.supervisors[camera.name] = Supervisor(
            camera.name,
            capture_settings(camera, source, slots),
            intake,
            frozen_ms=camera.frozen_ms,
            is_finite=source.is_finite and not camera.loop,
            pin=self._pin,
        )

    def _on_published(self, verdict: Verdict, published_ns: int) -> None:
        self.status.on_published(verdict, published_ns)
        self.metrics.on_published(verdict, published_ns)

    def _close_what_is_late(self) -> None:
        try:
            while not self._is_stopping.is_set():
                self._clock_beat()
                self.ledger.wait_for_deadline(self.ledger.expire(), CLOCK_S)
        except Exception as error:  # a thread's top: without the clock deadlines are no promise
            LOG.exception("the deadline clock failed")
            self._on_lost(f"the deadline clock failed: {type(error).__name__}: {error}")


def build(config: Config, *, on_lost: Callable[[str], None], progress: Progress) -> Pipeline:
    """Take the addresses, load the models, build the stages; UsageError when nothing could be judged."""
    endpoints = Endpoints(config, on_lost, progress)
    endpoints.bind()
    try:
        engine = config.engine
        backend = choose_backend(engine.device, engine.precision, threads=engine.threads, max_batch=engine.max_batch)
        LOG.info("engine: %s (%s)", backend.form, backend.why)
        stations = load_stations(config, backend)
        return Pipeline(config, stations, backend, endpoints, on_lost=on_lost, progress=progress)
    except BaseException:
        endpoints.close()
        raise


def load_stations(config: Config, backend: Backend) -> dict[str, Station | str]:
    """Load every enabled camera's model; one that cannot be used costs its camera only, if others can."""
    models: dict[str, tuple[Bundle, Parity]] = {}
    backbones: dict[str, nn.Module] = {}
    stations: dict[str, Station | str] = {}
    for camera in config.enabled_cameras:
        try:
            if camera.model not in models:
                model = bundle.load(Path(camera.model), shared=backbones)
                parity = backend.prepare(model)
                LOG.info("model %s: %s", model.label, parity)
                models[camera.model] = model, parity
            stations[camera.name] = make_station(camera, *models[camera.model])
        except UsageError as error:
            LOG.error("camera %s has no model: %s", camera.name, error)
            stations[camera.name] = str(error)
    if all(isinstance(station, str) for station in stations.values()):
        raise UsageError("\n".join(dict.fromkeys(str(station) for station in stations.values())))
    return stations


def _forms(stations: Iterable[Station | str]) -> dict[str, ModelMessage]:
    """Return by model what the parity gate found."""
    return {
        station.model.label: ModelMessage(
            station.parity.form.device, station.parity.form.precision, station.parity.band
        )
        for station in stations
        if isinstance(station, Station) and station.parity is not None
    }


def join_all(supervisors: Iterable[Supervisor], timeout_s: float) -> None:
    """Wait for cameras that were asked to stop, side by side: many that are stuck take no longer than one."""
    give_up_s = time.monotonic() + timeout_s
    for supervisor in supervisors:
        supervisor.join(max(0.0, give_up_s - time.monotonic()))


def _has_ended(supervisor: Supervisor) -> bool:
    health = supervisor.health
    return health.state is State.STOPPED or (health.state is State.LOST and not health.is_readable)
