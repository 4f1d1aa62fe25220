"""A camera on the network: its stream packet by packet, as old as the stream's own clock says.

What piled up while the connection was opened is decoded, because later pictures are built on it, and not handed over.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from inspectd.cameras.flood import Flood
from inspectd.cameras.grabbers.base import Broken, Grabbed, Grabber, Nothing
from inspectd.cameras.grabbers.freshness import Freshness
from inspectd.cameras.protocol import CaptureSettings
from inspectd.cameras.sources import public_address
from inspectd.cameras.streams.clock import StreamClock, WallClock
from inspectd.cameras.streams.damage import Witness, listen_to_ffmpeg
from inspectd.cameras.streams.decoders import Decoded, decoder_for
from inspectd.cameras.streams.mjpeg import Mjpeg, open_mjpeg
from inspectd.cameras.streams.packets import Arrival, Coded, Packets
from inspectd.cameras.streams.reader import Reader
from inspectd.errors import CameraError
from inspectd.records import Picture

SETTLE_S = 0.0015
"""If a stream breaks in the middle of a picture, FFmpeg hands out the torn picture, and mostly says so this much
later."""
HOLD_S = 0.1
"""Sometimes it says so only with the next picture's data. H.265 decoders notice nothing themselves, so there a picture
waits for the next one to vouch for it, at most so long: one period of latency at 10 pictures a second and more."""
LAG_NS = 5_000_000
"""By so much a picture may be younger than the one before: more, and a backlog is still being read."""
BACKLOG_S = 2.0
"""Of so long a time pictures may come at once when a camera is opened: it may send what it has kept."""
FIRST_PICTURE_S = 15.0
"""How long the first picture may take once the camera answers: the longest usual distance of two key frames."""
OPTIONS = {
    "rtsp_transport": "tcp",
    "allowed_media_types": "video",  # sound would make FFmpeg shift the pictures' times to match it
    "analyzeduration": "300000",
    "fpsprobesize": "0",
}
RTSP_WAYS = {"udp": {"rtsp_transport": "udp"}, "multicast": {"rtsp_transport": "udp_multicast"}}
# Over TCP FFmpeg looks for gaps in the packets' numbers only if it is told to put them in order.
_OVER_TCP = {"reorder_queue_size": "2"}
_RTSP_OPTIONS = {"analyzeduration": "1", "probesize": "32"}  # the camera's description says what there is to find out


def torn_at_its_end(codec: str, arrival: Arrival, reader: Reader) -> str | None:
    """Return what shows that the last bytes of a picture's packet may be missing, or None. JPEG shows it itself."""
    if codec == "mjpeg":
        return None
    following = reader.peek(arrival, HOLD_S if codec == "hevc" else SETTLE_S)
    if isinstance(following, CameraError) or (following is not None and following.packet is None):
        return "the stream breaks off right behind it"
    if codec == "hevc" and following is not None and following.damage is not None:
        return f"the stream is damaged right behind it: {following.damage}"
    return None


def way_to(address: str) -> tuple[str, dict[str, str]]:
    """Return an address as the camera knows it, and how FFmpeg opens it; CameraError: it asks for two ways.

    `udp` or `multicast` in an RTSP address's query are words to us, which the camera does not see.
    """
    if not address.lower().startswith("rtsp"):
        return address, OPTIONS
    login, at, rest = address.rpartition("@")
    place, _, query = rest.partition("?")
    words = query.split("&")
    asked = [word.lower() for word in words if word.lower() in RTSP_WAYS]
    if len(asked) > 1:
        raise CameraError(f"the address asks for {' and '.join(asked)}; expected one of {' and '.join(RTSP_WAYS)}")
    if not asked:
        return address, OPTIONS | _RTSP_OPTIONS | _OVER_TCP
    its_own = "&".join(word for word in words if word.lower() not in RTSP_WAYS)
    return login + at + place + (its_own and f"?{its_own}"), OPTIONS | _RTSP_OPTIONS | RTSP_WAYS[asked[0]]


class NetworkGrabber(Grabber):
    """RTSP, HTTP (MJPEG and others), RTMP, UDP, TCP."""

    is_live = True
    has_driver_time = False
    """How long the quickest picture was under way nobody knows, or it cannot be proved."""

    def __init__(self, settings: CaptureSettings, alive: Callable[[], None]) -> None:
        """Connect, and read on until a clean picture comes as it is made; CameraError says why not."""
        self._public = public_address(settings.source)
        listen_to_ffmpeg()
        open_s, read_s = settings.open_timeout_ms / 1000, settings.read_timeout_ms / 1000 + 1
        address, options = way_to(settings.source)
        self._packets: Coded = open_mjpeg(address, self._public, open_s) or Packets(
            address, self._public, Witness(), options, (open_s, read_s)
        )
        alive()
        self.format = {"mjpeg": "MJPG", "h264": "H264", "hevc": "HEVC"}.get(self._packets.codec, "")
        self.fps = self._packets.fps if self._packets.has_clock and self._packets.fps < 1000 else 0.0
        self.caveat = ""
        if self._packets.codec == "mjpeg" and not self._packets.has_clock and not isinstance(self._packets, Mjpeg):
            self.caveat = (
                f"{self._public} sends JPEGs without times in a way that only FFmpeg reads: each picture comes one "
                "period late. Use MJPEG over HTTP (multipart), or RTSP"
            )
        self._asked_fps = settings.fps or 0.0
        self._tick_s = self._packets.tick_s
        self._clock = StreamClock()
        self._wall_clock = WallClock() if settings.synchronized else None
        self._decoder = decoder_for(self._packets, Witness())
        self._reader = Reader(self._packets.next)
        self._ready: deque[Decoded] = deque()
        self._freshness = Freshness(self._packets.codec in ("h264", "hevc"), settings.refuse_repeats)
        first = self._catch_up(alive)
        self.height, self.width = first.shape[:2]
        self.slot_bytes = first.nbytes
        # It only shows what later ones must differ from: after a reconnect it may be the very picture that the
        # camera had frozen on.
        self._freshness.look(first, 0.0)

    def grab(self, into: Picture | None) -> Grabbed | Nothing | Broken | None:
        """Return the next picture, or why it cannot be trusted; CameraError when the stream ends or changes."""
        if not self._ready:
            self._arrival = self._next()
            self._ready.extend(self._decoder.decode(self._arrival, into))
            if not self._ready:
                return Nothing()
        decoded = self._ready.popleft()
        captured_ns = self._taken_ns(decoded, self._arrival)
        damage = decoded.damage or self._delay(self._arrival)
        picture = decoded.render(into) if damage is None and decoded.render is not None else None
        if picture is not None:
            damage = torn_at_its_end(self._packets.codec, self._arrival, self._reader)
        if damage is not None or picture is None:
            return Broken(None, f"the picture came damaged: {damage}", captured_ns)
        if picture.shape[:2] != (self.height, self.width):
            raise CameraError(
                f"{self._public} changed its picture from {self.width}x{self.height} "
                f"to {picture.shape[1]}x{picture.shape[0]}"
            )
        nothing = self._freshness.look(picture, self._time_ms(decoded))
        return nothing or Grabbed(picture, captured_ns, is_arrival_time=True)

    def _catch_up(self, alive: Callable[[], None]) -> Picture:
        """Read what has piled up; return the first clean picture behind it."""
        give_up_s = time.monotonic() + FIRST_PICTURE_S
        first: Picture | None = None
        pictures, age_ns = 0, 0
        damage: str | None = None
        flood = Flood(max(self._asked_fps, self.fps), BACKLOG_S, opening_s=BACKLOG_S)
        while time.monotonic() < give_up_s:
            arrival = self._next(is_first=pictures == 1)
            alive()
            if flood.is_full(time.monotonic()):
                raise CameraError(flood.why)
            if arrival.was_waiting and not self._packets.has_clock and self._packets.codec == "mjpeg":
                pictures += 1  # it is an old one, and no later one needs it
                continue
            for decoded in self._decoder.decode(arrival, None):
                pictures += 1
                damage = decoded.damage if self._decoder.has_begun else None
                newer_ns, age_ns = age_ns, arrival.arrived_ns - self._time_ns(decoded, arrival)
                self._captured_ns(decoded, arrival)
                # While the backlog of a slow connection is read, each picture is younger than the one before.
                is_live = not arrival.was_waiting and age_ns >= newer_ns - LAG_NS
                if decoded.damage is None and decoded.render is not None and is_live:
                    first = decoded.render(None)
            if first is not None:
                return first
        if damage is not None:
            raise CameraError(f"{self._public} sent no undamaged picture within {FIRST_PICTURE_S:g} s: {damage}")
        if not self._decoder.has_begun:
            raise CameraError(
                f"{self._public} sent no undamaged key frame within {FIRST_PICTURE_S:g} s; set the camera's distance "
                "of key frames (GOP, I-frame interval) to a second or two"
            )
        raise CameraError(
            f"{self._public} sends pictures faster than they can be decoded here; they only get older. Lower the "
            "camera's frame rate or resolution"
        )

    def _next(self, is_first: bool = False) -> Arrival:
        try:
            arrival = self._reader.next()
            if arrival.packet is not None:
                self._hear_time(arrival.packet.pts, arrival.reported_us)
                return arrival
            broken = CameraError(f"{self._public} has ended its stream")
        except CameraError as error:
            broken = error
        if is_first:
            raise CameraError(
                f"{self._public} is a single picture and no stream; give the address of the camera's stream "
                "(rtsp://… or MJPEG over http://…)"
            )
        raise broken

    def _hear_time(self, time: int | None, wall_us: int | None) -> None:
        if self._wall_clock is not None and time is not None and wall_us is not None:
            self._wall_clock.tell(time * self._tick_s, wall_us)

    def _taken_ns(self, decoded: Decoded, arrival: Arrival) -> int:
        """Return when a picture was taken, by the camera's wall clock where that is known."""
        captured_ns = self._captured_ns(decoded, arrival)
        if self._wall_clock is None or decoded.time is None:
            return captured_ns
        told_ns = self._wall_clock.captured_ns(decoded.time * self._tick_s, captured_ns)
        return captured_ns if told_ns is None else told_ns

    def _captured_ns(self, decoded: Decoded, arrival: Arrival) -> int:
        is_timed = self._packets.has_clock and decoded.time is not None
        return self._clock.captured_ns(
            decoded.time * self._tick_s if is_timed and decoded.time is not None else None, arrival.arrived_ns
        )

    def _time_ns(self, decoded: Decoded, arrival: Arrival) -> int:
        if not self._packets.has_clock or decoded.time is None:
            return arrival.arrived_ns
        return int(decoded.time * self._tick_s * 1e9)

    def _delay(self, arrival: Arrival) -> str | None:
        if self._packets.has_clock or not arrival.was_waiting:
            return None
        return "it had waited in a buffer, and the stream has no clock that tells for how long"

    def _time_ms(self, decoded: Decoded) -> float:
        return (decoded.time or 0) * self._tick_s * 1000 if self._packets.has_clock else 0.0
