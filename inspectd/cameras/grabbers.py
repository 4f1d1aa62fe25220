"""The sources as a capture child reads them: OpenCV cameras and videos, folders, the simulated line.

Runs in the child only. Every grabber answers `grab` with what it found; `Failure` ends the child, and a
read that never returns is the parent's to notice.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast
from urllib.parse import parse_qsl, urlsplit

import cv2
import numpy as np
from PIL import Image

from inspectd.cameras.link import CaptureSettings
from inspectd.cameras.pictures import list_pictures, part_name, read_picture
from inspectd.cameras.ring import MAX_SLOT_BYTES
from inspectd.cameras.sources import Kind
from inspectd.errors import CameraError, UsageError
from inspectd.records import Picture
from inspectd.sim.line import Line

STALE_PAUSE_S = 0.002  # a driver that answers at once with an old frame must not take a whole core
BELIEVABLE_AGE_NS = 5_000_000_000  # a driver's time further from now than this is of another clock


@dataclass(frozen=True, slots=True)
class Grabbed:
    """A new picture."""

    picture: Picture
    captured_ns: int
    part: str | None = None


@dataclass(frozen=True, slots=True)
class Nothing:
    """No new picture; the source was asked and answered."""

    is_repeat: bool = False
    """Bit for bit the picture before, although the source claims it is new."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A picture of a finite source that cannot be read."""

    part: str
    why: str


class Grabber(Protocol):
    """An open source."""

    width: int
    height: int
    fps: float
    is_live: bool
    format: str
    slot_bytes: int

    def grab(self, into: Picture | None) -> Grabbed | Nothing | Broken | None:
        """Return what comes next, decoded into `into` where that fits; None at the end."""


def open_grabber(settings: CaptureSettings, alive: Callable[[], None]) -> Grabber:
    """Open a source; CameraError says in a sentence why it cannot be. `alive` is called while it takes long."""
    match Kind(settings.kind):
        case Kind.FOLDER:
            return FolderGrabber(settings, alive)
        case Kind.SIMULATED:
            return SimulatedGrabber(settings)
        case Kind.VIDEO:
            return VideoGrabber(settings)
        case Kind.DEVICE | Kind.URL:
            return LiveGrabber(settings)


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

    def __init__(self, settings: CaptureSettings) -> None:
        super().__init__(settings, cv2.CAP_FFMPEG, [])
        self._number = 0
        self._skip(settings.first)
        self._ahead = self.read(None)
        if self._ahead is None and settings.first == 0:
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

    def _skip(self, frames: int) -> None:
        for _ in range(frames):
            if not self.capture.grab():
                if not self.settings.loop:
                    return
                self.capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
                self._number = 0
                self.capture.grab()
            self._number += 1


class FolderGrabber:
    """The pictures below a folder in name order; sizes and depths may differ."""

    is_live = False
    fps = 0.0
    format = ""

    def __init__(self, settings: CaptureSettings, alive: Callable[[], None]) -> None:
        self._folder = Path(settings.source)
        self._pictures = list_pictures(self._folder)
        if not self._pictures:
            raise CameraError(f"the folder {settings.source} holds no pictures")
        self._loop = settings.loop
        self._next = settings.first
        self.width, self.height, self.slot_bytes = _largest(self._pictures, alive)

    def grab(self, into: Picture | None) -> Grabbed | Broken | None:
        """Return the next picture, or why it cannot be read."""
        if self._next >= len(self._pictures) and not self._loop:
            return None
        path = self._pictures[self._next % len(self._pictures)]
        self._next += 1
        part = part_name(path, self._folder)
        try:
            picture = read_picture(path)
        except UsageError as error:
            return Broken(part, str(error))
        if picture.nbytes > self.slot_bytes:
            return Broken(part, f"The picture {path} is larger than its header says, or than {MAX_SLOT_BYTES} bytes.")
        return Grabbed(picture, time.monotonic_ns(), part)


class SimulatedGrabber:
    """`sim://line?seed=1&fps=10&parts=100&defects=0.3&width=640&height=480`, one part in every frame.

    Without `fps` it is read like a folder: nothing is ever lost. `hang=N`, `unplug=N` and `freeze=N` make
    the camera misbehave once, at part N: never answer again, go away, repeat its picture.
    """

    format = ""

    def __init__(self, settings: CaptureSettings) -> None:
        url = urlsplit(settings.source)
        numbers = _numbers(url.query)
        self.fps = settings.fps or numbers.get("fps", 0.0)
        self.is_live = self.fps > 0
        self.width, self.height = (int(numbers.get(key, n)) for key, n in (("width", 640), ("height", 480)))
        if url.netloc != "line":
            raise CameraError(f"{settings.source} is not known; expected sim://line")
        try:
            self._line = Line(
                int(numbers.get("seed", 0)),
                width=self.width,
                height=self.height,
                defects=numbers.get("defects", 0.0),
            )
        except ValueError as error:
            raise CameraError(f"{settings.source}: {error}") from None
        self.slot_bytes = self.width * self.height * 3
        self._end = int(numbers["parts"]) if "parts" in numbers else None
        self._first = self._number = settings.first
        self._misbehave_at: dict[str, int] = {
            what: int(numbers[what]) for what in ("hang", "unplug", "freeze") if what in numbers
        }
        self._due_s = time.monotonic()

    def grab(self, into: Picture | None) -> Grabbed | Nothing | None:
        """Return the next part's picture when it is due."""
        if self._end is not None and self._number >= self._end:
            return None
        self._wait_until_due()
        if self._is_now("hang"):
            while True:
                time.sleep(3600)
        if self._is_now("unplug"):
            raise CameraError("the simulated camera was unplugged")
        if self._is_now("freeze"):
            return Nothing(is_repeat=True)
        picture = self._line.render(self._number)
        self._number += 1
        return Grabbed(picture, time.monotonic_ns(), f"part-{self._number - 1:06d}")

    def _is_now(self, what: str) -> bool:
        at = self._misbehave_at.get(what)
        return at is not None and self._first < at <= self._number

    def _wait_until_due(self) -> None:
        if self.is_live:
            self._due_s = max(self._due_s + 1 / self.fps, time.monotonic() - 1)
            time.sleep(max(0.0, self._due_s - time.monotonic()))


def _numbers(query: str) -> dict[str, float]:
    known = ("seed", "fps", "parts", "defects", "width", "height", "hang", "unplug", "freeze")
    found = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if key not in known or not 0 <= number < 1e12:
            raise CameraError(f"sim://line has {key}={value!r}; expected numbers for {', '.join(known)}")
        found[key] = number
    return found


def _largest(pictures: list[Path], alive: Callable[[], None]) -> tuple[int, int, int]:
    """Return the first picture's width and height, and the bytes of the largest one, from the headers."""
    width = height = largest = 0
    Image.MAX_IMAGE_PIXELS = None  # only headers are read; the ring has its own limit
    reported_s = time.monotonic()
    for path in pictures:
        if time.monotonic() - reported_s > 0.2:
            alive()
            reported_s = time.monotonic()
        try:
            with Image.open(path) as image:
                w, h = image.size
                itemsize = 2 if image.mode.startswith(("I", "F")) else 1
                channels = 1 if image.mode in ("1", "L", "I", "I;16", "I;16B") else 3
        except Exception:  # noqa: BLE001 - whatever is wrong with it, reading it will tell
            continue
        size = w * h * channels * itemsize
        if size <= MAX_SLOT_BYTES:
            largest = max(largest, size)
            if not width:
                width, height = w, h
    return width, height, max(largest, 1)


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
