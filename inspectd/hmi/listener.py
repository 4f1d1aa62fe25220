"""Hears what a daemon publishes, on a thread of its own, and hands it to the event loop in batches.

Pictures and maps are subscribed to only while somebody looks: the daemon makes pictures for people only then.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import zmq

from inspectd.addresses import is_local
from inspectd.client import ForeignReplyError, Keys, Message, NotAllowedError, Subscription

LOG = logging.getLogger(__name__)

ALWAYS, FOR_PEOPLE = ("verdict/", "state/", "daemon/"), ("mask/", "frame/")
LISTEN_S = 0.25
AGAIN_S = 5.0
AT_ONCE = 512
"""Messages of one batch: the loop serves browsers in between."""
MOST_WAITING = 2_000
"""Messages in ZeroMQ's queue, and as many that the loop has not taken; of more some are given up, and missed by their
`seq`."""
WINDOW_S = 600.0
PLAUSIBLE_NS = 5_000_000_000
"""For a first message of this machine: nothing has waited yet."""


class Heard(NamedTuple):
    """A message, and when it was published at the latest, on this machine's monotonic clock."""

    message: Message
    at_ns: int


class Lag:
    """For how long messages were under way, or waited here, before they were taken.

    On one machine that is exact. From another machine's clock it is what a message took longer than the quickest of
    the last ten to twenty minutes did: of a queue that builds up nothing is taken for new.
    """

    def __init__(self, *, is_same_clock: bool) -> None:
        self._is_same_clock = is_same_clock
        self._epoch = ""
        self._since_s = 0.0
        self._least: list[int | None] = [None, None]
        """Received minus published: in this window, and in the one before."""

    def note(self, epoch: str, published_ns: int, received_ns: int) -> int:
        """Return for how many nanoseconds a message was under way that says when it was published, by its clock."""
        difference = received_ns - published_ns
        if self._is_same_clock and self._epoch == "" and not 0 <= difference < PLAUSIBLE_NS:
            self._is_same_clock = False  # a tunnel: the loopback's other end is another machine
        if self._is_same_clock:
            self._epoch = epoch
            return max(0, difference)
        if epoch != self._epoch:
            self._epoch, self._since_s, self._least = epoch, received_ns / 1e9, [None, None]
        elif received_ns / 1e9 - self._since_s > WINDOW_S:
            self._since_s, self._least = received_ns / 1e9, [None, self._least[0]]
        now = self._least[0]
        self._least[0] = difference if now is None else min(now, difference)
        return difference - min(one for one in self._least if one is not None)


class Listener:
    """A subscription. `take` is called in the event loop with what came, in order."""

    def __init__(
        self, address: str, keys: Keys | None, loop: asyncio.AbstractEventLoop, take: Callable[[Sequence[Heard]], None]
    ) -> None:
        self._address, self._keys = address, keys
        self._loop, self._take = loop, take
        self._waiting: list[Heard] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.is_watched = False
        """Whether somebody looks, so that pictures are wanted; any thread may set it."""
        self.trouble: str | None = None
        """Why nothing comes, as far as that shows; any thread may read it."""
        self._thread = threading.Thread(target=self._run, name="listening", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread, and wait for it."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with Subscription(self._address, *ALWAYS, high_water=MOST_WAITING, keys=self._keys) as subscription:
                    self._listen(subscription)
            except (NotAllowedError, zmq.ZMQError) as error:  # it may be mended there, or here
                why = f"{self._address}: {error}" if isinstance(error, zmq.ZMQError) else str(error)
                if self.trouble != why:
                    LOG.warning("%s", why)
                self.trouble = why
                self._stop.wait(AGAIN_S)

    def _listen(self, subscription: Subscription) -> None:
        lag, by_uptime = Lag(is_same_clock=is_local(self._address)), Lag(is_same_clock=False)
        under_way_ns, is_watched = 0, False
        while not self._stop.is_set():
            if self.is_watched != is_watched:
                is_watched = self.is_watched
                for topic in FOR_PEOPLE:
                    (subscription.subscribe if is_watched else subscription.unsubscribe)(topic)
            message = subscription.receive(LISTEN_S)
            if message is None:
                self.trouble = subscription.trouble
                continue
            try:
                _ = message.header  # decoded here, not in the loop
            except ForeignReplyError as error:
                self.trouble = f"what comes is not this protocol: {error}"
                continue
            self.trouble = None
            if (verdict := message.verdict) is not None:
                under_way_ns = lag.note(verdict.epoch, verdict.t.published, message.received_ns)
            elif (daemon := message.daemon) is not None:  # on an idle line nothing else says when it was published
                under_way_ns = by_uptime.note(daemon.epoch, int(daemon.uptime_s * 1e9), message.received_ns)
            self._hand_over(Heard(message, message.received_ns - under_way_ns))

    def _hand_over(self, heard: Heard) -> None:
        with self._lock:
            was_empty = not self._waiting
            self._waiting.append(heard)
            if len(self._waiting) > MOST_WAITING:
                del self._waiting[0]
        if was_empty and not self._stop.is_set():
            self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        with self._lock:
            batch, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
            more = bool(self._waiting)
        if more:
            self._loop.call_soon(self._drain)
        if batch:
            self._take(batch)
