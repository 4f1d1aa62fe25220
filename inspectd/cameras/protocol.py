"""What a capture child, its parent and the process that forks it tell each other: msgpack over SOCK_SEQPACKET pairs.

The parent sends the settings once, gives slots back, and asks for pictures where a camera takes them when it is told.
The child says what it opened, hands slots over, and says why it ends. A closed socket means: end. Of the child's own
start and end its forker tells, over another pair.
"""

from __future__ import annotations

import json
import socket
from typing import Annotated, Any, Literal

import msgspec

MAX_PACKET = 65536
LONGEST_TEXT = MAX_PACKET // 8
"""Bytes; what is longer is cut where the packet would not fit."""

MANUAL_EXPOSURE = (1.0, 0.25)
"""Of the setting `auto_exposure`: V4L2's own number, and that of other builds of OpenCV."""
Count = Annotated[int, msgspec.Meta(ge=0)]
Feature = bool | int | float | str
"""The value of a GenICam feature."""


class CaptureSettings(msgspec.Struct, frozen=True):
    """Everything a child needs to know; units as in the configuration."""

    source: str
    kind: str
    slots: int
    first: int = 0
    """How many frames of a finite source earlier children have taken."""
    size: tuple[int, int] | None = None
    fps: float | None = None
    format: str | None = None
    exposure: float | None = None
    gain: float | None = None
    white_balance: float | None = None
    open_timeout_ms: float = 5000
    read_timeout_ms: float = 1000
    features: dict[str, Feature] = {}
    """Of a GenICam camera, by their names."""
    loop: bool = False
    refuse_repeats: bool = True
    """A raw camera's picture that equals the one before bit for bit is not new."""
    known_as: str = ""
    """What an earlier child found it by."""
    synchronized: bool = False
    """A network camera's wall clock is kept together with this machine's."""
    is_triggered: bool = False
    """The camera takes pictures when its own input says so: that none comes means nothing."""
    is_commanded: bool = False
    """The parent says when a picture is wanted. Of a camera that takes one when it is told no others are."""

    @property
    def select_s(self) -> int:
        """How long V4L2 waits for a picture: whole seconds, as OpenCV has it."""
        return 1 if self.is_triggered else max(1, round(self.read_timeout_ms / 1000))


class _Message(msgspec.Struct, frozen=True, array_like=True):
    """A packet of the child: its tag, then its fields in their order."""


class Opened(_Message, frozen=True, tag=1):
    """The source is open; the ring's descriptor travels with this message."""

    slots: Count
    slot_bytes: Count
    width: Count
    height: Count
    fps: float
    """What the source says; 0 when it does not."""
    is_live: bool
    """Frames come by themselves and are lost when nobody takes them."""
    format: str
    """FourCC, or empty."""
    total: Count = 0
    """How many pictures a finite source has, as far as it says so; 0: nobody knows."""
    caveat: str = ""
    """What cannot be promised of its pictures."""
    has_driver_time: bool = True
    """The camera, or its driver, says when a picture was taken."""
    settings: dict[str, float] = msgspec.field(default_factory=dict)
    """Exposure, gain and white balance as read back from the camera, by the names of the configuration."""
    known_as: str = ""
    """What the next child finds it by at once."""
    on_demand: bool = False
    """It takes a picture when `Wanted` says so, and no others."""


class Captured(_Message, frozen=True, tag=2):
    """A slot is handed over."""

    slot: Count
    number: Count
    """Of this frame, as this child counts, from 1."""
    missed: Count
    """Frames taken and given up since the last message, because no slot was free."""
    captured_ns: Count
    shape: tuple[Count, ...]
    """[h, w] or [h, w, 3], BGR."""
    dtype: Literal["uint8", "uint16"]
    part: str | None
    is_arrival_time: bool = False
    """`captured_ns` is when it came: the camera did not say, or nothing believable."""

    def __post_init__(self) -> None:
        """Refuse pictures of other shapes; ValueError."""
        if len(self.shape) != 2 and (len(self.shape) != 3 or self.shape[2] != 3):
            raise ValueError(f"a picture of shape {self.shape} is not known")


class Alive(_Message, frozen=True, tag=3):
    """The source answers, but there is nothing to hand over."""

    missed: Count
    is_repeat: bool
    """The picture was bit for bit the one before."""


class Unreadable(_Message, frozen=True, tag=4):
    """A picture cannot be read or trusted; the next one will be tried."""

    number: Count
    missed: Count
    """As in `Captured`."""
    captured_ns: Count
    part: str | None
    why: str


class Failed(_Message, frozen=True, tag=5):
    """The source cannot be opened or read on; the child ends."""

    why: str


class Ended(_Message, frozen=True, tag=6):
    """A finite source has been read to its end; the child ends when all slots are back."""


class Grown(_Message, frozen=True, tag=7):
    """This child has taken more and more memory: the camera's driver leaks. It gives way to others from now on."""


class Freed(_Message, frozen=True, tag=1):
    """The parent's word: a slot is free again."""

    slot: Count


class Wanted(_Message, frozen=True, tag=2):
    """The parent's word: a picture is wanted of a camera that is `on_demand`."""

    at_ns: Count
    """CLOCK_MONOTONIC: it is to be taken as soon as that is past."""


class Started(_Message, frozen=True, tag=1):
    """A child has been forked; its pidfd travels with this message."""

    pid: int


class NotStarted(_Message, frozen=True, tag=2):
    """No child could be forked."""

    why: str


class Exited(_Message, frozen=True, tag=3):
    """The child has ended."""

    code: int
    """Its exit code, or the negative number of the signal that killed it."""


Report = Started | NotStarted | Exited
Message = Opened | Captured | Alive | Unreadable | Failed | Ended | Grown
Order = Freed | Wanted
_ENCODER = msgspec.msgpack.Encoder()
_REPORTS: msgspec.msgpack.Decoder[Report] = msgspec.msgpack.Decoder(Report)
_MESSAGES: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
_ORDERS: msgspec.msgpack.Decoder[Order] = msgspec.msgpack.Decoder(Order)


def encode_settings(settings: CaptureSettings) -> bytes:
    """Pack the parent's first word: JSON, in which a path that is not UTF-8 keeps its odd bytes."""
    return json.dumps(msgspec.structs.asdict(settings)).encode()


def decode_settings(packet: bytes) -> CaptureSettings:
    """Unpack `encode_settings`."""
    return msgspec.convert(json.loads(packet), CaptureSettings)


def encode(message: Message) -> bytes:
    """Pack a message of the child. Odd bytes of a name are sent as escapes; texts are cut where they do not fit."""
    try:
        packet = _ENCODER.encode(message)
    except UnicodeEncodeError:
        packet = b""
    if not 0 < len(packet) <= MAX_PACKET:
        packet = _ENCODER.encode(msgspec.structs.replace(message, **_sendable_texts(message)))
    return packet


def decode(packet: bytes) -> Message:
    """Unpack a message of the child; ValueError when it is none."""
    try:
        return _MESSAGES.decode(packet)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"a packet of {len(packet)} bytes is not a message: {error}") from error


def encode_report(report: Report) -> bytes:
    """Pack what is told of a child's start and end."""
    return _ENCODER.encode(report)


def decode_report(packet: bytes) -> Report:
    """Unpack `encode_report`."""
    return _REPORTS.decode(packet)


def _sendable_texts(message: Message) -> dict[str, Any]:
    texts = {name: value for name, value in msgspec.structs.asdict(message).items() if isinstance(value, str)}
    return {
        name: text.encode(errors="backslashreplace")[:LONGEST_TEXT].decode(errors="replace")
        for name, text in texts.items()
    }


def pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a new link."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def encode_order(order: Order) -> bytes:
    """Pack a word of the parent, after the settings."""
    return _ENCODER.encode(order)


def decode_order(packet: bytes) -> Order:
    """Unpack `encode_order`; ValueError when it is none."""
    return _ORDERS.decode(packet)
