"""The cameras that are inspected: a table that is replaced as a whole, so that any thread may read it at any time."""

from __future__ import annotations

import threading
from collections.abc import ItemsView, Iterator, Mapping, ValuesView

from inspectd.line.camera import Camera
from inspectd.wire.requests import RefusedError, brief


class Roster(Mapping[str, Camera]):
    """By name. Who goes through it sees the cameras of one moment, whatever is changed meanwhile."""

    def __init__(self, cameras: Mapping[str, Camera] | None = None) -> None:
        self._now = dict(cameras or {})
        self._leaving: tuple[Camera, ...] = ()
        self.changing = threading.Lock()
        """Held while a camera takes another's place, and by who changes what is asked of one: else that would be asked
        of the one that has gone."""

    def __getitem__(self, name: str) -> Camera:
        return self._now[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._now)

    def __len__(self) -> int:
        return len(self._now)

    def values(self) -> ValuesView[Camera]:
        """Return the cameras of this moment."""
        return self._now.values()

    def items(self) -> ItemsView[str, Camera]:
        """Return names and cameras of this moment."""
        return self._now.items()

    def find(self, name: str) -> Camera:
        """Return the camera that a request is about; RefusedError: there is none of this name."""
        now = self._now
        if name not in now:
            raise RefusedError("unknown_camera", f"There is no camera {brief(name)}; there are: {', '.join(now)}.")
        return now[name]

    def put(self, camera: Camera) -> None:
        """Take a camera in, or exchange the one of its name. By one thread at a time, as `drop`."""
        self._leave(camera.name)
        self._now = {**self._now, camera.name: camera}

    def drop(self, name: str) -> None:
        """Strike a camera off."""
        self._leave(name)
        self._now = {key: camera for key, camera in self._now.items() if key != name}

    @property
    def is_settled(self) -> bool:
        """Whether nothing that was replaced is under way any more, of cameras that are gone or are there."""
        self._leaving = tuple(camera for camera in self._leaving if not camera.is_left)
        return not self._leaving and all(camera.is_done_with_old() for camera in self.values())

    def _leave(self, name: str) -> None:
        if (camera := self._now.get(name)) is not None:
            self._leaving = (*self._leaving, camera)
