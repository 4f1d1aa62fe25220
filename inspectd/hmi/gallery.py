"""What was said of parts, and their pictures, from the daemon's journal and archive: read only, newest first.

Everything here waits for a disk: it runs in the server's thread pool, never in the event loop.
"""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, TypeVar

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from inspectd.errors import UsageError
from inspectd.history import pictures, reading
from inspectd.history.database import JournalError
from inspectd.records import Outcome
from inspectd.wire.messages import VerdictMessage

T = TypeVar("T")

PAGE = 48
"""Parts on one page."""
MOST_LOOKED_AT = 50_000
"""Verdicts that are looked at for one page: on a long day without trouble the page says how far it has looked."""
MOST_LOOKED_AT_TO_EXPORT = 500_000
AT_ONCE = 2000
"""Rows that are read together: the daemon writes in between."""
NEIGHBOURS = 4
"""Parts before and behind the one that is looked at."""
MOST_BYTES = 1 << 24
MOST_CACHED = 300
"""Small pictures that are kept ready."""
MOST_EXPORTED = 10_000
"""Rows of a CSV file."""
MOST_ZIPPED = 200
"""Pictures of a ZIP file …"""
MOST_ZIPPED_BYTES = 1 << 30
"""… and their bytes."""
THUMB_PX, LARGE_PX = 200, 1400
QUALITY = 82
CAMERA = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
COLUMNS = (
    *("at", "camera", "epoch", "seq", "part", "verdict", "reason", "detail"),
    *("score", "threshold", "recipe", "model", "mark", "picture"),
)


class GalleryError(Exception):
    """Nothing can be shown; the message says why."""


class _Kind(msgspec.Struct, frozen=True):
    """As much of a header as a filter needs: most are passed over."""

    verdict: Outcome
    reason: str | None = None
    recipe: str | None = None
    at: str | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """What is looked for; None: whichever."""

    camera: str | None = None
    verdicts: frozenset[Outcome] = frozenset({Outcome.NG, Outcome.FAULT})
    reason: str | None = None
    recipe: str | None = None
    since: str | None = None
    """RFC 3339, UTC."""
    until: str | None = None
    marked: bool = False
    """Only parts of which a person said something, whatever their verdict was."""

    def passes(self, one: _Kind) -> bool:
        """Whether a verdict is one of those."""
        return (
            one.verdict in self.verdicts
            and self.reason in (None, one.reason)
            and self.recipe in (None, one.recipe)
            and (self.since is None or one.at is None or one.at >= self.since)
            and (self.until is None or one.at is None or one.at <= self.until)
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """A part."""

    header: VerdictMessage
    picture: str | None
    """Its picture's name in the archive; None: none was kept, or it was given up."""
    mark: str | None
    """What a person said of it: `good` or `bad`."""


@dataclass(frozen=True, slots=True)
class Found:
    """A page of parts."""

    entries: list[Entry]
    next_: int | None
    """Where the next page begins; None: there are no more."""
    looked_back_to: str | None
    """When the oldest verdict was that was looked at, where there may be more."""


@dataclass(slots=True)
class _Looking:
    """How far a search is."""

    place: int | None
    left: int
    """Rows that may still be looked at."""
    at: str | None = None
    """When the last one was."""
    is_over: bool = False
    """There are no more."""


class Gallery:
    """See the module. For any thread."""

    def __init__(self, journal: Path | None, archive: Path | None) -> None:
        self._journal, self._archive = journal, archive

    def find(self, wanted: Filter, before: int | None = None, most: int = PAGE) -> Found:
        """Return parts, the newest first; GalleryError: the journal cannot be read."""
        if wanted.marked:
            return self._marked(wanted, before or 0, most)
        looking = _Looking(before, MOST_LOOKED_AT)
        entries: list[Entry] = []
        for header in self._matching(wanted, looking):
            entries.append(self._entry(header))
            if len(entries) == most:
                return Found(entries, looking.place, looking.at)
        return Found(entries, None if looking.is_over else looking.place, looking.at)

    def _matching(self, wanted: Filter, looking: _Looking) -> Iterator[VerdictMessage]:
        """Yield what is looked for, the newest first, until there is no more, or enough was looked at."""
        while looking.left > 0:
            rows = self._read(reading.verdicts_before, wanted.camera, looking.place, AT_ONCE)
            is_older = bool(rows)  # than what is looked for: all of them, as a clock may have been set back
            for place, header in rows:
                looking.place = place
                looking.left -= 1
                try:
                    kind = msgspec.json.decode(header, type=_Kind)
                    looking.at = kind.at or looking.at
                    is_older = is_older and kind.at is not None and kind.at < (wanted.since or "")
                    if wanted.passes(kind):
                        yield msgspec.json.decode(header, type=VerdictMessage)
                except (msgspec.DecodeError, UnicodeDecodeError):  # one row that was damaged
                    continue
            if len(rows) < AT_ONCE or is_older:
                looking.is_over = True
                return

    def _marked(self, wanted: Filter, skipped: int, most: int) -> Found:
        """Return parts that people marked, by their pictures: these stay longer than the journal."""
        paths = self._marked_paths(wanted.camera)
        entries: list[Entry] = []
        for i, path in enumerate(paths[skipped:], skipped + 1):
            with suppress(GalleryError):
                said = _said(path)
                if wanted.passes(_Kind(said.verdict, said.reason, said.recipe, said.at)):
                    entries.append(Entry(said, path.name, pictures.mark_of(path)))
            if len(entries) == most:
                return Found(entries, i if i < len(paths) else None, None)
        return Found(entries, None, None)

    def _marked_paths(self, camera: str | None) -> list[Path]:
        if self._archive is None:
            raise GalleryError("No pictures are kept, or this page was not told where (--config).")
        try:
            return pictures.all_marked(self._archive, camera)
        except PermissionError:
            raise GalleryError(f"The archive {self._archive} cannot be read by this page's user.") from None

    def part(self, camera: str, epoch: str, seq: int) -> tuple[Entry, list[Entry]]:
        """Return one part, and its neighbours in time, the oldest first, itself among them; GalleryError."""
        first = max(0, seq - NEIGHBOURS - 1)
        near: list[Entry] = []
        with suppress(GalleryError):
            headers, _ = self._read(reading.verdicts_after, camera, epoch, first, 2 * NEIGHBOURS + 1, MOST_BYTES)
            for one in headers:
                with suppress(msgspec.DecodeError):
                    near.append(self._entry(msgspec.json.decode(one, type=VerdictMessage)))
        part = next((one for one in near if one.header.seq == seq), None)
        if part is None and self._archive is not None:  # a marked one outlives the journal
            for path in self._marked_paths(camera):
                name = pictures.parse_name(path.name)
                if name is not None and (name.epoch, name.seq) == (epoch, seq):
                    part = Entry(_said(path), path.name, pictures.mark_of(path))
                    return part, [part]
        if part is None:
            raise GalleryError(f"The journal does not hold part {seq} of camera {camera} any more.")
        return part, near

    def path_of(self, camera: str, name: str) -> Path:
        """Return the file of a picture, whatever was asked for; GalleryError: there is none."""
        if self._archive is None:
            raise GalleryError("No pictures are kept, or this page was not told where (--config).")
        if not CAMERA.fullmatch(camera) or pictures.parse_name(name) is None:
            raise GalleryError("This is no name of a picture.")
        try:
            path = _find(self._archive, camera, name)
        except PermissionError:
            raise GalleryError(f"The archive {self._archive} cannot be read by this page's user.") from None
        if path is None:
            raise GalleryError("This picture is not kept any more: it gave way to newer ones.")
        return path

    def picture(self, camera: str, name: str, most_px: int) -> bytes:
        """Return a picture as a JPEG, at most so wide and high; GalleryError: there is none, or it is damaged."""
        return (_thumb if most_px <= THUMB_PX else _jpeg)(self.path_of(camera, name), most_px)

    def map_of(self, camera: str, name: str) -> NDArray[np.uint8] | None:
        """Return a picture's anomaly map, [h, w] as in `mask/`; None: it has none. GalleryError."""
        return _read_picture(self.path_of(camera, name)).map_

    def csv(self, wanted: Filter) -> str:
        """Return a table of what is found, at most MOST_EXPORTED rows; GalleryError."""
        return _table(*self._all(wanted))

    def zip(self, wanted: Filter, out: IO[bytes]) -> None:
        """Write the pictures of what is found, as they are kept, with their table; GalleryError, OSError."""
        entries, is_whole = self._all(wanted)
        count = size = 0
        with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as file:  # PNG is compressed already
            for one in entries:
                if one.picture is None:
                    continue
                if count == MOST_ZIPPED or size > MOST_ZIPPED_BYTES:
                    is_whole = False
                    break
                with suppress(GalleryError, FileNotFoundError):  # it gave way to a newer one meanwhile
                    path = self.path_of(one.header.camera, one.picture)
                    file.write(path, f"{one.header.camera}/{one.picture}")
                    size += path.stat().st_size
                    count += 1
            file.writestr("parts.csv", _table(entries, is_whole))

    def _all(self, wanted: Filter) -> tuple[list[Entry], bool]:
        """Return what is found, at most MOST_EXPORTED, and whether that is all."""
        if wanted.marked:
            found = self._marked(wanted, 0, MOST_EXPORTED)
            return found.entries, found.next_ is None
        looking = _Looking(None, MOST_LOOKED_AT_TO_EXPORT)
        entries = []
        for header in self._matching(wanted, looking):
            entries.append(self._entry(header))
            if len(entries) == MOST_EXPORTED:
                return entries, False
        return entries, looking.is_over

    def _entry(self, header: VerdictMessage) -> Entry:
        if self._archive is None or header.at is None:
            return Entry(header, None, None)
        name = pictures.file_name(header.at, header.epoch, header.seq, header.verdict)
        try:
            path = _find(self._archive, header.camera, name)
        except PermissionError:
            return Entry(header, None, None)
        return Entry(header, None, None) if path is None else Entry(header, name, pictures.mark_of(path))

    def _read(self, read: Callable[..., T], *arguments: Any) -> T:
        if self._journal is None:
            raise GalleryError("No journal is kept, or this page was not told where (--config).")
        try:
            return read(self._journal, *arguments)
        except JournalError as error:
            raise GalleryError(str(error)) from None


def _said(path: Path) -> VerdictMessage:
    return _read_picture(path).said.header


def _table(entries: list[Entry], is_whole: bool) -> str:
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow(COLUMNS)
    for one in entries:
        table.writerow([_cell(value) for value in _row(one)])
    if not is_whole:
        table.writerow(["there is more than this: ask for a shorter time, or for one camera"])
    return out.getvalue()


def _find(archive: Path, camera: str, name: str) -> Path | None:
    return pictures.find(archive, camera, name) or pictures.find_marked(archive, camera, name)


def _read_picture(path: Path) -> pictures.KeptPicture:
    try:
        return pictures.read(path)
    except UsageError as error:
        raise GalleryError(str(error)) from None


def _jpeg(path: Path, most_px: int) -> bytes:
    picture: NDArray[Any] = _read_picture(path).picture
    scale = min(1.0, most_px / max(picture.shape[:2]))
    if picture.dtype == np.uint16:
        picture = cv2.convertScaleAbs(picture, alpha=255 / max(1, int(picture.max())))
    if scale < 1:
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return bytes(encoded)


_thumb = lru_cache(maxsize=MOST_CACHED)(_jpeg)


def _row(one: Entry) -> tuple[Any, ...]:
    header = one.header
    return (
        header.at,
        header.camera,
        header.epoch,
        header.seq,
        header.part,
        header.verdict.value,
        header.reason,
        header.detail,
        header.score,
        header.threshold,
        header.recipe,
        header.model,
        one.mark,
        one.picture,
    )


def _cell(value: Any) -> Any:
    """Return what a spreadsheet takes for text where it is text: a part's id may begin like a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value
