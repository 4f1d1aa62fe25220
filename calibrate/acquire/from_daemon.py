"""Frames from the daemon that holds a camera, through its control socket."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import zmq

from inspectd.cameras.discovery import stable_paths
from inspectd.cameras.sources import public_address
from inspectd.errors import StartError
from inspectd.records import Frame, Picture, Stamp
from inspectd.wire.messages import CapturedFrame, CaptureResult, ControlReply

ASK_S = 1.0
"""A daemon on this machine answers `status` within a fraction of this."""
FRAME_S = 8.0
"""Longer than the daemon itself waits for a frame, so that its own sentence arrives."""


class _Asker:
    """One DEALER socket: asks and waits for the reply."""

    def __init__(self, control: str) -> None:
        self._control = control
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(control)

    def ask(self, timeout_s: float, **request: Any) -> tuple[ControlReply, list[bytes]] | None:
        """Return the reply and its further parts; None when none comes in time."""
        self._socket.send(msgspec.json.encode({"id": 1, **request}))
        if not self._socket.poll(int(timeout_s * 1000)):
            return None
        parts = self._socket.recv_multipart()
        try:
            return msgspec.json.decode(parts[0], type=ControlReply), parts[1:]
        except msgspec.DecodeError as error:
            raise StartError(f"What answers at {self._control} is not inspectd: {error}. Check --control.") from None

    def close(self) -> None:
        """Close the socket."""
        self._socket.close(0)
        self._context.term()


def find_holder(control: str, source: str, timeout_s: float = ASK_S) -> str | None:
    """Return the running camera of the daemon at `control` that is the same as `source`; None: there is none."""
    asker = _Asker(control)
    try:
        answer = asker.ask(timeout_s, cmd="status")
    finally:
        asker.close()
    if answer is None or not answer[0].ok:
        return None
    for name, state in answer[0].result.get("cameras", {}).items():
        if state.get("state") == "running" and is_same_camera(str(state.get("source")), source):
            return str(name)
    return None


def is_same_camera(one: str, other: str) -> bool:
    """Whether two sources mean the same camera: the same text, the same node, or a stable path in common."""
    if "?…" in _node(one):  # what the query says is kept secret, and may tell one camera from another
        return False
    return _node(one) == _node(other) or bool(set(stable_paths(one)) & set(stable_paths(other)))


def _node(source: str) -> str:
    text = source.strip()
    return f"/dev/video{int(text)}" if text.isdecimal() else public_address(text)


class Borrowed:
    """An endless iterator of new frames of a camera that the daemon at `control` holds; close it."""

    def __init__(self, control: str, camera: str) -> None:
        self._control = control
        self._camera = camera
        self._asker = _Asker(control)

    def __enter__(self) -> Iterator[Frame]:
        """Ask for one frame after another."""
        return self._frames()

    def __exit__(self, *_: object) -> None:
        """Close the socket."""
        self._asker.close()

    def _frames(self) -> Iterator[Frame]:
        while True:
            answer = self._asker.ask(FRAME_S, cmd="capture", camera=self._camera, n=1)
            if answer is None:
                raise StartError(
                    f"The daemon at {self._control} holds the camera {self._camera} and does not answer any more; "
                    "start again when it does, or stop it and give the camera's own source."
                )
            reply, parts = answer
            if not reply.ok:
                why = reply.error.message if reply.error else "it gave no reason."
                raise StartError(f"The daemon at {self._control} gives no frames of {self._camera}: {why}")
            described = msgspec.convert(reply.result, CaptureResult).frames
            for frame, data in zip(described, parts, strict=True):
                stamp = Stamp(self._camera, frame.frame, frame.captured_ns, frame.part)
                yield Frame(stamp, _picture(frame, data), lambda: None)


def _picture(frame: CapturedFrame, data: bytes) -> Picture:
    shape = (frame.h, frame.w) if frame.channels == 1 else (frame.h, frame.w, frame.channels)
    kind = np.dtype(frame.dtype).newbyteorder("<")
    picture: Picture = np.frombuffer(data, kind).reshape(shape).copy()  # the buffer itself is read-only
    return picture
