"""MJPEG over HTTP: what cameras really send, byte by byte, and each picture as soon as it is whole."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from numbered import jpegs

from inspectd.cameras.jpeg import is_jpeg
from inspectd.cameras.streams import mjpeg
from inspectd.cameras.streams.mjpeg import Mjpeg
from inspectd.errors import CameraError

A, B, C = jpegs(3, size=(320, 64), quality=60)
THUMBNAIL = A[:2] + b"\xff\xe1" + (len(B) + 2).to_bytes(2, "big") + B + A[2:]
"""A picture that carries another one, with an end of its own."""

MOTION = b"--b\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nmotion\r\n"


class Answer:
    """An answer that comes in the given chunks."""

    def __init__(self, data: bytes, step: int) -> None:
        self.chunks = [data[at : at + step] for at in range(0, len(data), step)]
        self.read = 0

    def read1(self, _: int) -> bytes:
        chunk = self.chunks.pop(0) if self.chunks else b""
        self.read += len(chunk)
        return chunk


def parts_of(stream_of: bytes, step: int = 1000) -> list[bytes]:
    answer = Answer(stream_of, step)
    first = answer.read1(step) + answer.read1(step)
    stream = Mjpeg(answer, "cam", first, None if is_jpeg(stream_of) else "b")  # type: ignore[arg-type]
    parts = []
    while (packet := stream.next().packet) is not None:
        parts.append(bytes(packet))
    return parts


def sized(picture: bytes, begin: bytes = b"--b\r\n", length: int | None = None) -> bytes:
    count = len(picture) if length is None else length
    return begin + b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % count + picture + b"\r\n"


def unsized(picture: bytes, begin: bytes = b"--b\r\n") -> bytes:
    return begin + b"Content-Type: image/jpeg\r\n\r\n" + picture + b"\r\n"


@pytest.mark.parametrize("step", [1, 7, 1000, 10**6])
@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(sized(A) + sized(B) + sized(C), id="with lengths"),
        pytest.param(unsized(A) + unsized(B) + unsized(C), id="without lengths"),
        pytest.param(sized(A) + unsized(B) + sized(C) + b"--b--\r\n", id="mixed, with a proper end"),
        pytest.param(b"\r\n" + unsized(A) + unsized(B) + unsized(C), id="an empty line before the first boundary"),
        pytest.param(b"".join(unsized(p, b"----b\r\n") for p in (A, B, C)), id="a boundary of many dashes"),
        pytest.param(b"".join(sized(p).replace(b"\r\n", b"\n", 4) for p in (A, B, C)), id="lines without returns"),
        pytest.param(b"".join(b"--b\r\n\r\n" + p + b"\r\n" for p in (A, B, C)), id="parts without a head"),
        pytest.param(b"".join(b"--b\r\ncontent-length:%d \r\n\r\n" % len(p) + p for p in (A, B, C)), id="in small"),
        pytest.param(unsized(A) + MOTION + unsized(B) + sized(C), id="text between pictures"),
        pytest.param(unsized(A) + sized(b"") + unsized(B) + unsized(b"") + sized(C), id="empty parts"),
        pytest.param(unsized(A, b"--b 0\r\n") + unsized(B, b"--b 1\r\n") + unsized(C, b"--b 2\r\n"), id="numbered"),
        pytest.param(sized(A, b"--first\r\n") + sized(B) + unsized(C), id="another first boundary"),
        pytest.param(b"".join(sized(p) + b"--b--\r\n" for p in (A, B, C)), id="each part is the last"),
        pytest.param(b"".join(sized(p) + b"--b--\r\n\r\n" for p in (A, B, C)), id="and an empty line"),
        pytest.param(b"preamble\r\nof two lines\r\n" + unsized(A) + sized(B) + sized(C), id="a preamble"),
        pytest.param((sized(A) + unsized(B) + sized(C)).replace(b"image/jpeg", b"application/octet-stream"), id="8"),
        pytest.param(A + B + C, id="nothing but pictures"),
        pytest.param(A + b"\0\0\0" + B + b"\r\n" + C, id="nothing but pictures, padded"),
    ],
)  # fmt: skip
def test_pictures_are_found_whatever_the_chunks(stream: bytes, step: int) -> None:
    assert parts_of(stream, step) == [A, B, C]


def test_a_length_that_is_too_short_costs_one_picture() -> None:
    assert parts_of(sized(A, length=len(A) - 40) + sized(B) + sized(C)) == [A[:-40], B, C]


def test_a_picture_before_the_first_boundary_is_one() -> None:
    data = A + b"\r\n" + unsized(B) + sized(C)
    answer = Answer(data, 1000)
    stream = Mjpeg(answer, "cam", answer.read1(0), "b")  # type: ignore[arg-type]
    assert [bytes(packet) for _ in range(3) if (packet := stream.next().packet) is not None] == [A, B, C]


def test_a_bare_picture_that_is_cut_in_its_head_costs_no_other() -> None:
    cut = b"\xff\xd8\xff\xe1\xff\xf0" + b"x" * 100
    assert parts_of(A + cut + B + C + A + B) == [A, cut, B, C, A, B]


@pytest.mark.parametrize("wrap", [sized, unsized, bytes], ids=["with length", "without", "alone"])
def test_a_picture_in_a_picture_does_not_end_it(wrap: Callable[[bytes], bytes]) -> None:
    assert parts_of(wrap(THUMBNAIL) + wrap(B)) == [THUMBNAIL, B]


@pytest.mark.parametrize("broken", [A[: len(A) // 2], A[2:], A[:20] + b"\0\0" + A[22:], b"\xff\xd8" * 30, b"x"])
@pytest.mark.parametrize("wrap", [sized, unsized])
def test_a_broken_picture_is_one_part_and_costs_no_other(broken: bytes, wrap: Callable[[bytes], bytes]) -> None:
    parts = parts_of(wrap(C) + wrap(broken) + wrap(B))
    assert len(parts) == 3
    assert parts[0] == C
    assert parts[1].rstrip(b"\r\n") == broken
    assert parts[2] == B


def test_a_cut_picture_among_bare_ones_ends_where_the_next_begins() -> None:
    assert parts_of(A + B[:-40] + C) == [A, B[:-40], C]


@pytest.mark.parametrize("wrap", [sized, unsized, bytes], ids=["with length", "without", "alone"])
def test_a_picture_is_there_with_its_last_byte(wrap: Callable[[bytes], bytes]) -> None:
    data = wrap(A)
    last = data.index(A) + len(A)
    answer = Answer(data, 1)
    first = answer.read1(1) + answer.read1(1)
    stream = Mjpeg(answer, "cam", first, None if is_jpeg(data) else "b")  # type: ignore[arg-type]
    packet = stream.next().packet
    assert packet is not None
    assert bytes(packet) == A
    assert answer.read == last


@pytest.mark.parametrize(
    ("stream", "sentence"),
    [
        (b"--b\r\nContent-Type: video/h264\r\n\r\nABC", "sends video/h264; set it to JPEG"),
        (MOTION * 1001 + sized(A), "sends text/plain; set it to JPEG"),
        (b"--b\r\n" + b"a: b\r\n" * 100_000, "whose head does not end"),
        (b"--b\r\nContent-Type: image/png\r\n\r\nPNG", "sends image/png; set it to JPEG"),
        (b"--b\r\nContent-Length: 999999999999\r\n\r\n" + A, "announces a picture of 999999999999 bytes"),
        (b"--b\r\n\r\n\xff\xd8\xff\xda\0\2" + b"\1" * (mjpeg.MOST_BYTES + 10**6), "without the end of a picture"),
    ],
)
def test_what_is_no_stream_of_pictures_is_one_sentence(stream: bytes, sentence: str) -> None:
    with pytest.raises(CameraError, match=sentence):
        parts_of(stream, 1 << 20)


def test_what_had_waited_is_told_from_what_comes_now() -> None:
    """However long it takes to look through it."""

    class Slow(Answer):
        def read1(self, count: int) -> bytes:
            if self.read:
                time.sleep(0.01)
            return super().read1(count)

    large = jpegs(3, size=(1920, 1072))
    both = b"".join(unsized(one) for one in large[:2])
    answer = Slow(both + unsized(large[2]), len(both))
    stream = Mjpeg(answer, "cam", answer.read1(0), "b")  # type: ignore[arg-type]
    assert [stream.next().was_waiting for _ in range(3)] == [True, True, False]
