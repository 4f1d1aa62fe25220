"""What the control socket can be asked for: a table from request to handler.

Everything here runs on the control socket's thread, and must not keep it: what takes longer is answered later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import msgspec

from inspectd.line.sinks import Order, RawFrames
from inspectd.records import Picture, Stamp
from inspectd.wire.control import Answer
from inspectd.wire.requests import (
    CapturedFrame,
    CaptureRequest,
    CaptureResult,
    RefusedError,
    Request,
    StatusRequest,
    brief,
)

MOST_PENDING = 4
"""Captures that may wait at once: bounds the memory that clients can take."""
CAPTURE_TIMEOUT_S = 5.0
CAPTURE_BYTES_PER_S = 64_000_000
MOST_CAPTURE_BYTES = 256_000_000
"""Pictures that may be on their way to clients at once, and how fast that is forgotten: a client that never reads is
cut off after `sockets.SILENT_MS`."""


class StatusSource(Protocol):
    """Who can say how things are."""

    def report(self) -> dict[str, Any]:
        """The daemon's state with the states of all cameras."""


class Commands:
    """Answers the requests of one daemon."""

    def __init__(self, status: StatusSource, cameras: Iterable[str], raw_frames: RawFrames) -> None:
        """`cameras`: the names of those that are inspected."""
        self._status = status
        self._cameras = tuple(cameras)
        self._raw_frames = raw_frames
        self._captures: list[Order] = []
        self._sent_bytes, self._reckoned_s = 0.0, time.monotonic()
        self._handlers: dict[type[Request], Callable[[Any, Answer], None]] = {
            StatusRequest: self._report,
            CaptureRequest: self._capture,
        }

    def handle(self, request: Request, answer: Answer) -> None:
        """Answer a request, at once or later; RefusedError says why it is not done."""
        self._handlers[type(request)](request, answer)

    def _report(self, _request: StatusRequest, answer: Answer) -> None:
        answer.reply(self._status.report())

    def _capture(self, request: CaptureRequest, answer: Answer) -> None:
        if request.camera not in self._cameras:
            names = ", ".join(self._cameras)
            raise RefusedError("unknown_camera", f"There is no camera {brief(request.camera)}; there are: {names}.")
        if self._bytes_under_way() > MOST_CAPTURE_BYTES:
            raise RefusedError("busy", "Too many pictures are on their way to clients; ask again in a few seconds.")
        if len(self._captures) >= MOST_PENDING:
            raise RefusedError("busy", f"{MOST_PENDING} captures are waiting already; ask again in a moment.")

        def send() -> None:
            if not answer.is_given:
                self._captures.remove(order)
                pictures = [picture.tobytes() for _, picture in order.frames]
                self._sent_bytes = self._bytes_under_way() + sum(map(len, pictures))
                described = CaptureResult([_describe(*one) for one in order.frames])
                answer.reply(msgspec.to_builtins(described), pictures)

        def give_up() -> None:
            self._captures.remove(order)
            self._raw_frames.cancel(order)
            had = f"{len(order.frames)} of {order.wanted}"
            why = f"Camera {order.camera} gave {had} frames within {CAPTURE_TIMEOUT_S:g} s; is it running?"
            answer.refuse("timeout", why)

        order = self._raw_frames.order(request.camera, request.n, on_filled=lambda: answer.soon(send))
        self._captures.append(order)
        answer.later(CAPTURE_TIMEOUT_S, give_up)

    def _bytes_under_way(self) -> float:
        """Return how many bytes of pictures are reckoned to be on their way to clients still."""
        now_s = time.monotonic()
        self._sent_bytes = max(0.0, self._sent_bytes - CAPTURE_BYTES_PER_S * (now_s - self._reckoned_s))
        self._reckoned_s = now_s
        return self._sent_bytes


def _describe(stamp: Stamp, picture: Picture) -> CapturedFrame:
    return CapturedFrame(
        frame=stamp.frame,
        captured_ns=stamp.captured_ns,
        part=stamp.part,
        w=picture.shape[1],
        h=picture.shape[0],
        channels=1 if picture.ndim == 2 else picture.shape[2],
        dtype=str(picture.dtype),
    )
