"""Who gets a picture beside its verdict, while the frame is still held.

Every frame that was admitted is offered once, at the end of its way: with its verdict, or with None where a newer frame
took its place. A sink says cheaply whether it wants it, and copies what it needs; then the frame is released.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from inspectd.records import Frame, Picture, Stamp, Verdict

LOG = logging.getLogger(__name__)


class Sink(Protocol):
    """A receiver of pictures. Called from the threads that end a frame's way: it must be quick and never block."""

    def wants(self, stamp: Stamp, verdict: Verdict | None) -> bool:
        """Whether `take` shall be called: decided without looking at the picture."""

    def take(self, stamp: Stamp, picture: Picture, verdict: Verdict | None) -> None:
        """Copy what is needed of the picture; it is valid until this returns."""


class Sinks:
    """All sinks of a daemon."""

    def __init__(self, sinks: Sequence[Sink] = (), passing: Sequence[Sink] = (), of_parts: Sequence[Sink] = ()) -> None:
        """`passing`: those that see, too, what no trigger asked for.

        `of_parts`: those that see what was judged: of a part that was found in a picture, only that part of it.
        """
        self._sinks = tuple(sinks)
        self._passing = tuple(passing)
        self._of_parts = tuple(of_parts)
        self._failing: set[tuple[int, str]] = set()

    def finish(self, frame: Frame, verdict: Verdict | None) -> None:
        """Offer a frame to every sink, and release it. A sink that fails harms neither the line nor other sinks."""
        try:
            for sink in self._sinks:
                self._offer(sink, frame.stamp, frame.whole, verdict)
            for sink in self._of_parts:
                self._offer(sink, frame.stamp, frame.picture, verdict)
        finally:
            frame.release()

    def finish_look(self, frame: Frame, verdict: Verdict | None) -> None:
        """Offer one of several looks at a part if it is the verdict's, and release it in any case."""
        if verdict is not None and verdict.stamp is frame.stamp:
            self.finish(frame, verdict)
        else:
            frame.release()

    def pass_by(self, frame: Frame) -> None:
        """Offer a frame that no trigger asked for, and release it."""
        try:
            for sink in self._passing:
                self._offer(sink, frame.stamp, frame.whole, None)
        finally:
            frame.release()

    def _offer(self, sink: Sink, stamp: Stamp, picture: Picture, verdict: Verdict | None) -> None:
        key = (id(sink), stamp.camera)
        try:
            if sink.wants(stamp, verdict):
                sink.take(stamp, picture, verdict)
                self._failing.discard(key)
        except Exception:  # the verdict is out; what a receiver cannot keep must not stop the next one
            if key not in self._failing:
                self._failing.add(key)
                LOG.exception("%s did not take a picture of camera %s", type(sink).__name__, stamp.camera)


@dataclass(slots=True, eq=False)
class Order:
    """So many raw frames of one camera, from the moment of the order on."""

    camera: str
    wanted: int
    on_filled: Callable[[], None]
    """Called once, from the thread that brought the last frame."""
    _frames: list[tuple[Stamp, Picture]] = field(default_factory=list)

    @property
    def frames(self) -> list[tuple[Stamp, Picture]]:
        """What has come so far, in the order of capture."""
        return sorted(self._frames, key=lambda one: one[0].frame)

    def add(self, stamp: Stamp, picture: Picture) -> bool:
        """Add a frame, which may have come before for another part in it; True when it was the last one wanted."""
        if any(one.frame == stamp.frame for one, _ in self._frames):
            return False
        self._frames.append((stamp, picture))
        return len(self._frames) >= self.wanted


class RawFrames:
    """A sink that copies frames for whoever orders them: what a calibration learns from while the daemon runs."""

    def __init__(self) -> None:
        self._orders: list[Order] = []
        self._lock = threading.Lock()

    def order(self, camera: str, wanted: int, on_filled: Callable[[], None]) -> Order:
        """Ask for a camera's next frames; `cancel` the order when it is not wanted any more."""
        order = Order(camera, wanted, on_filled)
        with self._lock:
            self._orders.append(order)
        return order

    def cancel(self, order: Order) -> None:
        """Take no more frames for an order."""
        with self._lock:
            self._orders = [one for one in self._orders if one is not order]

    def wants(self, stamp: Stamp, _verdict: Verdict | None) -> bool:
        """Whether somebody has ordered frames of this camera."""
        return any(order.camera == stamp.camera for order in self._orders)

    def take(self, stamp: Stamp, picture: Picture, _verdict: Verdict | None) -> None:
        """Copy a frame for every order of its camera."""
        copy = picture.copy()
        with self._lock:
            filled = [order for order in self._orders if order.camera == stamp.camera and order.add(stamp, copy)]
            self._orders = [order for order in self._orders if order not in filled]
        for order in filled:
            order.on_filled()
