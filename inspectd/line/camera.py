"""What happens with everything that one camera says, until the engine has it."""

from __future__ import annotations

from collections.abc import Callable

from inspectd.cameras.protocol import Opened
from inspectd.cameras.sources import Source
from inspectd.config import CameraConfig
from inspectd.line.batcher import Batcher, Job, Policy
from inspectd.line.fitness import find_mismatch, light_problem, roi_mismatch, scene_mismatch
from inspectd.line.ledger import Ledger
from inspectd.line.recipe import Station
from inspectd.line.tap import Tap
from inspectd.records import Finding, Frame, Reason, Stamp, fault


class Intake:
    """One camera's. Called from its supervisor's thread."""

    def __init__(
        self,
        camera: CameraConfig,
        policy: Policy,
        source: Source,
        station: Station | str,
        ledger: Ledger,
        batcher: Batcher,
        tap: Tap,
        changed: Callable[[str], None],
    ) -> None:
        self._camera = camera
        self._policy = policy
        self._source = source
        self._station = station
        self._ledger = ledger
        self._batcher = batcher
        self._tap = tap
        self._changed = changed
        self._mismatch: str | None = None

    def on_opened(self, opened: Opened) -> None:
        """Check that this is the camera that the model was calibrated for."""
        self._mismatch = None
        if isinstance(self._station, Station):
            self._mismatch = find_mismatch(self._station, self._source, opened)
        self._changed(self._camera.name)

    def on_frame(self, frame: Frame) -> None:
        """Owe a verdict, and queue the picture for the engine, or say at once why it cannot be judged."""
        self._tap.offer(frame)
        entry = self._ledger.open_frame(frame.stamp)
        if entry is None:
            frame.release()
            return
        problem = self._problem(frame)
        if isinstance(self._station, str) or problem is not None:
            frame.release()
            self._ledger.close(entry, problem or fault(Reason.NO_MODEL, str(self._station)))
            return
        gives_way = self._batcher.put(Job(frame, entry, self._station))
        if gives_way is not None:
            self._give_way(gives_way)

    def on_missed(self, stamp: Stamp) -> None:
        """A frame for which no slot was free."""
        entry = self._ledger.open_frame(stamp)
        if entry is not None and self._policy == "every":
            self._ledger.close(entry, _overload())
        elif entry is not None:
            self._ledger.displace(entry)

    def on_unreadable(self, stamp: Stamp, why: str) -> None:
        """A picture that cannot be read, or that came damaged, still gets its verdict."""
        entry = self._ledger.open_frame(stamp)
        if entry is not None:
            self._ledger.close(entry, fault(Reason.PICTURE, why))

    def on_gone(self, reason: Reason, why: str) -> None:
        """One fault at the transition; afterwards `state/` tells."""
        self._ledger.declare(self._camera.name, fault(reason, why))

    def on_state(self) -> None:
        """Tell the subscribers."""
        self._changed(self._camera.name)

    def _problem(self, frame: Frame) -> Finding | None:
        if isinstance(self._station, str):
            return None
        label = self._station.model.label
        height, width = frame.picture.shape[:2]
        why = self._mismatch or roi_mismatch(self._station.geometry, width, height)
        if why is None and self._source.is_camera:
            light = light_problem(self._station, frame.picture)
            if light is not None:
                return fault(Reason.PICTURE, light, model=label)
            why = scene_mismatch(self._station, frame.picture)
        return None if why is None else fault(Reason.IDENTITY, why, model=label)

    def _give_way(self, job: Job) -> None:
        job.frame.release()
        if self._policy == "every":
            self._ledger.close(job.entry, _overload())
        else:
            self._ledger.displace(job.entry)


def _overload() -> Finding:
    return fault(Reason.OVERLOAD, "frames come faster than they can be inspected; this one was not")
