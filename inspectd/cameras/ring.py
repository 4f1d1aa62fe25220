"""The shared memory between a capture child and its parent: a sealed, pre-faulted memfd cut into slots.

The child makes the ring once it knows how large its pictures are, and hands the descriptor over; nothing
appears in a file system, and the kernel frees the memory when the last of the two is gone. The seals
promise the parent that no child can shrink the memory under it (which would be a SIGBUS).

A slot belongs to whoever holds its index; the ring itself keeps no book.
"""

from __future__ import annotations

import fcntl
import math
import mmap
import os
from collections.abc import Callable

import numpy as np
from numpy.typing import DTypeLike, NDArray

from inspectd.errors import CameraError
from inspectd.records import Picture

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
MAX_SLOT_BYTES = 512 * 1024 * 1024

Pin = Callable[[int, int], Callable[[], None]]
"""Address and size of new memory: makes it fit for a device's copies. The result is called before it is unmapped."""


class _Mapping(mmap.mmap):
    """Shared memory that says so before it is unmapped, which happens when the last picture in it is let go."""

    before_unmap: Callable[[], None] | None = None

    def __del__(self) -> None:
        if self.before_unmap is not None:
            self.before_unmap()


class Ring:
    """`slots` slots of `slot_bytes` each. Both sides hold one object over the same memory."""

    def __init__(self, memory: mmap.mmap, slots: int, slot_bytes: int) -> None:
        self.slots = slots
        self.slot_bytes = slot_bytes
        self._memory = memory  # unmapped when the last view of it is gone

    @classmethod
    def create(cls, slots: int, slot_bytes: int) -> tuple[Ring, int]:
        """Make a ring; return it and the descriptor to hand over. OSError when memory does not suffice."""
        slot_bytes = -(-slot_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        fd = os.memfd_create("inspectd-ring", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            # fallocate takes every page now: a lack of memory is an error here and not a SIGBUS at night.
            os.posix_fallocate(fd, 0, slots * slot_bytes)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
            return cls(mmap.mmap(fd, slots * slot_bytes), slots, slot_bytes), fd
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def attach(cls, fd: int, slots: int, slot_bytes: int, pin: Pin | None = None) -> Ring:
        """Map a ring that came over a socket; refuse one that is unsealed or of another size."""
        size = os.fstat(fd).st_size
        try:
            seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        except OSError:  # no memfd at all
            seals = 0
        if seals & SEALS != SEALS or slots < 1 or slot_bytes < 1 or size != slots * slot_bytes:
            raise CameraError(
                f"the capture process offered a ring of {size} bytes with seals {seals:#x}; "
                f"expected {slots} sealed slots of {slot_bytes} bytes"
            )
        memory = _Mapping(fd, size)
        if pin is not None:
            memory.before_unmap = pin(np.frombuffer(memory, np.uint8).ctypes.data, size)
        return cls(memory, slots, slot_bytes)

    def view(self, slot: int, shape: tuple[int, ...], dtype: DTypeLike) -> Picture:
        """Return the start of a slot as an array of `shape`; CameraError when it does not fit."""
        kind = np.dtype(dtype)
        count = math.prod(shape)
        if not 0 <= slot < self.slots or min(shape) < 1 or count * kind.itemsize > self.slot_bytes:
            raise CameraError(
                f"a picture of {shape} {kind} does not fit slot {slot} of {self.slots} slots of {self.slot_bytes} bytes"
            )
        flat: NDArray[np.uint8] = np.frombuffer(self._memory, kind, count, offset=slot * self.slot_bytes)
        return flat.reshape(shape)
