"""What is wrong with the pictures of a capture, said while the person still stands at the camera.

Nothing is refused here. A near-copy of a picture that was already taken is marked, since two hundred pictures
of one still part are one picture; everything else is advice with the way to mend it.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inspectd.records import Picture

THUMBNAIL = (32, 24)
"""Width and height of what is compared with all earlier pictures: averages sensor noise away."""
STILL = 2.0
"""Largest difference of a thumbnail's pixel, in grey levels of 255, once brightness is made equal, that is still
the same scene. Sensor noise of 10 levels moves a thumbnail of a 640x480 picture by 0.5."""
COMPARED = 500
"""With so many of the latest pictures each is compared, so that a long video takes no longer for each."""
FLICKER = 0.1
"""Relative change of contrast that a flickering light may cause in a still scene."""
CLIPPED = 0.5
"""Share of the pixels at black or white that is too much; a white table behind a part may take a third of it."""
DARK, BRIGHT = 25.0, 235.0
"""Mean grey level below or above which hardly anything can be seen."""
SOFT = 0.5
"""A picture with less than this share of the usual sharpness of the capture is blurred."""
DRIFT = 0.12
"""Relative change of brightness or of a colour's share between the first and the latest pictures."""
FEWEST_TO_COMPARE = 8
SAY_AGAIN_AFTER = 25
"""Pictures between two sentences of one kind."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen in one picture."""

    is_repeat: bool
    """The scene stands still: a near-copy of a picture that was already taken."""
    warnings: tuple[str, ...]
    """Sentences for the person at the camera; each kind is not said again for a while."""


@dataclass(frozen=True, slots=True)
class _Facts:
    thumbnail: NDArray[np.float32]  # [h, w], mean 0
    contrast: float  # standard deviation of the thumbnail
    mean: float
    dark: float
    bright: float
    sharpness: float
    colour: tuple[float, float, float]  # shares of blue, green, red


class CaptureChecks:
    """Looks at the pictures of one capture, one after another."""

    def __init__(self, white_level: int = 65535) -> None:
        self._white_level = white_level
        self._taken: list[_Facts] = []
        self._troubles: defaultdict[str, list[str]] = defaultdict(list)
        self._last_said: dict[str, int] = {}

    def look(self, picture: Picture, name: str) -> Look:
        """Check a picture; one that is no repeat counts as taken."""
        facts = self._facts(picture)
        if self._is_known(facts):
            return Look(True, ())
        found = self._troubles_of(facts)
        self._taken.append(facts)
        said = []
        for kind, sentence in found.items():
            self._troubles[kind].append(name)
            if len(self._taken) - self._last_said.get(kind, -SAY_AGAIN_AFTER) >= SAY_AGAIN_AFTER:
                self._last_said[kind] = len(self._taken)
                said.append(f"{name}: {sentence}")
        return Look(False, tuple(said))

    @property
    def scenes(self) -> int:
        """How many pictures were no near-copies of others."""
        return len(self._taken)

    def summary(self) -> list[str]:
        """Return a sentence for each kind of trouble, with how many pictures have it."""
        return [
            f"{len(names)} of {len(self._taken)} pictures: {_SUMMARIES[kind]} The first is {names[0]}."
            for kind, names in self._troubles.items()
        ]

    def _facts(self, picture: Picture) -> _Facts:
        scale = 255.0 if picture.dtype == np.uint8 else float(self._white_level)
        step = max(1, min(picture.shape[:2]) // 480)
        small = picture[::step, ::step].astype(np.float32) * (255.0 / scale)
        grey = small if small.ndim == 2 else cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
        thumbnail = np.asarray(cv2.resize(grey, THUMBNAIL, interpolation=cv2.INTER_AREA), np.float32)
        channels = (
            [1 / 3] * 3 if small.ndim == 2 else (small.mean((0, 1)) / max(1e-6, float(small.sum(2).mean()))).tolist()
        )
        return _Facts(
            thumbnail - thumbnail.mean(),
            float(thumbnail.std()) + 1e-3,
            float(grey.mean()),
            float((grey <= 2).mean()),
            float((grey >= 253).mean()),
            self._sharpness(picture),
            (channels[0], channels[1], channels[2]),
        )

    def _sharpness(self, picture: Picture) -> float:
        """Return how much fine detail the middle of the picture has, for its contrast."""
        height, width = picture.shape[:2]
        h, w = min(height, 512), min(width, 512)
        top, left = (height - h) // 2, (width - w) // 2
        cut = picture[top : top + h, left : left + w].astype(np.float32)
        grey = cut if cut.ndim == 2 else cv2.cvtColor(cut, cv2.COLOR_BGR2GRAY)
        fine = np.asarray(cv2.Laplacian(grey, cv2.CV_32F))
        return float(np.percentile(np.abs(fine), 99)) / (float(grey.std()) + 1e-3)

    def _is_known(self, facts: _Facts) -> bool:
        if not self._taken:
            return False
        lately = self._taken[-COMPARED:]
        gains = np.array([facts.contrast / one.contrast for one in lately])
        gains[abs(gains - 1) > FLICKER] = 1.0  # more than flicker: another picture
        known = np.stack([one.thumbnail for one in lately]) * gains[:, None, None]  # [n, h, w]
        furthest = np.abs(known - facts.thumbnail).max(axis=(1, 2))
        return bool(furthest.min() < STILL)

    def _troubles_of(self, facts: _Facts) -> dict[str, str]:
        found = {}
        if facts.mean < DARK or facts.dark > CLIPPED:
            found["dark"] = f"it is very dark ({facts.dark:.0%} of it is black); more light, exposure or gain."
        if facts.mean > BRIGHT or facts.bright > CLIPPED:
            found["bright"] = f"it is overexposed ({facts.bright:.0%} of it is white); less light, exposure or gain."
        usual = statistics.median([one.sharpness for one in self._taken[-COMPARED:]] or [0.0])
        if len(self._taken) >= FEWEST_TO_COMPARE and facts.sharpness < SOFT * usual:
            found["blurred"] = (
                f"it is blurred ({facts.sharpness / usual:.0%} of the usual sharpness); focus, or a shorter exposure "
                "if the part moves."
            )
        if len(self._taken) >= 2 * FEWEST_TO_COMPARE:
            found |= self._drift()
        return found

    def _drift(self) -> dict[str, str]:
        first, latest = self._taken[:FEWEST_TO_COMPARE], self._taken[-FEWEST_TO_COMPARE:]
        before, after = (statistics.median(one.mean for one in part) for part in (first, latest))
        if abs(after - before) > DRIFT * max(before, 1.0):
            return {
                "brightness": f"brightness has drifted from {before:.0f} to {after:.0f} since the start; fix exposure "
                "and gain (automatic exposure hides defects), and shield the light."
            }
        for i, colour in enumerate(("blue", "green", "red")):
            share, now = (statistics.median(one.colour[i] for one in part) for part in (first, latest))
            if abs(now - share) > DRIFT * max(share, 1e-6):
                return {
                    "colour": f"the share of {colour} has drifted by {now / share - 1:+.0%}; fix the white balance."
                }
        return {}


_SUMMARIES = {
    "dark": "very dark.",
    "bright": "overexposed.",
    "blurred": "much less sharp than the others.",
    "brightness": "taken while the brightness had drifted; fix exposure and gain.",
    "colour": "taken while the colours had drifted; fix the white balance.",
}
