"""Two configurations, and what leads from one to the other while the line runs. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from inspectd.config import CameraConfig, Config
from inspectd.errors import UsageError

ASKING = {"challenge"}
"""What of a camera is asked of people: it may change at any time."""
JUDGING = {*ASKING, "model", "threshold", "areas", "recipes", "ignore", "roi", "shadow"}
"""What of a camera is exchanged between two frames; for anything else it is opened anew."""
MOST_TOLD = 8


@dataclass(frozen=True, slots=True)
class Steps:
    """What becomes of the cameras."""

    added: tuple[CameraConfig, ...]
    removed: tuple[str, ...]
    reopened: tuple[CameraConfig, ...]
    """Stopped, and started anew as they are now."""
    judged: tuple[CameraConfig, ...]
    """Judged by something else from the next frame on; none is lost."""
    unchanged: tuple[CameraConfig, ...]


def steps_between(old: Config, new: Config) -> Steps:
    """Return what is to be done; UsageError: something has changed that takes a restart."""
    fixed = [
        f"{section.name}.{key}"
        for section in msgspec.structs.fields(Config)
        if section.name != "cameras"
        for key in _differences(getattr(old, section.name), getattr(new, section.name))
    ]
    if fixed:
        names = ", ".join(fixed[:MOST_TOLD]) + (f" and {len(fixed) - MOST_TOLD} more" if fixed[MOST_TOLD:] else "")
        raise UsageError(
            f"{names} {'has' if len(fixed) == 1 else 'have'} changed, which takes effect only at a restart. Nothing "
            "was changed; restart the daemon when the line may pause, or put it back as it was."
        )
    before = {camera.name: camera for camera in old.enabled_cameras}
    now = {camera.name: camera for camera in new.enabled_cameras}
    kept = {name: _differences(before[name], camera) for name, camera in now.items() if name in before}
    is_judging = {name: bool(keys) and _only_judging(now[name], keys) for name, keys in kept.items()}
    return Steps(
        added=tuple(camera for name, camera in now.items() if name not in before),
        removed=tuple(name for name in before if name not in now),
        reopened=tuple(now[name] for name, keys in kept.items() if keys and not is_judging[name]),
        judged=tuple(now[name] for name in kept if is_judging[name]),
        unchanged=tuple(now[name] for name, keys in kept.items() if not keys),
    )


def _differences(old: Any, new: Any) -> list[str]:
    return [key for key in old.__struct_fields__ if getattr(old, key) != getattr(new, key)]


def _only_judging(camera: CameraConfig, keys: list[str]) -> bool:
    """Whether these keys leave the camera itself as it is; parts that pass are followed by what judges them."""
    return set(keys) <= (ASKING if camera.mode == "part" else JUDGING)
