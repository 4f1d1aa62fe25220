"""What the model withstands: held-out good parts, disturbed as a line disturbs them, and where to say *equipment*.

Beyond what is withstood a good part would be rejected although nothing is wrong with it. So the limits of light, noise
and sharpness (`inspectd.model.optics`) lie between the last amount that is withstood and the first one that is not, or
at the last that was tried, and beyond what anything usual does in any case; the daemon then answers `fault: picture`.
Where good pictures differ among themselves by as much, no limit could tell, and there is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from torch import Tensor

from calibrate.data.disturbance import DISTURBANCES, Disturbance, Kind
from calibrate.data.training_set import Pictures
from inspectd.line.judge import exceeds
from inspectd.model import optics
from inspectd.model.optics import Limits, Optics, limits_of
from inspectd.records import Picture as Levels

Numbers = dict[str, float | None]
"""Light, noise and sharpness of one picture."""
DISTURBED = 20
"""So many held-out pictures are disturbed, in each way."""
MORE = 2
"""Times as many rejects as of the same parts undisturbed are still withstood; one always is."""
TELLING = 0.5
"""A limit must lie this far outside the good pictures' range, as a share of it; else it tells nothing."""
EDGES_LEFT = 0.5
"""Of the good pictures' fewest: with less, an edge that all of them have is gone."""
LEAST = {"light": 0.03, "noise": 1.0, "sharpness": 0.02}
"""And at least so far."""


@dataclass(frozen=True, slots=True)
class Withstood:
    """One disturbance of some held-out good parts."""

    disturbance: Disturbance
    of: int
    rejected: int
    undisturbed: int
    """Of the same parts as they are, those that are rejected."""

    @property
    def holds(self) -> bool:
        """Whether good parts stay good."""
        return self.rejected <= max(1, MORE * self.undisturbed)


def chosen_of(held_out: Sequence[int]) -> list[int]:
    """Return which held-out pictures are disturbed: evenly over time."""
    count = min(DISTURBED, len(held_out))
    return [held_out[n * len(held_out) // count] for n in range(count)]


def disturbed_inputs(pictures: Pictures, position: int) -> Iterator[Tensor]:
    """Yield one picture under each disturbance, float32 [3, H, W] as the network judges it."""
    draws = np.random.default_rng(position)
    region = pictures.geometry.region(*pictures.size)
    scale = pictures.geometry.scaled_size(region[2], region[3])[1] / region[2]
    bgr = np.ascontiguousarray(pictures.input(position).permute(1, 2, 0).numpy()[..., ::-1])
    for disturbance in DISTURBANCES:
        changed = np.rint(disturbance(bgr, scale, draws))
        yield torch.from_numpy(np.ascontiguousarray(changed[..., ::-1])).permute(2, 0, 1)


def withstood_of(
    threshold: float, good: Mapping[int, float], disturbed: Mapping[int, Sequence[float]]
) -> list[Withstood]:
    """Return what a threshold withstands, from scores of some pictures as they are, and under each disturbance."""
    if not disturbed:
        return []
    undisturbed = sum(exceeds(good[i], threshold) for i in disturbed)
    rejected = [sum(exceeds(s, threshold) for s in under) for under in zip(*disturbed.values(), strict=True)]
    return [
        Withstood(disturbance, len(disturbed), count, undisturbed)
        for disturbance, count in zip(DISTURBANCES, rejected, strict=True)
    ]


def find_optics(
    pictures: Pictures, usable: Sequence[int], withstood: Sequence[Withstood], light_varies: float = 0.0
) -> Optics:
    """Return light and lens of the good pictures, with limits where what is withstood says where they lie.

    `usable`: positions of those that do not look unlike the rest. `light_varies`: a share that is usual whatever is
    withstood, because a person said so.
    """
    seen_places = [pictures.places[i] for i in usable]
    middle = np.asarray(np.median(np.stack(seen_places), axis=0), np.float32)
    light = [optics.brighter(one, middle) for one in seen_places]
    lenses = [lens for i in usable if (lens := pictures.lenses[i]) is not None]
    seen = _Effects(pictures, usable)
    edges = [lens.edges for lens in lenses]
    stand_out = bool(lenses) and all(lens.sharpness is not None for lens in lenses)

    def limits(name: str, good: Sequence[float], lower: Kind | None, upper: Kind | None) -> Limits:
        if not good:
            return Limits(0.0, 0.0)
        margin = max(LEAST[name], TELLING * (max(good) - min(good)))
        varies = light_varies if name == "light" else 0.0
        usual = float(np.median(good))

        def limit(kind: Kind | None, sign: int, outermost: float) -> float | None:
            if kind is None:
                return None
            always = max(varies, seen.usual(name, sign))
            return _limit(sign * usual, sign * outermost, seen.by(name, kind, withstood, sign), margin, always)

        below, above = limit(lower, -1, min(good)), limit(upper, 1, max(good))
        return limits_of(good, None if below is None else -below, above)

    return Optics(
        tuple(int(v) for v in np.rint(10 * middle)),
        limits("light", light, Kind.DARKER, Kind.BRIGHTER),
        limits("noise", [lens.noise for lens in lenses], None, Kind.NOISIER),
        limits("sharpness", [lens.sharpness for lens in lenses if lens.sharpness is not None], Kind.BLURRED, None),
        limits_of(edges or [0.0], EDGES_LEFT * min(edges) if stand_out else None, None),
    )


def _limit(usual: float, outermost: float, steps: Sequence[_Step], margin: float, always: float) -> float | None:
    """Return up to where a number may rise from where it usually is, by how much each amount of a disturbance does it.

    What is usual happens to the outermost good picture too, is always judged, and moves the number by up to `always`.
    """
    last = 0.0
    for step in steps:
        if not step.is_usual and not step.holds:
            last = (last + step.by) / 2
            break
        last = step.by
    return max(usual + last, outermost + always) if last >= margin and usual + last > outermost else None


@dataclass(frozen=True, slots=True)
class _Step:
    """One amount of a disturbance."""

    by: float
    """How far it moves a number in the direction that is looked at."""
    holds: bool
    is_usual: bool


class _Effects:
    """By how much each disturbance moves each number, measured on a few pictures as the camera gave them."""

    def __init__(self, pictures: Pictures, usable: Sequence[int]) -> None:
        self._pictures = pictures
        each = max(1, len(pictures.rois))
        seen = [raw for i, raw in enumerate(pictures.raw) if i * each in usable] or pictures.raw
        self._raw = [_as_levels(raw, pictures.white_level) for raw in seen]
        self._seen: dict[Disturbance | None, list[Numbers]] = {}

    def by(self, name: str, kind: Kind, withstood: Sequence[Withstood], sign: int) -> list[_Step]:
        """Return how far each amount of one kind moves a number, up to where it cannot be measured any more."""
        steps = []
        for one in withstood:
            if one.disturbance.kind is kind:
                if not (moved := self._moved(name, one.disturbance)):
                    break
                steps.append(_Step(sign * median(moved), one.holds, one.disturbance.is_usual))
        return steps

    def usual(self, name: str, sign: int) -> float:
        """Return how far anything usual moves a number, of whatever kind it is: noise blurs edges too."""
        every = (self._moved(name, one) for one in DISTURBANCES if one.is_usual)
        return max((sign * median(moved) for moved in every if moved), default=0.0)

    def _moved(self, name: str, disturbance: Disturbance) -> list[float]:
        """Return how far each picture's number is moved, where it can be measured before and afterwards."""
        pairs = [(b[name], a[name]) for b, a in zip(self._numbers(None), self._numbers(disturbance), strict=True)]
        return [after - before for before, after in pairs if before is not None and after is not None]

    def _numbers(self, disturbance: Disturbance | None) -> list[Numbers]:
        """Return the numbers of each picture, measured once."""
        if disturbance not in self._seen:
            self._seen[disturbance] = [self._measured(n, raw, disturbance) for n, raw in enumerate(self._raw)]
        return self._seen[disturbance]

    def _measured(self, number: int, raw: Levels, disturbance: Disturbance | None) -> Numbers:
        picture = raw
        if disturbance is not None:
            changed = disturbance(raw.astype(np.float32), 1.0, np.random.default_rng(number))
            picture = np.rint(changed).astype(np.uint8)
        area = self._pictures.geometry.area(picture.shape[1], picture.shape[0])
        light = optics.brighter(optics.places(picture, area, 255), optics.places(raw, area, 255))
        lens = optics.look_through(picture, area, 255)
        return {"light": light, "noise": lens and lens.noise, "sharpness": lens and lens.sharpness}


def _as_levels(raw: Levels, white_level: int) -> Levels:
    """Return a picture in 8 bits and three channels."""
    scale = 255 / white_level if raw.dtype == np.uint16 else 1.0
    levels = np.clip(raw * scale, 0, 255).astype(np.uint8)
    return levels if levels.ndim == 3 else np.dstack([levels] * 3)
