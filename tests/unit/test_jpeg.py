"""JPEG from its own bytes: whole, or refused; and the pixels are OpenCV's."""

from __future__ import annotations

import random

import cv2
import numpy as np
import pytest
from numbered import jpegs, look

from inspectd.cameras import jpeg

WHOLE = jpegs(1, size=(320, 240))[0]
MIDDLE = len(WHOLE) // 2


def test_a_whole_picture_has_opencvs_pixels_and_lies_where_it_was_wanted() -> None:
    into = np.empty((240, 320, 3), np.uint8)
    picture = jpeg.decode(WHOLE, into)
    assert np.array_equal(picture, cv2.imdecode(np.frombuffer(WHOLE, np.uint8), cv2.IMREAD_COLOR))
    assert np.shares_memory(picture, into)
    assert jpeg.decode(WHOLE, np.empty((10, 10, 3), np.uint8)).shape == (240, 320, 3)


@pytest.mark.parametrize("kind", ["grey", "progressive", "restarts", "padded", "twice ended", "thumbnail"])
def test_what_is_whole_in_another_way_is_read(kind: str) -> None:
    picture = cv2.imdecode(np.frombuffer(WHOLE, np.uint8), cv2.IMREAD_COLOR)
    options = {"progressive": [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], "restarts": [cv2.IMWRITE_JPEG_RST_INTERVAL, 4]}
    data = bytes(cv2.imencode(".jpg", picture[:, :, 0] if kind == "grey" else picture, options.get(kind, []))[1])
    if kind == "padded":
        data += b"\0\0\r\n"
    elif kind == "twice ended":
        data += jpeg.END
    elif kind == "thumbnail":  # inside a segment, markers are none
        data = data[:2] + b"\xff\xe1\x00\x0a" + jpeg.END + b"\xff\xda\0\0\0\0" + data[2:]
    jpeg.check(data)
    assert jpeg.decode(data).shape == (240, 320, 3)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        pytest.param(b"", "does not begin", id="nothing"),
        pytest.param(b"\xff\xd8", "end is missing", id="only a beginning"),
        pytest.param(WHOLE[:MIDDLE], "end is missing", id="cut"),
        pytest.param(WHOLE[:-2], "end is missing", id="without its end"),
        pytest.param(WHOLE[:MIDDLE] + jpeg.END, None, id="cut and closed"),
        pytest.param(WHOLE + WHOLE, "follow its end", id="two"),
        pytest.param(WHOLE[:-2] + b"--part\r\nContent-Type", "end is missing", id="the next part's head"),
        pytest.param(WHOLE[:20] + WHOLE[200:], None, id="a hole in its head"),
        pytest.param(b"GIF89a" + WHOLE, "does not begin", id="something else"),
    ],
)
def test_what_is_not_whole_is_refused(data: bytes, why: str | None) -> None:
    with pytest.raises(jpeg.DamagedError, match=why):
        jpeg.decode(data)
    if why not in ("follow its end", "of what follows"):
        with pytest.raises(jpeg.DamagedError):
            jpeg.check(data)


def test_a_file_may_hold_more_behind_its_end_and_a_stream_may_not() -> None:
    for more in (b"SEFT\0\0\0\1", WHOLE):
        jpeg.check(WHOLE + more)
        with pytest.raises(jpeg.DamagedError):
            jpeg.decode(WHOLE + more)


def test_a_header_that_asks_for_a_world_of_pixels_takes_no_memory() -> None:
    at = WHOLE.index(b"\xff\xc0") + 5
    for read in (jpeg.decode, jpeg.check):
        with pytest.raises(jpeg.DamagedError, match="too few for 65500x65500"):
            read(WHOLE[:at] + (65500).to_bytes(2, "big") * 2 + WHOLE[at + 4 :])


def test_holes_that_opencv_shows_as_pictures_are_mostly_refused_and_cut_ones_always() -> None:
    rng = random.Random(1)
    shown = passed = 0
    for _ in range(300):
        at, lost = rng.randrange(700, len(WHOLE) - 300), rng.choice([1, 4, 50, 200])
        data = WHOLE[:at] + WHOLE[at + lost :]
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if picture is None or look(picture)[1] == 0:
            continue
        shown += 1
        try:
            jpeg.decode(data)
            passed += 1
        except jpeg.DamagedError:
            pass
    assert shown > 150
    assert passed <= shown * 0.4, "a JPEG has no checksum: what is left must not grow"


def test_random_bytes_are_refused_and_nothing_else_happens() -> None:
    rng = random.Random(2)
    for _ in range(300):
        data = bytearray(WHOLE)
        for _ in range(rng.randrange(1, 30)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        for read in (jpeg.decode, jpeg.check):
            try:
                read(bytes(data[: rng.randrange(len(data))]))
            except jpeg.DamagedError:
                continue
