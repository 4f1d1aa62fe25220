"""Pictures for people (`frame/<camera>/`): the newest only, encoded off the way of a frame, while somebody looks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from inspectd.cameras.jpeg import for_people
from inspectd.records import Picture, Stamp, Verdict

LOG = logging.getLogger(__name__)


class _Taken(NamedTuple):
    seq: int
    picture: Picture


class Previews:
    """A sink with a thread that encodes."""

    def __init__(
        self,
        frame_hz: float,
        wants: Callable[[str], bool],
        put: Callable[[str, int, bytes], None],
        white_level: Callable[[str], int],
    ) -> None:
        """`wants`: whether somebody looks at a camera. `put`: takes camera, `seq` and JPEG.

        `white_level`: of a camera's 16-bit pictures.
        """
        self._every_s = 1 / frame_hz if frame_hz > 0 else float("inf")
        self._wants = wants
        self._put = put
        self._white_level = white_level
        self._next_s: dict[str, float] = {}
        self._newest: dict[str, _Taken] = {}
        self._changed = threading.Condition()
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name="previews", daemon=True)

    def start(self) -> None:
        """Begin to encode."""
        self._thread.start()

    def stop(self) -> None:
        """End, when the picture under way is encoded."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    def wants(self, stamp: Stamp, verdict: Verdict | None) -> bool:
        """Whether it is time for another picture of this camera, and somebody looks."""
        is_due = verdict is not None and time.monotonic() >= self._next_s.get(stamp.camera, 0.0)
        return is_due and self._wants(stamp.camera)

    def take(self, stamp: Stamp, picture: Picture, verdict: Verdict | None) -> None:
        """Copy a picture; one that waits still to be encoded is given up for it."""
        if verdict is None or self._every_s == float("inf"):
            return
        taken = _Taken(verdict.seq, picture.copy())
        with self._changed:
            self._next_s[stamp.camera] = time.monotonic() + self._every_s
            self._newest[stamp.camera] = taken
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_stopped or self._newest)
                if self._is_stopped:
                    return
                camera = next(iter(self._newest))
                taken = self._newest.pop(camera)
            try:
                self._put(camera, taken.seq, for_people(taken.picture, self._white_level(camera)))
            except Exception:  # a picture that nobody can encode must not keep the next one from being seen
                LOG.exception("a picture of camera %s was not encoded", camera)
