"""What commands changed at cameras, kept across restarts in a file beside the journal.

A file of its own: what judges must be known also where the journal cannot be read.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from inspectd.atomic import write_whole
from inspectd.errors import UsageError
from inspectd.reading import read_regular

MOST_BYTES = 1 << 20
VERSION = 1


class ThresholdOverride(msgspec.Struct, frozen=True):
    """A threshold, and the model whose scores it is for: to those of another one it means nothing."""

    value: float
    digest: str


class Override(msgspec.Struct, frozen=True, omit_defaults=True):
    """What commands changed at one camera."""

    model: str | None = None
    """The folder; None: the configuration's."""
    threshold: ThresholdOverride | None = None


NONE = Override()


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    cameras: dict[str, Override]


class Overrides:
    """The overrides of one daemon. Every method is called by one thread at a time."""

    def __init__(self, path: Path | None) -> None:
        """Read what was kept; None: nothing is. UsageError: there is something, and it cannot be understood."""
        self.path = path
        self._cameras: dict[str, Override] = {}
        if path is not None:
            self._cameras = _read(path)

    def of(self, camera: str) -> Override:
        """Return a camera's overrides."""
        return self._cameras.get(camera, NONE)

    def keep(self, camera: str, override: Override) -> None:
        """Put a camera's overrides in place of those before; StartError: they cannot be written, and stay."""
        assert self.path is not None
        cameras = self._cameras | {camera: override}
        if override == NONE:
            del cameras[camera]
        write_whole(self.path, msgspec.json.format(msgspec.json.encode(_File(VERSION, cameras)), indent=1))
        self._cameras = cameras


def path_beside(journal: Path) -> Path:
    """Return where the overrides of the daemon with this journal are kept."""
    return journal.with_name(journal.name + ".overrides.json")


def _read(path: Path) -> dict[str, Override]:
    try:
        kept = msgspec.json.decode(read_regular(path, MOST_BYTES), type=_File)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(
            f"{path}, which holds what commands changed at the cameras, cannot be read: {why}. Restore it, remove it "
            "to judge as the configuration says, or set journal.path to another file."
        ) from None
    if kept.version != VERSION:
        raise UsageError(
            f"{path} has version {kept.version}; this inspectd knows {VERSION}. Remove it to judge as the "
            "configuration says, or install the inspectd that wrote it."
        )
    return kept.cameras
