"""JPEG pictures from their own bytes: whole, or refused.

A JPEG carries no checksum. Decoders of video libraries fill what is missing with the rows of the picture before,
OpenCV with grey; libjpeg-turbo's warnings are the only witness, and OpenCV drops them. simplejpeg raises them, and
decodes the same pixels (bit for bit, tested).
"""

from __future__ import annotations

import re
from typing import cast

import cv2
import numpy as np
import simplejpeg

from inspectd.records import Picture

START, END = b"\xff\xd8", b"\xff\xd9"
_PADDING = b"\0\r\n"
_SCAN = 0xDA
_STANDALONE = frozenset(range(0xD0, 0xDA)) | {0x01}
_IN_SCAN = re.compile(rb"\xff[^\xff\x00\xd0-\xd7]")
"""The marker that ends entropy-coded data: neither a stuffed byte nor a restart."""
LONGEST_SIDE, QUALITY = 1920, 80
"""Of pictures for people."""
_NO_JPEG = "it does not begin like a JPEG"
_PLAIN = ("YCbCr", "RGB", "Gray")


class DamagedError(Exception):
    """The bytes are not one whole picture; the message says why, without a subject."""


def is_jpeg(data: bytes) -> bool:
    """Whether some bytes begin like a JPEG."""
    return data[:2] == START


def decode(data: bytes, into: Picture | None = None) -> Picture:
    """Decode one whole JPEG to uint8 [H, W, 3] BGR, into `into` where that has its shape; DamagedError if it is not."""
    check_structure(data)
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        _check_size(height, width, len(data))
        buffer = into if into is not None and into.shape == (height, width, 3) and into.dtype == np.uint8 else None
        picture = simplejpeg.decode_jpeg(data, "BGR", buffer=buffer)
    except ValueError as error:
        raise DamagedError(_words(error)) from None
    return cast("Picture", picture)


def check(data: bytes) -> None:
    """Raise DamagedError if a decoder would have to guess any part of a file; a kind it does not know passes.

    Behind its end a file may hold more: trailers of phones, a second picture for bright screens.
    """
    check_structure(data, is_file=True)
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        _check_size(height, width, len(data))
        if colours in _PLAIN:
            simplejpeg.decode_jpeg(data, "GRAY", min_height=1, min_width=1)  # all bits are read, few pixels made
    except ValueError as error:
        raise DamagedError(_words(error)) from None


def _check_size(height: int, width: int, count: int) -> None:
    """Refuse a header that asks for memory which so few bytes cannot fill: each 8 x 8 block takes two bits at least."""
    if height * width / 64 * 2 > count * 8:
        raise DamagedError(f"its {count} bytes are too few for {width}x{height} pixels")


def check_structure(data: bytes, *, is_file: bool = False) -> None:
    """Follow the markers from the first to the last; DamagedError unless they frame exactly one picture."""
    end = len(data.rstrip(_PADDING))
    if not is_jpeg(data):
        raise DamagedError(_NO_JPEG)
    while data[end - 4 : end] == END + END:  # FFmpeg ends a JPEG that came over RTP, ended or not
        end -= 2
    if data[end - 2 : end] != END and not is_file:
        raise DamagedError(f"its end is missing after {len(data)} bytes")
    found = Structure().end_in(data)
    if found is None:
        raise DamagedError(f"its end is missing after {len(data)} bytes")
    if found != end and not is_file:
        raise DamagedError(f"{end - found} bytes that do not belong to it follow its end")


class Structure:
    """Follows the markers of one JPEG, which may not have come to its end yet."""

    def __init__(self) -> None:
        self._at = 0
        self._is_in_scan = False

    def end_in(self, data: bytes | bytearray) -> int | None:
        """Return where the picture ends in what has come of it, from its beginning on; None: not yet.

        DamagedError: its markers are broken, or another picture begins before its end.
        """
        if self._at == 0 and len(data) >= len(START):
            if data[: len(START)] != START:
                raise DamagedError(_NO_JPEG)
            self._at = len(START)
        while self._at and (not self._is_in_scan or self._skip_scan(data)) and self._at + 2 <= len(data):
            if data[self._at] != 0xFF:
                raise DamagedError(f"its markers are broken at byte {self._at}")
            code = data[self._at + 1]
            if code == END[1]:
                return self._at + 2
            if code == START[1]:
                raise DamagedError(f"another picture begins before its end, at byte {self._at}")
            if not self._pass(code, data):
                break
        return None

    def _skip_scan(self, data: bytes | bytearray) -> bool:
        """Go on to the marker that ends the entropy-coded data; False: it has not come yet."""
        found = _IN_SCAN.search(data, self._at)
        # The last byte may begin a marker.
        self._at = found.end() - 2 if found is not None else max(self._at, len(data) - 1)
        self._is_in_scan = found is None
        return found is not None

    def _pass(self, code: int, data: bytes | bytearray) -> bool:
        """Go on behind a marker and what belongs to it; False: that has not come yet."""
        if code == 0xFF:  # a fill byte
            self._at += 1
        elif code in _STANDALONE:
            self._at += 2
        elif self._at + 4 > len(data):
            return False
        else:
            self._at += 2 + int.from_bytes(data[self._at + 2 : self._at + 4], "big")
            self._is_in_scan = code == _SCAN
        return True


def _words(error: ValueError) -> str:
    return str(error).strip().rstrip(".") or "it cannot be decoded"


def for_people(picture: Picture, white_level: int = 65535) -> bytes:
    """Return a JPEG of a picture, its longer side at most `LONGEST_SIDE`; `white_level`: of 16-bit ones."""
    height, width = picture.shape[:2]
    scale = LONGEST_SIDE / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        picture = cast("Picture", cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
    if picture.dtype == np.uint16:
        picture = cast("Picture", cv2.convertScaleAbs(picture, alpha=255 / white_level))
    grey = picture.ndim == 2
    pixels = np.ascontiguousarray(picture[..., None] if grey else picture)
    return bytes(simplejpeg.encode_jpeg(pixels, QUALITY, "GRAY" if grey else "BGR", "420"))
