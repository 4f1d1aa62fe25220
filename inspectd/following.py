"""Verdicts without gaps: what a subscriber missed is asked for, in its place.

    with Follower("tcp://127.0.0.1:5556", "tcp://127.0.0.1:5557") as verdicts:
        for one in verdicts:
            print(one)

Needs zmq and msgspec only, and is not thread-safe: one object, one thread.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from inspectd.client import Control, ForeignReplyError, Keys, NoReplyError, NotAllowedError, RefusalError, Subscription
from inspectd.wire.messages import VerdictMessage

PATIENCE_S = 2.0
"""How long the daemon may take to answer for what was missed, before what is new is handed out without it."""


@dataclass(frozen=True, slots=True)
class Missed:
    """Verdicts that cannot be had: numbers `first` to `last` of a camera in an epoch."""

    camera: str
    epoch: str
    first: int
    last: int | None
    """None: it is not known how many there were, if any; the epoch is over."""
    why: str


@dataclass(slots=True)
class _Place:
    """Where in a camera's verdicts we are."""

    epoch: str
    seq: int


class Follower:
    """Every verdict once, by camera in the order of `seq`, from the first one that is heard of.

    A gap shows in the next verdict, or in the `last_seq` of a state. Where a daemon begins a new epoch, what is
    missing of the last one is asked for, too.
    """

    def __init__(self, published: str, control: str, *cameras: str, keys: Keys | None = None) -> None:
        """`cameras`: by name; none: all."""
        topics = [f"{kind}/{name}/" for kind in ("verdict", "state") for name in cameras] or ["verdict/", "state/"]
        self._subscription = Subscription(published, *topics, keys=keys)
        try:
            self._control = Control(control, keys=keys)
        except BaseException:
            self._subscription.close()
            raise
        self._places: dict[str, _Place] = {}
        self._ready: deque[VerdictMessage | Missed] = deque()
        self.filled = 0
        """Verdicts so far that were missed and asked for."""

    def __enter__(self) -> Self:
        """Nothing: it connects already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close both sockets."""
        self._subscription.close()
        self._control.close()

    def __iter__(self) -> Iterator[VerdictMessage | Missed]:
        """Yield for ever."""
        while True:
            one = self.receive(1.0)
            if one is not None:
                yield one

    def receive(self, timeout_s: float) -> VerdictMessage | Missed | None:
        """Return the next verdict, or what cannot be had; None when nothing came in time.

        NotAllowedError when the daemon does not let us watch; who may watch and not ask hears what is missed only.
        """
        give_up_s = time.monotonic() + timeout_s
        while not self._ready:
            message = self._subscription.receive(max(0.0, give_up_s - time.monotonic()))
            if message is None:
                return None
            if (verdict := message.verdict) is not None:
                self._come_to(verdict.camera, verdict.epoch, verdict.seq - 1)
                if verdict.seq > self._places[verdict.camera].seq:  # else it was asked for already
                    self._hand_out(verdict)
            elif (state := message.state) is not None:
                self._come_to(state.camera, state.epoch, state.last_seq)
        return self._ready.popleft()

    def _hand_out(self, verdict: VerdictMessage) -> None:
        self._places[verdict.camera].seq = verdict.seq
        self._ready.append(verdict)

    def _come_to(self, camera: str, epoch: str, seq: int) -> None:
        """Hand out what is missing up to `seq`."""
        place = self._places.setdefault(camera, _Place(epoch, seq))
        if place.epoch != epoch:
            self._fill(camera, place, None)
            place.epoch, place.seq = epoch, 0
        if place.seq < seq:
            self._fill(camera, place, seq)

    def _fill(self, camera: str, place: _Place, until: int | None) -> None:
        """Ask for the verdicts up to `until`, or for all that there are in the place's epoch."""
        why = "the journal does not hold them"
        while until is None or place.seq < until:
            limit = 1000 if until is None else min(1000, until - place.seq)
            try:
                found = self._control.verdicts(camera, place.seq, place.epoch, limit, PATIENCE_S)
            except (NoReplyError, RefusalError, ForeignReplyError, NotAllowedError) as error:
                why = str(error)
                if until is None:
                    self._ready.append(Missed(camera, place.epoch, place.seq + 1, None, why))
                break
            for verdict in found.verdicts:
                if verdict.seq > place.seq + 1:
                    self._miss(camera, place, verdict.seq - 1, "the journal does not hold them")
                self._hand_out(verdict)
                self.filled += 1
            if found.is_complete or not found.verdicts:
                break
        if until is not None and place.seq < until:
            self._miss(camera, place, until, why)

    def _miss(self, camera: str, place: _Place, last: int, why: str) -> None:
        self._ready.append(Missed(camera, place.epoch, place.seq + 1, last, why))
        place.seq = last
