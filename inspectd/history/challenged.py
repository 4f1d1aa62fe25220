"""Which known parts were told, and which were not, kept across restarts in a file beside the journal."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from inspectd.atomic import write_whole
from inspectd.history.beside import read_beside
from inspectd.records import Known

VERSION = 1
Moment = Annotated[float, Meta(ge=0, le=32_503_680_000)]  # the year 3000


class ToldPart(msgspec.Struct, frozen=True):
    """When a known part was shown last and told."""

    known: Known
    at_s: Moment
    """Wall clock."""


class UntoldPart(msgspec.Struct, frozen=True):
    """A known part that was shown and not told."""

    known: Known
    part: str | None
    at_s: Moment
    figures: str


class CameraChallenges(msgspec.Struct, frozen=True):
    """What is known of one camera."""

    told: tuple[ToldPart, ...] = ()
    untold: tuple[UntoldPart, ...] = ()


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    cameras: dict[str, CameraChallenges]


class Challenged:
    """The challenges of one daemon's cameras. For any thread."""

    def __init__(self, path: Path | None) -> None:
        """Read what was kept; None: nothing is. UsageError: there is something, and it cannot be understood."""
        self._path = path
        self._lock = threading.Lock()
        self._cameras: dict[str, CameraChallenges] = {}
        if path is not None:
            self._cameras = _read(path)

    def of(self, camera: str) -> CameraChallenges:
        """Return what is known of a camera."""
        return self._cameras.get(camera, CameraChallenges())

    def put(self, camera: str, challenges: CameraChallenges) -> None:
        """Keep what is known of a camera; StartError: it cannot be written, and lasts until the daemon ends."""
        with self._lock:
            self._cameras = {**self._cameras, camera: challenges}
            if self._path is not None:
                encoded = msgspec.json.encode(_File(VERSION, self._cameras))
                write_whole(self._path, msgspec.json.format(encoded, indent=1))


def _read(path: Path) -> dict[str, CameraChallenges]:
    kept = read_beside(
        path,
        {VERSION: lambda text: msgspec.json.decode(text, type=_File)},
        "which known parts were told at the cameras",
        "to have them shown again",
    )
    return {} if kept is None else kept.cameras
