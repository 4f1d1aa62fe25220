"""One picture of a camera, through the same capture child that the daemon uses."""

from __future__ import annotations

import time
from pathlib import Path

import cv2

from inspectd.cameras.child import Child
from inspectd.cameras.protocol import Captured, CaptureSettings, Failed
from inspectd.cameras.sources import parse_source
from inspectd.errors import CameraError, StartError
from inspectd.records import Stamp

PATIENCE_S = 10.0


def save_snapshot(source: str, folder: Path) -> Path:
    """Save one picture as PNG and return its path; CameraError or StartError say why there is none."""
    parsed = parse_source(source)
    child = Child(CaptureSettings(source=parsed.address, kind=parsed.kind.value, slots=2))
    try:
        until_s = time.monotonic() + PATIENCE_S
        while (left_s := until_s - time.monotonic()) > 0:
            message = child.receive(left_s)
            if isinstance(message, Failed):
                raise CameraError(message.why)
            if isinstance(message, Captured):
                frame = child.frame(message, Stamp("snapshot", message.number, message.captured_ns))
                return _save(frame.picture, folder / f"{Path(source).name}.png")
        raise CameraError(f"{source} gave no picture within {PATIENCE_S:g} s")
    finally:
        child.kill()


def _save(picture: object, path: Path) -> Path:
    _, data = cv2.imencode(".png", picture)  # type: ignore[call-overload]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise StartError(f"{path} cannot be written: {error.strerror}.") from None
    return path
