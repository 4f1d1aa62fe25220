"""The pipeline: builds the stages from the configuration and joins them. The file to read first.

How a frame becomes a verdict:

    Supervisor (one thread per camera)   hears from its capture child: a picture lies in a ring slot
      -> Camera.on_frame                 opens a ledger entry, or finds that of a trigger: a verdict is owed
      -> Batcher.put                     the newest of each camera waits for the engine
    Inspection (a few threads)           takes a batch, has it scored, judges each picture
      -> Ledger.close                    the first closer wins
      -> Publisher.put                   in the order of `seq`
      -> Sinks.finish                    whoever wants the picture beside its verdict; then the slot is given back
    Publisher (one thread)               gives the header to journal and archive, sends `verdict/` and `mask/`
    Journal (one thread)                 writes what was published, ten times a second
    Archive (one thread)                 writes pictures of what was not ok, and of a share of what was
    Shadows (one thread)                 have second models judge silently, while the engine is idle
    Previews (one thread)                encodes pictures for people, while somebody looks
    clock (one thread)                   closes what is past its deadline, whatever hangs
    Control (one thread)                 hands requests to Commands; a trigger opens its ledger entry here
    Worker (four threads)                make changes, answer from the journal, note what people say, choose recipes
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from inspectd.cameras.settings import capture_settings
from inspectd.cameras.supervisor import Supervisor
from inspectd.config import CameraConfig, Config
from inspectd.daemon.alarms import Alarms, OfDaemon
from inspectd.daemon.bypasses import Bypasses
from inspectd.daemon.challenging import Challenging
from inspectd.daemon.changes import Changes
from inspectd.daemon.commands import Commands, challenging, changing, remembering, showing, telling, triggering
from inspectd.daemon.endpoints import Endpoints
from inspectd.daemon.heartbeat import STALL_S, Heartbeat
from inspectd.daemon.metrics import Metrics
from inspectd.daemon.models import Models
from inspectd.daemon.pictures import Budget, Pictures
from inspectd.daemon.previews import Previews
from inspectd.daemon.probes import probes_of
from inspectd.daemon.rejudging import Rejudging
from inspectd.daemon.reload import Reloading
from inspectd.daemon.roster import Roster
from inspectd.daemon.standing import Standing, load_products, load_shadows
from inspectd.daemon.status import Running, Status
from inspectd.daemon.triggers import Triggers
from inspectd.daemon.worker import Reply, Worker
from inspectd.engine.backend import Backend
from inspectd.engine.choose import choose_backend
from inspectd.errors import UsageError
from inspectd.history.archive import Archive, Terms
from inspectd.history.beside import path_beside
from inspectd.history.challenged import Challenged
from inspectd.history.file import Limits
from inspectd.history.journal import Journal
from inspectd.history.overrides import Overrides
from inspectd.line.batcher import Batcher
from inspectd.line.camera import Camera, Capture, join_all
from inspectd.line.inspection import Inspection
from inspectd.line.ledger import Ledger
from inspectd.line.products import Products
from inspectd.line.recipe import Recipe
from inspectd.line.shadow import Shadows
from inspectd.line.sinks import RawFrames, Sinks
from inspectd.logs import EVIDENCE
from inspectd.records import Finding, Picture, Reason, Verdict, fault
from inspectd.wire.requests import RefusedError

LOG = logging.getLogger(__name__)

CLOCK_S = 0.25
DRAIN_S = 2.0
"""How long the engine may work off what was captured before the shutdown."""
ReadConfig = Callable[[], Config]
"""Reads the configuration anew, and looks at it as `inspectd run` does; UsageError: it cannot be used."""
STOPPING = "the daemon is stopping; this frame was not inspected"


class Pipeline:
    """All stages of one daemon. `start` and `stop` are called once each, from the same thread."""

    def __init__(
        self,
        config: Config,
        standing: Standing,
        backends: list[Backend],
        endpoints: Endpoints,
        journal: Journal,
        archive: Archive,
        *,
        on_lost: Callable[[str], None],
        heartbeat: Heartbeat,
        read: ReadConfig,
    ) -> None:
        """`backends`: one for each device; every camera is inspected by the first."""
        self._on_lost = on_lost
        self._heartbeat = heartbeat
        self._endpoints = endpoints
        self._journal = journal
        self._archive = archive
        self.ledger = Ledger(endpoints.publisher.put)
        self.metrics = Metrics()
        raw_frames, next_frames = RawFrames(), RawFrames()
        publisher = endpoints.publisher
        self._previews = Previews(
            config.publish.frame_hz, publisher.wants_pictures, publisher.put_picture, self._white_level
        )
        batchers = [Batcher(b.max_batch, config.engine.batch_wait_ms if b.max_batch > 1 else 0.0) for b in backends]
        self._shadows = Shadows(backends[0], standing.shadows, lambda: batchers[0].is_idle, self._look, archive.keep)
        sinks = Sinks(
            [raw_frames, next_frames, self._previews], passing=[next_frames], of_parts=[archive, self._shadows]
        )
        self.inspections = [
            Inspection(
                backend,
                batcher,
                self.ledger,
                sinks,
                heartbeat=heartbeat.beat,
                on_lost=on_lost,
                on_batch=self.metrics.on_batch,
            )
            for backend, batcher in zip(backends, batchers, strict=True)
        ]
        self._pin = backends[0].pin
        self._changing, self._answering, self._marking = Worker("changes"), Worker("answers"), Worker("marks")
        self._prompt = Worker("prompt")
        self._is_stopping = threading.Event()
        rejudging = Rejudging(backends[0], lambda: batchers[0].is_idle, self._is_stopping)
        self._challenging = Challenging(
            lambda: self.cameras, standing.challenged, journal, archive, rejudging, endpoints.epoch
        )

        def make(camera: CameraConfig, products: Products) -> Camera:
            return Camera(
                camera,
                products,
                ledger=self.ledger,
                batcher=batchers[0],
                sinks=sinks,
                open_capture=self._open_capture,
                challenges=self._challenging.of(camera),
                changed=publisher.changed,
            )

        self.cameras = Roster({one.name: make(one, standing.products[one.name]) for one in config.enabled_cameras})
        variant = backends[0].variant
        running = Running(
            endpoints.epoch,
            variant.device,
            variant.precision,
            time.monotonic(),
            config.digest,
            refused=lambda: endpoints.refused,
            connections=endpoints.connections,
            free_memory=backends[0].free_memory,
        )
        self._changes = Changes(self.cameras, standing, self._shadows, journal, archive, endpoints.epoch)
        self._bypasses = Bypasses(self.cameras, journal, endpoints.epoch)
        self.alarms = Alarms(self.cameras, OfDaemon(self._own_trouble, lambda: endpoints.refused), publisher.changed)
        self.status = Status(
            running,
            self.cameras,
            config.cameras,
            self._changes,
            journal,
            archive,
            self._shadows,
            self.alarms,
            self.ledger,
        )
        self._read = read
        self._reloading = Reloading(
            config, standing, self.cameras, self._shadows, self.status, endpoints.exporter, make
        )
        self.metrics.follow(self.status)
        self._triggers = Triggers(self.cameras)
        budget = Budget()
        self.commands = Commands(
            self.cameras,
            telling(self.status),
            triggering(self._triggers),
            challenging(self._challenging.ask),
            showing(Pictures(raw_frames, next_frames, budget, self._answering, self._white_level, self._take_picture)),
            remembering(journal, endpoints.epoch, budget, self._answering),
            changing(self._changes, self._bypasses, self._changing, self._prompt, self._marking, self._reload),
        )
        self._clock_beat = heartbeat.beat("clock")
        self._clock = threading.Thread(target=self._close_what_is_late, name="clock", daemon=True)

    def start(self) -> None:
        """Start from the end to the beginning: cameras come last."""
        self._changes.note("start", self._changes.standing())
        self._endpoints.publisher.start(self.status, self._on_published, self._keep)
        self._previews.start()
        self._shadows.start()
        self._changing.start()
        self._answering.start()
        self._marking.start()
        self._prompt.start()
        self._challenging.start()
        self._endpoints.control.start(self.commands.handle)
        self._endpoints.exporter.start(self.metrics.registry, probes_of(self.status, self._heartbeat))
        self._clock.start()
        for inspection in self.inspections:
            inspection.start()
        for camera in self.cameras.values():
            camera.start()

    def stop(self) -> None:
        """End from the beginning to the end, so that every promise is still kept; bounded in time."""
        self._changes.stop()
        self._bypasses.stop()
        self._reloading.stop()
        self._changing.stop()
        self._answering.stop()
        self._marking.stop()
        self._prompt.stop()
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
        self._previews.stop()
        self._shadows.stop()
        self._endpoints.close()
        self._challenging.stop()
        self._archive.stop()
        self._changes.note("stop", self.status.verdicts())
        self._journal.stop()

    def reload(self, done: Callable[[], None]) -> None:
        """Read the configuration again, beside the line; what came of it is in the log when `done` is called."""

        def work() -> None:
            try:
                self._reload(None)
            except RefusedError:
                pass  # said already
            except Exception:  # whatever it is, what judged before goes on
                LOG.exception("the configuration was read again, and that failed")
            finally:
                done()
            self._changes.give_up_unused()

        self._changing.do(work)

    def _reload(self, user: str | None) -> Reply:
        try:
            result = self._reloading.reload(
                self._read, lambda result: self._changes.note("reload", msgspec.to_builtins(result), user)
            )
        except UsageError as error:
            LOG.error("the configuration was read again and refused: %s", error, extra=EVIDENCE)
            raise RefusedError("bad_value", str(error)) from None
        done = {what: names for what, names in msgspec.to_builtins(result).items() if names and what != "notes"}
        said = "; ".join(f"{what}: {', '.join(names)}" for what, names in done.items())
        LOG.info("the configuration was read again: %s", said, extra=EVIDENCE)
        for note in result.notes:
            LOG.warning("%s", note, extra=EVIDENCE)
        for name in (*result.added, *result.removed, *result.reopened, *result.judged):
            self._endpoints.publisher.changed(name)
        return Reply(msgspec.to_builtins(result))

    @property
    def is_done(self) -> bool:
        """Whether every finite source has ended, or cannot be read, and its verdicts are given."""
        finite = () if self._reloading.is_under_way else self._finite
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

    def _look(self, camera: str, recipe: Recipe, picture: Picture) -> Finding | None:
        running = self.cameras.get(camera)
        return running.look(recipe, picture) if running is not None else fault(Reason.CAMERA_LOST, "it is gone")

    def _take_picture(self, camera: str) -> None:
        if (running := self.cameras.get(camera)) is not None:
            running.take_picture()

    def _own_trouble(self) -> dict[str, str]:
        """Return what is the case with the daemon itself: by alarm, its detail."""
        stalled = self._heartbeat.stalled(STALL_S)
        found = {
            "stalled": f"no progress for {STALL_S:g} s in {', '.join(stalled)}" if stalled else None,
            "journal": self._journal.health.detail or self._challenging.trouble,
            "archive": self._archive.health.detail if self._archive.is_on else None,
        }
        return {name: detail for name, detail in found.items() if detail is not None}

    def _white_level(self, camera: str) -> int:
        running = self.cameras.get(camera)
        recipe = running.recipe if running is not None else None
        return recipe.areas[0].model.white_level if isinstance(recipe, Recipe) else 65535

    def _keep(self, camera: str, seq: int, header: bytes) -> None:
        self._journal.put(camera, seq, header)
        self._archive.heard(camera, seq, header)
        self._triggers.heard(camera, seq, header)
        self._challenging.heard(camera, seq, header)

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


def build(config: Config, *, on_lost: Callable[[str], None], heartbeat: Heartbeat, read: ReadConfig) -> Pipeline:
    """Take addresses and journal, load the models, build the stages; UsageError when nothing could be judged."""
    endpoints = Endpoints(config, on_lost, heartbeat)
    path = Path(config.journal.path) if config.journal.path is not None else None
    journal = Journal(path, endpoints.epoch, Limits(config.journal.keep_days, config.journal.max_gb * 1e9))
    kept = config.archive
    is_archived = kept.max_gb > 0 and path is not None
    archive = Archive(Path(kept.path) if is_archived else None, Terms(kept.max_gb * 1e9, kept.ok_share))
    endpoints.bind()
    try:
        journal.start()
        archive.start()
        overrides = Overrides(path_beside(path, "overrides") if path is not None else None)
        challenged = Challenged(path_beside(path, "challenges") if path is not None else None)
        engine = config.engine
        backend = choose_backend(engine.device, engine.precision, threads=engine.threads, max_batch=engine.max_batch)
        LOG.info("engine: %s (%s)", backend.variant, backend.why)
        models = Models(backend)
        products, shadows = load_products(config, models, overrides), load_shadows(config, models)
        standing = Standing(models, overrides, products, shadows, challenged)
        return Pipeline(
            config, standing, [backend], endpoints, journal, archive, on_lost=on_lost, heartbeat=heartbeat, read=read
        )
    except BaseException:
        endpoints.close()
        archive.stop()
        journal.stop()
        raise
