"""Cameras, network streams and videos through cv2.VideoCapture, and how an old picture is told from a new one.

Runs in the capture child only. `CameraError` ends the child; a read that never returns is the parent's to
notice.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import cv2
import numpy as np

from inspectd.cameras.grabbed import Grabbed, Nothing
from inspectd.cameras.link import CaptureSettings
from inspectd.cameras.sources import Kind
from inspectd.errors import CameraError
from inspectd.records import Picture

STALE_PAUSE_S = 0.002  # a driver that answers at once with an old frame must not take a whole core
ALIVE_EVERY_FRAMES = 50
BELIEVABLE_AGE_NS = 5_000_000_000  # a driver's time further from now than this is of another clock


class Freshness:
    """Tells a new picture from an old one that a driver hands out again.

    A picture whose time stands still and whose pixels are the same is *stale*: the driver gave out its last
    buffer once more. The same pixels under a new time are a *repeat* from a raw sensor, whose noise never
    repeats, and legitimate from a compressed stream (a black picture, skipped blocks).
    """

    STRIDE = 8  # every 8th row decides whether two pictures are the same

    def __init__(self, is_compressed: bool, refuse_repeats: bool) -> None:
        self._is_compressed = is_compressed
        self._refuse_repeats = refuse_repeats
        self._rows: Picture | None = None
        self._time_ms = 0.0

    def look(self, picture: Picture, time_ms: float) -> Nothing | None:
        """Return None for a new picture, else what to report instead. `time_ms` 0: there is none."""
        rows = picture[:: self.STRIDE].copy()
        is_same = self._rows is not None and np.array_equal(rows, self._rows)
        has_advanced = time_ms > self._time_ms
        self._rows, self._time_ms = rows, time_ms
        if not is_same:
            return None
        if time_ms > 0 and not has_advanced:
            return Nothing()
        if not self._refuse_repeats or (self._is_compressed and has_advanced):
            return None
        return Nothing(is_repeat=True)


class _OpenCv:
    """What every source read through cv2.VideoCapture shares."""

    def __init__(self, settings: CaptureSettings, backend: int, parameters: list[int]) -> None:
        self.settings = settings
        address: int | str = settings.source
        if Kind(settings.kind) is Kind.DEVICE and settings.source.isdecimal():
            address = int(settings.source)
        self.capture = cv2.VideoCapture(address, backend, parameters)
        if not self.capture.isOpened():
            raise CameraError(f"{settings.source} cannot be opened: {_why_not(settings)}")

    def describe(self, picture: Picture) -> None:
        """Set what a Grabber tells about itself."""
        self.height, self.width = picture.shape[:2]
        self.slot_bytes = picture.nbytes
        fps = float(self.capture.get(cv2.CAP_PROP_FPS))
        self.fps = fps if math.isfinite(fps) and 0 < fps < 10_000 else 0.0
        code = int(self.capture.get(cv2.CAP_PROP_FOURCC))
        letters = "".join(chr(code >> shift & 0xFF) for shift in (0, 8, 16, 24))
        self.format = letters if letters.isprintable() and code > 0 else ""

    def read(self, into: Picture | None) -> Picture | None:
        """Read one picture; None when there is none."""
        is_new, picture = self.capture.read() if into is None else self.capture.read(into)
        return cast("Picture", picture) if is_new and picture is not None and picture.size else None


class LiveGrabber(_OpenCv):
    """A camera on this machine or on the network. Every property is set anew at each opening."""

    is_live = True

    def __init__(self, settings: CaptureSettings) -> None:
        self._is_device = Kind(settings.kind) is Kind.DEVICE
        if self._is_device:
            super().__init__(settings, cv2.CAP_V4L2, [])
            self._ask_for_settings()
        else:
            timeouts = [
                cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
                int(settings.open_timeout_ms),
                cv2.CAP_PROP_READ_TIMEOUT_MSEC,
                int(settings.read_timeout_ms),
            ]
            super().__init__(settings, cv2.CAP_FFMPEG, timeouts)
        first = self.read(None)
        if first is None:
            raise CameraError(f"{settings.source} was opened but gives no picture")
        self.describe(first)
        self._check_size()
        is_raw = self._is_device and self.format not in ("MJPG", "JPEG", "H264", "HEVC")
        self._freshness = Freshness(not is_raw, settings.refuse_repeats)
        # The first picture only shows what later ones must differ from: after a reconnect it may be the
        # very picture that the camera had frozen on.
        self._freshness.look(first, self._time_ms())

    def grab(self, into: Picture | None) -> Grabbed | Nothing | None:
        """Return a new picture or that there is none; CameraError when the camera says that it is gone."""
        picture = self.read(into)
        now_ns = time.monotonic_ns()
        if picture is None:
            raise CameraError(f"{self.settings.source} gives no more pictures")
        if picture.shape[:2] != (self.height, self.width):
            raise CameraError(
                f"{self.settings.source} changed its picture from {self.width}x{self.height} "
                f"to {picture.shape[1]}x{picture.shape[0]}"
            )
        time_ms = self._time_ms()
        nothing = self._freshness.look(picture, time_ms)
        if nothing is not None:
            if not nothing.is_repeat:
                time.sleep(STALE_PAUSE_S)
            return nothing
        return Grabbed(picture, self._driver_time(time_ms, now_ns))

    def _time_ms(self) -> float:
        """Return the driver's or the stream's own time of the last picture; 0: it has none."""
        time_ms = float(self.capture.get(cv2.CAP_PROP_POS_MSEC))
        return time_ms if math.isfinite(time_ms) and time_ms > 0 else 0.0

    def _driver_time(self, time_ms: float, now_ns: int) -> int:
        driver_ns = int(time_ms * 1e6) if self._is_device else 0
        return driver_ns if 0 <= now_ns - driver_ns < BELIEVABLE_AGE_NS else now_ns

    def _ask_for_settings(self) -> None:
        wanted = self.settings
        ask = self.capture.set
        if wanted.format is not None:
            ask(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*wanted.format))
        if wanted.size is not None:
            ask(cv2.CAP_PROP_FRAME_WIDTH, wanted.size[0])
            ask(cv2.CAP_PROP_FRAME_HEIGHT, wanted.size[1])
        if wanted.fps is not None:
            ask(cv2.CAP_PROP_FPS, wanted.fps)
        ask(cv2.CAP_PROP_BUFFERSIZE, 1)
        if wanted.exposure is not None:
            ask(cv2.CAP_PROP_AUTO_EXPOSURE, 1)  # V4L2: 1 is manual
            ask(cv2.CAP_PROP_EXPOSURE, wanted.exposure)
        if wanted.gain is not None:
            ask(cv2.CAP_PROP_GAIN, wanted.gain)
        if wanted.white_balance is not None:
            ask(cv2.CAP_PROP_AUTO_WB, 0)
            ask(cv2.CAP_PROP_WB_TEMPERATURE, wanted.white_balance)

    def _check_size(self) -> None:
        wanted = self.settings.size
        if wanted is not None and wanted != (self.width, self.height):
            raise CameraError(
                f"{self.settings.source} gives {self.width}x{self.height}; "
                f"the configuration asks for {wanted[0]}x{wanted[1]}"
            )


class VideoGrabber(_OpenCv):
    """A video file; `part` is the frame's number, from 0."""

    is_live = False

    def __init__(self, settings: CaptureSettings, alive: Callable[[], None]) -> None:
        super().__init__(settings, cv2.CAP_FFMPEG, [])
        self._number = 0
        if not settings.loop:  # a looped one has no place to go on from
            self._skip(settings.first, alive)
        self._ahead = self.read(None)
        if self._ahead is None and self._number == 0:
            raise CameraError(f"{settings.source} holds no picture that can be decoded")
        self.describe(np.zeros((1, 1, 3), np.uint8) if self._ahead is None else self._ahead)

    def grab(self, into: Picture | None) -> Grabbed | None:
        """Return the next frame, or None at the end (with `loop`: the first one again)."""
        picture, self._ahead = self._ahead, None
        if picture is None:
            picture = self.read(into)
        if picture is None and self.settings.loop:
            self.capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
            self._number = 0
            picture = self.read(into)
        if picture is None:
            return None
        self._number += 1
        return Grabbed(picture, time.monotonic_ns(), str(self._number - 1))

    def _skip(self, frames: int, alive: Callable[[], None]) -> None:
        """Go on where an earlier life ended; frames before it are only grabbed, not decoded to pictures."""
        while self._number < frames and self.capture.grab():
            self._number += 1
            if self._number % ALIVE_EVERY_FRAMES == 0:
                alive()


def _why_not(settings: CaptureSettings) -> str:
    if Kind(settings.kind) is Kind.DEVICE:
        node = f"/dev/video{settings.source}" if settings.source.isdecimal() else settings.source
        if not Path(node).exists():
            return f"there is no {node}; is the camera plugged in? `inspectd cameras` lists what is"
        if not os.access(node, os.R_OK | os.W_OK):
            return f"no permission for {node}; add this user to the group video"
        return "it is in use by another program, or no camera that V4L2 can read"
    if Kind(settings.kind) is Kind.URL:
        return "it does not answer, or not with a video stream"
    return "it is no video that FFmpeg can read"
