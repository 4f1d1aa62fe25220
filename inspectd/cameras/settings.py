"""A camera's section of the configuration, in the words of its capture child."""

from __future__ import annotations

from inspectd.cameras.protocol import CaptureSettings
from inspectd.cameras.sources import Source
from inspectd.config import CameraConfig


def capture_settings(camera: CameraConfig, source: Source, slots: int) -> CaptureSettings:
    """Translate a camera's configuration for its capture child."""
    return CaptureSettings(
        source=source.address,
        kind=source.kind.value,
        slots=slots,
        size=camera.size,
        fps=camera.fps,
        format=camera.format,
        exposure=camera.exposure,
        gain=camera.gain,
        white_balance=camera.white_balance,
        features=dict(camera.features),
        open_timeout_ms=camera.open_timeout_ms,
        read_timeout_ms=camera.read_timeout_ms,
        loop=camera.loop,
        refuse_repeats=camera.frozen_ms > 0,
        synchronized=camera.synchronized,
        is_triggered=camera.mode == "trigger" and camera.triggered_by == "camera",
        is_commanded=camera.mode == "trigger" and camera.triggered_by == "command",
    )
