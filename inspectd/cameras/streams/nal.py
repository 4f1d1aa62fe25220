"""As much of H.264 and H.265 as tells whether a coded picture is complete and needs no earlier one.

Sources: ITU-T H.264 (7.3.1, 7.3.3) and H.265 (7.3.1.2, 7.3.6.1). Slice headers begin with Exp-Golomb numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_START = re.compile(rb"\x00\x00\x01")
_AVC_SLICES, _AVC_IDR = range(1, 6), 5
_HEVC_SLICES, _HEVC_IRAP = range(32), range(16, 24)
_INTRA_ONLY = (2, 7)
"""slice_type of H.264 slices that refer to no other picture."""
HEAD_BYTES = 8
"""What of a unit is looked at."""


@dataclass(frozen=True, slots=True)
class CodedPicture:
    """What a packet holds."""

    slices: int
    is_key: bool
    """Decoding can begin here: it refers to nothing before, and neither does what follows it in order."""


def length_size(codec: str, extradata: bytes | None) -> int:
    """Return how many bytes give a unit's length in a container's packets (avcC, hvcC); 0: start codes."""
    at = 4 if codec == "h264" else 21
    return extradata[at] % 4 + 1 if extradata and len(extradata) > at and extradata[0] == 1 else 0


def look_at_avc(packet: bytes, size: int, is_random_access: bool) -> CodedPicture:
    """Look at an H.264 packet. `is_random_access`: the demuxer calls it a key frame (IDR or recovery point)."""
    heads = [head for head in _units(packet, size) if head and head[0] & 0x1F in _AVC_SLICES]
    is_idr = any(head[0] & 0x1F == _AVC_IDR for head in heads)
    is_intra = bool(heads) and all(_slice_type(head) in _INTRA_ONLY for head in heads)
    return CodedPicture(len(heads), is_idr or (is_random_access and is_intra))


def look_at_hevc(packet: bytes, size: int) -> CodedPicture:
    """Look at an H.265 packet."""
    kinds = [head[0] >> 1 & 0x3F for head in _units(packet, size) if head]
    slices = [kind for kind in kinds if kind in _HEVC_SLICES]
    return CodedPicture(len(slices), bool(slices) and all(kind in _HEVC_IRAP for kind in slices))


def _units(packet: bytes, size: int) -> Iterator[bytes]:
    """Yield the first bytes of each NAL unit."""
    if size == 0:
        for found in _START.finditer(packet):
            yield packet[found.end() : found.end() + HEAD_BYTES]
        return
    at = 0
    while at + size < len(packet):
        length = int.from_bytes(packet[at : at + size], "big")
        yield packet[at + size : at + size + min(HEAD_BYTES, length)]
        at += size + length


def _slice_type(head: bytes) -> int:
    bits = int.from_bytes(head[1:], "big")
    left = 8 * (len(head) - 1)
    value = -1
    for _ in range(2):  # first_mb_in_slice, slice_type
        value, left = _exp_golomb(bits, left)
    return value


def _exp_golomb(bits: int, left: int) -> tuple[int, int]:
    """Read one number from the `left` low bits; return it (−1: they do not suffice) and how many are left."""
    known = bits & ((1 << left) - 1)
    zeros = left - known.bit_length()
    length = 2 * zeros + 1
    if known == 0 or length > left:
        return -1, 0
    return (known >> (left - length)) - 1, left - length
