"""What one browser is sent: the newest only, and nothing before it has taken what came before.

A message is binary: the length of its JSON (uint32, little-endian), the JSON (`Update`), then the bytes of its
pictures and maps one after the other. The browser answers `{"ack": n}`. It knows when it sent that, by its own clock;
`held_ms` and `age_ms` say how long what arrives has been here. So it knows at least how old it is, whatever the
network did to it, without comparing two machines' clocks.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Awaitable, Callable, Collection

import msgspec

from inspectd.hmi.counts import Shift
from inspectd.hmi.wall import Camera, Shown, Wall
from inspectd.wire.messages import MaskMessage

FASTEST_S = 0.05
"""From one update to the next: 20 a second are more than anybody sees."""
OF_EACH_S = 0.005
"""… and so much more for each camera on the page, so that sixteen cost a panel PC no more than a few."""
SLOWEST_S = 0.5
"""An update comes at least so often, if an empty one: that nothing changed is news, too."""
PATIENCE_S = 15.0
"""Without an answer for so long a browser is gone; it comes back by itself."""
MOST_POINTS = 200
"""Of a camera in one update: of more, the highest of each few stay, and all that was not ok."""
FIRST_THUMBS = 8
ASK_EVERY_S = 5.0
"""Whether a browser may still look."""


class Picture(msgspec.Struct, frozen=True, omit_defaults=True):
    """A picture among the message's bytes."""

    header: msgspec.Raw
    """Of its own verdict."""
    bytes: int
    masks: tuple[MaskMessage, ...] = ()
    """Their bytes follow the picture's."""


class CameraUpdate(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is new of one camera."""

    name: str
    epoch: str
    """Of another epoch nothing holds."""
    age_ms: float
    """How long ago the last message about it arrived here."""
    state: msgspec.Raw | None = None
    verdict: msgspec.Raw | None = None
    missed: int = 0
    pictures: tuple[Picture, ...] = ()
    """The oldest first; the last one is the newest there is."""
    scores: tuple[tuple[int, str | None, float | None, float | None, str], ...] = ()
    """seq, at, score, threshold, verdict; the oldest first."""


class Update(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is new."""

    n: int
    held_ms: float
    """How long the browser's last answer has been here."""
    cameras: list[CameraUpdate]
    """In the order of their pictures' bytes."""
    daemon: msgspec.Raw | None = None
    daemon_age_ms: float | None = None
    """None: it was never heard of."""
    names: list[str] | None = None
    """All cameras, where they changed: others are no longer the daemon's."""
    shift: Shift | None = None
    """The present one's counts."""
    trouble: str | None = None
    """Why nothing comes from the daemon, as far as that is known here."""


class Ack(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a browser sends."""

    ack: int


class Feed:
    """One browser's place in what the wall knows. `camera`: it looks at this one only."""

    def __init__(self, wall: Wall, camera: str | None, counted: Callable[[], tuple[int, Shift]]) -> None:
        """`counted` returns the present shift, and the number of its last change."""
        self._wall, self._camera, self._count = wall, camera, counted
        self._seen = 0
        self._counted = -1
        self._known: set[str] | None = None
        self._n = 0

    @property
    def pause_s(self) -> float:
        """Seconds between two updates."""
        return FASTEST_S + OF_EACH_S * len(self._cameras())

    @property
    def has_news(self) -> bool:
        """Whether something changed since the last update."""
        return self._wall.number > self._seen

    def compose(self, held_s: float, trouble: str | None) -> bytes:
        """Return the next message: all that is new, as it is now."""
        wall, since = self._wall, self._seen
        now_ns = time.monotonic_ns()
        parts: list[bytes] = []
        cameras = [
            _update(one, since, now_ns, parts, with_past=self._camera is not None)
            for one in self._cameras()
            if one.heard > since
        ]
        names = None if self._known == wall.cameras.keys() else sorted(wall.cameras)
        self._known = set(wall.cameras)
        number, shift = self._count()
        daemon_age = None if wall.daemon_heard_ns is None else (now_ns - wall.daemon_heard_ns) / 1e6
        self._n += 1
        update = Update(
            n=self._n,
            held_ms=held_s * 1000,
            cameras=cameras,
            daemon=msgspec.Raw(wall.daemon_json) if wall.daemon_number > since else None,
            daemon_age_ms=daemon_age,
            names=names,
            shift=shift if number != self._counted else None,
            trouble=trouble,
        )
        self._seen, self._counted = wall.number, number
        encoded = msgspec.json.encode(update)
        return b"".join((struct.pack("<I", len(encoded)), encoded, *parts))

    def is_answer(self, text: str) -> bool:
        """Whether a browser's message is the answer to the last one that was composed."""
        try:
            return msgspec.json.decode(text, type=Ack).ack == self._n
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False

    def _cameras(self) -> Collection[Camera]:
        if self._camera is None:
            return self._wall.cameras.values()
        one = self._wall.cameras.get(self._camera)
        return () if one is None else (one,)


async def run(
    feed: Feed,
    changed: Callable[[float], Awaitable[None]],
    send: Callable[[bytes], Awaitable[None]],
    receive: Callable[[], Awaitable[str]],
    trouble: Callable[[], str | None],
    may_look: Callable[[], bool],
) -> None:
    """Send updates until the browser is gone, or may not look any more.

    `changed` waits for news, or so many seconds; `receive` for the browser's answers; `may_look` is asked now and then.
    TimeoutError: it has not answered in time.
    """
    answered_s = asked_s = time.monotonic()
    while True:
        if answered_s - asked_s > ASK_EVERY_S:
            asked_s = answered_s
            if not may_look():
                return
        sent_s = time.monotonic()
        async with asyncio.timeout(PATIENCE_S):  # sending waits, too, where nobody takes what was sent
            await send(feed.compose(sent_s - answered_s, trouble()))
            while not feed.is_answer(await receive()):
                pass
        answered_s = time.monotonic()
        await asyncio.sleep(max(0.0, sent_s + feed.pause_s - answered_s))
        if not feed.has_news:
            await changed(SLOWEST_S)


def _update(camera: Camera, since: int, now_ns: int, parts: list[bytes], *, with_past: bool) -> CameraUpdate:
    pictures: list[Shown] = []
    if camera.picture is not None and camera.picture_number > since:
        pictures = list(camera.thumbs)[-FIRST_THUMBS:] if with_past and since == 0 else [camera.picture]
    return CameraUpdate(
        name=camera.name,
        epoch=camera.epoch,
        age_ms=(now_ns - camera.heard_ns) / 1e6,
        state=msgspec.Raw(camera.state_json) if camera.state_number > since else None,
        verdict=msgspec.Raw(camera.verdict_json) if camera.verdict_number > since else None,
        missed=camera.missed,
        pictures=tuple(_picture(one, parts) for one in pictures),
        scores=_points(camera, since),
    )


def _picture(shown: Shown, parts: list[bytes]) -> Picture:
    parts += (shown.jpeg, shown.bytes_)
    return Picture(msgspec.Raw(shown.header), len(shown.jpeg), shown.masks)


def _points(camera: Camera, since: int) -> tuple[tuple[int, str | None, float | None, float | None, str], ...]:
    """Return the chart's new points, at most MOST_POINTS that were ok."""
    found = list(camera.scores_after(since))
    if len(found) > MOST_POINTS:
        step = -(-len(found) // MOST_POINTS)
        groups = (found[i : i + step] for i in range(0, len(found), step))
        highest = {max(group, key=lambda one: (one.score is not None, one.score or 0.0)).seq for group in groups}
        found = [one for one in found if one.seq in highest or one.verdict != "ok"]
    return tuple((one.seq, one.at, one.score, one.threshold, one.verdict.value) for one in found)
