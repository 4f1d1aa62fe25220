"""A picture that is too large for memory, in strips that overlap: their scores are the whole picture's.

A convolutional network sees around each patch as far as it reaches and no farther. So a strip that is cut out of the
picture has the very scores of the whole, but for the patches that are nearer than that to where it was cut. How far a
network reaches is found out, not assumed: a few rows of NaN spoil what they reach, and everything else stays finite.
One that reaches everywhere (attention, a mean over the picture) cannot be cut, and neither can a picture whose height
is no multiple of 32: its strips would lie elsewhere on the grids of the deeper layers.

All strips of a picture are alike in size, so that one compiled network does for all.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from inspectd.engine.memory import SHARE_OF_MEMORY, Room, values_held
from inspectd.errors import UsageError

LOG = logging.getLogger(__name__)
Shape = tuple[int, int, int]
"""Channels, height and width of the network's input."""
Network = Callable[[Tensor], Tensor]
"""Pictures [1, 3, H, W] to a map [1, …, h, w] of their patches, in float32 on the CPU."""
Map = TypeVar("Map", bound=Any)
"""A tensor or an array."""

FEW_PIXELS = 500_000
"""No machine on which torch runs is too small for so many."""
SPARE = 1.5
"""Times what a pass was seen to hold: runtimes copy weights and inputs into an order of their own."""
GRANULE = 32
"""Rows; whole cells on the grids of all layers."""
PROBED = 256
"""Rows and columns of the picture that memory is measured with."""
NARROW = 32
"""Columns of the pictures that the reach is found with."""
TALLEST = 4096
"""Rows of the tallest of them."""
TALL_TRIAL = 1024
"""Rows, at least, of the picture of noise that strips are tried on."""
LOUD = 30.0
"""How many times as strong as elsewhere the noise is in its middle, when they are tried once more: a network may
decide something far away by a comparison."""
EXACT = 1e-5
"""Largest difference between strips of that picture and the whole, as a share of the largest value."""
ALL_AT_ONCE = "this network sees all of it at once"


@dataclass(frozen=True, slots=True)
class Strip:
    """One strip, and what of its map belongs to the whole; all counted in rows."""

    top: int
    """In the picture."""
    begin: int
    """In the strip's own map: the first row that is kept."""
    end: int
    """The first one behind those."""


@dataclass(frozen=True, slots=True)
class Strips:
    """How a picture goes through a network: whole, as a rule."""

    picture: Shape
    """Of the whole picture."""
    shape: Shape
    """Of what goes through at once."""
    each: tuple[Strip, ...] = ()
    """None: the picture goes through whole."""

    @classmethod
    def whole(cls, shape: Shape) -> Strips:
        """Return no strips."""
        return cls(shape, shape)

    @classmethod
    def cut(cls, shape: Shape, height: int, reach: int, stride: int) -> Strips:
        """Return strips of at most `height` rows, where the network reaches `reach` rows up and down.

        `height` and `reach` are multiples of GRANULE, as the picture's own height is; `stride`: rows of the input for
        each row of the map. ValueError when nothing of a strip would be left.
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

    def pass_through(self, picture: Map, network: Callable[[Map], Map]) -> Map:
        """Return the map [..., h, w] that `network` makes of the whole `picture` [..., H, W]; one strip's at a time."""
        if not self.each:
            return network(picture)
        whole, done = None, 0
        for one in self.each:
            part = network(picture[..., one.top : one.top + self.shape[1], :])
            if whole is None:
                whole = _like(part, (*part.shape[:-2], *self.whole_grid(part.shape[-2:])))
            whole[..., done : done + one.end - one.begin, :] = part[..., one.begin : one.end, :]
            done += one.end - one.begin
        assert whole is not None
        if done != whole.shape[-2]:  # else rows that nothing was written to would be scored
            raise ValueError(f"strips have {done} of the {whole.shape[-2]} rows of a map")
        return whole


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

    held: float | None = None
    """Values in a pass, at the most, for each pixel; 0: it takes no other size than its own."""
    made: float = 0.0
    """Values of its map for each pixel."""
    reach: Reach | str | None = None
    """Text: why it cannot be cut."""

    def at_once(self, strips: Strips, room: Room, most: int) -> int:
        """Return how many pictures have room beside each other, `most` at most and one at least."""
        _, height, width = strips.shape
        if not self.held:
            return most
        return max(1, min(most, int(room.values / (SPARE * self.held * height * width))))


_KNOWN: WeakKeyDictionary[nn.Module, dict[Hashable, Known]] = WeakKeyDictionary()


def known_of(backbone: nn.Module, kind: Hashable) -> Known:
    """Return what is known of the networks of one kind that stand on a backbone."""
    return _KNOWN.setdefault(backbone, {}).setdefault(kind, Known())


def is_small(shape: Shape) -> bool:
    """Whether pictures of a shape go through whole, whatever memory there is."""
    return shape[1] * shape[2] <= FEW_PIXELS


def find_strips(prepare: Callable[[], Network], shape: Shape, room: Room, known: Known | None = None) -> Strips:
    """Return how pictures of `shape` go through the network that `prepare` returns, where there is so much room.

    UsageError when not even the thinnest strip has room.
    """
    _, height, width = shape
    if is_small(shape):
        return Strips.whole(shape)
    known = known or Known()
    if known.held is None:
        known.held, known.made = _measured(prepare)
    maps = 2 * known.made * height * width  # the map of all, beside what is made of it
    left = room.values - maps
    needed = SPARE * known.held * width  # values for each row
    if left >= needed * height:
        return Strips.whole(shape)
    if known.reach is None:
        known.reach = find_reach(prepare())
    takes, free = (f"{size / 1e9:.1f} GB" for size in ((needed * height + maps) * room.value_bytes, room.free))
    if isinstance(known.reach, str) or height % GRANULE:
        if room.values >= SHARE_OF_MEMORY * needed * height:  # it may do, and there is no other way
            return Strips.whole(shape)
        why, instead = known.reach, "a smaller --imagesize or another backbone"
        if not isinstance(why, str):
            why = f"{height} rows are no multiple of {GRANULE}"
            instead = f"an --imagesize of multiples of {GRANULE}, or a smaller one"
        raise UsageError(
            f"The network's input of {width}x{height} takes about {takes}, and {free} of memory are free; it cannot be "
            f"cut into strips, because {why}. Use {instead}."
        )
    rows, thinnest = left / needed, 2 * known.reach.rows + GRANULE
    if rows < thinnest:
        raise UsageError(
            f"The network's input of {width}x{height} takes about {takes}, even a strip of its {thinnest} rows "
            f"{(needed * thinnest + maps) * room.value_bytes / 1e9:.1f} GB, and of the {free} of memory that are free "
            "half may be used. Calibrate with a smaller input (--imagesize, --pixels, a larger --smallest-defect), or "
            "inspect a part of the picture (--roi)."
        )
    return Strips.cut(shape, int(rows) // GRANULE * GRANULE, known.reach.rows, known.reach.stride)


def _measured(prepare: Callable[[], Network]) -> tuple[float, float]:
    """Return how many values a pass holds at most, and its map has, for each pixel; 0: it takes one size only."""
    try:
        network, picture = prepare(), torch.zeros(1, 3, PROBED, PROBED)
        with torch.inference_mode():
            made = network(picture).numel()
        return values_held(network, picture) / PROBED**2, made / PROBED**2
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - a foreign network says in its own way that it wants another size
        LOG.info("a network takes no pictures of %dx%d (%s): its memory is not measured", PROBED, PROBED, error)
        return 0.0, 0.0


@torch.inference_mode()
def find_reach(network: Network) -> Reach | str:
    """Return how far a network sees, or why no strips of it are the whole's."""
    height = 2 * PROBED
    while height <= TALLEST:
        picture = torch.zeros(1, 3, height, NARROW)
        picture[:, :, height // 2 : height // 2 + GRANULE] = torch.nan
        try:
            found = network(picture)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - as above
            LOG.info("a network takes no pictures of %dx%d (%s): it is not cut", NARROW, height, error)
            return "this network takes pictures of one size only"
        stride, rest = divmod(height, found.shape[-2])
        if rest or GRANULE % stride:
            return f"{GRANULE} rows are no whole number of its patches"
        spoilt = found.isnan().movedim(-2, 0).flatten(1).any(1).nonzero()[:, 0]
        if len(spoilt) == 0:
            return "how far this network sees does not show"
        first, last = int(spoilt[0]), int(spoilt[-1])
        if first > 0 and last < found.shape[-2] - 1:
            rows = max(height // 2 - first * stride, (last + 1) * stride - height // 2 - GRANULE)
            reach = Reach(_multiple(rows), stride)
            return reach if _is_exact(network, reach) else "strips of this network are not the whole"
        height *= 2
    return ALL_AT_ONCE


def _is_exact(network: Network, reach: Reach) -> bool:
    """Whether a picture of noise in strips is the whole picture, and one with a loud band in its middle."""
    shape = (3, max(TALL_TRIAL, 4 * reach.rows + 5 * GRANULE), NARROW)
    strips = Strips.cut(shape, 2 * reach.rows + 2 * GRANULE, reach.rows, reach.stride)
    picture = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    for loudness in (1.0, LOUD):
        picture[:, :, shape[1] // 2 - GRANULE : shape[1] // 2] *= loudness
        whole = network(picture)
        difference = (strips.pass_through(picture, network) - whole).abs().max()
        if not difference <= EXACT * whole.abs().max():
            return False
    return True


def _like(part: Map, shape: tuple[int, ...]) -> Map:
    """Return room for values of the same kind."""
    return cast("Map", part.new_empty(shape) if isinstance(part, Tensor) else np.empty(shape, part.dtype))


def _multiple(rows: float) -> int:
    return math.ceil(rows / GRANULE) * GRANULE
