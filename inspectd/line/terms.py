"""What follows from a camera's configuration for the way of its frames."""

from __future__ import annotations

from dataclasses import dataclass

from inspectd.cameras.sources import parse_source
from inspectd.config import CameraConfig
from inspectd.errors import UsageError
from inspectd.line.admission import untriggerable
from inspectd.line.batcher import Policy

LIVE_SLOTS = 6  # one being written, one waiting, three under way in the engine, one being released
FILE_SLOTS = 4


@dataclass(frozen=True, slots=True)
class Terms:
    """What follows from a camera's configuration for the way of its frames."""

    policy: Policy
    slots: int
    """Of its ring."""
    waiting: int
    """How many frames of an `every` camera may wait for the engine."""
    deadline_ms: float | None
    """None: pictures that come as fast as they are inspected are never late."""
    is_finite: bool


def terms_of(config: CameraConfig) -> Terms:
    """Return what follows from a configuration; UsageError: it cannot be."""
    source = parse_source(config.source)
    if (why := untriggerable(config, source)) is not None:
        raise UsageError(f"Camera {config.name}: {why}.")
    is_lossless = source.is_lossless and (source.is_file or config.fps is None)
    is_paced = not is_lossless or config.fps is not None or config.looks.best_of > 1
    slots = FILE_SLOTS if is_lossless else LIVE_SLOTS
    return Terms(
        policy="every" if is_lossless or config.mode != "stream" else config.policy,
        slots=slots,
        waiting=slots if is_lossless else slots - 2,
        deadline_ms=config.deadline_ms if is_paced else None,
        is_finite=source.is_finite and not config.loop,
    )
