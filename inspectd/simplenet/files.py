"""Writing that is whole or not at all, and digests of what was written."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inspectd.errors import StartError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Give out an empty folder beside `target` that takes its place when the block ends well.

    An existing `target` is replaced whole, in one step; when the block fails it stays as it was and nothing
    is left behind. Errors of the file system become one sentence.
    """
    parent = target.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=parent))
    except OSError as error:
        raise _cannot_write(parent, error) from error
    try:
        scratch.chmod(0o755)
        yield scratch
        _sync_tree(scratch)
        _put_in_place(scratch, target)
    except OSError as error:
        raise _cannot_write(target, error) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _cannot_write(where: Path, error: OSError) -> StartError:
    return StartError(
        f"{where} cannot be written: {error.strerror or error}. Nothing was changed; free some space or choose "
        "another place."
    )


def _sync_tree(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _put_in_place(scratch: Path, target: Path) -> None:
    if target.exists():
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.renameat2(_AT_FDCWD, os.fsencode(scratch), _AT_FDCWD, os.fsencode(target), _RENAME_EXCHANGE):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(target))
    else:
        scratch.rename(target)
    fd = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sha256(data: bytes) -> str:
    """Return the SHA-256 of some bytes, in hex."""
    return hashlib.sha256(data).hexdigest()
