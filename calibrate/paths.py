"""Where a run lies, and what it is called."""

from __future__ import annotations

import re
from pathlib import Path

from inspectd.errors import UsageError


def run_path(results_path: Path, project: str, group: str, run: str) -> Path:
    """Return where a run lies; UsageError when one of its names is no plain name."""
    for what, name in (("--log_project", project), ("--log_group", group), ("--run_name", run)):
        if not name or name in (".", "..") or "/" in name or "\0" in name:
            raise UsageError(f"{what} is {name!r}; expected a plain name for a folder.")
    return results_path / project / group / run


def slug(camera: str) -> str:
    """Return a short name for a source, fit for a folder."""
    tail = camera.split("?", maxsplit=1)[0].rstrip("/").rpartition("/")[2] or camera
    text = re.sub(r"[^A-Za-z0-9_.-]+", "-", tail).strip("-.")
    return f"camera{text}" if text.isdecimal() else text or "camera"
