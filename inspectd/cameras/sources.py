"""What a `source` may be, told apart without opening it."""

from __future__ import annotations

import math
import os
import stat
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from inspectd.errors import UsageError
from inspectd.secrets import redact

PICTURE_SUFFIXES = frozenset(
    {
        ".png",
        ".apng",
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".bmp",
        ".tif",
        ".tiff",
        ".webp",
        ".gif",
        ".pgm",
        ".ppm",
        ".pnm",
    }
)
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mkv", ".mov", ".m4v", ".mpg", ".mpeg", ".webm", ".ts"})
URL_SCHEMES = frozenset({"rtsp", "rtsps", "http", "https", "rtmp", "udp", "tcp"})


SIMULATIONS = {
    "line": (
        *("seed", "fps", "parts", "defects", "width", "height", "hang", "unplug", "freeze", "ahead"),
        *("faults", "every", "longest", "lamp", "ages", "wear", "renewed"),
    ),
    "belt": ("seed", "fps", "pictures", "defects", "width", "height", "speed", "unrest"),
}
"""What may be asked of each."""
MISBEHAVING = frozenset({"faults", "lamp"})
"""What makes a simulated line a camera whose light, lens and place are looked at."""
VIDEO_MAJOR = 81
ARAVIS = "aravis://"


class Kind(StrEnum):
    """How a source is read."""

    DEVICE = "device"
    URL = "url"
    ARAVIS = "aravis"
    VIDEO = "video"
    FOLDER = "folder"
    SIMULATED = "simulated"


@dataclass(frozen=True, slots=True)
class Source:
    """A source and what it can be expected to do."""

    kind: Kind
    address: str
    """Device index or path, URL, or path of a file or folder."""

    @property
    def is_file(self) -> bool:
        """A video or a folder of pictures."""
        return self.kind in (Kind.VIDEO, Kind.FOLDER)

    @property
    def is_lossless(self) -> bool:
        """Read as fast as its pictures are used, so that none is ever displaced."""
        return self.is_file or (self.kind is Kind.SIMULATED and "fps" not in self._query)

    @property
    def is_finite(self) -> bool:
        """Whether it comes to an end by itself (unless it is looped)."""
        return self.is_file or (
            self.kind is Kind.SIMULATED and not self._query.keys().isdisjoint({"parts", "pictures"})
        )

    @property
    def _query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.address).query))

    @property
    def is_camera(self) -> bool:
        """A camera, plugged in or on the network: one that can be bumped. So can a simulated one that misbehaves."""
        return self.kind in (Kind.DEVICE, Kind.URL, Kind.ARAVIS) or (
            self.kind is Kind.SIMULATED and not MISBEHAVING.isdisjoint(self._query)
        )

    @property
    def is_device(self) -> bool:
        """Whether the source is a camera that has an identity."""
        return self.kind in (Kind.DEVICE, Kind.ARAVIS)


def parse_source(source: int | str) -> Source:
    """Tell what `source` is; a file or folder must exist, everything else may appear later."""
    text = str(source).strip()
    if not text:
        raise UsageError(
            "The source is empty; expected a camera index, a device path, an address (rtsp://, http://), a video file, "
            "a folder of pictures, or sim://line."
        )
    if text.isdecimal() and len(text) < 5:
        return Source(Kind.DEVICE, str(int(text)))
    if text.startswith("/dev/"):
        return Source(Kind.DEVICE, _video_device(text))
    scheme = text.partition("://")[0].lower() if "://" in text else ""
    if scheme == "sim":
        return Source(Kind.SIMULATED, _simulation(text))
    if scheme in URL_SCHEMES:
        return Source(Kind.URL, text)
    if text.startswith(ARAVIS):
        return Source(Kind.ARAVIS, _vision_camera(text))
    if scheme:
        raise UsageError(
            f"The source {public_address(text)!r} has an unknown scheme; expected one of "
            f"{', '.join(sorted(URL_SCHEMES))}, aravis, sim."
        )
    return _parse_path(text)


def public_address(address: str) -> str:
    """Return a source without what an address may carry in secret: user, password, query. What others may read."""
    shown = redact(address)
    scheme, colon, rest = shown.partition("://")
    if not colon or scheme.lower() == "sim":
        return shown
    path, question, _ = rest.partition("?")
    return f"{scheme}://{path}{question}{'…' if question else ''}"


def encoding_problem(address: str) -> str | None:
    """Return what is wrong with an address whose user or password holds characters that end it, or None."""
    scheme, colon, rest = address.partition("://")
    credentials, at, _ = rest.rpartition("@")
    if not colon or not at or scheme.lower() not in URL_SCHEMES:
        return None
    found = [letter for letter in "/?#@[]'\" " if letter in credentials]
    if not found or ":" not in credentials.partition("/")[0]:  # without a password the @ belongs to the path
        return None
    ways = ", ".join(f"%{ord(letter):02X} for {letter!r}" for letter in found)
    return f"its user or password holds characters that end an address; write {ways}"


def _vision_camera(text: str) -> str:
    """Return the address of a GigE Vision or USB3 Vision camera, by its serial number."""
    serial = text.removeprefix(ARAVIS)
    if not serial or not serial.isprintable() or set(serial) & set("/?# "):
        raise UsageError(f"The source {text[:80]!r} names no camera; expected aravis:// and its serial number.")
    return text


def _video_device(text: str) -> str:
    """Return a device path; one that exists must be a video device (V4L2 has the major number 81)."""
    try:
        status = Path(text).stat()
    except (OSError, ValueError):  # it may be plugged in later
        return text
    if not stat.S_ISCHR(status.st_mode) or os.major(status.st_rdev) != VIDEO_MAJOR:
        raise UsageError(f"{text} is no camera; expected a video device such as /dev/video0 (see `inspectd cameras`).")
    return text


def _simulation(text: str) -> str:
    """Return the address of a simulated line, if there is one by this name and its numbers are numbers."""
    simulation_numbers(text)
    return text


def simulation_numbers(address: str) -> dict[str, float]:
    """Return what a sim:// address asks for; UsageError for an unknown line, key or number."""
    try:
        url = urlsplit(address)
    except ValueError:
        raise UsageError(f"The source {address!r} is no address; expected sim://line or sim://belt.") from None
    keys = SIMULATIONS.get(url.netloc)
    if keys is None or url.path.strip("/"):
        raise UsageError(f"The source {address!r} is not known; expected sim://line or sim://belt.")
    found = {}
    for key, value in parse_qsl(url.query, keep_blank_values=True):
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if key not in keys or not 0 <= number < 1e12:
            raise UsageError(
                f"The source sim://{url.netloc} has {key[:40]}={value[:40]!r}; expected numbers for {', '.join(keys)}."
            )
        found[key] = number
    return found


def _parse_path(text: str) -> Source:
    path = Path(text)
    try:
        if path.is_dir():
            return Source(Kind.FOLDER, text)
        exists = path.is_file()
    except (OSError, ValueError):
        exists = False
    if not exists:
        raise UsageError(
            f"The source {redact(text)!r} does not exist; expected a camera index, a device path, an address "
            "(rtsp://, http://), a video file, a folder of pictures, or sim://line."
        )
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return Source(Kind.VIDEO, text)
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return Source(Kind.FOLDER, text)
    raise UsageError(
        f"The source {redact(text)!r} is neither a video ({', '.join(sorted(VIDEO_SUFFIXES))}) nor a picture "
        f"({', '.join(sorted(PICTURE_SUFFIXES))})."
    )
