"""A capture child, seen from the parent: start it, listen to it, kill it.

It has its own process, channel and ring. When it ends the ring is retired; pictures that are still in use
keep the memory mapped until the last of them is released.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
from contextlib import suppress

from inspectd.cameras import protocol
from inspectd.cameras.process import END_S, FORKER
from inspectd.cameras.protocol import Captured, CaptureSettings, Failed, Message, Opened
from inspectd.cameras.ring import Pin, Ring
from inspectd.errors import CameraError
from inspectd.records import Frame, Stamp

MOST_UNHEARD = 64
"""Pictures asked for since the child's last word: more would fill the channel of one that does not listen, and what it
must hear, that slots are free again, would not fit."""


class Child:
    """A running capture child. `receive`, `kill` belong to one thread; `want` and the release of frames to any."""

    def __init__(self, settings: CaptureSettings, pin: Pin | None = None) -> None:
        """Start the child. `pin`: what the engine wants done with the ring. OSError when no process can be started."""
        self._pin = pin
        self.settings = settings
        self.opened: Opened | None = None
        self._ring: Ring | None = None
        self._held = 0
        self._unheard = 0
        self._lock = threading.Lock()
        self._channel, theirs = protocol.pair()
        try:
            with theirs:
                self._process = FORKER.start(theirs)
        except OSError:
            self._channel.close()
            raise
        self._poll = select.poll()
        self._poll.register(self._channel, select.POLLIN)
        with suppress(BrokenPipeError, ConnectionResetError):
            self._channel.send(protocol.encode_settings(settings))

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @property
    def is_full(self) -> bool:
        """Whether all slots are in use, so that a finite source has to wait for us."""
        with self._lock:
            return self.opened is not None and self._held >= self.opened.slots

    def receive(self, timeout_s: float) -> Message | None:
        """Wait for the child's next message; None when none came. A dead child has `Failed`."""
        if not self._poll.poll(max(0.0, timeout_s) * 1000):
            return None
        try:
            packet, fds, _, _ = socket.recv_fds(self._channel, protocol.MAX_PACKET, 1)
        except ConnectionResetError:  # said once when a child dies; its last words come after it
            return None
        if not packet:
            return Failed(f"the capture process ended by itself ({self._how_it_ended()})")
        message = self._decode(packet)
        with self._lock:
            self._unheard = 0
        if isinstance(message, Opened):
            if len(fds) != 1:
                raise CameraError("the capture process offered no ring")
            try:
                self._ring = Ring.attach(fds[0], message.slots, message.slot_bytes, self._pin)
            finally:
                os.close(fds[0])
            self.opened = message
        elif isinstance(message, Captured):
            with self._lock:
                self._held += 1
        return message

    def frame(self, captured: Captured, stamp: Stamp) -> Frame:
        """Return the picture of a message, as an array over the ring."""
        if self._ring is None:
            raise CameraError("the capture process sent a picture before its ring")
        picture = self._ring.view(captured.slot, captured.shape, captured.dtype)
        return Frame(stamp, picture, lambda: self._release(captured.slot))

    def want(self, at_ns: int) -> None:
        """Have a picture taken after this time, where the camera takes one when it is told."""
        if self.opened is None or not self.opened.on_demand:
            return
        with self._lock:
            self._unheard += 1
            if self._unheard <= MOST_UNHEARD:
                self._order(protocol.Wanted(at_ns))

    def kill(self) -> bool:
        """End the child at once; False when the kernel does not let it go (its device is stuck)."""
        with self._lock:
            self._channel.close()
        self._process.kill()
        return self._process.wait(END_S) is not None

    @property
    def is_gone(self) -> bool:
        """Whether the process has ended."""
        return self._process.wait(0) is not None

    def _release(self, slot: int) -> None:
        with self._lock:
            self._held -= 1
            self._order(protocol.Freed(slot))

    def _order(self, order: protocol.Order) -> None:
        """Say something to the child, if it still listens; the lock is held."""
        if self._channel.fileno() >= 0:
            with suppress(OSError):  # it has died and its ring is retired, or does not listen and will be ended
                self._channel.send(protocol.encode_order(order), socket.MSG_DONTWAIT)

    def _decode(self, packet: bytes) -> Message:
        try:
            return protocol.decode(packet)
        except ValueError as error:
            raise CameraError(f"the capture process spoke nonsense: {error}") from error

    def _how_it_ended(self) -> str:
        code = self._process.wait(END_S)
        if code is None:
            return "it closed its link"
        if code < 0:
            return f"signal {signal.Signals(-code).name}"
        return f"exit code {code}"
