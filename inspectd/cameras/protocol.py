"""The words between a capture child and its parent: fixed structs over a SOCK_SEQPACKET pair.

Each message is one packet: a kind, its numbers, and where it says so a text in UTF-8. The parent sends the
settings once (JSON) and gives slots back; the child says what it opened, hands slots over, and says why it
ends. A closed socket means: end.
"""

from __future__ import annotations

import json
import socket
import struct
from dataclasses import dataclass

import msgspec

MAX_PACKET = 65536
_KIND = struct.Struct("<B")
_OPENED = struct.Struct("<BIQIIdQ?")
_FRAME = struct.Struct("<BIQIQIIBB")
_ALIVE = struct.Struct("<BI?")
_UNREADABLE = struct.Struct("<BQIQ")
_RELEASE = struct.Struct("<I")


class CaptureSettings(msgspec.Struct, frozen=True):
    """Everything a child needs to know; units as in the configuration."""

    source: str
    kind: str
    slots: int
    first: int = 0
    """How many frames of a finite source earlier lives have taken."""
    size: tuple[int, int] | None = None
    fps: float | None = None
    format: str | None = None
    exposure: float | None = None
    gain: float | None = None
    white_balance: float | None = None
    open_timeout_ms: float = 5000
    read_timeout_ms: float = 1000
    loop: bool = False
    refuse_repeats: bool = True
    """A raw camera's picture that equals the one before bit for bit is not new."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The source is open; the ring's descriptor travels with this message."""

    slots: int
    slot_bytes: int
    width: int
    height: int
    fps: float
    """What the source says; 0 when it does not."""
    is_live: bool
    """Frames come by themselves and are lost when nobody takes them."""
    format: str
    """FourCC, or empty."""
    total: int = 0
    """How many pictures a finite source has, as far as it says so; 0: nobody knows."""
    caveat: str = ""
    """What cannot be promised of its pictures."""


@dataclass(frozen=True, slots=True)
class Captured:
    """A slot is handed over."""

    slot: int
    number: int
    """Of this frame, as this child counts, from 1."""
    missed: int
    """Frames taken and given up since the last message, because no slot was free."""
    captured_ns: int
    shape: tuple[int, ...]
    dtype: str
    part: str | None


@dataclass(frozen=True, slots=True)
class Alive:
    """The source answers, but there is nothing to hand over."""

    missed: int
    is_repeat: bool
    """The picture was bit for bit the one before."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A picture cannot be read or trusted; the next one will be tried."""

    number: int
    missed: int
    """As in `Captured`."""
    captured_ns: int
    part: str | None
    why: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The source cannot be opened or read on; the child ends."""

    why: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A finite source has been read to its end; the child ends when all slots are back."""


Message = Opened | Captured | Alive | Unreadable | Failed | Ended


def encode_settings(settings: CaptureSettings) -> bytes:
    """Pack the parent's first word. A path that is not UTF-8 keeps its odd bytes (as Python writes them in a str)."""
    return json.dumps(msgspec.structs.asdict(settings)).encode()


def decode_settings(packet: bytes) -> CaptureSettings:
    """Unpack `encode_settings`."""
    return msgspec.convert(json.loads(packet), CaptureSettings)


def encode(message: Message) -> bytes:
    """Pack a message of the child."""
    match message:
        case Opened():
            numbers = _OPENED.pack(
                1,
                message.slots,
                message.slot_bytes,
                message.width,
                message.height,
                message.fps,
                message.total,
                message.is_live,
            )
            return numbers + _bytes(f"{message.format}\0{message.caveat}")
        case Captured():
            height, width, *channels = message.shape
            head = _FRAME.pack(
                2,
                message.slot,
                message.number,
                message.missed,
                message.captured_ns,
                height,
                width,
                channels[0] if channels else 0,
                2 if message.dtype == "uint16" else 1,
            )
            return head + _bytes("" if message.part is None else "=" + message.part)
        case Alive():
            return _ALIVE.pack(3, message.missed, message.is_repeat)
        case Unreadable():
            part = "" if message.part is None else "=" + message.part
            return _UNREADABLE.pack(4, message.number, message.missed, message.captured_ns) + _bytes(
                f"{part}\0{message.why}"
            )
        case Failed():
            return _KIND.pack(5) + _bytes(message.why)
        case Ended():
            return _KIND.pack(6)


def decode(packet: bytes) -> Message:
    """Unpack a message of the child; ValueError when it is none."""
    try:
        kind = packet[0]
        if kind == 1:
            _, slots, slot_bytes, width, height, fps, total, is_live = _OPENED.unpack_from(packet)
            name, _, caveat = _text(packet, _OPENED).partition("\0")
            return Opened(slots, slot_bytes, width, height, fps, is_live, name, total, caveat)
        if kind == 2:
            _, slot, number, missed, at, height, width, channels, itemsize = _FRAME.unpack_from(packet)
            if channels not in (0, 3) or itemsize not in (1, 2):
                raise ValueError(f"a picture of {channels} channels and {itemsize} bytes is not known")
            shape = (height, width, channels) if channels else (height, width)
            text = _text(packet, _FRAME)
            dtype = "uint16" if itemsize == 2 else "uint8"
            return Captured(slot, number, missed, at, shape, dtype, text[1:] if text else None)
        if kind == 3:
            _, missed, is_repeat = _ALIVE.unpack(packet)
            return Alive(missed, is_repeat)
        if kind == 4:
            _, number, missed, at = _UNREADABLE.unpack_from(packet)
            part, _, why = _text(packet, _UNREADABLE).partition("\0")
            return Unreadable(number, missed, at, part[1:] if part else None, why)
        if kind == 5:
            return Failed(_text(packet, _KIND))
        if kind == 6 and len(packet) == _KIND.size:
            return Ended()
    except (struct.error, IndexError) as error:
        raise ValueError(f"a packet of {len(packet)} bytes is not a message") from error
    raise ValueError(f"a message of kind {kind} is not known")


def _bytes(text: str) -> bytes:
    """Encode for the packet; a file name that is not UTF-8 keeps its odd bytes as escapes."""
    return text.encode(errors="backslashreplace")[: MAX_PACKET // 2]


def _text(packet: bytes, head: struct.Struct) -> str:
    return packet[head.size :].decode(errors="replace")


def pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a new link."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def encode_release(slot: int) -> bytes:
    """Pack the parent's only word after the settings: this slot is free again."""
    return _RELEASE.pack(slot)


def decode_release(packet: bytes) -> int:
    """Unpack `encode_release`."""
    return int(_RELEASE.unpack(packet)[0])
