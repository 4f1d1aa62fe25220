"""The folder of an archive while a daemon has it: what lies there, what room is left, what goes first. One thread's.

    <camera>/<day>/<time>_<epoch>_<seq>_<verdict>.png     given up, oldest first, where there are too many
    <camera>/marked/good|bad/…                            what people have marked, never given up
    <camera>/challenged/good|bad[_<part>]/…               known parts: of each the first picture and the newest

Folders and names alone say what may be given up. Whatever else lies there is somebody else's, and left alone.
"""

from __future__ import annotations

import errno
import fcntl
import heapq
import logging
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from inspectd.errors import StartError
from inspectd.history import pictures
from inspectd.history.pictures import CHALLENGED, MARKED, PARTIAL
from inspectd.records import Challenge
from inspectd.wire.requests import Say

LOG = logging.getLogger(__name__)

CAMERA = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
FREE_SHARE, FREE_BYTES = 0.05, 256_000_000
"""So much of the disk, or so many bytes if that is less, is left to others: the journal is among them."""
MOST_KNOWN = 100
"""Known parts of a camera; pictures of further ones are kept as those of any part."""
NEWEST_KNOWN = 30
"""Of a known part so many pictures are kept beside the first …"""
FEWEST_KNOWN = 2
"""… and so many where there is no room."""
AT_ONCE = 1000
"""Pictures that are looked up together, of those that are to be given up next."""
CLOCK_IS_SET = "2025"
"""A clock that says less has not been set since the machine started; nothing is from the future then."""


class Shelf:
    """A folder of pictures that nobody else writes."""

    def __init__(self, folder: Path, most_bytes: float, now_s: Callable[[], float] = time.time) -> None:
        """Take the folder; OSError: it cannot be had. StartError: another daemon has it. `now_s`: the wall clock."""
        self.folder = folder
        self.is_counted = False
        """Whether it is known what lies there: `count` finds out."""
        self._most_bytes = most_bytes
        self._now_s = now_s
        self._days: dict[str, int] = {}
        """By day, bytes of what may be given up."""
        self._marked_bytes = 0
        self._oldest: deque[tuple[str, str]] = deque()
        """Name and camera of what is given up next: of one day, in the order of its times."""
        self._aside: set[Path] = set()
        """What cannot be read, or not be removed."""
        folder.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:  # some file systems cannot lock a folder at all
            if error.errno == errno.EWOULDBLOCK:
                os.close(self._fd)
                raise StartError(
                    f"The archive {folder} is in use by another inspectd; give each daemon its own archive.path."
                ) from None

    def close(self) -> None:
        """Let it go."""
        os.close(self._fd)

    @property
    def is_there(self) -> bool:
        """Whether what lies at its path is still this folder."""
        try:
            return os.path.samestat(os.fstat(self._fd), self.folder.stat())
        except OSError:
            return False

    @property
    def bytes_(self) -> int:
        """What all pictures take. From any thread."""
        return sum(tuple(self._days.values())) + self._marked_bytes

    def count(self) -> None:
        """Look what lies there, and remove what a daemon that was killed left half written."""
        days: dict[str, int] = {}
        self._aside.clear()
        for camera in self._cameras():
            for place in (*self._folders(camera), *self._staying(camera)):
                self._remove_partials(place)
                if DAY.fullmatch(place.name):
                    days[place.name] = days.get(place.name, 0) + sum(size for _, size in self._ours(place))
        self._days = days
        self._oldest.clear()
        self._count_marked()
        self.is_counted = True

    def put(self, camera: str, name: str, data: bytes, known: Challenge | None = None) -> bool:
        """Write a picture, whole or not at all; where it lies already it is replaced. Return whether it is a new one.

        `known`: the part, which is shown to try the inspection.
        OSError, StartError: it has no room, or cannot be written.
        """
        self.make_room(len(data))
        path = next(self._places(camera, name), None)
        before = path.stat().st_size if path is not None else 0
        path = path or self._unmarked(camera, name, known)
        if not self._is_ours(path):
            raise StartError(f"The archive's folder {path.parent} is, or lies in, a link; pictures are not kept there.")
        partial = path.with_name(path.name + PARTIAL)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(data)
            partial.rename(path)
        finally:
            partial.unlink(missing_ok=True)
        self._add(path, len(data) - before)
        if known is not None and path.parent.parent.name == CHALLENGED:
            self._thin_out(path.parent)
        return before == 0

    def mark(self, camera: str, name: str, say: Say) -> Path | None:
        """Put a picture where it is never given up, and return its file; None: it does not lie here.

        StartError: it cannot be moved.
        """
        target = self.folder / camera / MARKED / say / name
        try:
            for path in list(self._places(camera, name)):
                if path == target:
                    continue
                size = path.stat().st_size
                target.parent.mkdir(parents=True, exist_ok=True)
                _sync(path)
                replaced = target.stat().st_size if target.exists() else 0
                path.rename(target)
                self._add(path, -size)
                self._add(target, size - replaced)
            return target if target.exists() else None
        except OSError as error:
            raise StartError(f"{name} cannot be moved to {target.parent}: {error.strerror}.") from None

    def find(self, camera: str, epoch: str, seq: int) -> str | None:
        """Return the name of a verdict's picture by looking through all of a camera's; None: there is none."""
        root = self.folder / camera
        for place in (*self._folders(root), *self._staying(root)):
            for name, _ in self._ours(place):
                found = pictures.parse_name(name)
                if found is not None and (found.epoch, found.seq) == (epoch, seq):
                    return name
        return None

    def probe(self, count: int) -> None:
        """OSError, StartError: no picture of so many bytes can be written now."""
        self.make_room(count)
        path = self.folder / f".probe{PARTIAL}"
        try:
            path.write_bytes(b"x")
        finally:
            path.unlink(missing_ok=True)

    def make_room(self, count: int) -> None:
        """Give up the oldest pictures until so many bytes have room; OSError, StartError: they have none."""
        if self._marked_bytes + count > self._most_bytes:
            self._count_marked()
        if self._marked_bytes + count > self._most_bytes:
            self._thin_out_all()
        if self._marked_bytes + count > self._most_bytes:
            raise StartError(
                f"The archive {self.folder} has no room: pictures that were marked, and those of known parts, take "
                f"{self._marked_bytes / 1e9:.3g} GB, and the next one {count / 1e9:.3g} GB. Raise archive.max_gb, or "
                "move some elsewhere."
            )
        disk = os.statvfs(self.folder)
        free, least = disk.f_bavail * disk.f_frsize, min(FREE_BYTES, FREE_SHARE * disk.f_blocks * disk.f_frsize)
        if free - count < least:
            raise StartError(
                f"The archive {self.folder} keeps nothing more: only {free / 1e6:.0f} MB are free on its disk, and "
                f"{least / 1e6:.0f} MB are left to others. Free some space, or lower archive.max_gb."
            )
        while self.bytes_ + count > self._most_bytes:
            if self._oldest:
                self._give_up(*self._oldest.popleft())
            elif not self._look_for_oldest():
                return  # whatever was counted is not there any more

    def _give_up(self, name: str, camera: str) -> None:
        path = self._unmarked(camera, name)
        try:
            size = path.stat().st_size
            path.unlink()
        except FileNotFoundError:  # it was marked, or taken away
            return
        except OSError as error:
            self._put_aside(path.parent, error)
            return
        self._add(path, -size)

    def _look_for_oldest(self) -> bool:
        """Find what is given up next; False: nothing may be. What the marked and the oldest take is counted anew."""
        self._count_marked()
        while self._days:
            day = min(self._days, key=self._age)
            self._days[day] = 0
            self._oldest.extend(heapq.nsmallest(AT_ONCE, self._of_day(day)))
            if self._oldest:
                return True
            del self._days[day]
            for camera in self._cameras():
                with suppress(OSError):  # it is not there, or holds something of somebody else's
                    (camera / day).rmdir()
        return False

    def _of_day(self, day: str) -> Iterator[tuple[str, str]]:
        """Yield name and camera of each picture of a day, and count what they take."""
        for camera in self._cameras():
            for name, size in self._ours(camera / day):
                self._days[day] += size
                yield name, camera.name

    def _age(self, day: str) -> tuple[bool, str]:
        """Return what orders days: those that are yet to come, by a clock that was wrong, go first."""
        tomorrow = f"{datetime.fromtimestamp(self._now_s() + 86_400, UTC):%Y-%m-%d}"
        return not (day > tomorrow > CLOCK_IS_SET), day

    def _count_marked(self) -> None:
        places = (place for camera in self._cameras() for place in self._staying(camera))
        self._marked_bytes = sum(size for place in places for _, size in self._ours(place))

    def _cameras(self) -> list[Path]:
        return [path for path in self._folders(self.folder) if CAMERA.fullmatch(path.name)]

    def _unmarked(self, camera: str, name: str, known: Challenge | None = None) -> Path:
        if known is not None and self._is_room_for(camera, known):
            return self.folder / camera / CHALLENGED / pictures.folder_of(known) / name
        return self.folder / camera / name[:10] / name

    def _staying(self, camera: Path) -> list[Path]:
        """Return the folders of a camera whose pictures are not given up for newer ones."""
        found = (*self._folders(camera / MARKED), *self._folders(camera / CHALLENGED))
        return [place for place in found if pictures.stays(place / "x")]

    def _is_room_for(self, camera: str, known: Challenge) -> bool:
        names = {place.name for place in self._folders(self.folder / camera / CHALLENGED)}
        return pictures.folder_of(known) in names or len(names) < MOST_KNOWN

    def _thin_out_all(self) -> None:
        """Of known parts keep no more than what may be held against the next picture."""
        for camera in self._cameras():
            for place in self._folders(camera / CHALLENGED):
                self._thin_out(place, FEWEST_KNOWN)

    def _thin_out(self, place: Path, newest: int | None = None) -> None:
        """Keep the first picture of a known part, and the newest."""
        for name, size in sorted(self._ours(place))[1 : -(newest or NEWEST_KNOWN)]:
            with suppress(OSError):
                (place / name).unlink()
                self._add(place / name, -size)

    def _places(self, camera: str, name: str) -> Iterator[Path]:
        """Yield where a picture lies."""
        staying = (place / name for place in self._staying(self.folder / camera))
        return (path for path in (*staying, self._unmarked(camera, name)) if path.is_file() and self._is_ours(path))

    def _is_ours(self, path: Path) -> bool:
        """Whether nothing between the archive and a file is a link: those lead to what is somebody else's."""
        below = (one for one in (path, *path.parents) if self.folder in one.parents)
        return not any(one.is_symlink() for one in below)

    def _folders(self, folder: Path) -> list[Path]:
        """Return the folders in a folder, links left aside; none where it is not there."""
        return [Path(entry.path) for entry in self._entries(folder) if entry.is_dir(follow_symlinks=False)]

    def _ours(self, folder: Path) -> Iterator[tuple[str, int]]:
        """Yield name and bytes of each picture in a folder; of a day's folder, only those of that day."""
        for entry in self._entries(folder):
            name = pictures.parse_name(entry.name)
            if name is None or (DAY.fullmatch(folder.name) and name.day != folder.name):
                continue
            try:
                if entry.is_file(follow_symlinks=False):
                    yield entry.name, entry.stat(follow_symlinks=False).st_size
            except FileNotFoundError:  # it has just gone
                continue

    def _entries(self, folder: Path) -> Iterator[os.DirEntry[str]]:
        """Yield what lies in a folder that is there, is no link, and can be read."""
        if folder in self._aside or (folder != self.folder and folder.is_symlink()):
            return
        try:
            with os.scandir(folder) as entries:
                yield from entries
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            self._put_aside(folder, error)

    def _remove_partials(self, folder: Path) -> None:
        for entry in list(self._entries(folder)):
            is_partial = entry.name.endswith(PARTIAL)
            if is_partial and pictures.parse_name(entry.name.removesuffix(PARTIAL)) is not None:
                with suppress(OSError):
                    Path(entry.path).unlink()

    def _put_aside(self, folder: Path, error: OSError) -> None:
        """Have nothing to do with a folder until all is counted again."""
        if folder == self.folder:
            raise error
        if folder not in self._aside:
            LOG.warning("%s is left aside, what is in it does not count: %s", folder, error.strerror)
            self._aside.add(folder)

    def _add(self, path: Path, count: int) -> None:
        if pictures.stays(path):
            self._marked_bytes = max(0, self._marked_bytes + count)
        else:
            day = path.parent.name
            self._days[day] = max(0, self._days.get(day, 0) + count)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
