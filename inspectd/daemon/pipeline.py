"""The pipeline: builds the stages from the configuration and joins them. The file to read first.

How a frame becomes a verdict:

    Supervisor (one thread per camera)   hears from its capture child: a picture lies in a ring slot
      -> Camera.on_frame                 opens a ledger entry: from here on a verdict is owed
      -> Batcher.put                     the newest of each camera waits for the engine
    Inspection (a few threads)           takes a batch, has it scored, judges each picture
      -> Ledger.close                    the first closer wins
      -> Publisher.put                   in the order of `seq`
      -> Sinks.finish                    whoever wants the picture beside its verdict; then the slot is given back
    Publisher (one thread)               sends `verdict/` and `mask/`
    clock (one thread)                   closes what is past its deadline, whatever hangs
    Control (one thread)                 hands requests to Commands
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from torch import nn

from inspectd.cameras.settings import capture_settings
from inspectd.cameras.supervisor import Supervisor
from inspectd.config import Config
from inspectd.daemon.commands import Commands
from inspectd.daemon.endpoints import Endpoints
from inspectd.daemon.heartbeat import Heartbeat
from inspectd.daemon.metrics import Metrics
from inspectd.daemon.status import Running, Status
from inspectd.engine.backend import Backend, Parity
from inspectd.engine.choose import choose_backend
from inspectd.errors import UsageError
from inspectd.line.batcher import Batcher
from inspectd.line.camera import Camera, Capture, join_all
from inspectd.line.inspection import Inspection
from inspectd.line.ledger import Ledger
from inspectd.line.recipe import NoRecipe, Recipe, recipe_for
from inspectd.line.sinks import RawFrames, Sinks
from inspectd.records import Verdict
from inspectd.simplenet import bundle
from inspectd.simplenet.bundle import Bundle

LOG = logging.getLogger(__name__)

CLOCK_S = 0.25
DRAIN_S = 2.0
"""How long the engine may work off what was captured before the shutdown."""
STOPPING = "the daemon is stopping; this frame was not inspected"


class Pipeline:
    """All stages of one daemon. `start` and `stop` are called once each, from the same thread."""

    def __init__(
        self,
        config: Config,
        recipes: dict[str, Recipe | NoRecipe],
        backends: list[Backend],
        endpoints: Endpoints,
        *,
        on_lost: Callable[[str], None],
        heartbeat: Heartbeat,
    ) -> None:
        """`recipes`: by enabled camera. `backends`: one for each device; every camera is inspected by the first."""
        self._on_lost = on_lost
        self._endpoints = endpoints
        self.ledger = Ledger(endpoints.publisher.put)
        raw_frames = RawFrames()
        sinks = Sinks([raw_frames])
        batchers = [Batcher(b.max_batch, config.engine.batch_wait_ms if b.max_batch > 1 else 0.0) for b in backends]
        self.inspections = [
            Inspection(backend, batcher, self.ledger, sinks, heartbeat=heartbeat.beat, on_lost=on_lost)
            for backend, batcher in zip(backends, batchers, strict=True)
        ]
        self._pin = backends[0].pin
        self.cameras = {
            camera.name: Camera(
                camera,
                recipes[camera.name],
                ledger=self.ledger,
                batcher=batchers[0],
                sinks=sinks,
                open_capture=self._open_capture,
                changed=endpoints.publisher.changed,
            )
            for camera in config.enabled_cameras
        }
        variant = backends[0].variant
        running = Running(endpoints.epoch, variant.device, variant.precision, time.monotonic())
        self.status = Status(running, self.cameras, config.cameras)
        self.commands = Commands(self.status, self.cameras, raw_frames)
        self.metrics = Metrics(self.status)
        self._clock_beat = heartbeat.beat("clock")
        self._is_stopping = threading.Event()
        self._clock = threading.Thread(target=self._close_what_is_late, name="clock", daemon=True)

    def start(self) -> None:
        """Start from the end to the beginning: cameras come last."""
        self._endpoints.publisher.start(self.status, self._on_published)
        self._endpoints.control.start(self.commands.handle)
        self._endpoints.exporter.start(self.metrics.registry, self.status.health)
        self._clock.start()
        for inspection in self.inspections:
            inspection.start()
        for camera in self.cameras.values():
            camera.start()

    def stop(self) -> None:
        """End from the beginning to the end, so that every promise is still kept; bounded in time."""
        self._endpoints.control.stop()
        for camera in self.cameras.values():
            camera.stop()
        join_all(self.cameras.values(), DRAIN_S)
        give_up_s = time.monotonic() + DRAIN_S
        while self.ledger.in_flight() and time.monotonic() < give_up_s:
            time.sleep(0.01)
        for inspection in self.inspections:
            inspection.stop()
        for inspection in self.inspections:
            inspection.join(DRAIN_S)
        for camera in self.cameras.values():
            camera.close(STOPPING)
        self.ledger.shutdown(STOPPING)
        self._is_stopping.set()
        self._clock.join()
        self._endpoints.close()

    @property
    def is_done(self) -> bool:
        """Whether every finite source has ended, or cannot be read, and its verdicts are given."""
        finite = self._finite
        return bool(finite) and all(camera.has_ended for camera in finite) and self.ledger.in_flight() == 0

    @property
    def unreadable(self) -> list[str]:
        """Finite sources that could never be opened."""
        return [camera.name for camera in self._finite if not camera.health.is_readable]

    @property
    def _finite(self) -> list[Camera]:
        return [camera for camera in self.cameras.values() if camera.terms.is_finite]

    def _open_capture(self, camera: Camera, last_frame: int) -> Capture:
        return Supervisor(
            camera.name,
            capture_settings(camera.config, camera.source, camera.terms.slots),
            camera,
            frozen_ms=camera.config.frozen_ms,
            is_finite=camera.terms.is_finite,
            last_frame=last_frame,
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


def build(config: Config, *, on_lost: Callable[[str], None], heartbeat: Heartbeat) -> Pipeline:
    """Take the addresses, load the models, build the stages; UsageError when nothing could be judged."""
    endpoints = Endpoints(config, on_lost, heartbeat)
    endpoints.bind()
    try:
        engine = config.engine
        backend = choose_backend(engine.device, engine.precision, threads=engine.threads, max_batch=engine.max_batch)
        LOG.info("engine: %s (%s)", backend.variant, backend.why)
        recipes = load_recipes(config, backend)
        return Pipeline(config, recipes, [backend], endpoints, on_lost=on_lost, heartbeat=heartbeat)
    except BaseException:
        endpoints.close()
        raise


def load_recipes(config: Config, backend: Backend) -> dict[str, Recipe | NoRecipe]:
    """Load every enabled camera's model; one that cannot be used costs its camera only, if others can."""
    models: dict[str, tuple[Bundle, Parity]] = {}
    backbones: dict[str, nn.Module] = {}
    recipes: dict[str, Recipe | NoRecipe] = {}
    for camera in config.enabled_cameras:
        try:
            if camera.model not in models:
                model = bundle.load(Path(camera.model), shared=backbones)
                parity = backend.prepare(model)
                LOG.info("model %s: %s", model.label, parity)
                models[camera.model] = model, parity
            recipes[camera.name] = recipe_for(camera, *models[camera.model])
        except UsageError as error:
            LOG.error("camera %s has no model: %s", camera.name, error)
            recipes[camera.name] = NoRecipe(str(error))
    refusals = [recipe.why for recipe in recipes.values() if isinstance(recipe, NoRecipe)]
    if len(refusals) == len(recipes):
        raise UsageError("\n".join(dict.fromkeys(refusals)))
    return recipes
