"""What lies between a capture child and its parent: the words of the link and the shared memory."""

from __future__ import annotations

import fcntl
import gc
import mmap
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspectd.cameras import protocol
from inspectd.cameras.protocol import (
    MAX_PACKET,
    Alive,
    Captured,
    Ended,
    Failed,
    Freed,
    Grown,
    Message,
    Opened,
    Unreadable,
    Wanted,
)
from inspectd.cameras.ring import SEALS, Ring
from inspectd.errors import CameraError

U32, U64 = 2**32 - 1, 2**64 - 1
PAGE = mmap.PAGESIZE

MESSAGES: list[Message] = [
    Opened(6, 921600, 640, 480, 29.97, True, "MJPG"),
    Opened(6, 921600, 640, 480, 29.97, True, "MJPG", 7, "a damaged one cannot be told"),
    Opened(U32, U64, U32, U32, 0.0, False, ""),
    Captured(0, 1, 0, 0, (480, 640, 3), "uint8", None),
    Captured(5, 7, 3, 10**18, (480, 640), "uint8", "part-000007"),
    Captured(1, 2, 0, 5, (2, 2), "uint16", ""),
    Captured(U32, U64, U32, U64, (U32, U32, 3), "uint16", "Würfel/größe 部品 🔩.png"),
    Captured(0, 1, 0, 0, (1, 1), "uint8", "=a\0b\n"),
    Alive(0, False),
    Alive(U32, True),
    Unreadable(U64, U32, U64, "sub/ß.png", "the picture is truncated"),
    Unreadable(1, 0, 0, None, ""),
    Failed("der Stecker ist gezogen: größer → kleiner"),
    Failed(""),
    Ended(),
    Grown(),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_every_message_arrives_as_it_was_sent(message: Message) -> None:
    ours, theirs = protocol.pair()
    with ours, theirs:
        theirs.send(protocol.encode(message))
        assert protocol.decode(ours.recv(MAX_PACKET)) == message


@given(
    st.integers(0, U32), st.integers(0, U64), st.integers(1, U32), st.integers(1, U32),
    st.sampled_from([(), (3,)]), st.sampled_from(["uint8", "uint16"]), st.none() | st.text(max_size=200),
)  # fmt: skip
def test_any_picture_arrives_as_it_was_sent(
    slot: int, number: int, height: int, width: int, channels: tuple[int, ...], dtype: str, part: str | None
) -> None:
    message = Captured(slot, number, 0, number, (height, width, *channels), dtype, part)
    assert protocol.decode(protocol.encode(message)) == message


@pytest.mark.parametrize("name", ["x" * 100_000, "ß" * 100_000, "=🔩" * 50_000])
def test_a_name_that_is_too_long_is_cut_and_still_one_packet(name: str) -> None:
    ours, theirs = protocol.pair()
    with ours, theirs:
        for message in (Captured(1, 2, 0, 3, (4, 5), "uint8", name), Unreadable(1, 0, 2, name, "why"), Failed(name)):
            theirs.send(protocol.encode(message))
            heard = protocol.decode(ours.recv(MAX_PACKET))
            assert type(heard) is type(message)
            text = heard.why if isinstance(heard, Failed) else heard.part
            assert text
            assert name.startswith(text.rstrip("\ufffd"))


@pytest.mark.parametrize("kind", ["captured", "unreadable", "failed"])
def test_a_file_name_that_is_not_utf8_is_no_reason_to_die(kind: str) -> None:
    name = os.fsdecode(b"part-\xff.png")
    messages: dict[str, Message] = {
        "captured": Captured(1, 2, 0, 3, (4, 5), "uint8", name),
        "unreadable": Unreadable(1, 0, 2, name, "why"),
        "failed": Failed(name),
    }
    assert type(protocol.decode(protocol.encode(messages[kind]))) is type(messages[kind])


@given(
    st.binary(max_size=80) | st.tuples(st.integers(0, 8), st.binary(max_size=80)).map(lambda t: bytes([t[0]]) + t[1])
)
def test_nonsense_is_a_value_error_and_nothing_else(packet: bytes) -> None:
    with suppress(ValueError):
        assert isinstance(protocol.decode(packet), Opened | Captured | Alive | Unreadable | Failed | Ended | Grown)


@pytest.mark.parametrize(
    "packet", [b"", b"\0", b"\x07", b"\xff" * 40, b"\x91", b"\x91\x02", b"\x92\x03\x00", b"\x94\x04\x00\x00\x00"]
)
def test_what_is_no_message_is_refused(packet: bytes) -> None:
    with pytest.raises(ValueError, match="is not a message"):
        protocol.decode(packet)


@pytest.mark.parametrize(
    "fields",
    [
        [2, 1, 2, 0, 3, [4, 5, 4], "uint8", None],
        [2, 1, 2, 0, 3, [4], "uint8", None],
        [2, 1, 2, 0, 3, [4, 5], "float32", None],
        [2, -1, 2, 0, 3, [4, 5], "uint8", None],
        [2, 1, 2, 0, 3, [4, -5], "uint8", None],
        [8],
    ],
)
def test_pictures_that_cannot_be_are_refused(fields: list[object]) -> None:
    with pytest.raises(ValueError, match="is not a message"):
        protocol.decode(msgspec.msgpack.encode(fields))


@pytest.mark.parametrize("order", [Freed(0), Freed(5), Freed(U32), Wanted(0), Wanted(U64)], ids=str)
def test_every_order_arrives_as_it_was_given(order: protocol.Order) -> None:
    assert protocol.decode_order(protocol.encode_order(order)) == order


@pytest.mark.parametrize("packet", [b"", b"\x05", protocol.encode(Ended()), b"\xff" * 9])
def test_what_is_no_order_is_refused(packet: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, msgspec.ValidationError)):
        protocol.decode_order(packet)


@pytest.fixture
def ring_and_fd() -> Iterator[tuple[Ring, int]]:
    """A ring of three slots of two pages, and its descriptor."""
    ring, fd = Ring.create(3, 2 * PAGE)
    yield ring, fd
    os.close(fd)


def test_the_memory_goes_over_a_socket_and_both_see_the_same(ring_and_fd: tuple[Ring, int]) -> None:
    ring, fd = ring_and_fd
    ours, theirs = protocol.pair()
    with ours, theirs:
        socket.send_fds(theirs, [b"ring"], [fd])
        _, (arrived,), _, _ = socket.recv_fds(ours, 16, 1)
    attached = Ring.attach(arrived, 3, 2 * PAGE)
    os.close(arrived)
    for slot in range(3):
        ring.view(slot, (40, 50, 3), "uint8")[...] = slot + 1
    assert [int(attached.view(slot, (40, 50, 3), "uint8").min()) for slot in range(3)] == [1, 2, 3]
    grey = np.arange(2 * PAGE // 2, dtype=np.uint16).reshape(-1, 64)
    ring.view(1, grey.shape, "uint16")[...] = grey
    assert (attached.view(1, grey.shape, "uint16") == grey).all()
    assert (attached.view(0, (2 * PAGE, 1), "uint8")[6000:] == 0).all(), "slots do not overlap"
    assert (attached.view(2, (40, 50, 3), "uint8") == 3).all()


def test_slots_are_whole_pages() -> None:
    ring, fd = Ring.create(2, PAGE + 1)
    try:
        assert (ring.slots, ring.slot_bytes, os.fstat(fd).st_size) == (2, 2 * PAGE, 4 * PAGE)
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("slot", "shape", "dtype"),
    [
        (3, (1, 1), "uint8"), (-1, (1, 1), "uint8"), (U32, (1, 1), "uint8"),
        (0, (2 * PAGE + 1, 1), "uint8"), (2, (PAGE + 1, 1), "uint16"),
        (0, (0, 5), "uint8"), (0, (5, 0, 3), "uint8"), (0, (-5, -5), "uint8"),
    ],
)  # fmt: skip
def test_no_view_leaves_its_slot(ring_and_fd: tuple[Ring, int], slot: int, shape: tuple[int, ...], dtype: str) -> None:
    with pytest.raises(CameraError, match="does not fit slot"):
        ring_and_fd[0].view(slot, shape, dtype)


@pytest.mark.parametrize("shape", [(U32, U32), (2**31, 2**31, 4), (U32, U32, 3)])
def test_a_view_beyond_all_numbers_is_refused_like_any_other(
    ring_and_fd: tuple[Ring, int], shape: tuple[int, ...]
) -> None:
    with pytest.raises(CameraError, match="does not fit slot"):
        ring_and_fd[0].view(0, shape, "uint8")


@pytest.mark.parametrize(("slots", "slot_bytes"), [(3, PAGE), (4, 2 * PAGE), (0, 2 * PAGE), (3, 0), (1, 2**63)])
def test_a_ring_of_another_size_is_refused(ring_and_fd: tuple[Ring, int], slots: int, slot_bytes: int) -> None:
    with pytest.raises(CameraError, match="offered a ring"):
        Ring.attach(ring_and_fd[1], slots, slot_bytes)


@pytest.mark.parametrize("seals", [0, SEALS & ~fcntl.F_SEAL_SHRINK, SEALS & ~fcntl.F_SEAL_SEAL])
def test_a_ring_that_could_be_shrunk_is_refused(seals: int) -> None:
    fd = os.memfd_create("unsealed", os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, PAGE)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        with pytest.raises(CameraError, match="sealed"):
            Ring.attach(fd, 1, PAGE)
    finally:
        os.close(fd)


def test_a_file_is_no_ring(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(PAGE))
    with (tmp_path / "file").open("r+b") as file, pytest.raises(CameraError):
        Ring.attach(file.fileno(), 1, PAGE)


def test_the_child_cannot_shrink_or_grow_the_memory(ring_and_fd: tuple[Ring, int]) -> None:
    for size in (0, PAGE, 100 * PAGE):
        with pytest.raises(PermissionError):
            os.ftruncate(ring_and_fd[1], size)
    with pytest.raises(PermissionError):
        fcntl.fcntl(ring_and_fd[1], fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)


def test_memory_that_was_pinned_is_unpinned_while_it_is_still_mapped(ring_and_fd: tuple[Ring, int]) -> None:
    """A driver that is told too late keeps pages of memory that somebody else has got since."""
    told: list[tuple[int, int, bool]] = []

    def pin(address: int, size: int) -> Callable[[], None]:
        def is_mapped() -> bool:
            maps = Path("/proc/self/maps").read_text().splitlines()
            return any(line.startswith(f"{address:x}-") and "inspectd-ring" in line for line in maps)

        return lambda: told.append((address, size, is_mapped()))

    ring = Ring.attach(ring_and_fd[1], 3, 2 * PAGE, pin)
    picture = ring.view(1, (8, 8), "uint8")
    del ring
    gc.collect()
    assert not told, "a picture in it is still in use"
    address = picture.ctypes.data - 2 * PAGE
    del picture
    gc.collect()
    assert told == [(address, 6 * PAGE, True)]
