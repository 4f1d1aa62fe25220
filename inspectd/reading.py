"""What anybody may have put there: files, bounded in time and memory, and text, fit for a log or a terminal."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def read_regular(path: Path, most_bytes: int) -> bytes:
    """Return the bytes of a regular file (or of one that a link leads to); OSError says why not.

    A pipe, a device or a folder is refused without waiting for it, and so is a file of more than `most_bytes`.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:  # noqa: PTH123 - the descriptor that was looked at, not whatever the path means now
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "it is no regular file")
        if status.st_size > most_bytes:
            raise OSError(0, f"it has {status.st_size} bytes; expected at most {most_bytes}")
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise OSError(0, f"it has more than {most_bytes} bytes")
    return data


def one_line(text: str) -> str:
    """Return a text that begins no other line and moves no cursor, whoever wrote it."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)
