"""What follows a packet is looked at, however long its picture took to decode."""

from __future__ import annotations

import queue
import threading
import time

import pytest
from av.packet import Packet

from inspectd.cameras.grabbers.network import torn_at_its_end
from inspectd.cameras.streams.packets import Arrival
from inspectd.cameras.streams.reader import Reader
from inspectd.errors import CameraError

BREAK = CameraError("cam breaks off")


def arrival(damage: str | None = None, *, is_end: bool = False) -> Arrival:
    return Arrival(None if is_end else Packet(b"x"), False, time.monotonic_ns(), damage)  # type: ignore[arg-type]


class Stream:
    """Gives what is put into it."""

    def __init__(self) -> None:
        self.items: queue.Queue[Arrival | Exception] = queue.Queue()
        self.reader = Reader(self._read)

    def _read(self) -> Arrival:
        item = self.items.get()
        if isinstance(item, Exception):
            raise item
        return item


@pytest.fixture
def stream() -> Stream:
    return Stream()


@pytest.mark.parametrize("decoding_s", [0.0, 0.01, 0.15])
@pytest.mark.parametrize(
    ("codec", "following", "why"),
    [
        ("h264", BREAK, "breaks off right behind it"),
        ("h264", arrival(is_end=True), "breaks off right behind it"),
        ("h264", arrival("lost"), None),  # the decoder of H.264 notices what was torn itself
        ("h264", arrival(), None),
        ("hevc", BREAK, "breaks off right behind it"),
        ("hevc", arrival("RTP: missed 3 packets"), "damaged right behind it: RTP: missed 3 packets"),
        ("hevc", arrival(), None),
        ("mjpeg", BREAK, None),
    ],
)
def test_what_is_known_of_a_pictures_end_is_told(
    stream: Stream, codec: str, following: Arrival | Exception, why: str | None, decoding_s: float
) -> None:
    stream.items.put(arrival())
    stream.items.put(following)
    mine = stream.reader.next(5)
    time.sleep(decoding_s + 0.005)
    found = torn_at_its_end(codec, mine, stream.reader)
    assert found is None if why is None else why in (found or "")


def test_h265_waits_for_the_next_picture(stream: Stream) -> None:
    stream.items.put(arrival())
    mine = stream.reader.next(5)
    threading.Timer(0.04, stream.items.put, [arrival("lost")]).start()
    assert "damaged right behind it" in (torn_at_its_end("hevc", mine, stream.reader) or "")
    assert stream.reader.next(5).damage == "lost"


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_what_never_comes_is_waited_for_so_long_only(stream: Stream, codec: str) -> None:
    stream.items.put(arrival())
    began_s = time.monotonic()
    assert torn_at_its_end(codec, stream.reader.next(5), stream.reader) is None
    assert time.monotonic() - began_s < 5
    with pytest.raises(CameraError, match="no packet came in time"):
        stream.reader.next(0.01)


def test_an_unexpected_error_ends_the_stream_with_a_sentence(stream: Stream) -> None:
    stream.items.put(ZeroDivisionError("oops"))
    with pytest.raises(CameraError, match="cannot be read: ZeroDivisionError"):
        stream.reader.next(5)
