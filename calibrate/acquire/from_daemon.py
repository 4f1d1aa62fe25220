"""Frames from the daemon that holds a camera, through its control socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from inspectd.addresses import is_loopback
from inspectd.cameras.discovery import stable_paths
from inspectd.cameras.sources import public_address
from inspectd.client import Control, ForeignReplyError, NoReplyError, RefusalError
from inspectd.errors import StartError
from inspectd.records import Frame, Picture, Stamp
from inspectd.wire.results import CapturedFrame

LISTENS_S = 0.2
ASK_S = 1.0
"""A daemon on this machine answers `status` within a fraction of this."""


def find_holder(control: str, source: str, timeout_s: float = ASK_S) -> str | None:
    """Return the running camera of the daemon at `control` that is the same as `source`; None: there is none."""
    with Control(control) as daemon:
        try:
            report = daemon.status(timeout_s)
        except (NoReplyError, RefusalError):
            return None
        except ForeignReplyError as error:
            raise _foreign(control, error) from None
    for name, state in report.get("cameras", {}).items():
        if state.get("state") == "running" and is_same_camera(str(state.get("source")), source):
            return str(name)
    return None


@contextmanager
def giving_way_to(control: str, report: Callable[[str], None]) -> Iterator[None]:
    """Where a daemon of this machine answers at `control`, give way to it meanwhile, and say so."""
    if not _is_answered(control):
        yield
        return
    report(
        f"A daemon inspects on this machine ({control}): calibration gives way to it, and takes the longer the busier "
        "it is."
    )
    with giving_way():
        yield


@contextmanager
def giving_way() -> Iterator[None]:
    """Compute, in all threads of this process, only when nothing else wants to.

    Where Linux groups processes by their session, priorities count within a group only, so this session is made the
    least important one too (`man 7 sched`, autogroup). The groups of systemd are its own to weigh.
    """
    policy, group = os.sched_getscheduler(0), Path("/proc/self/autogroup")
    before: str | None = None
    _schedule(os.SCHED_IDLE)
    with suppress(OSError, IndexError):
        before = group.read_text().split()[-1]
        group.write_text("19")
    try:
        yield
    finally:
        _schedule(policy)
        with suppress(OSError):
            if before is not None:
                group.write_text(before)


def _schedule(policy: int) -> None:
    for thread in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # it has ended, or may not return
            os.sched_setscheduler(int(thread.name), policy, os.sched_param(0))


def _is_answered(control: str) -> bool:
    """Whether a daemon answers there, on this machine; where nothing listens, that is known at once."""
    if not _is_taken(control):
        return False
    with Control(control) as daemon:
        try:
            daemon.status(ASK_S)
        except (NoReplyError, RefusalError, ForeignReplyError):
            return False
    return True


def _is_taken(control: str) -> bool:
    """Whether anything listens at an address of this machine, without waiting for an answer."""
    kind, _, where = control.partition("://")
    if kind != "tcp":
        return Path(where).exists()
    if not is_loopback(where):
        return False
    host, _, port = where.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), LISTENS_S):
            return True
    except (OSError, ValueError):
        return False


def is_same_camera(one: str, other: str) -> bool:
    """Whether two sources mean the same camera: the same text, the same node, or a stable path in common."""
    if "?…" in _node(one):  # what the query says is kept secret, and may tell one camera from another
        return False
    return _node(one) == _node(other) or bool(set(stable_paths(one)) & set(stable_paths(other)))


def _node(source: str) -> str:
    text = source.strip()
    return f"/dev/video{int(text)}" if text.isdecimal() else public_address(text)


class FramesFromDaemon:
    """An endless iterator of new frames of a camera that the daemon at `control` holds; close it."""

    def __init__(self, control: str, camera: str) -> None:
        self._camera = camera
        self._daemon = Control(control)

    def __enter__(self) -> Iterator[Frame]:
        """Ask for one frame after another."""
        return self._frames()

    def __exit__(self, *_: object) -> None:
        """Close the socket."""
        self._daemon.close()

    def _frames(self) -> Iterator[Frame]:
        while True:
            for frame, data in self._capture():
                stamp = Stamp(self._camera, frame.frame, frame.captured_ns, frame.part)
                yield Frame(stamp, _picture(frame, data), lambda: None)

    def _capture(self) -> list[tuple[CapturedFrame, bytes]]:
        address = self._daemon.address
        try:
            return self._daemon.capture(self._camera)
        except NoReplyError:
            raise StartError(
                f"The daemon at {address} holds the camera {self._camera} and does not answer any more; "
                "start again when it does, or stop it and give the camera's own source."
            ) from None
        except RefusalError as error:
            raise StartError(f"The daemon at {address} gives no frames of {self._camera}: {error}") from None
        except ForeignReplyError as error:
            raise _foreign(address, error) from None


def _foreign(control: str, error: ForeignReplyError) -> StartError:
    return StartError(f"What answers at {control} is not inspectd: {error}. Check --control.")


def _picture(frame: CapturedFrame, data: bytes) -> Picture:
    shape = (frame.h, frame.w) if frame.channels == 1 else (frame.h, frame.w, frame.channels)
    kind = np.dtype(frame.dtype).newbyteorder("<")
    picture: Picture = np.frombuffer(data, kind).reshape(shape).copy()  # the buffer itself is read-only
    return picture
