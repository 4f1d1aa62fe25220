"""What the control socket is asked for, without a daemon behind it."""

from __future__ import annotations

from inspectd.daemon.commands import Commands, StatusSource, showing, telling
from inspectd.daemon.pictures import Budget, Pictures
from inspectd.daemon.worker import Worker
from inspectd.line.sinks import RawFrames


def command_tables(status: StatusSource, raw_frames: RawFrames, worker: Worker | None = None) -> Commands:
    """Return the commands of a daemon with one camera, `top`, that need neither a journal nor a model."""
    pictures = Pictures(raw_frames, raw_frames, Budget(), worker or Worker("answers"), lambda _: 65535, lambda _: None)
    return Commands(["top"], telling(status), showing(pictures))
