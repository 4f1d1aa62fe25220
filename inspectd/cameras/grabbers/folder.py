"""A folder of pictures as a source: in name order, each once, sizes and depths as they come."""

from __future__ import annotations

import time
from pathlib import Path

from inspectd.cameras.grabbers.base import Broken, Grabbed, Grabber
from inspectd.cameras.image_files import list_pictures, part_name, read_picture, shown
from inspectd.cameras.protocol import CaptureSettings
from inspectd.errors import CameraError, UsageError
from inspectd.records import Picture


class FolderGrabber(Grabber):
    """The pictures below a folder in name order; sizes and depths may differ."""

    is_live = False
    has_driver_time = False
    fps = 0.0
    width = height = 0
    slot_bytes = 1  # room is made when a picture needs it

    def __init__(self, settings: CaptureSettings) -> None:
        self._folder = Path(settings.source)
        self._pictures = list_pictures(self._folder)
        if not self._pictures:
            raise CameraError(f"the folder {shown(settings.source)} holds no pictures")
        self._loop = settings.loop
        self.total = len(self._pictures)
        self._next = settings.first

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
        return Grabbed(picture, time.monotonic_ns(), part)
