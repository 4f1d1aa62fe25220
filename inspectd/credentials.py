"""Where secrets lie: at a path, or in what systemd hands to the service (`credential:NAME`).

The shipped unit has everything in /etc/inspectd/credentials handed over (LoadCredential), each file readable by the
daemon alone; `LoadCredentialEncrypted=NAME:…` in a drop-in does the same with what `systemd-creds encrypt` wrote.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from inspectd.errors import UsageError

PREFIX = "credential:"
OF_FOLDER = "inspectd_"
"""What systemd puts before the names of a folder's files."""
FOLDER = Path("/etc/inspectd/credentials")
"""For whoever looks at the configuration outside the service."""


def check_secret(path: Path, what: str) -> None:
    """UsageError: others than its owner can read a secret. `what`: how it is told of.

    Of what systemd hands over the group's rights are those of its access list.
    """
    handed_over = os.environ.get("CREDENTIALS_DIRECTORY")
    is_handed_over = handed_over is not None and path.is_relative_to(handed_over)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & (0o007 if is_handed_over else 0o077):
        raise UsageError(
            f"{what} holds a secret and has mode {mode:03o}, so others can read it; make a new one, or if nobody has "
            f"read it: chmod 600 {path}."
        )


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
