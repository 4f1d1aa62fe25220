"""What a page can know of a daemon: of each camera the newest of everything, and a bounded past of its epoch.

Only the event loop's thread touches it. Everything that changes gets a number from one counter; a browser that has
seen everything up to a number gets what has a higher one (`feed`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from inspectd.client import Message
from inspectd.records import Outcome
from inspectd.wire import topics
from inspectd.wire.messages import DaemonMessage, MaskMessage, StateMessage, VerdictMessage

MOST_SCORES = 1000
"""Of a camera, for its chart: what `threshold` looks back on, too."""
MOST_MASKS = 120
"""Anomaly maps that wait for their picture: 4 s at 30 pictures a second."""
MOST_THUMBS = 16
"""Pictures of the strip."""
MOST_CAMERAS = 256


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture for people, with its own verdict and map."""

    header: bytes
    """A VerdictMessage, JSON."""
    seq: int
    jpeg: bytes
    masks: tuple[MaskMessage, ...]
    bytes_: bytes
    """Of all masks, one after the other; empty: there are none."""


@dataclass(frozen=True, slots=True)
class Score:
    """A point of the chart."""

    number: int
    """From the wall's counter."""
    seq: int
    at: str | None
    score: float | None
    threshold: float | None
    verdict: Outcome


@dataclass(slots=True)
class Camera:
    """What is known of one camera in one epoch. The numbers are the wall's, of the last change of each."""

    name: str
    epoch: str
    heard_ns: int = 0
    """Monotonic, of this machine: when the newest message about it was published, as far as that is known."""
    heard: int = 0
    seq: int = 0
    """The highest that is known of."""
    missed: int = 0
    """Verdicts that did not arrive here."""
    state_json: bytes = b""
    state_number: int = 0
    verdict_json: bytes = b""
    verdict_number: int = 0
    picture: Shown | None = None
    picture_number: int = 0
    scores: deque[Score] = field(default_factory=lambda: deque(maxlen=MOST_SCORES))
    thumbs: deque[Shown] = field(default_factory=lambda: deque(maxlen=MOST_THUMBS))
    masks: dict[int, tuple[tuple[MaskMessage, ...], bytes]] = field(default_factory=dict)

    def scores_after(self, number: int) -> Iterator[Score]:
        """Yield the points that came after a number, the oldest first."""
        newer = []
        for one in reversed(self.scores):
            if one.number <= number:
                break
            newer.append(one)
        return reversed(newer)


class Wall:
    """Everything that pages show of one daemon."""

    def __init__(self) -> None:
        self.number = 0
        """Of the last change."""
        self.cameras: dict[str, Camera] = {}
        self.daemon: DaemonMessage | None = None
        self.daemon_json = b""
        self.daemon_number = 0
        self.daemon_heard_ns: int | None = None

    def take(self, message: Message, heard_ns: int) -> None:
        """Note a message that was published at this machine's monotonic time, or later."""
        header = message.header
        self.number += 1
        if isinstance(header, DaemonMessage):
            self.daemon, self.daemon_json, self.daemon_number = header, message.encoded, self.number
            self.daemon_heard_ns = heard_ns
            self._forget(header)
        elif isinstance(header, StateMessage):
            camera = self._camera(header.camera, header.epoch, heard_ns)
            camera.state_json, camera.state_number = message.encoded, self.number
            self._come_to(camera, header.last_seq)
        elif isinstance(header, VerdictMessage):
            camera = self._camera(header.camera, header.epoch, heard_ns)
            if message.topic is topics.VERDICT:
                self._verdict(camera, header, message.encoded)
            elif message.topic is topics.MASK:
                self._mask(camera, header, message.part or b"")
            elif message.topic is topics.FRAME:
                self._picture(camera, header, message)

    def _forget(self, daemon: DaemonMessage) -> None:
        """Forget cameras that the daemon does not name any more."""
        for name in self.cameras.keys() - daemon.cameras.keys():
            del self.cameras[name]

    def _camera(self, name: str, epoch: str, heard_ns: int) -> Camera:
        camera = self.cameras.get(name)
        if camera is None and len(self.cameras) >= MOST_CAMERAS:
            del self.cameras[next(iter(self.cameras))]
        if camera is None or camera.epoch != epoch:  # of another epoch nothing holds: parts between were not inspected
            camera = self.cameras[name] = Camera(name, epoch)
        camera.heard_ns, camera.heard = max(camera.heard_ns, heard_ns), self.number
        return camera

    def _verdict(self, camera: Camera, verdict: VerdictMessage, encoded: bytes) -> None:
        self._come_to(camera, verdict.seq - 1)
        camera.seq = max(camera.seq, verdict.seq)
        camera.verdict_json, camera.verdict_number = encoded, self.number
        camera.scores.append(
            Score(self.number, verdict.seq, verdict.at, verdict.score, verdict.threshold, verdict.verdict)
        )

    def _mask(self, camera: Camera, header: VerdictMessage, part: bytes) -> None:
        found = _masks_of(header)
        picture = camera.picture
        if picture is not None and picture.seq == header.seq and not picture.masks:  # it came before its map
            self._show(camera, _shown(picture.header, header.seq, picture.jpeg, found, part))
            return
        while len(camera.masks) >= MOST_MASKS:
            del camera.masks[next(iter(camera.masks))]
        camera.masks[header.seq] = (found, part)

    def _picture(self, camera: Camera, header: VerdictMessage, message: Message) -> None:
        found, part = camera.masks.get(header.seq, ((), b""))
        self._show(camera, _shown(message.encoded, header.seq, message.part or b"", found, part))

    def _show(self, camera: Camera, shown: Shown) -> None:
        camera.picture, camera.picture_number = shown, self.number
        if camera.thumbs and camera.thumbs[-1].seq == shown.seq:
            camera.thumbs.pop()
        camera.thumbs.append(shown)

    def _come_to(self, camera: Camera, seq: int) -> None:
        """Count what should have come before now; what was before this process began is not missed."""
        if camera.seq and camera.seq < seq:
            camera.missed += seq - camera.seq
        camera.seq = max(camera.seq, seq)


def _masks_of(header: VerdictMessage) -> tuple[MaskMessage, ...]:
    each = [one.mask for one in header.areas] if header.areas else [header.mask]
    return tuple(one for one in each if one is not None)


def _shown(header: bytes, seq: int, jpeg: bytes, masks: tuple[MaskMessage, ...], part: bytes) -> Shown:
    """Return a picture with its maps; without them where the bytes are not as many as they say."""
    if sum(one.w * one.h for one in masks) != len(part):
        masks, part = (), b""
    return Shown(header, seq, jpeg, masks, part)
