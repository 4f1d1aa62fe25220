"""Whether a daemon, or a gateway that passes its messages on, speaks the protocol: it is listened to and asked.

Every rule has a sentence of the protocol's document (`inspectd/wire/README.md`) for a name. Nothing is changed at what
is asked.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn

import msgspec
import zmq

from inspectd.client import Keys, Message, Subscription, connected
from inspectd.wire.messages import DaemonMessage, StateMessage, VerdictMessage
from inspectd.wire.results import ControlReply
from inspectd.wire.topics import DAEMON, FRAME, MASK, STATE, VERDICT

STATES_S = 1.5
"""States come once a second; a network takes its time, too."""
ANSWER_S = 5.0
SEVERITY = ("ok", "fault", "ng")
MOST_SAID = 3
"""Of each rule's failures, so many are told."""


@dataclass(slots=True)
class Rule:
    """One rule: how often it was looked at, and how it was broken."""

    name: str
    looked: int = 0
    broken: list[str] = field(default_factory=list)


class Rules:
    """All rules that were looked at, in that order."""

    def __init__(self) -> None:
        self._rules: dict[str, Rule] = {}

    def __iter__(self) -> Iterator[Rule]:
        """Yield all."""
        return iter(self._rules.values())

    def look(self, name: str, is_kept: bool, otherwise: str = "") -> bool:
        """Note whether a rule was kept."""
        rule = self._rules.setdefault(name, Rule(name))
        rule.looked += 1
        if not is_kept and len(rule.broken) < MOST_SAID:
            rule.broken.append(otherwise[:300])
        return is_kept


def listen(rules: Rules, address: str, seconds: float, keys: Keys | None = None) -> None:
    """Look at everything that is published for a while."""
    heard = _Heard(rules)
    with Subscription(address, keys=keys, high_water=0) as everything:
        until_s = time.monotonic() + seconds
        while (left_s := until_s - time.monotonic()) > 0:
            message = everything.receive(left_s)
            if message is not None:
                heard.take(message)
    heard.end()


@dataclass(slots=True)
class _Heard:
    """What has been heard."""

    rules: Rules
    epoch: str | None = None
    seqs: dict[str, int] = field(default_factory=dict)
    verdicts: dict[str, Message] = field(default_factory=dict)
    """By camera, the last one."""
    states_s: dict[str, float] = field(default_factory=dict)
    daemon_s: float | None = None
    began_s: float = field(default_factory=time.monotonic)

    def take(self, message: Message) -> None:
        look, topic = self.rules.look, message.topic
        try:
            plain = json.loads(message.encoded, parse_constant=_refuse)
        except ValueError as error:
            look("headers are JSON without NaN and infinity", False, f"{topic.name}/: {error}")
            return
        look("headers are JSON without NaN and infinity", True)
        try:
            header = message.header
        except Exception as error:  # noqa: BLE001 - whatever the client says of it
            look("headers have the fields of the schema", False, f"{topic.name}/: {error}")
            return
        look("headers have the fields of the schema", True)
        look("v is 1", plain["v"] == 1, f"{topic.name}/ has v {plain['v']}")
        if header.epoch != self.epoch:  # a new one begins anew
            self.epoch = header.epoch
            self.seqs.clear()
        has_part = message.part is not None
        look("mask/ and frame/ have a third part, others none", has_part == (topic in (MASK, FRAME)), f"{topic.name}/")
        if topic is DAEMON:
            self._daemon(header)
        elif topic is STATE:
            self._state(header)
        elif topic is VERDICT:
            self._verdict(header, message)
        elif topic is MASK:
            self._mask(header, message)
        elif topic is FRAME:
            is_jpeg = (message.part or b"")[:2] == b"\xff\xd8"
            look("the third part of frame/ is a JPEG", is_jpeg, f"{header.camera} {header.seq}")

    def end(self) -> None:
        """Look at what did not come."""
        look, now_s = self.rules.look, time.monotonic()
        if now_s - self.began_s < STATES_S:
            return
        look(
            "daemon/ comes once a second",
            self.daemon_s is not None and now_s - self.daemon_s <= STATES_S,
            "it is silent",
        )
        for camera, last_s in self.states_s.items():
            look("state/ comes once a second", now_s - last_s <= STATES_S, f"{camera} is silent")

    def _daemon(self, header: DaemonMessage) -> None:
        now_s = time.monotonic()
        gap_s = 0.0 if self.daemon_s is None else now_s - self.daemon_s
        self.rules.look("daemon/ comes once a second", gap_s <= STATES_S, f"{gap_s:.1f} s after the one before")
        self.daemon_s = now_s
        name = "inspecting is true only where a camera is running"
        self.rules.look(name, not header.inspecting or "running" in header.cameras.values(), str(header.cameras))

    def _state(self, header: StateMessage) -> None:
        now_s, camera = time.monotonic(), header.camera
        gap_s = now_s - self.states_s.get(camera, now_s)
        self.rules.look(
            "state/ comes once a second", gap_s <= STATES_S, f"{camera}: {gap_s:.1f} s after the one before"
        )
        self.states_s[camera] = now_s
        name = "every verdict up to a state's last_seq was sent before it"
        if camera in self.seqs:
            last, had = header.last_seq, self.seqs[camera]
            self.rules.look(name, last <= had, f"{camera} has last_seq {last}, and {had} was the last verdict")
        counts = header.counts
        is_sum = counts.ok + counts.ng + counts.fault == header.last_seq
        self.rules.look("last_seq = ok + ng + fault", is_sum, f"{camera}: {header.last_seq}, {counts}")
        is_well = not header.inspecting or header.state == "running"
        self.rules.look("a camera that is not running is not inspecting", is_well, f"{camera} is {header.state}")

    def _verdict(self, header: VerdictMessage, message: Message) -> None:
        look, where = self.rules.look, f"{header.camera} {header.seq}"
        before = self.seqs.get(header.camera)
        look("seq counts by one", before is None or header.seq == before + 1, f"{where} after {before}")
        self.seqs[header.camera] = header.seq
        self.verdicts[header.camera] = message
        is_fault = header.verdict == "fault"
        is_told = bool(header.reason and header.detail) if is_fault else header.reason is None
        look("a fault has a reason and a detail, others have no reason", is_told, where)
        if is_fault:
            return
        scores = (header.score, header.threshold)
        if not look(
            "ok and ng have score, threshold, model, image and at",
            None not in (*scores, header.model, header.image, header.at),
            where,
        ):
            return
        assert header.score is not None
        assert header.threshold is not None
        is_ng = header.score > header.threshold
        look(
            "ng is score > threshold", is_ng == (header.verdict == "ng"), f"{where}: {header.score}, {header.threshold}"
        )
        look("every ng has a region, and no ok has one", bool(header.regions) == is_ng, where)
        image = header.image
        assert image is not None
        inside = all(r.x >= 0 and r.y >= 0 and r.x + r.w <= image.w and r.y + r.h <= image.h for r in header.regions)
        look("regions lie in the picture", inside, where)
        worst = [r.score for r in header.regions]
        is_sorted = worst == sorted(worst, reverse=True) or bool(header.areas)  # scores of models cannot be compared
        look("regions are sorted, at most 32", is_sorted and len(worst) <= 32, where)
        outcomes = [one.verdict for one in header.areas]
        if outcomes:
            look(
                "a part's verdict is that of its worst area", header.verdict == max(outcomes, key=SEVERITY.index), where
            )
        t = header.t
        times = [one for one in (t.captured, t.queued, t.started, t.scored, t.published) if one is not None]
        look("t ascends from captured to published", len(times) == 5 and times == sorted(times), where)

    def _mask(self, header: VerdictMessage, message: Message) -> None:
        look, where = self.rules.look, f"{header.camera} {header.seq}"
        before = self.verdicts.get(header.camera)
        if before is not None:
            look("a mask follows its verdict with the same header", before.encoded == message.encoded, where)
        part, mask = message.part or b"", header.mask
        masks = [one.mask for one in header.areas] or [mask]
        expected = sum(one.w * one.h for one in masks if one is not None)
        if not look("a mask has w × h bytes", mask is not None and len(part) == expected, f"{where}: {len(part)}"):
            return
        assert mask is not None
        is_above = any(byte > mask.level for byte in part)
        if header.verdict == "ok":
            look("no byte of an ok part's mask is above level", not is_above, where)


def ask(rules: Rules, address: str, keys: Keys | None = None) -> None:
    """Ask what changes nothing, and what is no request."""
    look = rules.look
    good = {"id": "conformance-1", "cmd": "status"}
    for kind, name in ((zmq.DEALER, "a DEALER"), (zmq.REQ, "a REQ")):
        reply = _asked(kind, address, [json.dumps(good).encode()], keys)
        if look(f"{name} gets one reply", reply is not None, "none came") and reply is not None:
            look("a reply has the id of its request", reply.id == good["id"], f"{reply.id!r}")
            cameras = reply.result.get("cameras") if reply.ok and isinstance(reply.result, dict) else None
            look("status gives daemon/ with all camera states", isinstance(cameras, dict), str(reply)[:200])
    for what, parts, codes in (
        ("no JSON", [b"\xff{"], {"bad_request"}),
        ("no object", [b"[1, 2]"], {"bad_request"}),
        ("two parts", [json.dumps(good).encode(), b"more"], {"bad_request"}),
        ("an unknown command", [b'{"id": 7, "cmd": "dance"}'], {"unknown_command"}),
        ("an unknown field", [b'{"id": 7, "cmd": "status", "colour": 1}'], {"bad_request"}),
        ("an unknown camera", [b'{"id": 7, "cmd": "snapshot", "camera": "no-such-camera"}'], {"unknown_camera"}),
        ("a missing field", [b'{"id": 7, "cmd": "verdicts"}'], {"bad_request"}),
        ("deep nesting", [b"[" * 5000], {"bad_request"}),
    ):
        reply = _asked(zmq.DEALER, address, parts, keys)
        if look("garbage gets one reply, too", reply is not None, f"none to {what}") and reply is not None:
            code = reply.error.code if reply.error is not None else None
            look("what is refused has its code and a sentence", not reply.ok and code in codes, f"{what}: {code}")


def _asked(kind: int, address: str, parts: list[bytes], keys: Keys | None) -> ControlReply | None:
    with connected(kind, address, keys) as socket:
        socket.send_multipart(parts)
        if not socket.poll(int(ANSWER_S * 1000)):
            return None
        body = socket.recv_multipart()[0]
    try:
        return msgspec.json.decode(body, type=ControlReply)
    except msgspec.DecodeError:
        return ControlReply(id=None, ok=False)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"it holds {constant}")
