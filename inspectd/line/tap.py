"""Copies of a camera's frames for whoever asks, while the originals go their way to the engine."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from inspectd.records import Frame, Picture, Stamp


@dataclass(slots=True)
class Order:
    """So many frames, from the moment of asking on."""

    wanted: int
    frames: list[tuple[Stamp, Picture]] = field(default_factory=list)

    @property
    def is_filled(self) -> bool:
        """Whether all of them are there."""
        return len(self.frames) >= self.wanted


class Tap:
    """One camera's. `offer` is called on the camera's thread and costs nothing while nobody asks."""

    def __init__(self) -> None:
        self._orders: list[Order] = []
        self._lock = threading.Lock()

    def order(self, wanted: int) -> Order:
        """Ask for the next frames; look at the order again until it is filled, then or before `cancel` it."""
        order = Order(wanted)
        with self._lock:
            self._orders.append(order)
        return order

    def cancel(self, order: Order) -> None:
        """Stop waiting for an order."""
        with self._lock:
            self._orders = [one for one in self._orders if one is not order]

    def offer(self, frame: Frame) -> None:
        """Copy a frame into every order that is not filled yet; the frame stays the caller's."""
        if not self._orders:
            return
        picture = frame.picture.copy()
        with self._lock:
            for order in self._orders:
                order.frames.append((frame.stamp, picture))
            self._orders = [order for order in self._orders if not order.is_filled]
