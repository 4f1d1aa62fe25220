"""Pictures from files: which ones a folder holds, and how one is decoded. The only such place.

`predict` and the daemon must see the same pixels for the same file, so both decode it here, and sizes are those of what
was decoded.
"""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inspectd.cameras import jpeg
from inspectd.cameras.sources import PICTURE_SUFFIXES
from inspectd.errors import UsageError
from inspectd.reading import read_regular
from inspectd.records import Picture

DECODE = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
MAX_FILE_BYTES = 1 << 30
TOOLS_PREFIXES = (".", "@", "#", "$")
TOOLS_FOLDERS = frozenset({"__MACOSX", "lost+found", "System Volume Information", "Thumbs", "thumbnails"})
"""What file managers, NAS boxes, archives and notebooks leave behind: copies and thumbnails, not parts."""
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ANIMATED = (b"GIF8", b"RIFF", b"\x89PNG")
_ORIENTATION, _LYING = 0x112, 5
"""EXIF: from 5 on, width and height are exchanged when the picture is decoded."""
_NAMED = 3
"""So many names are told; of the others only how many they are."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What a folder holds."""

    pictures: tuple[Path, ...]
    """In name order."""
    notes: tuple[str, ...]
    """A sentence about each kind of thing that was passed over."""


def is_tools_folder(name: str) -> bool:
    """Whether a folder of this name is some program's own."""
    return name.startswith(TOOLS_PREFIXES) or name in TOOLS_FOLDERS


def list_pictures(path: Path) -> list[Path]:
    """Return the pictures below a folder in name order, recursively; a single picture is its own list."""
    return list(survey(path).pictures)


def survey(path: Path) -> Listing:
    """Look through a folder. Links to folders are followed, each folder once; what is left out is told."""
    if path.is_file():
        return Listing((path,), ())
    search = _Search()
    search.look(path)
    pictures = sorted(search.pictures, key=lambda p: p.relative_to(path).as_posix())
    return Listing(tuple(pictures), tuple(search.notes(path)))


class _Search:
    """One walk through a folder."""

    def __init__(self) -> None:
        self.pictures: list[Path] = []
        self._seen: set[tuple[int, int]] = set()
        self._tools: list[Path] = []
        self._twice: list[Path] = []
        self._locked: list[str] = []
        self._others: Counter[str] = Counter()

    def look(self, folder: Path) -> None:
        try:
            status = folder.stat()
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            self._locked.append(f"{shown(folder)} ({error.strerror})")
            return
        if (status.st_dev, status.st_ino) in self._seen:
            self._twice.append(folder)
            return
        self._seen.add((status.st_dev, status.st_ino))
        for entry in entries:
            path = folder / entry.name
            is_tools = is_tools_folder(entry.name)
            if entry.is_dir():
                if is_tools:
                    self._tools.append(path)
                else:
                    self.look(path)
            elif path.suffix.lower() not in PICTURE_SUFFIXES:
                if not entry.name.startswith("."):
                    self._others[path.suffix.lower() or "none"] += 1
            elif is_tools and entry.name.startswith("."):
                self._tools.append(path)
            elif entry.is_file():
                self.pictures.append(path)
            else:
                what = "a link to nothing" if entry.is_symlink() else "no file"
                self._locked.append(f"{shown(path)} ({what})")

    def notes(self, root: Path) -> Iterator[str]:
        if self._tools:
            names = _some([shown(path.relative_to(root)) for path in self._tools])
            yield f"{shown(root)}: what other programs keep for themselves was passed over: {names}."
        if self._twice:
            names = _some([shown(path) for path in self._twice])
            yield f"{shown(root)}: {names} lead to a folder that was read already."
        if self._locked:
            yield f"{shown(root)}: {_some(self._locked)} cannot be read; what is in there was left out."
        if self._others:
            count = sum(self._others.values())
            endings = ", ".join(suffix for suffix, _ in self._others.most_common(5))
            yield (
                f"{shown(root)}: {count} file{'s' if count > 1 else ''} with other endings ({endings}) "
                f"{'were' if count > 1 else 'was'} passed over; expected {', '.join(sorted(PICTURE_SUFFIXES))}."
            )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def shown(path: Path | str) -> str:
    """Return a path as text that can be printed and sent: bytes that are not UTF-8 become escapes."""
    return str(path).encode(errors="backslashreplace").decode()


def part_name(picture: Path, folder: Path) -> str:
    """Return a picture's name in verdicts: its path relative to the folder, odd bytes as escapes."""
    return shown(picture.name if picture == folder else picture.relative_to(folder).as_posix())


def size_of(path: Path) -> tuple[int, int] | None:
    """Return the width and height that a file's picture will have, from its header; None where it cannot be read."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            return (height, width) if image.getexif().get(_ORIENTATION, 1) >= _LYING else (width, height)
    except Exception:  # noqa: BLE001 - whatever is wrong with it, decoding will tell
        return None


def read_picture(path: Path) -> Picture:
    """Decode one file to uint8 or uint16, [H, W] grey or [H, W, 3] BGR; UsageError when that fails."""
    return as_picture(_decode(path, DECODE), f"The picture {shown(path)}")


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Return where a defect is drawn, bool [H, W]: what is opaque and not black. UsageError when that fails."""
    mask = _decode(path, cv2.IMREAD_UNCHANGED)
    if mask.ndim == 2:
        return mask > 0
    is_coloured = mask[:, :, :3].max(axis=2) > 0
    return np.asarray(is_coloured & (mask[:, :, 3] > 0) if mask.shape[2] == 4 else is_coloured, np.bool_)


def _decode(path: Path, flags: int) -> Picture:
    name = shown(path)
    try:
        data = read_regular(path, MAX_FILE_BYTES)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"The picture {name} cannot be read: {why}.") from None
    pages = _pages(data)
    if pages > 1:
        raise UsageError(
            f"The file {name} holds {pages} pictures, and only the first would be seen; save each as a file of its own."
        )
    try:
        if jpeg.is_jpeg(data):
            jpeg.check(data)
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except jpeg.DamagedError as error:
        raise UsageError(f"The picture {name} cannot be decoded: it is damaged ({error}).") from None
    except cv2.error:
        picture = None
    if picture is None:
        raise UsageError(f"The picture {name} cannot be decoded: it is empty, truncated or no picture.")
    return cast("Picture", picture)


def _pages(data: bytes) -> int:
    """Return how many pictures a file holds, as far as its format can hold several."""
    if data[:4] in _TIFF:
        return _tiff_pages(data)
    if data[:4] not in _ANIMATED:
        return 1
    try:
        with Image.open(io.BytesIO(data)) as image:
            return int(getattr(image, "n_frames", 1))
    except Exception:  # noqa: BLE001 - whatever is wrong with it, decoding will tell
        return 1


def _tiff_pages(data: bytes) -> int:
    """Count the directories of a TIFF (TIFF 6.0, section 2; BigTIFF has wider numbers); thumbnails do not count."""
    order = "little" if data[:2] == b"II" else "big"
    is_big = data[2:4] in (b"+\0", b"\0+")
    wide, entry, count_size = (8, 20, 8) if is_big else (4, 12, 2)

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], order)  # type: ignore[arg-type]  # one of the two words

    at, pages, seen = number(8 if is_big else 4, wide), 0, set[int]()
    while 0 < at < len(data) and at not in seen and len(seen) < 10_000:
        seen.add(at)
        entries = number(at, count_size)
        first = at + count_size
        kinds = {number(first + i * entry, 2): first + i * entry for i in range(min(entries, 1000))}
        kind_at = kinds.get(254)  # NewSubfileType: bit 0 is a reduced copy of another page
        pages += not (kind_at is not None and number(kind_at + (12 if is_big else 8), 4) & 1)
        at = number(first + entries * entry, wide)
    return max(1, pages)


def as_picture(array: object, what: str) -> Picture:
    """Check that an array is a picture as OpenCV makes them; drop an alpha channel."""
    if not isinstance(array, np.ndarray) or array.dtype not in (np.uint8, np.uint16):
        kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise UsageError(f"{what} is {kind}; expected a picture of uint8 or uint16.")
    if array.ndim == 3 and array.shape[2] == 4:
        array = array[:, :, :3]
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3) or 0 in array.shape:
        raise UsageError(f"{what} has shape {array.shape}; expected [H, W] grey or [H, W, 3] BGR.")
    return cast("Picture", array)
