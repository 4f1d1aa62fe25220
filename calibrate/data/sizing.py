"""How large the network's input is: as large as it helps, never larger than the pictures, and of their shape."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from inspectd.cameras.image_files import size_of
from inspectd.errors import UsageError

Size = tuple[int, int]
"""Width and height, in pixels."""
PIXELS = 200_000
"""About 448 × 448. Twice as many take twice the time; what they find was measured (tests/benchmarks/README.md)."""
FEWEST = 20_000
"""Smaller pictures are enlarged to so many, or the network has too few patches to tell."""
STEP = 0.75
"""Between one number of pixels and the next smaller one: few steps, so that a machine's mood does not decide."""
MOST = 20_000_000
MULTIPLE = 32
"""Of the sides: whole patches in every layer that is used."""
LONGEST = 8192
COVERED = 1.5
"""Patches of the finest layer that the smallest defect must cover, across."""
LARGEST_SCALE = 4.0
"""Enlarging a picture further shows nothing new."""


@dataclass(frozen=True, slots=True)
class Sizing:
    """What a person asked for."""

    pixels: int | None = None
    """About so many; None: PIXELS, or fewer where a deadline asks for it."""
    size: Size | None = None
    """Exactly this."""
    smallest_defect: float | None = None
    """Across, in pixels of the pictures: it decides how many pixels there are."""

    @property
    def is_asked(self) -> bool:
        """Whether a person chose the size in any way."""
        return (self.pixels, self.size, self.smallest_defect) != (None, None, None)

    def below(self, wanted: float) -> Sizing | None:
        """Return the largest step that has at most so many pixels; None: there is none."""
        pixels = PIXELS
        while pixels > wanted:
            pixels = round(pixels * STEP)
        return replace(self, pixels=pixels) if pixels >= FEWEST else None

    def input_size(self, region: Size, stride: int) -> Size:
        """Return the input's width and height for an inspected region; `stride`: of the finest layer, in pixels.

        UsageError when what was asked for cannot be.
        """
        if self.size is not None:
            if self.size[0] * self.size[1] > MOST:
                raise UsageError(
                    f"--imagesize is {self.size[0]} {self.size[1]}; expected at most {MOST / 1e6:g} million pixels."
                )
            return self.size
        width, height = region
        if self.smallest_defect is None:
            largest = max(1.0, math.sqrt(FEWEST / (width * height)))
            scale = min(largest, math.sqrt((self.pixels or PIXELS) / (width * height)), LONGEST / max(region))
            return _rounded(region, scale, round)
        scale = COVERED * stride / self.smallest_defect
        if self.smallest_defect > min(region):
            raise UsageError(
                f"--smallest-defect is {self.smallest_defect:g} pixels, and the inspected picture has only "
                f"{width}x{height}; expected how many pixels of the picture the smallest defect that matters is across."
            )
        if scale > LARGEST_SCALE:
            raise UsageError(
                f"--smallest-defect is {self.smallest_defect:g} pixels, too few to be told from noise; expected at "
                f"least {COVERED * stride / LARGEST_SCALE:g}. Bring the camera nearer, or use one with more pixels."
            )
        size = _rounded(region, scale, math.ceil)
        if size[0] * size[1] > MOST or max(size) > LONGEST:
            raise UsageError(
                f"To show a defect of {self.smallest_defect:g} pixels, the network's input would be "
                f"{size[0]}x{size[1]}, more than {MOST / 1e6:g} million pixels or {LONGEST} on a side; give a larger "
                "--smallest-defect, or inspect a part of the picture (--roi)."
            )
        return size


def _rounded(region: Size, scale: float, how: Callable[[float], int]) -> Size:
    width, height = (max(MULTIPLE, how(side * scale / MULTIPLE) * MULTIPLE) for side in region)
    return width, height


def typical_size(paths: Sequence[Path]) -> Size | None:
    """Return the median width and height of picture files, without decoding them; None if none has any."""
    sizes = [size for path in paths if (size := size_of(path)) is not None]
    if not sizes:
        return None
    return round(median(w for w, _ in sizes)), round(median(h for _, h in sizes))
