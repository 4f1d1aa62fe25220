"""A picture that is too large for memory, in strips that overlap: their scores are the whole picture's.

A convolutional network sees around each patch as far as it reaches and no farther. So a strip that is cut out of the
picture has the very scores of the whole, but for the patches that are nearer than that to where it was cut. How far a
network reaches is found out, not assumed: a few rows of NaN spoil what they reach, and everything else stays finite.
One that reaches everywhere (attention, a mean over the picture) cannot be cut, and neither can a picture whose height
is no multiple of 32: its strips would lie elsewhere on the grids of the deeper layers.

All strips of a picture are alike in size, so that one compiled network does for all.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import psutil
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from inspectd.errors import UsageError

Shape = tuple[int, int, int]
"""Channels, height and width of the network's input."""
Network = Callable[[Tensor], Tensor]
"""Pictures [1, 3, H, W] to a map [1, …, h, w] of their patches, in float32 on the CPU."""
MADE_FOR_ONE_SIZE = (RuntimeError, ValueError, AssertionError)
"""What networks say that cannot take a picture of another size."""
Map = TypeVar("Map", bound=Any)
"""A tensor or an array."""

FEW_PIXELS = 500_000
"""No machine on which torch runs is too small for so many."""
SHARE_OF_MEMORY = 0.5
"""Of what is free: the rest is for other models, and for everybody else."""
SPARE = 1.5
"""Times what one pass was seen to hold: runtimes copy weights and inputs into an order of their own."""
GRANULE = 32
"""Rows; whole cells on the grids of all layers."""
PROBED = 256
"""Rows and columns of the picture that memory is measured with."""
NARROW = 32
"""Columns of those that the reach is found with."""
TALLEST = 4096
"""Rows; what reaches farther than half of them reaches everywhere."""
EXACT = 1e-5
"""Of the largest value: so far the strips of a trial picture may be from the whole one."""


@dataclass(frozen=True, slots=True)
class Room:
    """Memory for what a pass holds."""

    free: int
    """Bytes that nobody has taken."""
    value_bytes: int = 4

    @classmethod
    def on_cpu(cls) -> Room:
        """Return what there is now, for values of float32: runtimes of narrower ones use them here and there."""
        return cls(free_memory())

    @property
    def values(self) -> float:
        """How many may be held."""
        return SHARE_OF_MEMORY * self.free / self.value_bytes


@dataclass(frozen=True, slots=True)
class Strip:
    """One strip, and what of its scores belongs to the whole; all counted in rows."""

    top: int
    """In the picture."""
    begin: int
    """In the strip's own scores."""
    end: int


@dataclass(frozen=True, slots=True)
class Strips:
    """How a picture goes through a network: whole, as a rule."""

    picture: Shape
    """Of all."""
    shape: Shape
    """Of what goes through at once."""
    each: tuple[Strip, ...] = ()
    """Empty: the picture goes through whole."""

    @classmethod
    def whole(cls, shape: Shape) -> Strips:
        """Return no strips."""
        return cls(shape, shape)

    @classmethod
    def cut(cls, shape: Shape, height: int, reach: int, stride: int) -> Strips:
        """Return strips of at most `height` rows, where the network reaches `reach` rows up and down.

        `height` and `reach` are multiples of GRANULE, as the picture's own height is; `stride`: rows of the input for
        each row of scores. ValueError when nothing of a strip would be left.
        """
        channels, whole, width = shape
        if height >= whole:
            return cls.whole(shape)
        if height <= 2 * reach:
            raise ValueError(f"{height} rows are too few where the network reaches {reach} up and down")
        count = math.ceil((whole - 2 * reach) / (height - 2 * reach))
        height = _multiple((whole - 2 * reach) / count) + 2 * reach
        each, done = [], 0
        for i in range(count):
            top = min(i * (height - 2 * reach), whole - height)
            end = whole if i == count - 1 else top + height - reach
            each.append(Strip(top, (done - top) // stride, (end - top) // stride))
            done = end
        return cls(shape, (channels, height, width), tuple(each))

    def whole_grid(self, grid: tuple[int, int]) -> tuple[int, int]:
        """Return the rows and columns of the whole picture's map, where one strip's has so many."""
        return grid[0] * self.picture[1] // self.shape[1], grid[1]

    def pass_through(self, picture: Map, network: Callable[[Map], Map], join: Callable[[list[Map], int], Map]) -> Map:
        """Return the map [..., h, w] that `network` makes of the whole `picture` [..., H, W].

        `join` puts several maps together along an axis.
        """
        if not self.each:
            return network(picture)
        height = self.shape[1]
        parts = (network(picture[..., one.top : one.top + height, :])[..., one.begin : one.end, :] for one in self.each)
        return join(list(parts), -2)


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a network sees."""

    rows: int
    """Of the input, up and down from a patch, rounded up to a multiple of GRANULE."""
    stride: int
    """Rows of the input for each row of its map."""


@dataclass(slots=True)
class Known:
    """What was found out about a network, once: it takes seconds."""

    values: float | None = None
    """That a pass holds for each pixel; 0: it takes no other size than its own."""
    reach: Reach | None = None
    is_sought: bool = False
    """Whether `reach` is what was found, be it nothing."""


_KNOWN: WeakKeyDictionary[nn.Module, dict[Hashable, Known]] = WeakKeyDictionary()


def known_of(backbone: nn.Module, kind: Hashable) -> Known:
    """Return what is known of the networks of one kind that stand on a backbone."""
    return _KNOWN.setdefault(backbone, {}).setdefault(kind, Known())


def find_strips(prepare: Callable[[], Network], shape: Shape, room: Room, known: Known | None = None) -> Strips:
    """Return how pictures of `shape` go through the network that `prepare` returns, where there is so much room.

    UsageError when not even the thinnest strip has room.
    """
    known = known or Known()
    _, height, width = shape
    if height * width <= FEW_PIXELS:
        return Strips.whole(shape)
    if known.values is None:
        try:
            known.values = values_a_pixel(prepare())
        except MADE_FOR_ONE_SIZE:
            known.values = 0.0
    needed = SPARE * known.values * width  # values for each row
    if room.values >= needed * height:
        return Strips.whole(shape)
    rows = room.values / needed
    if not known.is_sought:
        known.reach, known.is_sought = find_reach(prepare()), True
    reach = known.reach if height % GRANULE == 0 else None
    takes, free = (f"{size / 1e9:.1f} GB" for size in (needed * height * room.value_bytes, room.free))
    if reach is None:
        if rows >= SHARE_OF_MEMORY * height:  # it may do, and there is no other way
            return Strips.whole(shape)
        why, instead = "this network sees all of it at once", "a smaller --imagesize or another backbone"
        if height % GRANULE:
            why = f"{height} rows are no multiple of {GRANULE}"
            instead = f"an --imagesize of multiples of {GRANULE}, or a smaller one"
        raise UsageError(
            f"The network's input of {width}x{height} takes about {takes}, and {free} of memory are free; it cannot be "
            f"cut into strips, because {why}. Use {instead}."
        )
    thinnest = 2 * reach.rows + GRANULE
    if rows < thinnest:
        raise UsageError(
            f"The network's input of {width}x{height} takes about {takes}, even a strip of its {thinnest} rows "
            f"{needed * thinnest * room.value_bytes / 1e9:.1f} GB, and of the {free} of memory that are free half may "
            "be used. Calibrate with a smaller input (--imagesize, --pixels, a larger --smallest-defect), or inspect a "
            "part of the picture (--roi)."
        )
    return Strips.cut(shape, int(rows) // GRANULE * GRANULE, reach.rows, reach.stride)


@torch.inference_mode()
def find_reach(network: Network) -> Reach | None:
    """Return how far a network sees, or None when it sees everything, or its strips are not the whole's."""
    height = 2 * PROBED
    while height <= TALLEST:
        picture = torch.zeros(1, 3, height, NARROW)
        picture[:, :, height // 2 : height // 2 + GRANULE] = torch.nan
        try:
            found = network(picture)
        except MADE_FOR_ONE_SIZE:
            return None
        stride, rest = divmod(height, found.shape[-2])
        if rest or GRANULE % stride:
            return None
        spoilt = found.isnan().movedim(-2, 0).flatten(1).any(1).nonzero()[:, 0]
        if len(spoilt) == 0:
            return None
        first, last = int(spoilt[0]), int(spoilt[-1])
        if first > 0 and last < len(found.movedim(-2, 0)) - 1:
            rows = max(height // 2 - first * stride, (last + 1) * stride - height // 2 - GRANULE)
            reach = Reach(_multiple(rows), stride)
            return reach if _is_exact(network, reach) else None
        height *= 2
    return None


def _is_exact(network: Network, reach: Reach) -> bool:
    """Whether a picture of noise in strips is the whole picture."""
    shape = (3, 4 * reach.rows + 5 * GRANULE, NARROW)
    picture = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    whole = network(picture)
    strips = Strips.cut(shape, 2 * reach.rows + 2 * GRANULE, reach.rows, reach.stride)
    there = strips.pass_through(picture, network, torch.cat)
    return bool((there - whole).abs().max() <= EXACT * whole.abs().max())


# Memory


def values_a_pixel(network: Network) -> float:
    """Return how many values a pass holds at its fullest, for each pixel of the input."""
    picture = torch.zeros(1, 3, PROBED, PROBED)
    with torch.inference_mode(), _Held() as held:
        network(picture)
    return float(held.most / PROBED**2)


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
        weakref.finalize(storage, self._forget, key, values)

    def _forget(self, key: int, values: int) -> None:
        self._known.discard(key)
        self._now -= values


def free_memory() -> int:
    """Return how many bytes a program may still take here: the machine's, or its control group's if fewer."""
    free: int = psutil.virtual_memory().available
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text(encoding="ascii"))
        used = int((group / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):  # no control group of version 2, or "max"
        return free
    return max(0, min(free, limit - used))


def _multiple(rows: float) -> int:
    return math.ceil(rows / GRANULE) * GRANULE
