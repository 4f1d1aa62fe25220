"""What memory there is, and how much of it a pass through a network takes."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

SHARE_OF_MEMORY = 0.5
"""Of what is free: the rest is for other models, and for everybody else."""
GROUPS, OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


@dataclass(frozen=True, slots=True)
class Room:
    """Memory for the values that a pass holds."""

    free: int
    """Bytes that nobody has taken."""
    value_bytes: int = 4

    @classmethod
    def on_cpu(cls) -> Room:
        """Return what there is now, for values of float32: runtimes of narrower ones use them here and there."""
        return cls(free_memory())

    @property
    def values(self) -> float:
        """The most values that a pass may hold."""
        return SHARE_OF_MEMORY * self.free / self.value_bytes


def free_memory() -> int:
    """Return how many bytes a program may still take here: the machine's, or those of its control groups if fewer."""
    return min([int(psutil.virtual_memory().available), *_left_in_groups()])


def _left_in_groups() -> Iterator[int]:
    """Yield what each control group (version 2) of this process, and each one around it, lets it still take."""
    with suppress(OSError):
        for line in OWN_GROUPS.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
            if line.startswith("0::"):
                group = GROUPS / line.removeprefix("0::").strip("/")
                for folder in (group, *group.parents):
                    if folder.is_relative_to(GROUPS):
                        yield from _left_in(folder)


def _left_in(group: Path) -> Iterator[int]:
    with suppress(OSError, ValueError, KeyError):  # no limit: there is no such file, or it says "max"
        limit, used = (int((group / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
        facts = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
        yield max(0, limit - used + int(facts["inactive_file"]))  # files that were read, which give way


def values_held(run: Callable[[Tensor], Tensor], picture: Tensor) -> int:
    """Return how many values of float32 there are at once, at the most, while `run` works on a picture."""
    with torch.inference_mode(), _Held() as held:
        run(picture)
    return int(held.most)


class _Held(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the values of all tensors that were made under it and are still there."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = 0
        self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for tensor in found if isinstance(found, tuple | list) else (found,):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return found

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, values = storage.data_ptr(), storage.nbytes() // 4
        if key in self._known:
            return
        self._known.add(key)
        self._now += values
        self.most = max(self.most, self._now)
        weakref.finalize(storage, self._forget, key, values).atexit = False

    def _forget(self, key: int, values: int) -> None:
        self._known.discard(key)
        self._now -= values
