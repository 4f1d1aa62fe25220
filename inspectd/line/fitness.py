"""May this picture be judged by this recipe? Everything that is looked at before the network sees it. Pure.

Functions that return a text return the reason why not, as a part of a sentence, or None.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np

from inspectd.cameras.discovery import identities
from inspectd.cameras.protocol import MANUAL_EXPOSURE, Opened
from inspectd.cameras.sources import Source
from inspectd.line.drift import Drift, Moved
from inspectd.line.recipe import Area, Recipe, place_mismatch
from inspectd.model.framing import APART
from inspectd.model.geometry import Geometry
from inspectd.model.glance import FEW, Glance, thinned
from inspectd.model.optics import Limits, Optics, end_spread, look_through
from inspectd.model.presence import Presence
from inspectd.records import Finding, Picture, Reason, fault

LEAST_CHANGE = 12.0
"""Grey levels that brightness may leave the calibration's range by at least: 5 % of white."""
HALF = 0.5
"""It may also fall to half of the darkest good picture, or come half as near to white as the brightest one."""
LEAST_CONTRAST = 0.25
"""Of the calibration's usual contrast: with less, hardly anything can be seen."""
BLAND = 4.0
"""Grey levels of contrast below which a scene shows nothing anyway."""

CLEAR_END = 2.0
"""Levels by which the pixels of each good picture's last row differed at least, where a blank one tells something: JPEG
makes even rows of what differs by less."""
RETURNS = 0.25
"""Of the way from a limit to what good pictures reach: so far a picture must be inside again after one was beyond."""
SLOWEST = 0.6
"""Of the pictures a second that parts were calibrated at: with fewer they pass too fast."""
SETTING_MAY_DIFFER = 0.02
"""As a share: cameras round."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """How one number of `optics` is told."""

    name: str
    below: str
    above: str
    seen: str
    advice: str


FOCUS = "clean the lens and set its focus"
LIGHT = _Kind(
    "light",
    "darker",
    "brighter",
    "{:.2f} times as bright as usual",
    "check lamp, exposure and lens before you touch the threshold, or calibrate again",
)
NOISE = _Kind("noise", "smoother", "noisier", "noise {:.2f}", "check gain, exposure and cable")
SHARPNESS = _Kind("sharpness", "less sharp", "sharper", "sharpness {:.2f}", FOCUS)
EDGES = _Kind("edges", "less sharp", "sharper", "edges of {:.0f} grey levels", FOCUS)


def find_mismatch(recipe: Recipe, source: Source, opened: Opened) -> str | None:
    """Return why a camera, as it was opened, is not one that the recipe was made for."""
    for area in recipe.areas:
        if (why := camera_mismatch(area, source, opened)) is not None:
            return why
    return None


KINDS = {kind.name: kind for kind in (LIGHT, NOISE, SHARPNESS, EDGES)}


def told_of(moved: Moved) -> str:
    """Say in a sentence how pictures have changed since the calibration, and what to do about it."""
    kind, where = KINDS[moved.what], f"in {moved.area} " if moved.area else ""
    percent = abs(moved.ratio - 1) * 100
    if kind is LIGHT:
        how = kind.below if moved.ratio < 1 else kind.above
        return f"{where}light is {percent:.0f} % {how} than at calibration; {kind.advice}"
    how, are = "lower" if moved.ratio < 1 else "higher", "are" if kind is EDGES else "is"
    return f"{where}{kind.name} {are} {percent:.0f} % {how} than at calibration; {kind.advice}"


class Beyond:
    """What was beyond its limit in a camera's last picture, and must come back by more than to that limit.

    A lamp that dies flickers about a limit for long: without this, good parts would be `fault` and `ok` by turns.
    """

    def __init__(self) -> None:
        self._now: set[tuple[str, str]] = set()

    def is_below(self, key: tuple[str, str], limit: float, inner: float, value: float) -> bool:
        """Whether a value is below a limit, or was, and is not nearer to `inner` again by `RETURNS`.

        `key`: model and what of its picture. `inner`: what lies on the good side, and good pictures reach.
        """
        return self._noted(key, value < limit + self._back(key, limit, inner))

    def is_above(self, key: tuple[str, str], limit: float, inner: float, value: float) -> bool:
        """See `is_below`."""
        return self._noted(key, value > limit + self._back(key, limit, inner))

    def _back(self, key: tuple[str, str], limit: float, inner: float) -> float:
        return RETURNS * (inner - limit) if key in self._now else 0.0

    def _noted(self, key: tuple[str, str], is_beyond: bool) -> bool:
        (self._now.add if is_beyond else self._now.discard)(key)
        return is_beyond


def find_problem(
    recipe: Recipe,
    picture: Picture,
    *,
    is_camera: bool,
    beyond: Beyond | None = None,
    drift: Drift | None = None,
) -> Finding | None:
    """Return the fault of a picture that may not be judged. Only a camera's light and scene are looked at.

    `beyond` and `drift`: the camera's, which remember from picture to picture; None: each is by itself.
    """
    beyond = beyond or Beyond()
    height, width = picture.shape[:2]
    if is_camera and (why := transfer_problem(recipe, picture)) is not None:
        return fault(Reason.PICTURE, why)
    looked_at = set[str]()  # what a model knows of the whole picture is looked at once
    glance = Glance(picture) if is_camera else None
    for area in recipe.areas:
        label = area.model.label
        why = place_mismatch(area, width, height)
        if why is None and glance is not None:
            if (bad := light_problem(area, glance.few if area.geometry.is_whole else picture, beyond)) is not None:
                return fault(Reason.PICTURE, bad, model=label)
            if area.model.digest not in looked_at:
                looked_at.add(area.model.digest)
                why = scene_mismatch(area, glance, beyond)
            if why is None and (bad := optics_problem(area, picture, glance, beyond, drift)) is not None:
                return fault(Reason.PICTURE, bad, model=label)
        if why is not None:
            return fault(Reason.IDENTITY, why, model=label)
    return None


def camera_mismatch(area: Area, source: Source, opened: Opened) -> str | None:
    """Return why a camera is not the one that the model was calibrated for. Files and simulations have no identity."""
    calibration = area.model.calibration
    if calibration is None or not source.is_camera:
        return None
    record = calibration.camera
    if source.is_device and record.identity is not None:
        names = identities(source)
        if record.identity not in names:
            return f"the model was calibrated on {record.identity}; this camera is {names[0] if names else 'unknown'}"
        if record.format is not None and opened.format and record.format != opened.format:
            return f"the model was calibrated with format {record.format}; this camera gives {opened.format}"
    if source.is_device and (why := setting_mismatch(record.settings, opened.settings)) is not None:
        return why
    if calibration.presence is not None:
        return presence_mismatch(calibration.presence, opened)
    return size_mismatch(area, opened.width, opened.height)


def presence_mismatch(known: Presence, opened: Opened) -> str | None:
    """Return why parts cannot be found in a camera's pictures; None: they can."""
    size = (opened.width, opened.height)
    if known.picture != size:
        was, now = ("x".join(map(str, one)) for one in (known.picture, size))
        return (
            f"parts were calibrated in pictures of {was}; this camera gives {now}. Set the camera to that size, or "
            "calibrate again"
        )
    if opened.is_live and 0 < opened.fps < SLOWEST * known.fps:
        return (
            f"parts were calibrated at {known.fps:.1f} pictures a second; this camera gives {opened.fps:.1f}, and some "
            "may pass between two of them. Set the camera to that rate, or calibrate again"
        )
    return None


def setting_mismatch(then: Mapping[str, float], now: Mapping[str, float]) -> str | None:
    """Return which of a camera's settings is not as it was at calibration; those it chooses itself may differ."""
    for name, value in then.items():
        if name not in now or _is_chosen_by_camera(name, then):
            continue
        if abs(now[name] - value) > SETTING_MAY_DIFFER * abs(value):
            what = name.replace("_", " ")
            return (
                f"the camera's {what} is {now[name]:g}, at calibration it was {value:g}; set it so (`exposure`, `gain` "
                "and `white_balance` in the configuration), or calibrate again"
            )
    return None


def _is_chosen_by_camera(name: str, settings: Mapping[str, float]) -> bool:
    if name == "white_balance":
        return settings.get("auto_white_balance") == 1
    return name in ("exposure", "gain") and settings.get("auto_exposure", MANUAL_EXPOSURE[0]) not in MANUAL_EXPOSURE


def size_mismatch(area: Area, width: int, height: int) -> str | None:
    """Return why a camera's picture of this size is not one that the model was calibrated on."""
    calibration = area.model.calibration
    if calibration is None:
        return None
    record = calibration.camera
    has_one_size = record.width > 0 and calibration.statistics.get("sizes", 1) == 1
    if has_one_size and (record.width, record.height) != (width, height):
        return (
            f"the model was calibrated at {record.width}x{record.height}; this camera gives {width}x{height}. Set the "
            "camera to that size, or calibrate again"
        )
    return None


def transfer_problem(recipe: Recipe, picture: Picture) -> str | None:
    """Return that a picture's last rows never came, where no good picture ended like that."""
    facts = [area.model.calibration.statistics for area in recipe.areas if area.model.calibration is not None]
    if not facts or any(one.get("end_spread", 0.0) < CLEAR_END for one in facts):
        return None
    if end_spread(picture) > 0 or end_spread(picture[:1]) == 0:  # where nothing is seen at all, it is the light
        return None
    return (
        "the picture breaks off: its last row is blank, which no good picture's was; check the camera's cable, hub and "
        "bandwidth"
    )


def light_problem(area: Area, picture: Picture, beyond: Beyond | None = None) -> str | None:
    """Return what is wrong with the light, or the lens, by the statistics of the good pictures."""
    beyond, model = beyond or Beyond(), area.model.digest
    calibration = area.model.calibration
    facts = calibration.statistics if calibration else {}
    if not facts.keys() >= {"grey_lowest", "grey_highest", "contrast_mean"}:
        return None
    level, contrast = _light(picture, area.geometry, area.model.white_level)
    lowest, highest = facts["grey_lowest"], facts["grey_highest"]
    if beyond.is_below((model, "dark"), lowest - max(LEAST_CHANGE, HALF * lowest), lowest, level):
        return f"the picture is too dark: grey level {level:.0f}, the good ones had {lowest:.0f} to {highest:.0f}"
    if beyond.is_above((model, "bright"), highest + max(LEAST_CHANGE, HALF * (255 - highest)), highest, level):
        return f"the picture is too bright: grey level {level:.0f}, the good ones had {lowest:.0f} to {highest:.0f}"
    usual = facts["contrast_mean"]
    if usual > BLAND and beyond.is_below(
        (model, "bland"), LEAST_CONTRAST * usual, 2 * LEAST_CONTRAST * usual, contrast
    ):
        return f"the picture shows next to nothing: contrast {contrast:.0f}, the good ones had {usual:.0f}"
    return None


def optics_problem(
    area: Area,
    picture: Picture,
    glance: Glance | None = None,
    beyond: Beyond | None = None,
    drift: Drift | None = None,
) -> str | None:
    """Return what of light, noise and sharpness has gone beyond what the model withstands, and what to do about it.

    `glance`: the picture's, where there is one already. `drift`: takes note of what was measured.
    """
    calibration = area.model.calibration
    limits = calibration.optics if calibration else None
    if limits is None:
        return None
    beyond = beyond or Beyond()
    for kind, allowed, value in _measured(limits, area, picture, glance or Glance(picture)):
        if (how := _beyond(value, allowed, kind, area.model.digest, beyond)) is not None:
            return (
                f"the picture is {how} than the model is known to withstand: {kind.seen.format(value)}, at calibration "
                f"{allowed.lowest:.2f} to {allowed.highest:.2f}; {kind.advice}"
            )
        if drift is not None:  # what goes beyond is told as it is, and says nothing of the pictures that may be judged
            drift.saw(area.name or "", area.model.digest, kind.name, value, allowed)
    return None


def _measured(limits: Optics, area: Area, picture: Picture, glance: Glance) -> Iterator[tuple[_Kind, Limits, float]]:
    """Yield what can be measured of a picture, one after the other: the lens costs time only if the light is right."""
    (height, width), white_level = picture.shape[:2], area.model.white_level
    where = area.geometry.area(width, height)
    if area.geometry.is_whole:
        yield LIGHT, limits.light, limits.brightness_at(glance, white_level)
    else:
        yield LIGHT, limits.light, limits.brightness(picture, where, white_level)
    lens = look_through(picture, where, white_level)
    if lens is None:
        return
    yield NOISE, limits.noise, lens.noise
    if lens.sharpness is not None:
        yield SHARPNESS, limits.sharpness, lens.sharpness
    yield EDGES, limits.edges, lens.edges


def _beyond(value: float, limits: Limits, kind: _Kind, model: str, beyond: Beyond) -> str | None:
    least, most = limits.least, limits.most
    if least is not None and beyond.is_below((model, kind.seen + kind.below), least, max(least, limits.lowest), value):
        return kind.below
    if most is not None and beyond.is_above((model, kind.seen + kind.above), most, min(most, limits.highest), value):
        return kind.above
    return None


def scene_mismatch(area: Area, glance: Glance, beyond: Beyond | None = None) -> str | None:
    """Return why a camera's picture does not show the scene that the model was calibrated on, or not in its colours."""
    calibration = area.model.calibration
    framing, colours = (calibration.framing, calibration.tint) if calibration else (None, None)
    beyond, model = beyond or Beyond(), area.model.digest
    similarity = framing.similarity_at(glance) if framing is not None else 1.0
    if framing is not None and beyond.is_below((model, "scene"), framing.limit, framing.limit + APART / 2, similarity):
        return (
            f"the picture does not show the scene that the model was calibrated on (similarity {similarity:.2f}, "
            f"expected at least {framing.limit:.2f}); was the camera moved or flipped, or is it another?"
        )
    distance = colours.distance_at(glance) if colours is not None else 0.0
    if colours is not None and beyond.is_above((model, "colours"), colours.limit, 0.8 * colours.limit, distance):
        return (
            f"the picture has other colours than the model was calibrated on (distance {distance:.3f}, expected at "
            f"most {colours.limit:.3f}); were the white balance, the light or the camera's format changed?"
        )
    return None


def _light(picture: Picture, geometry: Geometry, white_level: int) -> tuple[float, float]:
    """Return mean and spread of what is inspected, 0 … 255, from some of its pixels."""
    x, y, w, h = geometry.area(picture.shape[1], picture.shape[0])
    sample = thinned(picture[y : y + h, x : x + w], FEW)
    scale = 255 / white_level if picture.dtype == np.uint16 else 1.0
    level, spread = cv2.meanStdDev(cast("cv2.typing.MatLike", np.ascontiguousarray(sample).reshape(-1, 1)))
    return float(level[0, 0]) * scale, float(spread[0, 0]) * scale
