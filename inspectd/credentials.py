"""Where secrets lie: at a path, or in what systemd hands to the service (`credential:NAME`).

The shipped unit has everything in /etc/inspectd/credentials handed over (LoadCredential), each file readable by the
daemon alone; `LoadCredentialEncrypted=NAME:…` in a drop-in does the same with what `systemd-creds encrypt` wrote.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from inspectd.errors import UsageError

PREFIX = "credential:"
OF_FOLDER = "inspectd_"
"""What systemd puts before the names of a folder's files."""
FOLDER = Path("/etc/inspectd/credentials")
"""For whoever looks at the configuration outside the service."""


def can_be_read_by_others(path: Path) -> bool:
    """Whether others than their owner can read a secret. What systemd hands over shows the group of its access list."""
    handed_over = os.environ.get("CREDENTIALS_DIRECTORY")
    is_handed_over = handed_over is not None and path.is_relative_to(handed_over)
    return bool(path.stat().st_mode & (0o007 if is_handed_over else 0o077))


def secret_path(where: str, value: str) -> Path:
    """Return where a secret lies that the configuration names; `where`: by which key. UsageError: it is nowhere."""
    if not value.startswith(PREFIX):
        return Path(value)
    name = value.removeprefix(PREFIX)
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,128}", name) or name.startswith("."):
        raise UsageError(f"{where} is {value!r}; expected {PREFIX}NAME with the name of a credential.")
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if folder is None:
        return FOLDER / name
    for candidate in (Path(folder, name), Path(folder, OF_FOLDER + name)):
        if candidate.is_file():
            return candidate
    there = ", ".join(sorted(path.name.removeprefix(OF_FOLDER) for path in Path(folder).iterdir())) or "none"
    raise UsageError(
        f"{where} is {value}, which systemd did not hand over; there is: {there}. Put the file into {FOLDER}, or name "
        "it in a LoadCredential line."
    )
