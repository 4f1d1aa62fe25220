"""What a capture child finds when it asks its source for the next picture, and what every source can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from inspectd.records import Picture

REPEATED = "it is bit for bit a picture from before: the camera shows an old one"
NO_SETTINGS: Mapping[str, float] = {}
"""Of a source that has no lens."""


@dataclass(frozen=True, slots=True)
class Grabbed:
    """A new picture."""

    picture: Picture
    captured_ns: int
    part: str | None = None
    is_arrival_time: bool = False
    """Nobody says when it was taken; `captured_ns` is when it came."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """No new picture; the source was asked and answered."""

    is_repeat: bool = False
    """Bit for bit a recent picture, although the source claims it is new."""
    is_waiting: bool = False
    """The camera is there, and waits for its own input."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A picture that cannot be read, or that does not show what the camera saw."""

    part: str | None
    why: str
    captured_ns: int


class Grabber(Protocol):
    """An open source. What has a value here is what most of them say."""

    width: int
    height: int
    fps: float
    is_live: bool
    slot_bytes: int
    format: str = ""
    total: int = 0
    """Pictures of a finite source; 0: not known."""
    caveat: str = ""
    """What cannot be promised of its pictures, in a sentence."""
    has_driver_time: bool = True
    """Somebody nearer to the camera than we are says when a picture was taken."""
    read_back: Mapping[str, float] = NO_SETTINGS
    """Exposure, gain and white balance as the camera has them, by the names of the configuration."""
    known_as: str = ""
    """What the next child finds it by at once; empty: its source is enough."""

    on_demand: bool = False
    """It takes a picture when it is told, and no others."""

    def grab(self, into: Picture | None) -> Grabbed | Nothing | Broken | None:
        """Return what comes next, decoded into `into` where that fits; None at the end."""

    def want(self, at_ns: int) -> None:
        """Have a picture taken after this time, where it is `on_demand`."""
        return

    def idle_s(self) -> float:
        """Return how long `grab` has nothing to do, unless something is wanted meanwhile."""
        return 0.0

    def close(self) -> None:
        """Leave the camera to whoever comes next, where that takes more than the end of this process."""
        return
