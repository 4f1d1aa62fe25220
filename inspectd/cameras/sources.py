"""What a `source` may be, told apart without opening it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from inspectd.errors import UsageError

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm"})
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mkv", ".mov", ".m4v", ".mpg", ".mpeg", ".webm", ".ts"})
URL_SCHEMES = frozenset({"rtsp", "rtsps", "http", "https", "rtmp", "udp", "tcp"})


class Kind(StrEnum):
    """How a source is read."""

    DEVICE = "device"
    URL = "url"
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
        return self.is_file or (self.kind is Kind.SIMULATED and "parts" in self._query)

    @property
    def _query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.address).query))

    @property
    def is_camera(self) -> bool:
        """A real camera, plugged in or on the network: one that can be bumped."""
        return self.kind in (Kind.DEVICE, Kind.URL)

    @property
    def is_device(self) -> bool:
        """Whether the source is plugged into this machine, and so has an identity."""
        return self.kind is Kind.DEVICE


def parse_source(source: int | str) -> Source:
    """Tell what `source` is; a file or folder must exist, everything else may appear later."""
    text = str(source).strip()
    if text.isdecimal():
        return Source(Kind.DEVICE, str(int(text)))
    if text.startswith("/dev/"):
        return Source(Kind.DEVICE, text)
    scheme = urlsplit(text).scheme if "://" in text else ""
    if scheme == "sim":
        return Source(Kind.SIMULATED, text)
    if scheme in URL_SCHEMES:
        return Source(Kind.URL, text)
    if scheme:
        raise UsageError(
            f"The source {text!r} has an unknown scheme; expected one of {', '.join(sorted(URL_SCHEMES))}, sim."
        )
    return _parse_path(text)


def public_address(address: str) -> str:
    """Return a source without the user and password that an address may carry: what others may read."""
    return re.sub(r"^([A-Za-z][A-Za-z0-9+.-]*://)[^/?#]*@", r"\1", address)


def _parse_path(text: str) -> Source:
    path = Path(text)
    try:
        if path.is_dir():
            return Source(Kind.FOLDER, text)
        exists = path.is_file()
    except OSError:
        exists = False
    if not exists:
        raise UsageError(
            f"The source {text!r} does not exist; expected a camera index, a device path, an address "
            "(rtsp://, http://), a video file, a folder of pictures, or sim://line."
        )
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return Source(Kind.VIDEO, text)
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return Source(Kind.FOLDER, text)
    raise UsageError(
        f"The source {text!r} is neither a video ({', '.join(sorted(VIDEO_SUFFIXES))}) nor a picture "
        f"({', '.join(sorted(PICTURE_SUFFIXES))})."
    )
