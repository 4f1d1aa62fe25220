"""The good parts, brought to the network's input and kept in memory, in the order in which they were seen."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibrate.data.augment import Augmentation
from inspectd.errors import UsageError
from inspectd.model.framing import shrink, tint
from inspectd.model.geometry import Geometry
from inspectd.model.glance import Small
from inspectd.model.ignored import Ignored
from inspectd.model.optics import Lens, Places, end_spread, look_through, places
from inspectd.records import Picture, Rect
from inspectd.simplenet.preprocess import crop, scale

FEWEST_PICTURES = 8
MOST_UNREADABLE = 0.05


@dataclass(slots=True)
class Pictures:
    """`features.Inputs` of pictures that were decoded once, when they were added."""

    geometry: Geometry
    """Decided by the first picture, where `sized` says how."""
    white_level: int = 65535
    ignored: Ignored | None = None
    """What of the pictures is left out; they are all of one size then."""
    rois: tuple[Rect, ...] = ()
    """Where each picture is learned from, if in several places: each of them counts as a picture here."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """Drawn anew each time a picture is loaded for training."""
    generator: torch.Generator = field(default_factory=torch.Generator)
    """What the augmentation draws from."""
    names: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    """Names of the pictures that were taken; with several places fewer than `names`."""
    raw: list[Picture] = field(default_factory=list)
    """The first few as the camera gave them, for the parity gate."""
    size: tuple[int, int] = (0, 0)
    """Width and height of the first picture."""
    smalls: list[Small] = field(default_factory=list)
    """What the fingerprint of the framing is learned from."""
    tints: list[Small] = field(default_factory=list)
    """What that of the colours is learned from."""
    places: list[Places] = field(default_factory=list)
    """Brightness, place by place, of what is inspected of each picture."""
    lenses: list[Lens | None] = field(default_factory=list)
    """Its noise and sharpness."""
    sized: Callable[[tuple[int, int]], Geometry] | None = None
    """Width and height of the first picture to the geometry of all; None: `geometry` is it."""
    sizes: set[tuple[int, ...]] = field(default_factory=set)
    """Heights and widths that occurred."""
    end_spreads: list[float] = field(default_factory=list)
    """Of each picture: how much the pixels of its last row differ."""
    copies: dict[int, tuple[str, str]] = field(default_factory=dict)
    """By position: name of a picture that is bit for bit an earlier one, and that one's name."""
    _known: dict[bytes, str] = field(default_factory=dict)
    _scaled: list[Tensor] = field(default_factory=list)
    """uint8 or float32 [3, h, w], 0 … 255: resized, not yet cropped."""
    _digests: list[bytes] = field(default_factory=list)

    KEPT_RAW = 4

    def __len__(self) -> int:
        """How many there are."""
        return len(self._scaled)

    def add(self, picture: Picture, name: str) -> None:
        """Take one picture (it is copied), in all its places."""
        self.fit_to(picture)
        self.take(picture, [scale(picture, where, self.white_level) for where in self._places()], name)

    def _places(self) -> list[Geometry]:
        return [replace(self.geometry, roi=roi) for roi in self.rois] or [self.geometry]

    def fit_to(self, picture: Picture) -> None:
        """Let the first picture decide the geometry, where it is not decided; UsageError when none is right."""
        if self.sized is not None:
            self.geometry, self.sized = self.sized((picture.shape[1], picture.shape[0])), None

    def take(self, picture: Picture, scaled: Sequence[Tensor], name: str) -> None:
        """Take one picture that `preprocess.scale` has brought to our geometry already, once for each place."""
        height, width = picture.shape[:2]
        if not self._scaled:
            self.size = (width, height)
        if self.ignored is not None and self.size != (width, height):
            raise UsageError(
                f"What is ignored is for pictures of one size; {name} has {width}x{height}, the first one "
                f"{self.size[0]}x{self.size[1]}. Nothing was changed."
            )
        digest = fingerprint(picture)
        if digest in self._known:
            self.copies[len(self)] = (name, self._known[digest])
        self._known.setdefault(digest, name)
        self.smalls.append(shrink(picture))
        self.tints.append(tint(picture))
        self.sizes.add(picture.shape[:2])
        self.end_spreads.append(end_spread(picture))
        self.taken.append(name)
        self._digests.append(digest)
        for number, (pixels, where) in enumerate(zip(scaled, self._places(), strict=True), start=1):
            area = where.area(width, height)
            self._scaled.append(pixels.clone())
            self.places.append(places(picture, area, self.white_level))
            self.lenses.append(look_through(picture, area, self.white_level))
            self.names.append(f"{name} [{number}]" if number > 1 else name)
        if len(self.raw) < self.KEPT_RAW:
            self.raw.append(picture.copy())

    def drop(self, position: int) -> None:
        """Leave out a picture that was taken, in all its places."""
        for kept in (self.taken, self.smalls, self.tints, self.end_spreads, self._digests):
            del kept[position]
        each = max(1, len(self.rois))
        for of_places in (self.names, self.places, self.lenses, self._scaled):
            del of_places[position * each : (position + 1) * each]
        self.copies = {i - (i > position): names for i, names in self.copies.items() if i != position}

    def copy_of(self, picture: Picture) -> str | None:
        """Return the name of a picture that is bit for bit this one, or None."""
        return self._known.get(fingerprint(picture))

    def input(self, position: int) -> Tensor:
        """Return one picture as the network judges it, float32 [3, H, W], 0 … 255: never augmented."""
        return crop(self._scaled[position], self.geometry).float()

    def load(self, positions: Sequence[int]) -> Tensor:
        """Return float32 [b, 3, H, W], 0 … 255, of the pictures at `positions`, augmented."""
        chosen = (self.augmentation(self._scaled[i], self.generator) for i in positions)
        return torch.stack([crop(pixels, self.geometry).float() for pixels in chosen])

    def seen(self, grid: tuple[int, int]) -> NDArray[np.bool_] | None:
        """Return which patches of a grid [h, w] are inspected; None: all."""
        return self.ignored.seen(self.geometry.area(*self.size), grid, self.size) if self.ignored is not None else None

    @property
    def digest(self) -> str:
        """SHA-256 over the fingerprints of all pictures in order."""
        return hashlib.sha256(b"".join(self._digests)).hexdigest()

    def statistics(self) -> dict[str, float]:
        """Return grey levels and contrast (0 … 255) of the pictures, how many sizes there are, the evenest last row."""
        means = torch.stack([pixels.float().mean() for pixels in self._scaled])
        spreads = torch.stack([pixels.float().std() for pixels in self._scaled])
        return {
            "grey_mean": float(means.mean()),
            "grey_lowest": float(means.min()),
            "grey_highest": float(means.max()),
            "contrast_mean": float(spreads.mean()),
            "sizes": float(len(self.sizes)),
            "end_spread": min(self.end_spreads),
        }


def fingerprint(picture: Picture) -> bytes:
    """Return what only a copy shares with a picture."""
    return hashlib.blake2b(f"{picture.shape}{picture.dtype}".encode() + picture.tobytes(), digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class Chosen:
    """Some of the pictures, as `features.Inputs`."""

    pictures: Pictures
    positions: Sequence[int]

    def __len__(self) -> int:
        """How many there are."""
        return len(self.positions)

    def load(self, positions: Sequence[int]) -> Tensor:
        """Return [b, 3, H, W]; `positions` count within the chosen ones."""
        return self.pictures.load([self.positions[i] for i in positions])


def check_enough(usable: int, left_out: Sequence[str], where: str, copies: int = 0) -> None:
    """Refuse a set of pictures of which too many are unreadable, or too few are left (UsageError).

    `copies`: how many were left out because they are bit for bit others.
    """
    total = usable + len(left_out)
    if len(left_out) > MOST_UNREADABLE * total:
        raise UsageError(
            f"{len(left_out)} of {total} pictures of {where} cannot be read, more than {MOST_UNREADABLE:.0%}; the "
            f"first is {left_out[0]} Nothing was changed."
        )
    if usable < FEWEST_PICTURES:
        there = "is 1 usable picture" if usable == 1 else f"are {usable} usable pictures"
        but = f" ({copies} more are exact copies of them, which teach nothing)" if copies else ""
        raise UsageError(
            f"There {there} of good parts in {where}{but}; expected at least {FEWEST_PICTURES} of different parts, "
            "and better 60 or more."
        )
