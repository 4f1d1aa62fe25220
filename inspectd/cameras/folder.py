"""A folder of pictures as a source: in name order, each once, sizes and depths as they come."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from inspectd.cameras.grabbed import Broken, Grabbed
from inspectd.cameras.link import CaptureSettings
from inspectd.cameras.pictures import list_pictures, part_name, read_picture
from inspectd.cameras.ring import MAX_SLOT_BYTES
from inspectd.errors import CameraError, UsageError
from inspectd.records import Picture


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
            return Broken(part, str(error), time.monotonic_ns())
        if picture.nbytes > self.slot_bytes:
            why = f"The picture {path} is larger than its header says, or than {MAX_SLOT_BYTES} bytes."
            return Broken(part, why, time.monotonic_ns())
        return Grabbed(picture, time.monotonic_ns(), part)


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
