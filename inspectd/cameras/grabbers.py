"""Opens a source for a capture child: the one list of what can be read, and by what."""

from __future__ import annotations

from collections.abc import Callable

from inspectd.cameras.folder import FolderGrabber
from inspectd.cameras.grabbed import Grabber
from inspectd.cameras.link import CaptureSettings
from inspectd.cameras.opencv import LiveGrabber, VideoGrabber
from inspectd.cameras.simulated import SimulatedGrabber
from inspectd.cameras.sources import Kind


def open_grabber(settings: CaptureSettings, alive: Callable[[], None]) -> Grabber:
    """Open a source; CameraError says in a sentence why it cannot be. `alive` is called while it takes long."""
    match Kind(settings.kind):
        case Kind.FOLDER:
            return FolderGrabber(settings, alive)
        case Kind.SIMULATED:
            return SimulatedGrabber(settings)
        case Kind.VIDEO:
            return VideoGrabber(settings, alive)
        case Kind.DEVICE | Kind.URL:
            return LiveGrabber(settings)
