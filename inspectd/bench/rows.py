"""What a benchmark says: one row for each form, size, batch and number of models."""

from __future__ import annotations

from collections.abc import Callable

import msgspec


class Row(msgspec.Struct, frozen=True, omit_defaults=False):
    """One measurement. Times are in milliseconds, of a batch with nothing else under way; memory in MB of 10⁶ bytes."""

    device: str
    precision: str
    form: str
    """`textbook`: the published operations in the published order; `folded`: what the engine runs;
    `backbone`: the network without anything behind its last layer; `daemon`: everything, capture to subscriber."""
    backbone: str
    size: str
    """Width × height of the network's input."""
    picture: str
    """Width × height of the camera's pictures; empty where normalised inputs were given."""
    batch: int
    models: int
    cameras: int
    frames_per_s: float
    """With as many batches under way as the engine keeps."""
    p50_ms: float
    p95_ms: float
    p99_ms: float
    stages_ms: dict[str, float]
    """Median of each stage for one frame, with nothing overlapping. `backbone` is as it takes alone; `head` is what the
    whole network takes beyond that."""
    host_mb: float | None
    """Resident memory of the process that judges."""
    device_mb: float | None
    to_textbook: float | None = None
    """How many times as many frames a second as the textbook row of this run, from picture to scores."""
    to_backbone: float | None = None
    """Time for a frame in the whole network over that in its backbone alone, both from normalised inputs."""
    overhead_p99_ms: float | None = None
    """Of the daemon: (received − captured) − (scored − started)."""
    displaced: int | None = None


COLUMNS: dict[str, Callable[[Row], str]] = {
    "form": lambda r: r.form,
    "device": lambda r: f"{r.device} {r.precision}",
    "backbone": lambda r: r.backbone,
    "input": lambda r: r.size,
    "picture": lambda r: r.picture,
    "batch": lambda r: str(r.batch),
    "models": lambda r: str(r.models),
    "frames/s": lambda r: f"{r.frames_per_s:.1f}",
    "p50 ms": lambda r: f"{r.p50_ms:.2f}",
    "p95": lambda r: f"{r.p95_ms:.2f}",
    "p99": lambda r: f"{r.p99_ms:.2f}",
    "x textbook": lambda r: "" if r.to_textbook is None else f"{r.to_textbook:.2f}",
    "/ backbone": lambda r: "" if r.to_backbone is None else f"{r.to_backbone:.2f}",
    "host MB": lambda r: "" if r.host_mb is None else f"{r.host_mb:.0f}",
    "device MB": lambda r: "" if r.device_mb is None else f"{r.device_mb:.0f}",
    "stages, ms a frame": lambda r: ", ".join(f"{stage} {ms:.2f}" for stage, ms in r.stages_ms.items()),
}
