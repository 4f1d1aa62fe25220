"""Everything behind the pages that lives as long as the process: the wall, its listener, counts, sessions."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import zmq
from starlette.concurrency import run_in_threadpool

from inspectd.client import Control, ForeignReplyError, NoReplyError, NotAllowedError, RefusalError
from inspectd.errors import InspectdError
from inspectd.hmi.accounts import Accounts
from inspectd.hmi.calibrations import Calibrations
from inspectd.hmi.counts import Counts, Gap, Shift
from inspectd.hmi.listener import Heard, Listener
from inspectd.hmi.settings import Settings
from inspectd.hmi.wall import Wall
from inspectd.wire.messages import VerdictMessage
from inspectd.wire.requests import MOST_ROWS

LOG = logging.getLogger(__name__)

TICK_S = 5.0
"""How often the clock is asked for a new shift, and the counts are kept."""
MOST_FILLED = 100_000
"""Verdicts that are asked for after one gap; more are counted as not counted."""


class Server:
    """Lives in the event loop; see the module."""

    def __init__(self, settings: Settings) -> None:
        """UsageError: the users' file, or the counts that were kept, cannot be read."""
        self.settings = settings
        self.accounts = Accounts(settings.users, settings.anyone)
        self.wall = Wall()
        kept = None if settings.state is None else settings.state / "counts.json"
        self.counts = Counts(kept, settings.shifts)
        results = None if settings.state is None else settings.state / "results"
        self.calibrations = Calibrations(settings.config, results, settings.archive, settings.control)
        self._changed = asyncio.Event()
        self._listener: Listener | None = None
        self._asking = asyncio.Semaphore(1)
        self._filling: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen, and keep the counts, meanwhile."""
        loop = asyncio.get_running_loop()
        self._listener = Listener(self.settings.published, self.settings.keys, loop, self._take)
        ticking = asyncio.create_task(self._tick())
        try:
            yield
        finally:
            ticking.cancel()
            with suppress(asyncio.CancelledError):
                await ticking
            await run_in_threadpool(self._listener.close)
            for one in self._filling:
                one.cancel()
            await asyncio.gather(*self._filling, return_exceptions=True)
            await self._save()
            await self.calibrations.close()

    def watch(self, browsers: int) -> None:
        """Take note of how many browsers look: pictures are asked for while it is one, or more."""
        if self._listener is not None:
            self._listener.is_watched = browsers > 0

    def trouble(self) -> str | None:
        """Return why nothing comes from the daemon, as far as that shows."""
        return None if self._listener is None else self._listener.trouble

    async def changed(self, timeout_s: float) -> None:
        """Wait until something changes, or so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()

    def count(self) -> tuple[int, Shift]:
        """Return the present shift, and the number of its last change."""
        return self.counts.number, self.counts.present

    def _take(self, batch: Sequence[Heard]) -> None:
        for message, at_ns in batch:
            self.wall.take(message, at_ns)
            if (verdict := message.verdict) is not None:
                for gap in self.counts.take(verdict):
                    self._fill(gap)
        self._changed.set()
        self._changed = asyncio.Event()  # who waits holds the one that was set

    def _fill(self, gap: Gap) -> None:
        """Ask the journal for what was missed, without waiting for it."""
        task = asyncio.create_task(self._fill_later(gap))
        self._filling.add(task)
        task.add_done_callback(self._filling.discard)

    async def _fill_later(self, gap: Gap) -> None:
        found: list[VerdictMessage] = []
        try:
            async with self._asking:  # one after the other: the daemon may have enough to do
                found = await run_in_threadpool(self._ask_for, gap)
        finally:  # also at the end: what was not asked for is named
            self.counts.fill(gap, found)

    def _ask_for(self, gap: Gap) -> list[VerdictMessage]:
        """Return what the journal holds of a gap, at most MOST_FILLED."""
        found: list[VerdictMessage] = []
        after, until = gap.after, min(gap.until or sys.maxsize, gap.after + MOST_FILLED + 1)
        with (
            suppress(NoReplyError, RefusalError, ForeignReplyError, NotAllowedError, zmq.ZMQError),
            Control(self.settings.control, keys=self.settings.keys) as daemon,
        ):
            while after < until - 1:
                some = daemon.verdicts(gap.camera, after, gap.epoch, min(MOST_ROWS, until - 1 - after))
                found += some.verdicts
                if some.is_complete or not some.verdicts:
                    break
                after = some.verdicts[-1].seq
        return found

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.counts.turn()
            await self._save()

    async def _save(self) -> None:
        save = self.counts.unsaved()
        if save is None:
            return
        try:
            await run_in_threadpool(save)
        except InspectdError as error:
            LOG.warning("the shifts' counts are not kept: %s", error)
