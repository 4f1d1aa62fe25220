"""Which part of a picture is inspected, and what the network's input looks like."""

from __future__ import annotations

from dataclasses import dataclass

from inspectd.records import Rect

Channels = tuple[float, float, float]
"""One value for each of red, green and blue."""
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
FULL_SCALE = 255.0


@dataclass(frozen=True, slots=True)
class Geometry:
    """Which rectangle of a picture is inspected, and the network's input size that it is brought to.

    `roi` is in pixels of a picture of `picture` (w, h); a picture of another size has it scaled. None: all.
    `resize`: the published way: the shorter side becomes so many pixels, and the centre is cropped. None: the
    whole region is resized, and nothing of it stays uninspected.
    """

    height: int
    width: int
    roi: Rect | None = None
    picture: tuple[int, int] | None = None
    resize: int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether all of a picture is inspected, whatever its size."""
        return self.roi is None and self.resize is None

    def area(self, width: int, height: int) -> Rect:
        """Return the inspected rectangle of a picture of `width` × `height`, at least one pixel, inside it."""
        x, y, w, h = self.region(width, height)
        if self.resize is None:
            return (x, y, w, h)
        down, across = self.scaled_size(w, h)
        top, left = self.corner(down, across)
        x0, y0 = x + min(round(left * w / across), w - 1), y + min(round(top * h / down), h - 1)
        x1, y1 = x + round((left + self.width) * w / across), y + round((top + self.height) * h / down)
        return (x0, y0, max(1, x1 - x0), max(1, y1 - y0))

    def region(self, width: int, height: int) -> Rect:
        """Return the ROI in pixels of a picture of `width` × `height`, before any centre crop."""
        if self.roi is None:
            return (0, 0, width, height)
        x, y, w, h = self.roi
        across, down = (1.0, 1.0) if self.picture is None else (width / self.picture[0], height / self.picture[1])
        left, top = min(round(x * across), width - 1), min(round(y * down), height - 1)
        right = max(left + 1, min(round((x + w) * across), width))
        bottom = max(top + 1, min(round((y + h) * down), height))
        return (left, top, right - left, bottom - top)

    def scaled_size(self, width: int, height: int) -> tuple[int, int]:
        """Return height and width that a region of `width` × `height` is resized to, before any crop."""
        if self.resize is None:
            return (self.height, self.width)
        shorter, longer = sorted((width, height))
        long_side = int(self.resize * longer / shorter)
        return (self.resize, long_side) if height <= width else (long_side, self.resize)

    def corner(self, down: int, across: int) -> tuple[int, int]:
        """Return top and left of the centre crop in a resized region of `down` × `across` pixels."""
        return round((down - self.height) / 2), round((across - self.width) / 2)
