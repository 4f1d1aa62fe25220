"""The capture child: reads one source into its ring until it is told to end, or killed.

Started as `python -m inspectd.cameras.capture FD` by `inspectd.cameras.child`; FD is its end of the link.
It loads cv2 and numpy and never torch. OpenCV may hang or crash here; nothing but this process is lost.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import sys
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from inspectd.cameras import protocol
from inspectd.cameras.protocol import CaptureSettings
from inspectd.secrets import redact

if TYPE_CHECKING:  # cv2 is loaded only after its environment is set
    from inspectd.cameras.grabbers.base import Broken, Grabbed, Grabber
    from inspectd.records import Picture

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Entry point of the child."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    with suppress(BrokenPipeError, ConnectionResetError):  # the parent has gone: so do we
        settings = protocol.decode_settings(channel.recv(protocol.MAX_PACKET))
        _set_environment(settings)
        run(channel, settings)
        while channel.recv(64):  # a socket that is closed with unread words in it loses our last ones
            pass


def run(channel: socket.socket, settings: CaptureSettings) -> None:
    """Open the source and hand its pictures over."""
    import cv2

    from inspectd.cameras.grabbers.opening import open_grabber
    from inspectd.errors import CameraError

    cv2.setNumThreads(1)
    _tell(channel, protocol.Alive(0, False))  # from here on it is the source that takes its time
    try:
        grabber = open_grabber(settings, lambda: _tell(channel, protocol.Alive(0, False)))
        Hand(channel, settings).pass_on(grabber)
        _tell(channel, protocol.Ended())
    except CameraError as error:
        _tell(channel, protocol.Failed(redact(str(error))))
    except OSError as error:
        if isinstance(error, BrokenPipeError | ConnectionResetError):
            raise
        _tell(
            channel, protocol.Failed(redact(f"no memory for {settings.slots} pictures of {settings.source}: {error}"))
        )
    except Exception as error:  # noqa: BLE001 - the process's top: its last words are a sentence
        why = f"{settings.source} cannot be read: {type(error).__name__}: {error}"
        _tell(channel, protocol.Failed(redact(why)[:1000]))


class Hand:
    """Owns the ring and its free slots: fills one, hands it over, takes others back."""

    def __init__(self, channel: socket.socket, settings: CaptureSettings) -> None:
        self._channel = channel
        self._slots = settings.slots
        self._free: deque[int] = deque()
        self._poll = select.poll()  # select() refuses descriptors from 1024 on, and ours keeps the parent's number
        self._poll.register(channel, select.POLLIN)
        fps = settings.fps if settings.kind in ("video", "folder") else None
        self._period_s = 1 / fps if fps else 0.0
        self._due_s = time.monotonic()
        self._number = 0
        self._missed = 0
        self._last: tuple[tuple[int, ...], str] | None = None

    def pass_on(self, grabber: Grabber) -> None:
        """Grab until the source ends. A live source is never kept waiting, a finite one never loses."""
        from inspectd.cameras.grabbers.base import Broken, Nothing

        self._open_ring(grabber, grabber.slot_bytes)
        while True:
            self._take_back(wait=not grabber.is_live and not self._free)
            self._keep_pace()
            grabbed = grabber.grab(self._buffer())
            if grabbed is None:
                return
            if isinstance(grabbed, Nothing):
                # Of an old picture handed out again nothing is said: it is silence.
                if grabbed.is_repeat or grabbed.is_waiting:
                    self._say_alive(is_repeat=grabbed.is_repeat)
            elif isinstance(grabbed, Broken):
                self._tell_of(grabbed, is_live=grabber.is_live)
            else:
                self._hand_over(grabber, grabbed)

    def _open_ring(self, grabber: Grabber, slot_bytes: int) -> None:
        """Make a ring, and tell the parent of it. An earlier one must have all its slots back."""
        from inspectd.cameras.ring import Ring

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
        )
        try:
            socket.send_fds(self._channel, [protocol.encode(opened)], [fd])
        finally:
            os.close(fd)

    def _make_room(self, grabber: Grabber, picture: Picture) -> None:
        """Replace the ring by one with larger slots: pictures of files may have any size."""
        while len(self._free) < self._slots:
            self._take_back(wait=True)
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
            _tell(self._channel, message)
        elif not self._try_send(message):
            self._missed += 1
            return
        self._missed = 0

    def _hand_over(self, grabber: Grabber, grabbed: Grabbed) -> None:
        from inspectd.cameras.grabbers.base import Broken
        from inspectd.cameras.ring import MAX_SLOT_BYTES

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

    def _take_back(self, wait: bool) -> None:
        while True:
            if not self._poll.poll(None if wait else 0):
                return
            packet = self._channel.recv(64)
            if not packet:
                raise BrokenPipeError
            self._free.append(protocol.decode_release(packet))
            wait = False

    def _keep_pace(self) -> None:
        if self._period_s:
            self._due_s = max(self._due_s + self._period_s, time.monotonic() - self._period_s)
            time.sleep(max(0.0, self._due_s - time.monotonic()))


def _dtype(picture: Picture) -> Literal["uint8", "uint16"]:
    if picture.dtype == "uint8":
        return "uint8"
    if picture.dtype == "uint16":
        return "uint16"
    from inspectd.errors import CameraError

    raise CameraError(f"its pictures have values of {picture.dtype}; expected uint8 or uint16")


def die_with_parent() -> None:
    """Ask the kernel to end this process with its parent, however that one dies."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        os._exit(0)


def _set_environment(settings: CaptureSettings) -> None:
    """Set what OpenCV reads once, before it is loaded."""
    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(settings.select_s))
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")


def _tell(channel: socket.socket, message: protocol.Message) -> None:
    channel.send(protocol.encode(message))


if __name__ == "__main__":
    main()
