"""The archive: pictures of what was not ok, and of a share of what was, written by one thread that nobody waits for.

    <camera>/<day>/<time>_<epoch>_<seq>_<verdict>.png     given up, oldest first, where there are too many
    <camera>/marked/good|bad/…                            what a person has marked, never given up

The files say everything themselves (`inspectd.history.pictures`). The journal has an index of them, which the thread
brings into line with what lies there when it begins.
"""

from __future__ import annotations

import fcntl
import logging
import os
import random
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

from inspectd.errors import InspectdError, StartError
from inspectd.history import pictures, reading
from inspectd.history.database import Indexed, JournalError
from inspectd.history.pictures import MARKED, PARTIAL, Say, Shadowed
from inspectd.records import Finding, Mask, Outcome, Picture, Reason, Stamp, Verdict
from inspectd.wire.messages import rfc3339

LOG = logging.getLogger(__name__)

MOST_WAITING_BYTES = 128_000_000
"""Of pictures that wait to be written."""
HEADERS_KEPT = 64
"""Of a camera: a verdict may be published before its picture is offered, by as many frames as are under way."""
FREE_SHARE, FREE_BYTES = 0.05, 256_000_000
"""So much of the disk, or so many bytes if that is less, is left to others: the journal is among them."""
SAY_EVERY_S = 60.0
STOP_S = 5.0
FLUSH_S, ORDER_S = 5.0, 15.0


class _Moment(msgspec.Struct, frozen=True):
    """What is needed of a header here."""

    at: str | None


@dataclass(frozen=True, slots=True)
class Terms:
    """What is kept, and how much of it."""

    bytes_: float
    """0: nothing is kept."""
    ok_share: float


@dataclass(frozen=True, slots=True)
class ArchiveHealth:
    """How the archive is."""

    detail: str | None
    """What is wrong, one sentence; None: nothing."""
    kept: int
    """Pictures written in this epoch."""
    waiting: int
    lost: dict[str, int]
    """By camera, pictures that could not be kept."""
    bytes_: int
    """That all pictures take, those of earlier epochs included."""


class Index(Protocol):
    """What the archive needs of the journal."""

    @property
    def path(self) -> Path | None:
        """Where it can be read."""

    def index(self, entry: Indexed) -> None:
        """Note where a picture lies, or (no file) that it is gone. Never waits."""

    def flush(self, timeout_s: float) -> None:
        """Wait until all that was noted can be read; JournalError when that fails."""


@dataclass(slots=True, eq=False)
class _Taken:
    """A picture on its way to a file."""

    camera: str
    verdict: Verdict
    picture: Picture
    is_live: bool
    shadow: Finding | None = None
    header: bytes | None = None
    """As it was published."""


@dataclass(slots=True, eq=False)
class _Order:
    """Something that is done between two pictures."""

    do: Callable[[], Path | None]
    done: Future[Path | None] = field(default_factory=Future)


class Archive:
    """A sink of pictures, with a thread that writes them. `wants`, `take`, `keep` and `heard` never wait for it."""

    def __init__(self, folder: Path, terms: Terms, epoch: str, index: Index) -> None:
        """`terms.bytes_` 0: nothing is kept."""
        self._folder = folder
        self._terms = terms
        self._epoch = epoch
        self._index = index
        self._random = random.Random()

        self._changed = threading.Condition()
        self._ready: deque[_Taken | _Order] = deque()
        self._unheard: dict[tuple[str, int], _Taken] = {}
        """Pictures whose verdict is not published yet."""
        self._heard: dict[str, deque[tuple[int, bytes]]] = {}
        self._waiting_bytes = 0
        self._lost: dict[str, int] = {}
        self._kept = 0
        self._is_stopped = False
        self._lock: int | None = None

        self._days: dict[str, int] = {}
        """By day, bytes of what may be given up. This and the rest belong to the thread."""
        self._marked_bytes = 0
        self._oldest: deque[Path] = deque()
        """What is given up next: of one day, in the order of its times."""
        self._failure: str | None = None
        self._say_s = 0.0
        self._thread = threading.Thread(target=self._run, name="archive", daemon=True)

    @property
    def is_on(self) -> bool:
        """Whether anything is kept."""
        return self._terms.bytes_ > 0 and self._index.path is not None

    def start(self) -> None:
        """Take the folder and begin to write; StartError when another daemon has it.

        Whatever else is wrong with it is no reason not to inspect: `health` tells.
        """
        if not self.is_on:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            self._fail(error)
        else:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise StartError(
                    f"The archive {self._folder} is in use by another inspectd; give each daemon its own archive.path."
                ) from None
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, as far as that is possible within a few seconds."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(STOP_S)
            if left := len(self._ready):
                LOG.error("%d pictures were not written to the archive %s", left, self._folder)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # For the line

    def wants(self, _stamp: Stamp, verdict: Verdict | None) -> bool:
        """Whether a picture is to be kept by what was said of it."""
        if verdict is None or not self.is_on:
            return False
        finding = verdict.finding
        if finding.outcome is Outcome.OK:
            return self._random.random() < self._terms.ok_share
        return finding.reason is not Reason.BYPASS  # nobody wanted to know

    def take(self, stamp: Stamp, picture: Picture, verdict: Verdict | None) -> None:
        """Copy a picture."""
        if verdict is not None:
            self.keep(stamp, picture, verdict)

    def keep(self, stamp: Stamp, picture: Picture, verdict: Verdict, shadow: Finding | None = None) -> None:
        """Copy a picture, whatever was said of it. `shadow`: what a second model said."""
        if not self.is_on:
            return
        with self._changed:
            if self._waiting_bytes + picture.nbytes > MOST_WAITING_BYTES:
                self._lose(stamp.camera)
                return
            self._waiting_bytes += picture.nbytes
        taken = _Taken(stamp.camera, verdict, picture.copy(), stamp.part is None, shadow)
        with self._changed:
            published = self._heard.get(stamp.camera, ())
            header = next((header for seq, header in published if seq == verdict.seq), None)
            if header is not None:
                self._queue(taken, header)
            elif published and published[-1][0] > verdict.seq:  # it comes so late that nobody knows what was said
                self._waiting_bytes -= picture.nbytes
                self._lose(stamp.camera)
            else:
                self._unheard[stamp.camera, verdict.seq] = taken

    def heard(self, camera: str, seq: int, header: bytes) -> None:
        """Note what is published. From the publisher's thread."""
        if not self.is_on:
            return
        with self._changed:
            taken = self._unheard.pop((camera, seq), None)
            if taken is not None:
                self._queue(taken, header)
            if camera not in self._heard:
                self._heard[camera] = deque(maxlen=HEADERS_KEPT)
            self._heard[camera].append((seq, header))

    # For commands and states

    def mark(self, camera: str, epoch: str, seq: int, say: Say) -> Path | None:
        """Put a picture where it stays, and return its file; None: there is none of this verdict.

        StartError: it cannot be moved. JournalError: the journal, which knows where it lies, cannot be read.
        """
        return self._order(lambda: self._mark(camera, epoch, seq, say))

    def flush(self) -> None:
        """Wait until all that was kept and published is written."""
        self._order(lambda: None)

    @property
    def health(self) -> ArchiveHealth:
        """How it is now. From any thread."""
        bytes_ = sum(tuple(self._days.values())) + self._marked_bytes
        with self._changed:
            waiting, lost = len(self._ready) + len(self._unheard), dict(self._lost)
        return ArchiveHealth(self._failure, self._kept, waiting, lost, bytes_)

    # The rest; what follows `_run` is called on the thread.

    def _queue(self, taken: _Taken, header: bytes) -> None:
        taken.header = header
        self._ready.append(taken)
        self._changed.notify_all()

    def _lose(self, camera: str) -> None:
        self._lost[camera] = self._lost.get(camera, 0) + 1

    def _order(self, do: Callable[[], Path | None]) -> Path | None:
        if not self.is_on:
            return None
        order = _Order(do)
        with self._changed:
            self._ready.append(order)
            self._changed.notify_all()
        try:
            return order.done.result(ORDER_S)
        except TimeoutError:
            if order.done.cancel():
                raise StartError(f"The archive {self._folder} did not answer within {ORDER_S:g} s.") from None
            return order.done.result()

    def _run(self) -> None:
        try:
            self._look_through()
        except (OSError, JournalError, sqlite3.Error) as error:
            self._fail(error)
        while (one := self._next()) is not None:
            if isinstance(one, _Order):
                _carry_out(one)
                continue
            try:
                self._write(one)
                self._kept += 1
                if self._failure is not None:
                    LOG.info("the archive %s is written again", self._folder)
                self._failure = None
            except Exception as error:  # a thread's top: a picture that cannot be kept must not cost the next one
                if not isinstance(error, OSError | InspectdError):
                    LOG.exception("a picture of camera %s was not kept", one.camera)
                with self._changed:
                    self._lose(one.camera)
                self._fail(error)
            finally:
                with self._changed:
                    self._waiting_bytes -= one.picture.nbytes

    def _next(self) -> _Taken | _Order | None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_stopped or self._ready)
            return self._ready.popleft() if self._ready else None

    def _look_through(self) -> None:
        """Count what lies there, and bring the index into line with it."""
        found: dict[str, Path] = {}
        for path in self._folder.glob(f"*/**/*{PARTIAL}"):
            path.unlink(missing_ok=True)
        for path in self._folder.glob(f"*/**/*{pictures.SUFFIX}"):
            if (name := pictures.parse_name(path.name)) is None:
                continue
            size = path.stat().st_size
            if pictures.mark_of(path):
                self._marked_bytes += size
            else:
                self._days[name.day] = self._days.get(name.day, 0) + size
            found[str(path.relative_to(self._folder))] = path
        known = reading.indexed(self._flushed())
        for file, entry in known.items():
            if file not in found:
                self._index.index(Indexed(entry.camera, entry.epoch, entry.seq, None))
        for file in found.keys() - known.keys():
            name = pictures.parse_name(found[file].name)
            if name is not None:
                self._index.index(Indexed(Path(file).parts[0], name.epoch, name.seq, file))

    def _write(self, taken: _Taken) -> None:
        verdict = taken.verdict
        finding = verdict.finding
        assert taken.header is not None
        data = pictures.encode(
            taken.picture,
            taken.header,
            map_=finding.mask.bytes_ if isinstance(finding.mask, Mask) else None,
            form=finding.form,
            is_live=taken.is_live,
            shadow=_shadowed(taken.shadow) if taken.shadow is not None else None,
        )
        self._make_room(len(data))
        at = msgspec.json.decode(taken.header, type=_Moment).at or rfc3339(time.time_ns())
        folder = self._folder / taken.camera / at[:10]
        path = folder / pictures.file_name(at, self._epoch, verdict.seq, finding.outcome)
        partial = path.with_name(path.name + PARTIAL)
        folder.mkdir(parents=True, exist_ok=True)
        before = path.stat().st_size if path.exists() else 0  # its second model disagreed
        try:
            partial.write_bytes(data)
            partial.rename(path)
        finally:
            partial.unlink(missing_ok=True)
        self._days[at[:10]] = self._days.get(at[:10], 0) + len(data) - before
        self._index.index(Indexed(taken.camera, self._epoch, verdict.seq, str(path.relative_to(self._folder))))

    def _make_room(self, count: int) -> None:
        """Give up the oldest pictures until so many bytes have room; OSError, StartError: they have none."""
        while sum(self._days.values()) + self._marked_bytes + count > self._terms.bytes_:
            if not self._give_up_oldest():
                raise StartError(
                    f"The archive {self._folder} is full of marked pictures ({self._marked_bytes / 1e9:.3g} GB); raise "
                    "archive.max_gb, or move them elsewhere."
                )
        place = next(one for one in (self._folder, *self._folder.parents) if one.exists())
        disk = os.statvfs(place)
        free, least = disk.f_bavail * disk.f_frsize, min(FREE_BYTES, FREE_SHARE * disk.f_blocks * disk.f_frsize)
        if free - count < least:
            raise StartError(
                f"The archive {self._folder} keeps nothing more: only {free / 1e6:.0f} MB are free on its disk, and "
                f"{least / 1e6:.0f} MB are left to others. Free some space, or lower archive.max_gb."
            )

    def _give_up_oldest(self) -> bool:
        while not self._oldest:
            if not self._days:
                return False
            day = min(self._days)
            self._oldest.extend(sorted(self._folder.glob(f"*/{day}/*{pictures.SUFFIX}"), key=lambda path: path.name))
            if not self._oldest:  # somebody else has taken them away
                self._forget(day)
        path = self._oldest.popleft()
        name = pictures.parse_name(path.name)
        if name is None:
            return True
        try:
            size = path.stat().st_size
            path.unlink()
        except FileNotFoundError:  # it was marked, or taken away
            size = 0
        else:
            self._index.index(Indexed(path.parts[-3], name.epoch, name.seq, None))
        self._days[name.day] = max(0, self._days.get(name.day, 0) - size)
        if not self._oldest and not any(self._folder.glob(f"*/{name.day}/*{pictures.SUFFIX}")):
            self._forget(name.day)
        return True

    def _forget(self, day: str) -> None:
        self._days.pop(day, None)
        for folder in self._folder.glob(f"*/{day}"):
            try:
                folder.rmdir()
            except OSError:  # it holds something of somebody else's
                continue

    def _mark(self, camera: str, epoch: str, seq: int, say: Say) -> Path | None:
        file = reading.indexed_file(self._flushed(), camera, epoch, seq)
        path = self._folder / file if file is not None else None
        if path is None or not path.exists():
            return None
        target = self._folder / camera / MARKED / say / path.name
        name = pictures.parse_name(path.name)
        if target == path or name is None:
            return path
        try:
            size = path.stat().st_size
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
        except OSError as error:
            raise StartError(f"The picture {path} cannot be moved to {target.parent}: {error.strerror}.") from None
        if not pictures.mark_of(path):
            self._marked_bytes += size
            self._days[name.day] = max(0, self._days.get(name.day, 0) - size)
        self._index.index(Indexed(camera, epoch, seq, str(target.relative_to(self._folder))))
        return target

    def _flushed(self) -> Path:
        """Return the journal, when it says all that was noted."""
        assert self._index.path is not None
        self._index.flush(FLUSH_S)
        return self._index.path

    def _fail(self, error: Exception) -> None:
        text = error.strerror if isinstance(error, OSError) else str(error)
        is_sentence = isinstance(error, InspectdError)
        self._failure = str(error) if is_sentence else f"The archive {self._folder} cannot be written: {text}."
        if (now_s := time.monotonic()) >= self._say_s:
            self._say_s = now_s + SAY_EVERY_S
            LOG.error("%s Inspection goes on; %d pictures are lost.", self._failure, sum(self._lost.values()))


def _shadowed(finding: Finding) -> Shadowed:
    return Shadowed(finding.model, finding.outcome, finding.score, finding.threshold)


def _carry_out(order: _Order) -> None:
    if not order.done.set_running_or_notify_cancel():
        return
    try:
        order.done.set_result(order.do())
    except Exception as error:  # noqa: BLE001 - whoever waits is told
        order.done.set_exception(error)
