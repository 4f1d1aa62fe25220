"""Writing that is whole or not at all."""

from __future__ import annotations

import ctypes
import errno
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from inspectd.errors import StartError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
ROOM_BYTES = 64 << 20
"""What a run takes, roughly."""


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Give out an empty folder beside `target` that takes its place when the block ends well.

    An existing `target` is replaced whole, in one step; when the block fails it stays as it was and nothing
    is left behind. Errors of the file system become one sentence.
    """
    parent = target.parent
    made = missing(parent)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _remove_orphans(target)
        scratch = Path(tempfile.mkdtemp(prefix=f"{_scratch_prefix(target)}{os.getpid()}-", dir=parent))
    except OSError as error:
        remove_empty(made)
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
        remove_empty(made)


def write_whole(target: Path, data: bytes, mode: int = 0o666) -> None:
    """Put a file in place whole, or leave what was there; errors of the file system become one sentence.

    `mode`: its permissions, less what the process's umask takes away.
    """
    scratch = target.parent / f"{_scratch_prefix(target)}{os.getpid()}"
    try:
        with open(scratch, "wb", opener=lambda path, flags: os.open(path, flags, mode)) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(target)
        _sync_entry(target.parent)
    except OSError as error:
        raise _cannot_write(target, error) from error
    finally:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)


def check_can_write(target: Path) -> None:
    """Try to write where `target` will be, before an hour of work goes into it; StartError when that fails."""
    parent = next(folder for folder in target.absolute().parents if os.path.lexists(folder))
    try:
        with tempfile.TemporaryFile(prefix=".inspectd-", dir=parent) as file:
            file.write(b"x")
            file.flush()
        space = os.statvfs(parent)
    except OSError as error:
        raise _cannot_write(target, error) from None
    free = space.f_bavail * space.f_frsize
    if free < ROOM_BYTES:
        raise _cannot_write(target, OSError(errno.ENOSPC, f"only {free >> 20} MiB are free there"))


def exchange(one: Path, other: Path) -> None:
    """Let two existing folders trade places in one step; OSError when the file system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(other))


def _scratch_prefix(target: Path) -> str:
    return f".{target.name}.partial-"


def _remove_orphans(target: Path) -> None:
    """Remove what processes left that were killed while they wrote the same target."""
    for scratch in target.parent.glob(f"{glob.escape(_scratch_prefix(target))}*"):
        owner = scratch.name.removeprefix(_scratch_prefix(target)).partition("-")[0]
        if owner.isdecimal() and not Path("/proc", owner).exists():
            shutil.rmtree(scratch, ignore_errors=True)


def missing(folder: Path) -> list[Path]:
    """Return the folders that must be made so that `folder` exists, innermost first."""
    return [one for one in (folder, *folder.parents) if not one.exists()]


def remove_empty(folders: list[Path]) -> None:
    """Remove folders that were made for nothing, innermost first."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:  # it holds something, or was never made
            return


def _cannot_write(where: Path, error: OSError) -> StartError:
    return StartError(
        f"{where} cannot be written: {_words(error)}. Nothing was changed; free some space or choose another place."
    )


def _words(error: OSError) -> str:
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list) and error.args[0]:
        return str(error.args[0][0][-1])  # of each file that could not be copied; the first is enough
    return error.strerror or str(error)


def _sync_tree(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        _sync(path)


def _put_in_place(scratch: Path, target: Path) -> None:
    if target.exists():
        exchange(scratch, target)
    else:
        scratch.rename(target)
    _sync(target.parent)


def _sync_entry(folder: Path) -> None:
    """Have what was put into a folder survive the loss of power, where folder and file system allow that."""
    try:
        _sync(folder)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOTSUP):
            raise


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
