"""Opens a source for a capture child: the one list of what can be read, and by what."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from inspectd.cameras.grabbers.base import Grabber
from inspectd.cameras.protocol import CaptureSettings
from inspectd.cameras.sources import Kind
from inspectd.errors import CameraError


def open_grabber(settings: CaptureSettings, alive: Callable[[], None]) -> Grabber:
    """Open a source; CameraError says in a sentence why it cannot be. `alive` is called while it takes long."""
    match Kind(settings.kind):  # each loads only the library that it reads with
        case Kind.FOLDER:
            from inspectd.cameras.grabbers.folder import FolderGrabber

            return FolderGrabber(settings)
        case Kind.SIMULATED:
            from inspectd.cameras.grabbers.simulated import open_simulation

            return open_simulation(settings)
        case Kind.VIDEO:
            with _pyav():
                from inspectd.cameras.grabbers.video import VideoGrabber

            return VideoGrabber(settings, alive)
        case Kind.URL:
            with _pyav():
                from inspectd.cameras.grabbers.network import NetworkGrabber

            return NetworkGrabber(settings, alive)
        case Kind.ARAVIS:
            from inspectd.cameras.grabbers.aravis import AravisGrabber

            return AravisGrabber(settings, alive)
        case Kind.DEVICE:
            from inspectd.cameras.grabbers.v4l2 import DeviceGrabber

            return DeviceGrabber(settings)


@contextmanager
def _pyav() -> Iterator[None]:
    """Say what is to be installed where PyAV cannot be loaded."""
    try:
        yield
    except ImportError as error:
        raise CameraError(
            f"network cameras and videos need PyAV, which cannot be loaded here ({error}); pip install av"
        ) from None
