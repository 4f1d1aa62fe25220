"""A capture child's hand: puts pictures into the ring's free slots, hands them over, and takes orders.

The parent orders that a slot is free again, or that a picture is taken.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections import deque
from typing import Literal

from inspectd.cameras import protocol
from inspectd.cameras.flood import Flood
from inspectd.cameras.grabbers.base import Broken, Grabbed, Grabber, Nothing
from inspectd.cameras.growth import Growth
from inspectd.cameras.protocol import CaptureSettings
from inspectd.cameras.ring import MAX_SLOT_BYTES, Ring
from inspectd.errors import CameraError
from inspectd.records import Picture
from inspectd.secrets import redact

GIVES_WAY = 15
"""Of a child whose driver leaks, beside those of well cameras: a nice value."""
STALL_S = 0.5
"""A camera may be silent for a little longer than `read_timeout_ms`, and bring what piled up."""


def tell(channel: socket.socket, message: protocol.Message) -> None:
    """Send a message, however long the parent takes to listen."""
    channel.send(protocol.encode(message))


class Hand:
    """Owns the ring and its free slots: fills one, hands it over, takes others back."""

    def __init__(self, channel: socket.socket, settings: CaptureSettings) -> None:
        self._channel = channel
        self._slots = settings.slots
        self._free: deque[int] = deque()
        self._poll = select.poll()
        self._poll.register(channel, select.POLLIN)
        self._fps = settings.fps or 0.0
        self._period_s = 1 / self._fps if self._fps and settings.kind in ("video", "folder") else 0.0
        self._due_s = time.monotonic()
        self._number = 0
        self._missed = 0
        self._last: tuple[tuple[int, ...], str] | None = None
        self._is_triggered = settings.is_triggered
        self._stall_s = STALL_S + settings.read_timeout_ms / 1000
        self._flood: Flood | None = None

    def pass_on(self, grabber: Grabber) -> None:
        """Grab until the source ends. A live source is never kept waiting, a finite one never loses."""
        self._open_ring(grabber, grabber.slot_bytes)
        if grabber.is_live and not self._is_triggered and not grabber.on_demand:
            self._flood = Flood(max(self._fps, grabber.fps), self._stall_s)
        growth, is_untold = Growth(time.monotonic()), False
        while True:
            if grabber.is_live and growth.is_new(time.monotonic()):
                os.nice(GIVES_WAY)  # until its memory is used up, and another one takes its place
                is_untold = True
            is_untold = is_untold and not self._try_send(protocol.Grown())
            self._take_orders(grabber, None if not grabber.is_live and not self._free else grabber.idle_s())
            self._keep_pace()
            grabbed = grabber.grab(self._buffer())
            if grabbed is None:
                return
            self._look_for_flood(grabbed)
            if isinstance(grabbed, Nothing):
                # Of an old picture handed out again nothing is said: it is silence.
                if grabbed.is_repeat or grabbed.is_waiting:
                    self._say_alive(is_repeat=grabbed.is_repeat)
            elif isinstance(grabbed, Broken):
                self._tell_of(grabbed, is_live=grabber.is_live)
            else:
                self._hand_over(grabber, grabbed)

    def _look_for_flood(self, grabbed: Grabbed | Nothing | Broken) -> None:
        """Give a camera up that has lost its measure: judging what it sends would take the others' time."""
        if self._flood is None or (isinstance(grabbed, Nothing) and not grabbed.is_repeat):
            return
        if self._flood.is_full(time.monotonic()):
            raise CameraError(self._flood.why)

    def _open_ring(self, grabber: Grabber, slot_bytes: int) -> None:
        """Make a ring, and tell the parent of it. An earlier one must have all its slots back."""
        self._ring, fd = Ring.create(self._slots, slot_bytes)
        self._free = deque(range(self._slots))
        self._last = None
        opened = protocol.Opened(
            self._slots,
            self._ring.slot_bytes,
            grabber.width,
            grabber.height,
            grabber.fps,
            grabber.is_live,
            grabber.format,
            grabber.total,
            grabber.caveat,
            grabber.has_driver_time,
            dict(grabber.read_back),
            grabber.known_as,
            grabber.on_demand,
        )
        try:
            socket.send_fds(self._channel, [protocol.encode(opened)], [fd])
        finally:
            os.close(fd)

    def _make_room(self, grabber: Grabber, picture: Picture) -> None:
        """Replace the ring by one with larger slots: pictures of files may have any size."""
        while len(self._free) < self._slots:
            self._take_orders(grabber, None)
        grabber.height, grabber.width = picture.shape[:2]
        self._open_ring(grabber, picture.nbytes)

    def _buffer(self) -> Picture | None:
        """Return the next free slot, shaped like the last picture, for decoding straight into it."""
        return self._ring.view(self._free[0], *self._last) if self._free and self._last else None

    def _tell_of(self, broken: Broken, is_live: bool) -> None:
        """Say that a picture is of no use: it is owed a verdict all the same."""
        self._number += 1
        message = protocol.Unreadable(self._number, self._missed, broken.captured_ns, broken.part, redact(broken.why))
        if not is_live:
            tell(self._channel, message)
        elif not self._try_send(message):
            self._missed += 1
            return
        self._missed = 0

    def _hand_over(self, grabber: Grabber, grabbed: Grabbed) -> None:
        if grabbed.picture.nbytes > self._ring.slot_bytes:
            if grabbed.picture.nbytes > MAX_SLOT_BYTES:
                why = f"it has {grabbed.picture.nbytes} bytes; expected at most {MAX_SLOT_BYTES}"
                self._tell_of(Broken(grabbed.part, why, grabbed.captured_ns), is_live=grabber.is_live)
                return
            self._make_room(grabber, grabbed.picture)
        self._number += 1
        if not self._free:
            self._missed += 1
            self._say_alive(is_repeat=False)
            return
        slot, picture = self._free[0], grabbed.picture
        shape, dtype = picture.shape, _dtype(picture)
        self._last = (shape, dtype)
        target = self._ring.view(slot, shape, dtype)
        if target.ctypes.data != picture.ctypes.data:
            target[...] = picture
        message = protocol.Captured(
            slot,
            self._number,
            self._missed,
            grabbed.captured_ns,
            shape,
            dtype,
            grabbed.part,
            grabbed.is_arrival_time,
        )
        if self._try_send(message):
            self._free.popleft()
            self._missed = 0
        else:
            self._missed += 1

    def _say_alive(self, is_repeat: bool) -> None:
        if self._try_send(protocol.Alive(self._missed, is_repeat)):
            self._missed = 0

    def _try_send(self, message: protocol.Message) -> bool:
        """Send without ever waiting: a parent that does not listen costs frames, not the camera's time."""
        try:
            self._channel.send(protocol.encode(message), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        return True

    def _take_orders(self, grabber: Grabber, longest_s: float | None) -> None:
        """Take what the parent has said, and wait for its next word for so long; None: until it comes."""
        waits_ms = None if longest_s is None else longest_s * 1000
        while self._poll.poll(waits_ms):
            packet = self._channel.recv(64)
            if not packet:
                raise BrokenPipeError
            order = protocol.decode_order(packet)
            if isinstance(order, protocol.Wanted):
                grabber.want(order.at_ns)
            else:
                self._free.append(order.slot)
            waits_ms = 0

    def _keep_pace(self) -> None:
        if self._period_s:
            self._due_s = max(self._due_s + self._period_s, time.monotonic() - self._period_s)
            time.sleep(max(0.0, self._due_s - time.monotonic()))


def _dtype(picture: Picture) -> Literal["uint8", "uint16"]:
    if picture.dtype == "uint8":
        return "uint8"
    if picture.dtype == "uint16":
        return "uint16"
    raise CameraError(f"its pictures have values of {picture.dtype}; expected uint8 or uint16")
