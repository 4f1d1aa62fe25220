"""The archive: pictures of what was not ok, and of a share of what was, written by one thread that nobody waits for.

A picture waits for the header that is published of it, and is written as a file that says everything itself
(`inspectd.history.pictures`) into a folder that says what goes first (`inspectd.history.shelf`). Its name follows from
the header, so that the journal, which has all headers, is the index.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from inspectd.errors import InspectdError, StartError
from inspectd.history import pictures
from inspectd.history.pictures import Shadowed
from inspectd.history.shelf import Shelf
from inspectd.records import Finding, Outcome, Picture, Reason, Stamp, Verdict
from inspectd.wire.requests import Say

LOG = logging.getLogger(__name__)

MOST_WAITING_BYTES = 128_000_000
"""Of pictures that wait to be written."""
HEADERS_KEPT = 256
"""Of a camera: of a frame that was too long under way the verdict is published before its picture is offered, and so
are those of later frames."""
ALIKE, ALIKE_EVERY_S = 100, 1.0
"""Of faults for one reason in a row so many are kept, and then one a second: a lamp that fails at night does not cost
all that was kept before."""
PROBE_S, IDLE_S = 5.0, 60.0
"""While nothing is to be written, so often it is tried whether that is possible, again and still."""
COUNT_EVERY_S = 86_400.0
"""What lies in the folder is counted anew: others may have taken some of it away."""
FULL_S = 10.0
"""So long it is said that a picture found no room in memory."""
SAY_EVERY_S = 60.0
STOP_S = 5.0
ORDER_S = 10.0


@dataclass(frozen=True, slots=True)
class Terms:
    """What is kept, and how much of it."""

    bytes_: float
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


@dataclass(slots=True, eq=False)
class _Taken:
    """A picture on its way to a file."""

    camera: str
    verdict: Verdict
    picture: Picture
    is_live: bool
    shadow: Finding | None = None
    header: bytes | None = None
    """As it was published; None: it was not yet."""


@dataclass(slots=True, eq=False)
class _Order:
    """Something that is done between two pictures, and that somebody waits for."""

    do: Callable[[], str | Path | None]
    done: Future[str | Path | None] = field(default_factory=Future)


@dataclass(slots=True)
class _Row:
    """Faults for one reason, one after the other."""

    reason: Reason | None
    count: int
    kept_s: float


class Archive:
    """A sink of pictures, with a thread that writes them. `wants`, `take`, `keep` and `heard` never wait for it."""

    def __init__(self, folder: Path | None, terms: Terms) -> None:
        """`folder` None: nothing is kept."""
        self._folder = folder
        self._terms = terms
        self._random = random.Random()
        self._rows: dict[str, _Row] = {}

        self._changed = threading.Condition()
        self._ready: deque[_Taken | _Order] = deque()
        self._pending: dict[tuple[str, int], _Taken] = {}
        """By camera and `seq`, pictures that are not written yet."""
        self._heard: dict[str, deque[tuple[int, bytes]]] = {}
        self._waiting_bytes = 0
        self._lost: dict[str, int] = {}
        self._kept = 0
        self._is_stopped = False

        self._full_s = -math.inf
        """When a picture found no room in memory last."""
        self._needed = 1
        """Bytes of the last picture: what there must be room for."""
        self._shelf: Shelf | None = None
        self._failure: str | None = None
        self._say_s = self._count_s = 0.0
        self._thread = threading.Thread(target=self._run, name="archive", daemon=True)

    @property
    def folder(self) -> Path | None:
        """Where pictures are kept; None: none are."""
        return self._folder

    @property
    def is_on(self) -> bool:
        """Whether anything is kept."""
        return self._folder is not None

    def start(self) -> None:
        """Take the folder and begin to write; StartError when another daemon has it.

        Whatever else is wrong with it is no reason not to inspect: `health` tells.
        """
        if self._folder is None:
            return
        try:
            self._shelf = Shelf(self._folder, self._terms.bytes_)
        except OSError as error:
            self._fail(error)
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, as far as that is possible within a few seconds, and let the folder go."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(STOP_S)
            if left := len(self._pending):
                LOG.error("%d pictures were not written to the archive %s", left, self._folder)
        if self._shelf is not None and not self._thread.is_alive():
            self._shelf.close()
            self._shelf = None

    # For the line

    def wants(self, stamp: Stamp, verdict: Verdict | None) -> bool:
        """Whether a picture is to be kept by what was said of it."""
        if verdict is None or self._folder is None:
            return False
        finding = verdict.finding
        if verdict.challenge is not None:
            return True
        if finding.outcome is Outcome.FAULT:
            # Whoever has a camera passed by wants to know nothing of it.
            return finding.reason is not Reason.BYPASS and self._is_news(stamp.camera, finding.reason)
        self._rows.pop(stamp.camera, None)
        return finding.outcome is Outcome.NG or self._random.random() < self._terms.ok_share

    def take(self, stamp: Stamp, picture: Picture, verdict: Verdict | None) -> None:
        """Copy a picture."""
        if verdict is not None:
            self.keep(stamp, picture, verdict)

    def keep(self, stamp: Stamp, picture: Picture, verdict: Verdict, shadow: Finding | None = None) -> None:
        """Copy a picture, whatever was said of it. `shadow`: what a second model said."""
        if self._folder is None:
            return
        camera, seq = stamp.camera, verdict.seq
        with self._changed:
            if (waiting := self._pending.get((camera, seq))) is not None:
                waiting.shadow = waiting.shadow or shadow
                return
            if self._waiting_bytes + picture.nbytes > MOST_WAITING_BYTES:
                self._full_s = time.monotonic()
                self._lose(camera)
                return
        taken = _Taken(camera, verdict, picture.copy(), stamp.part is None, shadow)
        with self._changed:
            header = self._header(camera, seq)
            if header is None and self._last_heard(camera) > seq:  # nobody knows any more what was said
                if shadow is None or verdict.finding.outcome is Outcome.OK:  # else it was kept for that
                    self._lose(camera)
                return
            self._waiting_bytes += picture.nbytes
            self._pending[camera, seq] = taken
            if header is not None:
                self._queue(taken, header)

    def heard(self, camera: str, seq: int, header: bytes) -> None:
        """Note what is published. From the publisher's thread."""
        if self._folder is None:
            return
        with self._changed:
            if camera not in self._heard:
                self._heard[camera] = deque(maxlen=HEADERS_KEPT)
            self._heard[camera].append((seq, header))
            if (taken := self._pending.get((camera, seq))) is not None:
                self._queue(taken, header)

    # For commands and states

    def find(self, camera: str, epoch: str, seq: int) -> str | None:
        """Return the name of a verdict's picture by looking through all of them; None: there is none."""
        found = self._order(lambda: self._opened().find(camera, epoch, seq))
        return str(found) if found is not None else None

    def mark(self, camera: str, name: str, say: Say) -> Path | None:
        """Put a picture where it stays, and return its file; None: there is none of this name.

        StartError: it cannot be moved, or the archive does not answer.
        """
        found = self._order(lambda: self._opened().mark(camera, name, say))
        return Path(found) if found is not None else None

    def flush(self) -> None:
        """Wait until all that was kept and published is written, or lost."""
        self._order(lambda: None)

    @property
    def health(self) -> ArchiveHealth:
        """How it is now. From any thread."""
        shelf = self._shelf
        with self._changed:
            waiting, lost = len(self._pending), dict(self._lost)
        is_full = time.monotonic() < self._full_s + FULL_S
        full = f"The archive {self._folder} loses pictures: they come faster than it is written." if is_full else None
        bytes_ = shelf.bytes_ if shelf is not None else 0
        return ArchiveHealth(self._failure or full, self._kept, waiting, lost, bytes_)

    # The rest; what follows `_run` is called on the thread.

    def _is_news(self, camera: str, reason: Reason | None) -> bool:
        row, now_s = self._rows.get(camera), time.monotonic()
        if row is None or row.reason is not reason:
            row = self._rows[camera] = _Row(reason, 0, now_s)
        row.count += 1
        if row.count > ALIKE and now_s < row.kept_s + ALIKE_EVERY_S:
            return False
        row.kept_s = now_s
        return True

    def _header(self, camera: str, seq: int) -> bytes | None:
        return next((header for one, header in reversed(self._heard.get(camera, ())) if one == seq), None)

    def _last_heard(self, camera: str) -> int:
        heard = self._heard.get(camera)
        return heard[-1][0] if heard else 0

    def _queue(self, taken: _Taken, header: bytes) -> None:
        taken.header = header
        self._ready.append(taken)
        self._changed.notify_all()

    def _lose(self, camera: str) -> None:
        self._lost[camera] = self._lost.get(camera, 0) + 1

    def _order(self, do: Callable[[], str | Path | None]) -> str | Path | None:
        if self._folder is None:
            return None
        order = _Order(do)
        with self._changed:
            self._ready.append(order)
            self._changed.notify_all()
        if not futures.wait([order.done], ORDER_S).done and order.done.cancel():
            raise StartError(f"The archive {self._folder} did not answer within {ORDER_S:g} s; try again in a moment.")
        try:
            return order.done.result()  # what has begun is waited for: nobody is told that it was not done
        except OSError as error:
            raise StartError(f"The archive {self._folder} cannot be used: {error.strerror}.") from None

    def _run(self) -> None:
        self._attempt(self._probe)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_stopped or self._ready, PROBE_S if self._failure else IDLE_S)
                one = self._ready.popleft() if self._ready else None
                if isinstance(one, _Taken):
                    del self._pending[one.camera, one.verdict.seq]
                if one is None and self._is_stopped:
                    return
            if isinstance(one, _Order):
                _carry_out(one)
            elif one is None:
                self._attempt(self._probe)
            else:
                self._write(one)

    def _write(self, taken: _Taken) -> None:
        self._attempt(lambda: self._put(taken))
        with self._changed:
            self._waiting_bytes -= taken.picture.nbytes
            if self._failure is not None:
                self._lose(taken.camera)

    def _put(self, taken: _Taken) -> None:
        assert taken.header is not None
        mask = taken.verdict.finding.mask
        data = pictures.encode(
            taken.picture,
            taken.header,
            map_=mask.bytes_ if mask is not None else None,
            form=taken.verdict.finding.form,
            is_live=taken.is_live,
            shadow=_shadowed(taken.shadow) if taken.shadow is not None else None,
        )
        self._needed = len(data)
        name = pictures.name_of(taken.header)
        if name is None:
            raise StartError("A picture whose verdict says no time cannot be kept.")
        known = taken.verdict.challenge
        if known is not None and (known.is_study or taken.verdict.finding.score is None):
            known = None  # nothing will be held against it
        self._kept += self._opened().put(taken.camera, name, data, known)

    def _attempt(self, do: Callable[[], object]) -> bool:
        """Whether it could be done; what cannot be kept must not cost what comes next."""
        try:
            do()
        except Exception as error:  # a thread's top
            if not isinstance(error, OSError | InspectdError):
                LOG.exception("the archive failed")
            self._fail(error)
            return False
        if self._failure is not None:
            LOG.info("the archive %s is written again", self._folder)
        self._failure = None
        return True

    def _probe(self) -> None:
        self._opened().probe(self._needed)

    def _opened(self) -> Shelf:
        """Return the folder, taken and counted; OSError, StartError: it cannot be had."""
        assert self._folder is not None
        shelf = self._shelf
        if shelf is not None and not shelf.is_there:
            LOG.warning("the archive %s was removed or replaced", self._folder)
            shelf.close()
            shelf = self._shelf = None
        if shelf is None:
            shelf = self._shelf = Shelf(self._folder, self._terms.bytes_)
        if not shelf.is_counted or time.monotonic() > self._count_s:
            shelf.count()
            self._count_s = time.monotonic() + COUNT_EVERY_S
        return shelf

    def _fail(self, error: Exception) -> None:
        if isinstance(error, InspectdError):
            self._failure = str(error)
        else:
            text = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
            self._failure = f"The archive {self._folder} cannot be written: {text}."
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
