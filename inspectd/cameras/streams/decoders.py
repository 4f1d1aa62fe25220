"""From coded pictures to pictures, each with what is known to be wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import av
import numpy as np
from av.codec.context import ThreadType
from av.video.frame import VideoFrame

from inspectd.cameras import jpeg
from inspectd.cameras.streams import nal
from inspectd.cameras.streams.damage import SliceCount, Steps, Suspicion, Witness
from inspectd.cameras.streams.packets import Arrival, Coded, Packets, why
from inspectd.records import Picture


@dataclass(frozen=True, slots=True)
class Decoded:
    """One picture of a stream, in the order in which it is shown."""

    time: int | None
    """In the stream's time base."""
    damage: str | None
    """Why it does not show what the camera saw; None: it does."""
    render: Callable[[Picture | None], Picture] | None = None
    """Makes uint8 [H, W, 3] BGR of it, into the given memory where that has its shape. None: it is not to be had."""


class Decoder(Protocol):
    """Decodes one stream."""

    @property
    def has_begun(self) -> bool:
        """Whether there has been a picture that needs no earlier one."""

    def decode(self, arrival: Arrival, into: Picture | None) -> Iterator[Decoded]:
        """Yield what is ready after one more packet; after the end, all that is left. `into`: memory for a picture."""

    def restart(self) -> None:
        """Forget what came before: the stream begins anew."""


def decoder_for(stream: Coded, witness: Witness) -> Decoder:
    """Return what decodes a stream."""
    if isinstance(stream, Packets) and stream.codec != "mjpeg":
        return PredictiveDecoder(stream, witness)
    return JpegDecoder()


class JpegDecoder:
    """Each packet is a picture of its own."""

    has_begun = True

    def decode(self, arrival: Arrival, into: Picture | None) -> Iterator[Decoded]:
        """Yield the packet's picture, or what is wrong with it."""
        if arrival.packet is None:
            return
        time = arrival.packet.pts if arrival.packet.pts is not None else arrival.packet.dts
        if arrival.damage is not None:
            yield Decoded(time, arrival.damage)
            return
        try:
            picture = jpeg.decode(bytes(arrival.packet), into)
        except jpeg.DamagedError as error:
            yield Decoded(time, str(error))
            return
        yield Decoded(time, None, lambda _into: picture)

    def restart(self) -> None:
        """Nothing is remembered."""


class PredictiveDecoder:
    """H.264, H.265 and all others whose pictures are built on earlier ones."""

    def __init__(self, packets: Packets, witness: Witness) -> None:
        self._witness = witness
        self._codec = packets.stream.codec_context
        self._codec.thread_count = 1
        self._codec.thread_type = ThreadType.NONE  # else a complaint is of nobody knows which picture
        self._name = packets.codec
        self._length_size = nal.length_size(self._name, self._codec.extradata)
        self._watches_steps = packets.has_clock
        self.restart()

    def restart(self) -> None:
        """Begin anew, with a key frame."""
        self._suspicion = Suspicion()
        self._slices = SliceCount()
        self._steps = Steps()

    @property
    def has_begun(self) -> bool:
        """Whether a clean key frame has come."""
        return self._suspicion.has_begun

    def decode(self, arrival: Arrival, into: Picture | None) -> Iterator[Decoded]:
        """Yield the pictures that one more packet completes."""
        packet = arrival.packet
        missing, is_key, complaint = arrival.damage, False, None
        if packet is not None:
            incomplete, is_key = self._look(bytes(packet), packet.is_keyframe)
            missing = missing or incomplete or (self._steps.look(packet.dts) if self._watches_steps else None)
        frames: list[VideoFrame] = []
        try:
            with self._witness.listening():
                frames = self._codec.decode(packet)
        except av.EOFError:
            pass
        except av.FFmpegError as error:
            complaint = why(error)
        complaint = self._witness.take() or complaint
        if complaint is None and any(frame.is_corrupt for frame in frames):
            complaint = "the decoder says that it is damaged"
        if packet is not None:
            self._suspicion.look(packet.pts, is_key, missing, complaint)
        for frame in frames:
            yield Decoded(frame.pts, self._suspicion.of(frame.pts), _renderer(frame))

    def _look(self, data: bytes, is_keyframe: bool) -> tuple[str | None, bool]:
        """Return what is missing in a packet, and whether decoding can begin with it."""
        if self._name == "h264":
            return None, nal.look_at_avc(data, self._length_size, is_keyframe).is_key
        if self._name == "hevc":
            coded = nal.look_at_hevc(data, self._length_size)
            return self._slices.look(coded.slices), coded.is_key
        return None, is_keyframe


def _renderer(frame: VideoFrame) -> Callable[[Picture | None], Picture]:
    def render(into: Picture | None) -> Picture:
        plane = frame.reformat(format="bgr24").planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        picture = rows[:, : plane.width * 3].reshape(plane.height, plane.width, 3)
        turned = np.rot90(picture, round(frame.rotation / 90)) if frame.rotation % 360 else picture
        if into is None or into.shape != turned.shape:
            return np.ascontiguousarray(turned, np.uint8)
        into[...] = turned
        return into

    return render
