"""Pictures that clients ask for: raw frames for a calibration, and one for people."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import msgspec

from inspectd.cameras.jpeg import for_people
from inspectd.daemon.worker import Reply, Worker
from inspectd.line.sinks import Order, RawFrames
from inspectd.records import Picture, Stamp
from inspectd.wire.control import Answer
from inspectd.wire.requests import CaptureRequest, RefusedError, SnapshotRequest
from inspectd.wire.results import CapturedFrame, CaptureResult

MOST_PENDING = 4
"""Orders that may wait at once: bounds the memory that clients can take."""
CAPTURE_TIMEOUT_S = 5.0
BYTES_PER_S = 64_000_000
MOST_BYTES = 256_000_000
"""Replies that may be on their way to clients at once, and how fast that is forgotten: a client that never reads is
cut off after `sockets.SILENT_MS`."""


class Budget:
    """How many bytes of large replies are reckoned to be on their way to clients. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes, self._reckoned_s = 0.0, time.monotonic()

    def check(self) -> None:
        """RefusedError when there are too many already."""
        with self._lock:
            under_way = self._under_way()
        if under_way > MOST_BYTES:
            raise RefusedError(
                "busy", "Too many large replies are on their way to clients; ask again in a few seconds."
            )

    def spend(self, count: int) -> None:
        """Note a reply of so many bytes."""
        with self._lock:
            self._bytes = self._under_way() + count

    def _under_way(self) -> float:
        now_s = time.monotonic()
        self._bytes = max(0.0, self._bytes - BYTES_PER_S * (now_s - self._reckoned_s))
        self._reckoned_s = now_s
        return self._bytes


class Pictures:
    """Answers `capture` and `snapshot`. For the control socket's thread."""

    def __init__(
        self,
        raw_frames: RawFrames,
        next_frames: RawFrames,
        budget: Budget,
        worker: Worker,
        white_level: Callable[[str], int],
        take_picture: Callable[[str], None],
    ) -> None:
        """`raw_frames`: what is inspected. `next_frames`: whatever the camera shows, asked for by a trigger or not.

        `worker`: encodes. `white_level`: of a camera's 16-bit pictures. `take_picture`: has it take one for nobody.
        """
        self._raw_frames = raw_frames
        self._next_frames = next_frames
        self._budget = budget
        self._worker = worker
        self._white_level = white_level
        self._take_picture = take_picture
        self._orders: list[Order] = []

    def capture(self, request: CaptureRequest, answer: Answer) -> None:
        """Send the camera's next frames as they are."""

        def send(order: Order) -> None:
            pictures = [picture.tobytes() for _, picture in order.frames]
            self._budget.spend(sum(map(len, pictures)))
            described = CaptureResult([_describe(*one) for one in order.frames])
            answer.reply(msgspec.to_builtins(described), pictures)

        self._order(self._raw_frames, request.camera, request.n, answer, send)

    def snapshot(self, request: SnapshotRequest, answer: Answer) -> None:
        """Send the camera's next frame as a JPEG."""

        def send(order: Order) -> None:
            ((stamp, picture),) = order.frames
            white = self._white_level(request.camera)

            def encode() -> Reply:
                jpeg = for_people(picture, white)
                self._budget.spend(len(jpeg))
                return Reply(msgspec.to_builtins(_describe(stamp, picture)), [jpeg])

            self._worker.answer(answer, encode)

        self._order(self._next_frames, request.camera, 1, answer, send)
        self._take_picture(request.camera)

    def _order(self, frames: RawFrames, camera: str, count: int, answer: Answer, send: Callable[[Order], None]) -> None:
        self._budget.check()
        if len(self._orders) >= MOST_PENDING:
            raise RefusedError("busy", f"{MOST_PENDING} captures are waiting already; ask again in a moment.")

        def filled() -> None:
            if not answer.is_given:
                self._orders.remove(order)
                send(order)

        def give_up() -> None:
            if order not in self._orders:
                return  # it is being encoded
            self._orders.remove(order)
            frames.cancel(order)
            had = f"{len(order.frames)} of {order.wanted}"
            within = f"within {CAPTURE_TIMEOUT_S:g} s"
            why = f"Camera {order.camera} gave {had} frames {within}; is it running, and does something trigger it?"
            answer.refuse("timeout", why)

        order = frames.order(camera, count, on_filled=lambda: answer.soon(filled))
        self._orders.append(order)
        answer.later(CAPTURE_TIMEOUT_S, give_up)


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
