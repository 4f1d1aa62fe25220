"""Frames from the daemon that holds a camera, through its control socket."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import zmq

from inspectd.cameras.discovery import stable_paths
from inspectd.cameras.sources import public_address
from inspectd.errors import StartError, UsageError
from inspectd.records import Frame, Picture, Stamp
from inspectd.wire.messages import CapturedFrame, CaptureResult, ControlReply, StatusResult

ASK_S = 1.0
"""A daemon on this machine answers `status` within a fraction of this."""
FRAME_S = 8.0
"""Longer than the daemon itself waits for a frame, so that its own sentence arrives."""
BUSY_PAUSE_S = 0.1


class _Asker:
    """One DEALER socket: asks and waits for the reply. UsageError when the address cannot be one."""

    def __init__(self, control: str) -> None:
        self._control = control
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        try:
            self._socket.connect(control)
        except zmq.ZMQError as error:
            self.close()
            raise UsageError(
                f"The control address {control!r} cannot be used ({error.strerror}); expected the daemon's "
                "control.bind, such as tcp://127.0.0.1:5557 or ipc://PATH."
            ) from None

    def ask(self, timeout_s: float, **request: Any) -> tuple[ControlReply, list[bytes]] | None:
        """Return the reply and its further parts; None when none comes in time."""
        self._socket.send(msgspec.json.encode({"id": 1, **request}))
        if not self._socket.poll(int(timeout_s * 1000)):
            return None
        parts = self._socket.recv_multipart()
        try:
            return msgspec.json.decode(parts[0], type=ControlReply), parts[1:]
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self.stranger(error) from None

    def stranger(self, error: Exception) -> StartError:
        """Return what is to be said of a reply that cannot be read."""
        return StartError(
            f"What answers at {self._control} is not an inspectd of this version: {error}; give the address of "
            "the daemon that holds the camera, or stop it."
        )

    def close(self) -> None:
        """Close the socket."""
        self._socket.close(0)
        self._context.term()


def find_holder(control: str, source: str, timeout_s: float = ASK_S) -> str | None:
    """Return the running camera of the daemon at `control` that is the same as `source`; None: there is none."""
    asker = _Asker(control)
    try:
        answer = asker.ask(timeout_s, cmd="status")
        if answer is None or not answer[0].ok:
            return None
        cameras = msgspec.convert(answer[0].result, StatusResult).cameras
    except msgspec.ValidationError as error:
        raise asker.stranger(error) from None
    finally:
        asker.close()
    for name, camera in cameras.items():
        if camera.state == "running" and is_same_camera(camera.source, source):
            return name
    return None


def is_same_camera(one: str, other: str) -> bool:
    """Whether two sources mean the same camera: the same text, the same node, or a stable path in common."""
    return _node(one) == _node(other) or bool(set(stable_paths(one)) & set(stable_paths(other)))


def _node(source: str) -> str:
    text = source.strip()
    return f"/dev/video{int(text)}" if text.isdecimal() else public_address(text)


class Borrowed:
    """An endless iterator of new frames of a camera that the daemon at `control` holds; close it.

    StartError when the daemon goes away, refuses, or its camera gives nothing.
    """

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
            reply, parts = self._ask()
            try:
                described = msgspec.convert(reply.result, CaptureResult).frames
                pictures = [_picture(*both) for both in zip(described, parts, strict=True)]
            except (msgspec.ValidationError, ValueError, TypeError) as error:
                raise self._asker.stranger(error) from None
            for frame, picture in zip(described, pictures, strict=True):
                yield Frame(Stamp(self._camera, frame.frame, frame.captured_ns, frame.part), picture, lambda: None)

    def _ask(self) -> tuple[ControlReply, list[bytes]]:
        """Return the daemon's next frame, though others may ask it too."""
        give_up_s = time.monotonic() + FRAME_S
        while True:
            answer = self._asker.ask(FRAME_S, cmd="capture", camera=self._camera, n=1)
            if answer is None:
                raise StartError(
                    f"The daemon at {self._control} holds the camera {self._camera} and does not answer any more; "
                    "start again when it does, or stop it, so that the camera can be opened directly."
                )
            reply, _ = answer
            if reply.ok:
                return answer
            if reply.error is None or reply.error.code != "busy" or time.monotonic() > give_up_s:
                why = reply.error.message.rstrip(".") if reply.error else "it gives no reason"
                raise StartError(
                    f"The daemon at {self._control} gives no frames of {self._camera}: {why}; start again when it "
                    "does, or stop it, so that the camera can be opened directly."
                )
            time.sleep(BUSY_PAUSE_S)


def _picture(frame: CapturedFrame, data: bytes) -> Picture:
    shape = (frame.h, frame.w) if frame.channels == 1 else (frame.h, frame.w, frame.channels)
    kind = np.dtype(frame.dtype).newbyteorder("<")
    picture: Picture = np.frombuffer(data, kind).reshape(shape).copy()  # the buffer itself is read-only
    return picture
