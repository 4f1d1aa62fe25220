"""Pictures of good parts from any source, through the same capture child and supervisor as the daemon."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from inspectd.cameras.image_files import shown
from inspectd.cameras.protocol import CaptureSettings, Opened
from inspectd.cameras.sources import Source, public_address
from inspectd.cameras.supervisor import State, Supervisor
from inspectd.errors import StartError
from inspectd.records import Frame, Reason, Stamp

SLOTS = 4
LISTEN_S = 0.25
PATIENCE_S = 60.0
"""How long a camera may be away in the middle of a capture: time to plug it in again."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A picture that was left out, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class _Gone:
    why: str


class Capture:
    """One capture: a context that gives out an iterator. Frames must be released by whoever takes them."""

    def __init__(
        self,
        source: Source,
        settings: CaptureSettings,
        report: Callable[[str], None],
        on_total: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`on_total`: called once, with the number of pictures that a finite source says it has."""
        self._public = shown(public_address(source.address))
        self._report = report
        self._on_total = on_total
        self._mailbox: queue.Queue[Frame | Unreadable | _Gone] = queue.Queue()
        self._supervisor = Supervisor("calibrate", settings, self, is_finite=source.is_finite)
        self.opened: Opened | None = None

    def __enter__(self) -> Iterator[Frame | Unreadable]:
        """Open the source and give out what is captured."""
        self._supervisor.start()
        return self._items()

    def __exit__(self, *_: object) -> None:
        """End the capture child."""
        self._supervisor.stop()
        self._supervisor.join()

    def _items(self) -> Iterator[Frame | Unreadable]:
        """Yield what is captured until the source ends; StartError when it cannot be read (on)."""
        gone_since_s: float | None = None
        while True:
            has_stopped = self._supervisor.health.state is State.STOPPED
            try:
                item = self._mailbox.get(timeout=LISTEN_S)
            except queue.Empty:
                if has_stopped:
                    return
                if gone_since_s is not None and time.monotonic() - gone_since_s > PATIENCE_S:
                    raise StartError(
                        f"The source {self._public} did not come back within {PATIENCE_S:g} s; nothing was "
                        "changed. Start again when it does."
                    ) from None
                continue
            if isinstance(item, _Gone):
                if not self._supervisor.health.is_readable:
                    raise StartError(f"The source {self._public} cannot be read: {item.why}.")
                self._report(f"The camera is gone ({item.why}); waiting for it …")
                gone_since_s = time.monotonic()
                continue
            gone_since_s = None
            yield item

    # What the supervisor says, on its thread.

    def on_opened(self, opened: Opened) -> None:
        """Remember what was opened; tell how much it holds, once."""
        if self.opened is None and opened.total:
            self._on_total(opened.total)
        self.opened = opened

    def on_frame(self, frame: Frame) -> None:
        """Queue a picture; the ring's slots bound the queue."""
        self._mailbox.put(frame)

    def on_missed(self, stamp: Stamp) -> None:
        """A live camera goes on without us; there will be another picture."""

    def on_unreadable(self, stamp: Stamp, why: str) -> None:
        """Queue the name of a picture that cannot be read."""
        self._mailbox.put(Unreadable(stamp.part or f"picture {stamp.frame}", why))

    def on_gone(self, reason: Reason, why: str) -> None:
        """Queue the news."""
        self._mailbox.put(_Gone(why))

    def on_state(self) -> None:
        """`health` is asked instead."""
