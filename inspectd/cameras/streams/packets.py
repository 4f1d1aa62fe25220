"""The coded pictures of a network stream or a video file, packet by packet, through PyAV.

Runs in the capture child only. FFmpeg's own time-outs are not relied on: a call that never returns is the parent's to
notice, and the child dies of it.
"""

from __future__ import annotations

import http.client
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import av

from inspectd.cameras.streams.damage import Witness
from inspectd.errors import CameraError

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.stream import VideoStream

BUFFERED_NS = 3_000_000
"""A packet that comes sooner than this had been waiting in a buffer."""
_UNTIMED = ("mpjpeg", "mjpeg", "h264", "hevc", "jpeg_pipe", "image2pipe")
"""Formats whose packets carry no time of their own; FFmpeg counts them instead."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A coded picture, or (packet None) the end."""

    packet: Packet[VideoStream] | None
    was_waiting: bool
    """It lay in a buffer already when it was asked for."""
    arrived_ns: int
    damage: str | None
    """What the demuxer found missing before or in it."""
    reported_us: int | None = None
    """When it was taken by the camera's own wall clock, in µs since 1970, where an RTCP sender report came with it."""


class Coded(Protocol):
    """A stream of coded pictures."""

    @property
    def codec(self) -> str:
        """FFmpeg's name of the codec, such as h264."""

    @property
    def has_clock(self) -> bool:
        """Whether packets carry times that the camera gave them."""

    @property
    def tick_s(self) -> float:
        """The unit of the packets' times, in seconds."""

    @property
    def fps(self) -> float:
        """Pictures per second, as the stream says; 0: it does not."""

    def next(self) -> Arrival:
        """Wait for the next coded picture; CameraError when the stream breaks."""


class Packets:
    """One stream or file, opened by FFmpeg."""

    def __init__(
        self,
        address: str,
        name: str,
        witness: Witness,
        options: Mapping[str, str] | None = None,
        timeout_s: tuple[float, float] | None = None,
    ) -> None:
        """Open; CameraError says why not, and calls it `name`. `timeout_s`: for opening and for each read."""
        self._witness = witness
        self._name = name
        try:
            with witness.listening():
                self._container = av.open(
                    address, "r", options=dict(options or {}), timeout=timeout_s, metadata_errors="replace"
                )
        except (av.FFmpegError, OSError) as error:
            raise CameraError(f"{self._name} cannot be opened: {why(error)}") from None
        if not self._container.streams.video:
            self._container.close()
            raise CameraError(f"{self._name} holds no video")
        self.stream: VideoStream = self._container.streams.video[0]
        if self.stream.codec_context is None:
            raise CameraError(f"{name} holds video in a coding that cannot be decoded here")
        complaint = witness.take()
        # Of one of the packets that were read to find out what there is; of a file they are all read again.
        self._opening_damage = None if timeout_s is None else complaint
        self._packets = self._demux()

    @property
    def codec(self) -> str:
        """FFmpeg's name of the codec, such as h264."""
        return self.stream.codec_context.name

    @property
    def has_clock(self) -> bool:
        """Whether packets carry times that the camera gave them."""
        return self._container.format.name not in _UNTIMED

    @property
    def tick_s(self) -> float:
        """The unit of the packets' times, in seconds."""
        return float(self.stream.time_base or 1)

    @property
    def tells_order(self) -> bool:
        """Whether a packet's presentation time is its picture's: AVI has none, and FFmpeg makes one up."""
        return self.has_clock and self._container.format.name != "avi"

    @property
    def fps(self) -> float:
        """Pictures per second, as the stream says; 0: it does not."""
        return float(self.stream.guessed_rate or self.stream.average_rate or 0)

    @property
    def is_steady(self) -> bool:
        """Whether the stream says that its pictures follow each other evenly."""
        base, average = self.stream.base_rate, self.stream.average_rate
        return bool(base and average) and abs(float(base or 1) / float(average or 1) - 1) < 0.01

    @property
    def varies(self) -> bool:
        """Whether the stream says that its pictures do not follow each other evenly."""
        return bool(self.stream.average_rate) and not self.is_steady

    @property
    def total(self) -> int:
        """Pictures of a file, as it says or by its length; 0: nobody knows."""
        length = self._container.duration
        return self.stream.frames or (round(length / 1e6 * self.fps) if length and self.fps else 0)

    @property
    def lasts_s(self) -> float:
        """How long a file with nothing but a video lasts, as it says; 0: nobody knows."""
        length = self._container.duration
        return length / 1e6 if length and len(self._container.streams) == 1 else 0.0

    def next(self) -> Arrival:
        """Wait for the next coded picture; CameraError when the stream breaks."""
        began_ns = time.monotonic_ns()
        try:
            with self._witness.listening():
                packet = next(self._packets, None)
        except (av.FFmpegError, OSError) as error:
            self._packets = self._demux()  # the next call tries to read on
            raise CameraError(f"{self._name} breaks off: {why(error)}") from None
        now_ns = time.monotonic_ns()
        if now_ns - began_ns > BUFFERED_NS:
            self._opening_damage = None
        damage = self._witness.take() or self._opening_damage
        if packet is not None and packet.is_corrupt:
            damage = damage or "a part of the stream is missing"
        return Arrival(packet, now_ns - began_ns < BUFFERED_NS, now_ns, damage, _reported_us(packet))

    def rewind(self) -> None:
        """Go back to the first picture."""
        self._container.seek(0)
        self.stream.codec_context.flush_buffers()
        self._packets = self._demux()

    def close(self) -> None:
        """Let go of the stream."""
        self._container.close()

    def _demux(self) -> Iterator[Packet[VideoStream]]:
        return (packet for packet in self._container.demux(self.stream) if packet.size)


def _reported_us(packet: Packet[VideoStream] | None) -> int | None:
    """Return FFmpeg's AVProducerReferenceTime of the packet that a sender report came with."""
    if packet is None or not (packet.has_sidedata("rtcp_sr") and packet.has_sidedata("prft")):
        return None
    return int.from_bytes(bytes(packet.get_sidedata("prft"))[:8], sys.byteorder, signed=True)


def why(error: Exception) -> str:
    """Return an error of FFmpeg in words, without the address that may hold a secret."""
    if isinstance(error, av.HTTPUnauthorizedError | av.HTTPForbiddenError):  # RTSP's answers have HTTP's numbers
        return refusal(401 if isinstance(error, av.HTTPUnauthorizedError) else 403)
    return str(getattr(error, "strerror", None) or type(error).__name__)


def refusal(code: int) -> str:
    """Return what an answer of HTTP or RTSP that is no stream means."""
    hint = "; check the user and the password" if code in (401, 403) else ""
    return f"it answers {code} {http.client.responses.get(code, '')}{hint}"
