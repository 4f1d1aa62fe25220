"""Bypasses: for a while nothing is inspected at a camera, because somebody wants it so."""

from __future__ import annotations

import threading
import time

import msgspec

from inspectd.daemon.asking import Asker, change_of
from inspectd.daemon.roster import Roster
from inspectd.daemon.worker import Reply
from inspectd.history.journal import Journal
from inspectd.wire.messages import rfc3339
from inspectd.wire.requests import BypassRequest, RefusedError
from inspectd.wire.results import BypassResult


class Bypasses:
    """Those of all cameras. `begin` is called by one thread at a time, and may take its time; all else by any."""

    def __init__(self, cameras: Roster, journal: Journal, epoch: str) -> None:
        self._cameras = cameras
        self._journal = journal
        self._epoch = epoch
        self._ends: dict[str, threading.Timer] = {}
        """By camera, what ends its bypass: on a thread that waits for nothing else."""
        self._requests: dict[str, int] = {}
        self._lock = threading.Lock()
        self._is_stopping = False

    def number(self, camera: str) -> int:
        """Return the number of a request for a bypass, or its end, in the order in which they came."""
        with self._lock:
            self._requests[camera] = self._requests.get(camera, 0) + 1
            return self._requests[camera]

    def end(self, request: BypassRequest, user: str | None) -> Reply:
        """Inspect again; this waits for nothing, the journal included."""
        self._resume(request.camera, None, Asker(user, request.by, request.why))
        return Reply(msgspec.to_builtins(BypassResult(until=None)))

    def begin(self, request: BypassRequest, user: str | None, number: int) -> Reply:
        """Inspect nothing for a while; `number`: of the request. A later one wins."""
        camera = self._cameras.find(request.camera)
        asker = Asker(user, request.by, request.why)
        until = rfc3339(time.time_ns() + int(request.seconds * 1e9))
        self._journal.record(change_of(self._epoch, "bypass", camera.name, asker, new={"until": until}))
        end = threading.Timer(
            request.seconds, lambda: self._resume(camera.name, end, Asker(None, None, "its time is over"))
        )
        end.daemon = True
        with self._lock:
            if self._requests.get(camera.name, number) != number or self._is_stopping:
                self._undo(camera.name, asker, "another request came meanwhile, or the stop")
                raise RefusedError("busy", "Another request about this camera's bypass came meanwhile; that one holds.")
            try:
                with self._cameras.changing:
                    running = self._cameras.find(request.camera)
                    running.pause(f"bypass until {until} by {user or request.by}: {request.why}")
            except RefusedError:
                self._undo(camera.name, asker, "it is gone")
                raise
            if (before := self._ends.get(camera.name)) is not None:
                before.cancel()
            self._ends[camera.name] = end
            end.start()
        return Reply(msgspec.to_builtins(BypassResult(until=until)))

    def stop(self) -> None:
        """Begin none any more."""
        self._is_stopping = True
        with self._lock:
            for end in self._ends.values():
                end.cancel()

    def _resume(self, camera: str, whose: threading.Timer | None, asker: Asker) -> None:
        """End a bypass; `whose` time is over, or (None) whichever there is."""
        with self._lock:
            end = self._ends.get(camera)
            if whose is not None and end is not whose:
                return  # another one has taken its place, or it was ended
            with self._cameras.changing:
                if (running := self._cameras.get(camera)) is not None:  # another one, if it was opened anew
                    running.resume()
            if end is None:
                return  # there was none
            end.cancel()
            del self._ends[camera]
        self._journal.note(change_of(self._epoch, "bypass_end", camera, asker))

    def _undo(self, camera: str, asker: Asker, why: str) -> None:
        undone = asker._replace(why=f"bypass: {why}")
        self._journal.note(change_of(self._epoch, "undone", camera, undone))
