"""A picture that is kept: one PNG that carries its verdict and its map, so that it says by itself what was said of it.

    iTXt "inspectd"   what was said, JSON (`Said`)
    maPs              the map: width and height, 4 bytes each, then its bytes row by row

Both are chunks that every reader of PNG passes over (PNG specification, 4.2.3.4 and 3.3). The name of the file says
when the picture was taken, in which epoch it was which verdict, and what that was.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from inspectd.errors import UsageError
from inspectd.reading import read_regular
from inspectd.records import Challenge, Outcome, Picture
from inspectd.wire.messages import VerdictMessage
from inspectd.wire.requests import Say

MARKS: tuple[Say, ...] = get_args(Say)
MARKED = "marked"
CHALLENGED = "challenged"
SUFFIX = ".png"
PARTIAL = ".partial"
SHOWN = re.compile(r"(?:good|bad)(?:_[A-Za-z0-9][A-Za-z0-9._-]*)?")
"""Folder of the pictures of a known part: what is known of it, and its name."""
NAME = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})T(?P<time>[0-9]{6}\.[0-9]{6})_(?P<epoch>[0-9A-Za-z]{1,64})"
    r"_(?P<seq>[0-9]{1,18})_(?P<verdict>ok|ng|fault)\.png"
)
MAX_FILE_BYTES = 1 << 30
MAX_SIDE = 1 << 15
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_AFTER_HEADER = len(_SIGNATURE) + 12 + 13
"""Where the first chunk behind IHDR begins."""
_TEXT, _MAP = b"iTXt", b"maPs"
_KEYWORD = b"inspectd"


class Shadowed(msgspec.Struct, frozen=True):
    """What a camera's second model said of the same picture."""

    model: str | None
    verdict: Outcome
    score: float | None
    threshold: float | None


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What was said of a picture."""

    header: VerdictMessage
    """As it was published."""
    form: str | None = None
    """Device and precision that its score came about with."""
    is_live: bool
    """It came from a camera, whose light and scene were looked at too."""
    shadow: Shadowed | None = None
    """Of a second model that disagreed."""


class _Named(msgspec.Struct, frozen=True):
    """What a file's name needs of a header."""

    at: str | None
    epoch: str
    seq: int
    verdict: Outcome


class _SaidRaw(msgspec.Struct, frozen=True, kw_only=True):
    """`Said`, with the header's own bytes."""

    header: msgspec.Raw
    form: str | None
    is_live: bool
    shadow: Shadowed | None


@dataclass(frozen=True, slots=True)
class Name:
    """What the name of a file says."""

    day: str
    """UTC, YYYY-MM-DD."""
    epoch: str
    seq: int
    verdict: Outcome


@dataclass(frozen=True, slots=True)
class KeptPicture:
    """A file that was read."""

    path: Path
    said: Said
    picture: Picture
    map_: NDArray[np.uint8] | None
    """[h, w], as in `mask/`; None: nothing was scored."""


def file_name(at: str, epoch: str, seq: int, verdict: Outcome) -> str:
    """Return a picture's file name; `at`: when it was taken, RFC 3339 in UTC with microseconds."""
    return f"{at[:10]}T{at[11:26].replace(':', '')}_{epoch}_{seq}_{verdict.value}{SUFFIX}"


def name_of(header: bytes) -> str | None:
    """Return the name of the file that has the picture of a verdict, by its header; None: it has no picture."""
    one = msgspec.json.decode(header, type=_Named)
    return file_name(one.at, one.epoch, one.seq, one.verdict) if one.at is not None else None


def parse_name(name: str) -> Name | None:
    """Return what a file's name says; None: it is none of ours."""
    found = NAME.fullmatch(name)
    return Name(found["day"], found["epoch"], int(found["seq"]), Outcome(found["verdict"])) if found else None


def find_bad(archive: Path, camera: str) -> list[Path]:
    """Return the pictures of a camera whose parts people marked as bad, the oldest first; PermissionError."""
    folder = archive / camera / MARKED / "bad"
    return [path for path in _listed(folder) if path.suffix == SUFFIX]


def cameras_with_bad(archive: Path) -> list[str]:
    """Return the cameras at which people marked parts as bad; PermissionError."""
    return [path.name for path in _listed(archive) if path.is_dir() and find_bad(archive, path.name)]


def all_marked(archive: Path, camera: str | None = None) -> list[Path]:
    """Return pictures of parts that people marked, at one camera or all, the newest first; PermissionError."""
    cameras = [archive / camera] if camera is not None else [one for one in _listed(archive) if one.is_dir()]
    found = [path for one in cameras for say in MARKS for path in _listed(one / MARKED / say)]
    return sorted((path for path in found if parse_name(path.name)), key=lambda path: path.name, reverse=True)


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def camera_of(path: Path) -> str:
    """Return whose picture it is, by where it lies in an archive."""
    return path.parents[2 if stays(path) else 1].name


def mark_of(path: Path) -> str | None:
    """Return what a person says of a part, by where its picture lies; None: nothing."""
    is_marked = path.parent.name in MARKS and path.parent.parent.name == MARKED
    return path.parent.name if is_marked else None


def folder_of(challenge: Challenge) -> str:
    """Return the folder of a known part's pictures, below CHALLENGED."""
    return challenge.known if challenge.part is None else f"{challenge.known}_{challenge.part}"


def stays(path: Path) -> bool:
    """Whether a picture is not given up for newer ones, by where it lies in an archive."""
    is_known = path.parent.parent.name == CHALLENGED and SHOWN.fullmatch(path.parent.name) is not None
    return is_known or mark_of(path) is not None


def of_known_part(archive: Path, camera: str, challenge: Challenge) -> list[Path]:
    """Return the pictures of a known part, the oldest first; PermissionError."""
    folder = archive / camera / CHALLENGED / folder_of(challenge)
    return [path for path in _listed(folder) if parse_name(path.name) is not None]


def find(archive: Path, camera: str, name: str) -> Path | None:
    """Return a picture that was not marked, by its name; None: it does not lie there."""
    places = (archive / camera / name[:10], *_listed(archive / camera / CHALLENGED))
    return next((place / name for place in places if (place / name).is_file()), None)


def find_marked(archive: Path, camera: str, name: str) -> Path | None:
    """Return a picture that was marked, by its name; None: it does not lie there."""
    places = (archive / camera / MARKED / say for say in MARKS)
    return next((place / name for place in places if (place / name).is_file()), None)


def encode(
    picture: Picture,
    header: bytes,
    *,
    map_: NDArray[np.uint8] | None,
    form: str | None,
    is_live: bool,
    shadow: Shadowed | None = None,
) -> bytes:
    """Return a picture's file, without loss."""
    # A level of compression that is asked for, whichever, makes OpenCV try all filters, and takes twice as long.
    _, png = cv2.imencode(SUFFIX, picture)
    data = bytes(png)
    said = msgspec.json.encode(_SaidRaw(header=msgspec.Raw(header), form=form, is_live=is_live, shadow=shadow))
    chunks = _chunk(_TEXT, _KEYWORD + b"\0\0\0\0\0" + said)
    if map_ is not None:
        chunks += _chunk(_MAP, struct.pack(">II", map_.shape[1], map_.shape[0]) + map_.tobytes())
    return data[:_AFTER_HEADER] + chunks + data[_AFTER_HEADER:]


def read(path: Path) -> KeptPicture:
    """Read a picture that was kept; UsageError: it is damaged, or none of ours."""
    try:
        data = read_regular(path, MAX_FILE_BYTES)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"The picture {path} cannot be read: {why}.") from None
    try:
        chunks = dict(_chunks(data))
        text = chunks.get(_TEXT, b"")
        if not text.startswith(_KEYWORD + b"\0"):
            raise UsageError(f"The picture {path} says nothing of a verdict; it is not one of an archive.")
        said = msgspec.json.decode(text[len(_KEYWORD) + 5 :], type=Said)
        map_ = _map(chunks[_MAP]) if _MAP in chunks else None
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except (ValueError, struct.error, cv2.error) as error:
        raise UsageError(f"The picture {path} is damaged: {error}.") from None
    if picture is None or picture.dtype not in (np.uint8, np.uint16) or picture.shape[2:] not in ((), (3,)):
        raise UsageError(f"The picture {path} is damaged: it cannot be decoded, or not as one of a camera.")
    return KeptPicture(path, said, cast("Picture", picture), map_)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of each chunk up to the end; ValueError when one is not whole."""
    if not data.startswith(_SIGNATURE):
        raise ValueError("it is no PNG")
    at = len(_SIGNATURE)
    kind = b""
    while kind != b"IEND":
        if at + 12 > len(data):
            raise ValueError("its end is missing")
        (length,) = struct.unpack_from(">I", data, at)
        kind, content = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        if data[at + 8 + length : at + 12 + length] != struct.pack(">I", zlib.crc32(kind + content)):
            raise ValueError("a part of it was changed or is missing")
        yield kind, content
        at += 12 + length


def _map(data: bytes) -> NDArray[np.uint8]:
    width, height = struct.unpack_from(">II", data)
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE) or len(data) != 8 + width * height:
        raise ValueError("its map is not whole")
    return np.frombuffer(data, np.uint8, offset=8).reshape(height, width)
