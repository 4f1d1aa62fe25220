"""Reads a stream's packets in a thread of its own: how long each took to come is known, however long decoding takes."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from inspectd.cameras.streams.packets import Arrival
from inspectd.errors import CameraError

READ_AHEAD = 64
"""Packets that may wait for the decoder."""
PATIENCE_S = 0.03
"""How long a busy machine may take to ask for the next packet."""
LOOK_AGAIN_S = 0.0015
"""How often it is looked whether the next packet has been asked for."""


class Reader:
    """The packets of one stream, as they come."""

    def __init__(self, read: Callable[[], Arrival]) -> None:
        """Begin to call `read`, until it raises or gives the end."""
        self._read = read
        self._queue: queue.Queue[Arrival | CameraError] = queue.Queue(READ_AHEAD)
        self._peeked: Arrival | CameraError | None = None
        self._asked_ns = 0
        threading.Thread(target=self._run, name="reader", daemon=True).start()

    def next(self, timeout_s: float | None = None) -> Arrival:
        """Wait for the next packet; CameraError when the stream has broken, or none came in time (None: for ever)."""
        if self._peeked is None:
            try:
                self._peeked = self._queue.get(timeout=timeout_s)
            except queue.Empty:
                raise CameraError("no packet came in time") from None
        item, self._peeked = self._peeked, None
        if isinstance(item, CameraError):
            raise item
        return item

    def peek(self, arrival: Arrival, wait_s: float) -> Arrival | CameraError | None:
        """Return what follows a packet; None: not known so long after it was asked for."""
        give_up_ns = arrival.arrived_ns + int((PATIENCE_S + wait_s) * 1e9)
        with suppress(queue.Empty):  # what is there already counts, however late it is
            self._peeked = self._peeked or self._queue.get_nowait()
        while self._peeked is None:
            asked_ns = self._asked_ns
            known_ns = asked_ns + int(wait_s * 1e9) if asked_ns > arrival.arrived_ns else give_up_ns
            left_ns = min(known_ns, give_up_ns) - time.monotonic_ns()
            if left_ns <= 0:
                break
            with suppress(queue.Empty):
                self._peeked = self._queue.get(timeout=min(left_ns / 1e9, LOOK_AGAIN_S))
        return self._peeked

    def _run(self) -> None:
        while True:
            self._asked_ns = time.monotonic_ns()
            try:
                arrival = self._read()
            except CameraError as error:
                self._queue.put(error)
                return
            except Exception as error:  # noqa: BLE001 - a thread's top: who waits for packets must not wait for ever
                self._queue.put(CameraError(f"the stream cannot be read: {type(error).__name__}"))
                return
            self._queue.put(arrival)
            if arrival.packet is None:
                return
