"""A capture child's hand: what it makes of what a source gives, and whom it passes the parent's orders to."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import numpy as np
import pytest

from inspectd.cameras import protocol
from inspectd.cameras.grabbers.base import REPEATED, Broken, Grabbed, Grabber, Nothing
from inspectd.cameras.hand import Hand
from inspectd.cameras.protocol import Alive, Captured, CaptureSettings, Freed, Message, Opened, Unreadable, Wanted
from inspectd.records import Picture

Found = Grabbed | Nothing | Broken | None
PICTURE = Grabbed(np.zeros((4, 6, 3), np.uint8), 17)


class Source(Grabber):
    """Gives what it is made of, in turns, and notes what it is asked for."""

    width, height, fps, is_live, slot_bytes = 6, 4, 25.0, True, 72

    def __init__(self, *gives: Found, idles_s: float = 0.0) -> None:
        self.on_demand = idles_s > 0
        self.wanted: list[int] = []
        self._gives = list(gives)
        self._idles_s = idles_s

    def grab(self, into: Picture | None) -> Found:
        return self._gives.pop(0) if self._gives else None

    def want(self, at_ns: int) -> None:
        self.wanted.append(at_ns)
        self._idles_s = 0.0

    def idle_s(self) -> float:
        return self._idles_s


@pytest.fixture
def link() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The parent's end and the child's."""
    ours, theirs = protocol.pair()
    with ours, theirs:
        yield ours, theirs


def words(ours: socket.socket) -> list[Message]:
    """What the hand has said so far."""
    said = []
    ours.setblocking(False)
    while True:
        try:
            packet, fds, _, _ = socket.recv_fds(ours, protocol.MAX_PACKET, 1)
        except BlockingIOError:
            return said
        for fd in fds:
            os.close(fd)
        said.append(protocol.decode(packet))


def test_of_an_old_picture_nothing_is_said_of_a_repeated_one_that_it_is_and_of_a_broken_one_why(
    link: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = link
    gives = (PICTURE, Nothing(), Nothing(is_repeat=True), Nothing(is_waiting=True), Broken(None, REPEATED, 23))
    Hand(theirs, CaptureSettings("0", "device", 4)).pass_on(Source(*gives))
    opened, captured, repeat, waiting, broken = words(ours)
    assert isinstance(opened, Opened)
    assert isinstance(captured, Captured)
    assert (repeat, waiting) == (Alive(0, is_repeat=True), Alive(0, is_repeat=False))
    assert broken == Unreadable(2, 0, 23, None, REPEATED)


def test_orders_reach_the_source_while_it_has_nothing_to_do(link: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = link
    for order in (Freed(0), Wanted(5), Wanted(3)):
        ours.send(protocol.encode_order(order))
    source = Source(PICTURE, PICTURE, PICTURE, idles_s=30.0)
    Hand(theirs, CaptureSettings("0", "aravis", 1, is_commanded=True)).pass_on(source)
    assert source.wanted == [5, 3]
    opened, *said = words(ours)
    assert isinstance(opened, Opened)
    assert opened.on_demand
    assert [one.slot for one in said if isinstance(one, Captured)] == [0, 0], "a slot that came back is used"


def test_a_parent_that_speaks_nonsense_is_not_obeyed(link: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = link
    ours.send(b"\xff nonsense")
    with pytest.raises(ValueError, match="Expected"):
        Hand(theirs, CaptureSettings("0", "device", 4)).pass_on(Source(PICTURE))
