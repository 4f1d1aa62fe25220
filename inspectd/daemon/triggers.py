"""Triggers that clients send, and those of them who wait for the verdict."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from functools import partial
from typing import NamedTuple

import msgspec

from inspectd.daemon.roster import Roster
from inspectd.errors import UsageError
from inspectd.line.entries import Entry
from inspectd.wire.control import Answer
from inspectd.wire.requests import RefusedError, TriggerRequest

MOST_WAITING = 1000
"""Clients that may wait for verdicts of a camera: each gets one by the deadline, so that they become fewer soon."""
HEADERS_KEPT = 256
"""Of a camera: a trigger may have its verdict before it is known who waits for it."""


class _Waiting(NamedTuple):
    entry: Entry
    answer: Answer


class Triggers:
    """Answers `trigger` on the control socket's thread; the publisher says what was published."""

    def __init__(self, cameras: Roster) -> None:
        self._cameras = cameras
        self._lock = threading.Lock()
        self._waiting: dict[str, list[_Waiting]] = defaultdict(list)
        self._published: dict[str, deque[tuple[int, bytes]]] = defaultdict(lambda: deque(maxlen=HEADERS_KEPT))

    def trigger(self, request: TriggerRequest, answer: Answer) -> None:
        """Accept a trigger, and say its id at once, or its verdict when that is published."""
        camera = self._cameras.find(request.camera)
        if request.wait and len(self._waiting[camera.name]) >= MOST_WAITING:
            raise RefusedError("busy", f"{MOST_WAITING} clients wait for verdicts already; ask again in a moment.")
        try:
            entry = camera.trigger(request.part, request.recipe)
        except UsageError as error:
            code = "bad_value" if camera.config.mode == "trigger" else "unsupported"
            raise RefusedError(code, str(error)) from None
        if not request.wait:
            answer.reply(entry.trigger)
        elif (header := self._header_or_wait(_Waiting(entry, answer))) is not None:
            answer.reply(msgspec.Raw(header))

    def heard(self, camera: str, seq: int, header: bytes) -> None:
        """Answer whoever waits for this verdict. From the publisher's thread."""
        running = self._cameras.get(camera)
        if running is not None and running.config.mode != "trigger" and camera not in self._published:
            return
        with self._lock:
            self._published[camera].append((seq, header))
            waiting = self._waiting[camera]
            mine = [one for one in waiting if one.entry.verdict is not None and one.entry.verdict.seq == seq]
            for one in mine:
                waiting.remove(one)
        for one in mine:
            one.answer.soon(partial(one.answer.reply, msgspec.Raw(header)))

    def _header_or_wait(self, one: _Waiting) -> bytes | None:
        """Return the verdict's header where it was published already; else note who waits for it."""
        with self._lock:
            verdict = one.entry.verdict
            for seq, header in self._published[one.entry.camera]:
                if verdict is not None and verdict.seq == seq:
                    return header
            self._waiting[one.entry.camera].append(one)
            return None
