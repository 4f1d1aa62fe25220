"""Hears what a daemon publishes, on a thread of its own, and hands it to the event loop in batches."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence

from inspectd.client import ForeignReplyError, Keys, Message, NotAllowedError, Subscription

LOG = logging.getLogger(__name__)

LISTEN_S = 0.5
AT_ONCE = 512
"""Messages of one batch: the loop serves browsers in between."""
AGAIN_S = 5.0
MOST_WAITING = 20_000
"""Messages that the loop has not taken; of more the oldest are given up, and counted as missed by their `seq`."""


class Listening:
    """A subscription to everything. `take` is called in the event loop with what came, in order."""

    def __init__(
        self,
        address: str,
        keys: Keys | None,
        loop: asyncio.AbstractEventLoop,
        take: Callable[[Sequence[Message]], None],
    ) -> None:
        self._address, self._keys = address, keys
        self._loop, self._take = loop, take
        self._waiting: list[Message] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
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
            with Subscription(self._address, high_water=MOST_WAITING, keys=self._keys) as subscription:
                try:
                    self._listen(subscription)
                except NotAllowedError as error:  # whoever runs the daemon may let us in later
                    if self.trouble != str(error):
                        LOG.warning("%s", error)
                    self.trouble = str(error)
                    self._stop.wait(AGAIN_S)

    def _listen(self, subscription: Subscription) -> None:
        while not self._stop.is_set():
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
            self._hand_over(message)

    def _hand_over(self, message: Message) -> None:
        with self._lock:
            was_empty = not self._waiting
            self._waiting.append(message)
            if len(self._waiting) > MOST_WAITING:
                del self._waiting[0]
        if was_empty and not self._stop.is_set():
            self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        with self._lock:
            batch, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
            more = bool(self._waiting)
        if not batch:
            return
        self._take(batch)
        if more:
            self._loop.call_soon(self._drain)
