"""Cameras plugged into this machine, through OpenCV's V4L2.

Runs in the capture child only. `CameraError` ends the child; a read that never returns is the parent's to notice.
"""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import cast

import cv2

from inspectd.cameras import jpeg
from inspectd.cameras.grabbers.base import REPEATED, Broken, Grabbed, Grabber, Nothing
from inspectd.cameras.grabbers.freshness import Freshness
from inspectd.cameras.protocol import MANUAL_EXPOSURE, CaptureSettings
from inspectd.errors import CameraError
from inspectd.records import Picture

READ_BACK = {
    "auto_exposure": cv2.CAP_PROP_AUTO_EXPOSURE,
    "exposure": cv2.CAP_PROP_EXPOSURE,
    "gain": cv2.CAP_PROP_GAIN,
    "auto_white_balance": cv2.CAP_PROP_AUTO_WB,
    "white_balance": cv2.CAP_PROP_WB_TEMPERATURE,
}
UNKNOWN = -1.0
"""What OpenCV says of a setting that the camera does not have."""
LOOK_EVERY_S = 1.0
"""So often it is looked whether another program has changed what was set."""
STALE_PAUSE_S = 0.002  # a driver that answers at once with an old frame must not take a whole core
BELIEVABLE_AGE_NS = 5_000_000_000  # a driver's time further from now than this is of another clock
JPEG_FORMATS = ("MJPG", "JPEG")
PATIENT = 0.7
"""Of the time that V4L2 may wait: then it has waited."""
FIRST_READS = 10
"""A JPEG camera may begin with a damaged picture or two."""


class DeviceGrabber(Grabber):
    """A V4L2 camera. Every property is set anew at each opening."""

    is_live = True

    def __init__(self, settings: CaptureSettings) -> None:
        """Open the device and read one picture; CameraError says why that cannot be."""
        self.settings = settings
        address: int | str = int(settings.source) if settings.source.isdecimal() else settings.source
        self.capture = cv2.VideoCapture(address, cv2.CAP_V4L2, [])
        if not self.capture.isOpened():
            raise CameraError(f"{settings.source} cannot be opened: {_why_not(settings.source)}")
        self._ask_for_settings()
        self.format = self._format()
        if self.format in JPEG_FORMATS:
            self._ask_for_bytes()
        self._gives_bytes = False
        first = None if settings.is_triggered else self._first()
        if first is None:
            self.width, self.height = (
                int(self.capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
            )
            self.slot_bytes = self.width * self.height * 3
        else:
            self.height, self.width = first.shape[:2]
            self.slot_bytes = first.nbytes
            if self.format in JPEG_FORMATS and not self._gives_bytes:
                self.caveat = (
                    "its driver gives no JPEG bytes, only pictures it has decoded itself: a damaged one cannot be told"
                )
        fps = float(self.capture.get(cv2.CAP_PROP_FPS))
        self.fps = fps if math.isfinite(fps) and 0 < fps < 10_000 else 0.0
        self._check_size()
        self._freshness = Freshness(self.format in ("H264", "HEVC"), settings.refuse_repeats)
        self.read_back = self._read_back()
        self.caveat = "; ".join(filter(None, (self.caveat, *self._not_taken())))
        self._next_look_s = time.monotonic() + LOOK_EVERY_S
        self._is_unproven = first is None
        """Nothing is known that the next picture must differ from: it may be the very one that the camera froze on."""
        self.has_driver_time = True  # of one that waits for its input it shows picture by picture
        if first is not None:
            # The first picture only shows what later ones must differ from: after a reconnect it may be the
            # very picture that the camera had frozen on.
            time_ms = self._time_ms()
            self._freshness.look(first, time_ms)
            self.has_driver_time = _is_believable(time_ms, time.monotonic_ns())

    def grab(self, into: Picture | None) -> Grabbed | Nothing | Broken | None:
        """Return a new picture or that there is none; CameraError when the camera says that it is gone."""
        self._look_at_settings()
        asked_ns = time.monotonic_ns()
        try:
            picture = self._read(into)
        except jpeg.DamagedError as error:
            return Broken(None, f"the picture came damaged: {error}", time.monotonic_ns())
        now_ns = time.monotonic_ns()
        if picture is None:
            # A camera that is gone says so at once; one that waits for its input lets V4L2 wait to the end.
            if self.settings.is_triggered and now_ns - asked_ns >= PATIENT * self.settings.select_s * 1e9:
                return Nothing(is_waiting=True)
            raise CameraError(f"{self.settings.source} gives no more pictures")
        if picture.shape[:2] != (self.height, self.width):
            raise CameraError(
                f"{self.settings.source} changed its picture from {self.width}x{self.height} "
                f"to {picture.shape[1]}x{picture.shape[0]}"
            )
        time_ms = self._time_ms()
        nothing = self._freshness.look(picture, time_ms)
        if self._is_unproven:
            self._is_unproven = False
            return Broken(None, "the first picture after the camera was opened may be an old one", now_ns)
        is_timed = _is_believable(time_ms, now_ns)
        taken_ns = int(time_ms * 1e6) if is_timed else now_ns
        if nothing is not None:
            if not nothing.is_repeat:
                time.sleep(STALE_PAUSE_S)
            elif self.settings.is_triggered:  # a part was there, and nobody has seen it
                return Broken(None, REPEATED, taken_ns)
            return nothing
        return Grabbed(picture, taken_ns, is_arrival_time=not is_timed)

    def _first(self) -> Picture:
        damage: jpeg.DamagedError | None = None
        for _ in range(FIRST_READS):
            try:
                picture = self._read(None)
            except jpeg.DamagedError as error:
                damage = error
                continue
            if picture is not None:
                return picture
            break
        raise CameraError(
            f"{self.settings.source} was opened but gives no picture" + (f" that is whole: {damage}" if damage else "")
        )

    def _read(self, into: Picture | None) -> Picture | None:
        """Read one picture; None when there is none. A JPEG camera's bytes are decoded here, whole or not at all."""
        is_new, picture = self.capture.read() if into is None else self.capture.read(into)
        if not is_new or picture is None or not picture.size:
            return None
        self._gives_bytes = min(picture.shape[:2]) == 1 and picture.nbytes > 2
        if self.format in JPEG_FORMATS and self._gives_bytes:
            return jpeg.decode(picture.tobytes(), into)
        return cast("Picture", picture)

    def _ask_for_bytes(self) -> None:
        """Ask for a JPEG camera's own bytes. A driver that gives pictures all the same has decoded them already."""
        if not self.capture.set(cv2.CAP_PROP_FORMAT, -1):
            self.capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)

    def _format(self) -> str:
        """Return the FourCC that the driver gives, or nothing."""
        code = int(self.capture.get(cv2.CAP_PROP_FOURCC))
        letters = "".join(chr(code >> shift & 0xFF) for shift in (0, 8, 16, 24))
        return letters if letters.isprintable() and code > 0 else ""

    def _time_ms(self) -> float:
        """Return the driver's time of the last picture; 0: it has none."""
        time_ms = float(self.capture.get(cv2.CAP_PROP_POS_MSEC))
        return time_ms if math.isfinite(time_ms) and time_ms > 0 else 0.0

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
            for manual in MANUAL_EXPOSURE:  # which of them is meant shows by reading back
                ask(cv2.CAP_PROP_AUTO_EXPOSURE, manual)
                if self.capture.get(cv2.CAP_PROP_AUTO_EXPOSURE) == manual:
                    break
            ask(cv2.CAP_PROP_EXPOSURE, wanted.exposure)
        if wanted.gain is not None:
            ask(cv2.CAP_PROP_GAIN, wanted.gain)
        if wanted.white_balance is not None:
            ask(cv2.CAP_PROP_AUTO_WB, 0)
            ask(cv2.CAP_PROP_WB_TEMPERATURE, wanted.white_balance)

    def _read_back(self) -> dict[str, float]:
        """Return the settings that the camera has."""
        found = {name: float(self.capture.get(code)) for name, code in READ_BACK.items()}
        return {name: value for name, value in found.items() if math.isfinite(value) and value != UNKNOWN}

    def _asked(self) -> dict[str, float]:
        """Return the settings that the configuration asks for, and the camera has."""
        asked = {name: getattr(self.settings, name) for name in ("exposure", "gain", "white_balance")}
        return {name: value for name, value in asked.items() if value is not None and name in self.read_back}

    def _not_taken(self) -> list[str]:
        """Say which settings the camera has not taken as they were asked for."""
        return [
            f"{name.replace('_', ' ')} was set to {value:g}, and the camera has {self.read_back[name]:g}"
            for name, value in self._asked().items()
            if value != self.read_back[name]
        ]

    def _look_at_settings(self) -> None:
        """Look, now and then, whether what was set is still so; CameraError when another program changed it."""
        if time.monotonic() < self._next_look_s:
            return
        self._next_look_s = time.monotonic() + LOOK_EVERY_S
        now = self._read_back() if self._asked() else {}
        for name in self._asked():
            if name in now and now[name] != self.read_back[name]:
                raise CameraError(
                    f"another program changed its {name.replace('_', ' ')} from {self.read_back[name]:g} to "
                    f"{now[name]:g}; it is opened and set anew"
                )

    def _check_size(self) -> None:
        wanted = self.settings.size
        if wanted is not None and wanted != (self.width, self.height):
            raise CameraError(
                f"{self.settings.source} gives {self.width}x{self.height}; "
                f"the configuration asks for {wanted[0]}x{wanted[1]}"
            )


def _is_believable(time_ms: float, now_ns: int) -> bool:
    """Whether a driver's time is one of our clock."""
    return time_ms > 0 and 0 <= now_ns - int(time_ms * 1e6) < BELIEVABLE_AGE_NS


def _why_not(source: str) -> str:
    node = f"/dev/video{source}" if source.isdecimal() else source
    if not Path(node).exists():
        return f"there is no {node}; is the camera plugged in? `inspectd cameras` lists what is"
    if not os.access(node, os.R_OK | os.W_OK):
        return f"no permission for {node}; add this user to the group video"
    return "it is in use by another program, or no camera that V4L2 can read"
