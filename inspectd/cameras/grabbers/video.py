"""A video file: each of its pictures once, in order, whether it can be decoded or not."""

from __future__ import annotations

import heapq
import os
import time
from collections import deque
from collections.abc import Callable

from inspectd.cameras.grabbers.base import Broken, Grabbed, Grabber
from inspectd.cameras.protocol import CaptureSettings
from inspectd.cameras.streams.damage import REGULAR, UNEVEN, Witness, listen_to_ffmpeg
from inspectd.cameras.streams.decoders import Decoded, decoder_for
from inspectd.cameras.streams.packets import Arrival, Packets
from inspectd.errors import CameraError
from inspectd.records import Picture

ALIVE_EVERY = 50
EARLY = 0.95
"""A video that ends before this share of its length has lost its end."""
MOST_ERRORS = 100
"""How often in a row a container may fail to give a packet before it counts as broken off."""
_COUNTED = "mov,mp4,m4a,3gp,3g2,mj2"
"""The format whose index says for certain how many pictures there are."""


class VideoGrabber(Grabber):
    """A video file; `part` is the picture's place in the stream, from 0."""

    is_live = False
    has_driver_time = False

    def __init__(self, settings: CaptureSettings, alive: Callable[[], None]) -> None:
        """Open the file; CameraError says why not."""
        listen_to_ffmpeg()
        self._loops = settings.loop
        self._witness = Witness()
        self._packets = Packets(_address(settings.source), settings.source, self._witness)
        self._decoder = decoder_for(self._packets, self._witness)
        self._rewind()
        context = self._packets.stream.codec_context
        self.fps, self.format = self._packets.fps, ""
        self.total = self._packets.total
        if not settings.loop:  # a looped one has no place to go on from
            self._skip(settings.first, alive)
        self._ahead = self._next(None)
        first = self._ahead.picture if isinstance(self._ahead, Grabbed) else None
        if first is None and not (context.width and context.height):
            raise CameraError(f"{settings.source} holds no picture that can be decoded")
        self.height, self.width = first.shape[:2] if first is not None else (context.height, context.width)
        self.slot_bytes = self.width * self.height * 3

    def grab(self, into: Picture | None) -> Grabbed | Broken | None:
        """Return the next picture or why there is none; None at the end (with `loop`: the first one again)."""
        item, self._ahead = self._ahead, None
        if item is None:
            item = self._next(into)
        if item is None and self._loops and self._shown:
            self._packets.rewind()
            self._decoder.restart()
            self._rewind()
            item = self._next(into)
        return item

    def _rewind(self) -> None:
        self._expected: list[int] = []  # presentation times of packets whose picture has not come yet
        self._ready: deque[tuple[int, Decoded | str]] = deque()
        self._is_counted = self._packets.codec != "mjpeg" and not self._packets.tells_order
        self._shown_by_decoder = 0
        self._begin: int | None = None
        self._last: int | None = None
        self._gap = 0
        self._even, self._step = (REGULAR, self._declared_step()) if self._packets.is_steady else (0, 0.0)
        self._read = self._shown = 0
        self._number = -1
        self._errors = 0
        self._has_ended = False

    def _declared_step(self) -> float:
        return 1 / (self._packets.fps * float(self._packets.stream.time_base or 1)) if self._packets.fps else 0.0

    def _next(self, into: Picture | None) -> Grabbed | Broken | None:
        while not self._ready and not self._has_ended:
            self._read_on(into)
        if not self._ready:
            return None
        number, what = self._ready.popleft()
        self._shown += 1
        part, now_ns = str(number), time.monotonic_ns()
        if isinstance(what, str):
            return Broken(part, what, now_ns)
        if what.damage is not None or what.render is None:
            return Broken(part, f"picture {part} of the video is damaged: {what.damage}", now_ns)
        return Grabbed(what.render(into), now_ns, part)

    def _read_on(self, into: Picture | None) -> None:
        """Read one packet, or the end, and queue what it completes."""
        try:
            arrival = self._packets.next()
        except CameraError as error:
            self._errors += 1
            if self._errors < MOST_ERRORS:
                return
            self._end(f"the video breaks off, and what follows was not inspected: {error}")
            return
        self._errors = 0
        packet = arrival.packet
        if packet is not None:
            self._read += 1
            if not packet.is_discard and not self._is_counted:
                heapq.heappush(self._expected, _time_of(arrival, self._read))
        for decoded in self._decoder.decode(arrival, into):
            self._show(decoded)
        if packet is None:
            why = arrival.damage and f"the video breaks off, and what follows was not inspected: {arrival.damage}"
            self._end(why or self._missing_at_end())

    def _show(self, decoded: Decoded) -> None:
        self._shown_by_decoder += 1
        if self._is_counted:  # without times there is only the order
            self._number += 1
            self._ready.append((self._number, decoded))
            return
        shown = decoded.time if decoded.time is not None else self._expected[0] if self._expected else 0
        while self._expected and self._expected[0] < shown:
            self._queue(heapq.heappop(self._expected), None)
        if self._expected and self._expected[0] == shown:
            heapq.heappop(self._expected)
        self._queue(shown, decoded)

    def _queue(self, shown: int, decoded: Decoded | None) -> None:
        """Give a picture its place: by its time where pictures follow evenly, else by counting."""
        number = self._number + 1
        if self._begin is None:
            self._begin = shown
        if self._last is not None and self._packets.has_clock and not self._packets.varies:
            number += self._left_out(shown - self._last)
        self._last = shown
        if number > self._number + 1:
            lost = number - self._number - 1
            self._ready.append((self._number + 1, f"{lost} pictures are missing in the video before picture {number}"))
        self._number = number
        self._ready.append((number, decoded or f"picture {number} of the video cannot be decoded"))

    def _left_out(self, step: int) -> int:
        """Return how many pictures are missing in a step of the stream's clock, as long as it steps evenly."""
        if self._step and abs(step - self._step) <= UNEVEN * self._step:
            self._even, self._gap = self._even + 1, 0
            return 0
        is_new_pace = self._gap and abs(step - self._gap) <= UNEVEN * self._gap
        if self._step > 0 and self._even >= REGULAR and step > self._step and not is_new_pace:
            self._gap = step
            return max(0, round(step / self._step) - 1)
        self._gap = 0
        self._step, self._even = step, 0
        return 0

    def _end(self, why: str | None) -> None:
        self._has_ended = True
        while self._expected:
            self._queue(heapq.heappop(self._expected), None)
        if why is not None:
            self._ready.append((self._number + 1, why))

    def _missing_at_end(self) -> str | None:
        stream = self._packets.stream
        if self._is_counted and self._read > self._shown_by_decoder:
            return f"{self._read - self._shown_by_decoder} of its {self._read} pictures could not be decoded"
        if stream.container.format.name == _COUNTED and self._read < stream.frames:
            return f"the video ends after {self._read} of its {stream.frames} pictures; the others were not inspected"
        lasted_s = ((self._last or 0) - (self._begin or 0)) * float(stream.time_base or 1)
        if self._packets.tells_order and lasted_s < EARLY * self._packets.lasts_s - 1.0:
            return (
                f"the video ends after {lasted_s:.1f} of its {self._packets.lasts_s:.1f} s; the rest was not inspected"
            )
        return None

    def _skip(self, items: int, alive: Callable[[], None]) -> None:
        """Go on where an earlier child ended: what came before is decoded, and not handed over."""
        for number in range(items):
            while not self._ready and not self._has_ended:
                self._read_on(None)
            if not self._ready:
                return
            self._ready.popleft()
            self._shown += 1
            if number % ALIVE_EVERY == 0:
                alive()


def _time_of(arrival: Arrival, count: int) -> int:
    packet = arrival.packet
    if packet is None:
        return count
    return packet.pts if packet.pts is not None else packet.dts if packet.dts is not None else count


def _address(path: str) -> str:
    """Return a path as FFmpeg takes it: a colon in a name is no protocol's, and names that are not UTF-8 exist."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return f"file:/proc/self/fd/{os.open(path, os.O_RDONLY)}"  # closed with this process
    return f"file:{path}"
