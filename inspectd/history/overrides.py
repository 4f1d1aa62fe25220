"""What commands changed at cameras, kept across restarts in a file beside the journal.

A file of its own: what judges must be known also where the journal cannot be read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec

from inspectd.atomic import write_whole
from inspectd.history.beside import read_beside

VERSION = 2


class ThresholdOverride(msgspec.Struct, frozen=True):
    """A threshold, and the model whose scores it is for: to those of another one it means nothing."""

    value: float
    digest: str


class Override(msgspec.Struct, frozen=True, omit_defaults=True):
    """What commands changed in one area of one product."""

    model: str | None = None
    """The folder; None: the configuration's."""
    threshold: ThresholdOverride | None = None


NONE = Override()


class CameraOverrides(msgspec.Struct, frozen=True, omit_defaults=True):
    """What commands changed at one camera."""

    recipe: str | None = None
    """The product that was chosen last; None: the configuration's first."""
    areas: dict[str, Override] = {}
    """By `product/area`, either of which may have no name."""

    def of(self, product: str | None, area: str | None) -> Override:
        """Return what was changed in an area of a product."""
        return self.areas.get(_key(product, area), NONE)

    def replaced(self, product: str | None, area: str | None, override: Override) -> CameraOverrides:
        """Return them with other ones for an area of a product."""
        areas = self.areas | {_key(product, area): override}
        return CameraOverrides(self.recipe, {key: one for key, one in areas.items() if one != NONE})

    def without(self, known: Collection[str], product: str | None) -> CameraOverrides:
        """Return them without what was changed in a product, or (None) in all, and without an unknown choice."""
        kept = {key: one for key, one in self.areas.items() if product is not None and key.partition("/")[0] != product}
        return CameraOverrides(self.recipe if self.recipe in known else None, kept)


NOTHING = CameraOverrides()


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    cameras: dict[str, CameraOverrides]


class _FirstFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Version 1: cameras had one product and one area."""

    version: int
    cameras: dict[str, Override]


class Overrides:
    """The overrides of one daemon. For any thread."""

    def __init__(self, path: Path | None) -> None:
        """Read what was kept; None: nothing is. UsageError: there is something, and it cannot be understood."""
        self.path = path
        self._lock = threading.Lock()
        self._cameras: dict[str, CameraOverrides] = {}
        if path is not None:
            self._cameras = _read(path)

    def of(self, camera: str) -> CameraOverrides:
        """Return a camera's overrides."""
        return self._cameras.get(camera, NOTHING)

    def change(self, camera: str, change: Callable[[CameraOverrides], CameraOverrides]) -> None:
        """Put what `change` makes of a camera's overrides in their place; StartError: they cannot be written, and stay.

        Where there is no file, they last until the daemon ends.
        """
        with self._lock:
            cameras = self._cameras | {camera: change(self.of(camera))}
            cameras = {name: one for name, one in cameras.items() if one != NOTHING}
            if self.path is not None and cameras != self._cameras:
                write_whole(self.path, msgspec.json.format(msgspec.json.encode(_File(VERSION, cameras)), indent=1))
            self._cameras = cameras


def _key(product: str | None, area: str | None) -> str:
    return f"{product or ''}/{area or ''}"


def _read(path: Path) -> dict[str, CameraOverrides]:
    decoders = {1: _first, VERSION: lambda text: msgspec.json.decode(text, type=_File).cameras}
    kept = read_beside(path, decoders, "what commands changed at the cameras", "to judge as the configuration says")
    return {} if kept is None else kept


def _first(text: bytes) -> dict[str, CameraOverrides]:
    first = msgspec.json.decode(text, type=_FirstFile)
    return {name: NOTHING.replaced(None, None, one) for name, one in first.cameras.items()}
