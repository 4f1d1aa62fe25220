"""The table of topics that are published: name, header, what follows the header, and how often."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from inspectd.wire.messages import DaemonMessage, StateMessage, VerdictMessage

STATE_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Topic:
    """One kind of message. ZeroMQ matches prefixes, so a topic ends in a slash: `verdict/cam1/` is not `cam10`'s."""

    name: str
    header: type[msgspec.Struct]
    when: str
    part: str | None = None
    """What the message's third part holds."""
    is_per_camera: bool = True

    def of(self, camera: str | None = None) -> bytes:
        """Return the first part of the message for a camera, or the daemon's."""
        return f"{self.name}/{camera}/".encode() if self.is_per_camera else f"{self.name}/".encode()


VERDICT = Topic("verdict", VerdictMessage, "exactly one for every inspected frame or trigger, faults included")
MASK = Topic("mask", VerdictMessage, "right after its verdict, as publish.masks says", part="uint8 [h, w], row-major")
FRAME = Topic("frame", VerdictMessage, "at most publish.frame_hz times a second", part="JPEG")
STATE = Topic("state", StateMessage, "once a second and at every change")
DAEMON = Topic("daemon", DaemonMessage, "once a second and at every change", is_per_camera=False)
TOPICS = (VERDICT, MASK, FRAME, STATE, DAEMON)


def find_topic(topic: bytes) -> Topic | None:
    """Return the kind of a message by its first part; None: it is none of these."""
    name = topic.split(b"/", 1)[0].decode(errors="replace")
    return next((one for one in TOPICS if one.name == name), None)
