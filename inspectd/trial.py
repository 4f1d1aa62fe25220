"""A model on pictures from files: what the daemon would say of each, and what is known of them by their folders.

Owns: which folder means what, and how results are written down.
Threads: the caller's; the engine's own.
Never: another way of judging than the daemon's.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from inspectd.cameras.image_files import part_name, read_picture, survey
from inspectd.config import CameraConfig
from inspectd.engine.backend import Backend, Request
from inspectd.errors import UsageError
from inspectd.line.fitness import find_problem, size_mismatch
from inspectd.line.inspection import conclude
from inspectd.line.recipe import Recipe, recipe_for
from inspectd.line.thresholds import Known
from inspectd.records import Finding, Outcome, Picture, Reason, fault
from inspectd.simplenet.bundle import Bundle

TOGETHER = 8
"""Pictures that are given to the engine at once."""
GOOD_NAMES = frozenset({"good", "ok"})
COLUMNS = ("picture", "known", "verdict", "score", "threshold", "reason", "detail")


@dataclass(frozen=True, slots=True)
class Part:
    """A picture, and what its folder says of it."""

    path: Path
    name: str
    kind: str
    """Name of the folder: `good`, `ok`, or a kind of defect; empty: nothing is known."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A part and what was found."""

    part: Part
    finding: Finding


def parts_below(folder: Path) -> tuple[list[Part], list[str]]:
    """Return the pictures of a folder, and notes about what was passed over; UsageError when there are none.

    Those in a sub-folder `good` or `ok` are good, those in other sub-folders defective, unless no sub-folder is called
    good or ok: then nothing is known. A folder in the MVTec layout means its `test`.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; expected one with pictures, or with sub-folders good and <defect>.")
    if (folder / "test").is_dir() and (folder / "train").is_dir():
        folder /= "test"
    listing = survey(folder)
    if not listing.pictures:
        raise UsageError(f"{folder} holds no pictures; expected some, or sub-folders good and <kind of defect>.")
    above = [path.relative_to(folder).parts[:-1] for path in listing.pictures]
    is_known = any(parents and parents[0] in GOOD_NAMES for parents in above)
    parts = [
        Part(path, part_name(path, folder), parents[0] if is_known and parents else "")
        for path, parents in zip(listing.pictures, above, strict=True)
    ]
    return parts, list(listing.notes)


def try_out(
    model: Bundle,
    backend: Backend,
    parts: Sequence[Part],
    *,
    threshold: float | None = None,
    is_camera: bool = False,
) -> Iterator[Judged]:
    """Judge each picture as the daemon would; what cannot be read is a fault.

    `is_camera`: look at size, light, lens and scene before, as is done with a live camera's pictures.
    """
    parity = backend.prepare(model)
    camera = CameraConfig(name="test", source="folder", model=str(model.name), threshold=threshold)
    recipe = recipe_for(camera, model, parity)
    waiting = iter(parts)
    while some := list(islice(waiting, TOGETHER)):
        looked_at = [_look(part, recipe, is_camera=is_camera) for part in some]
        pictures = [one for one in looked_at if not isinstance(one, Finding)]
        (area,) = recipe.areas
        scored = iter(backend.score([Request(model, area.geometry, picture) for picture in pictures]))
        for part, one in zip(some, looked_at, strict=True):
            if isinstance(one, Finding):
                yield Judged(part, one)
            else:
                yield Judged(part, conclude(recipe, (one.shape[1], one.shape[0]), [next(scored)]))


def _look(part: Part, recipe: Recipe, *, is_camera: bool) -> Picture | Finding:
    """Return a part's picture, or why it may not be judged."""
    (area,) = recipe.areas
    try:
        picture = read_picture(part.path)
    except UsageError as error:
        return fault(Reason.PICTURE, str(error), model=area.model.label)
    if recipe.presence is not None:
        try:
            x, y, w, h = recipe.presence.place_of(picture, area.model.white_level)
        except UsageError as error:
            return fault(Reason.PICTURE, str(error), model=area.model.label)
        picture = picture[y : y + h, x : x + w]
    height, width = picture.shape[:2]
    if is_camera and (why := size_mismatch(area, width, height)) is not None:
        return fault(Reason.IDENTITY, why, model=area.model.label)
    return find_problem(recipe, picture, is_camera=is_camera) or picture


def known_of(judged: Sequence[Judged]) -> list[Known]:
    """Return the scores of parts that are known, good ones first; pictures that were not judged have none."""
    kinds = dict.fromkeys(one.part.kind for one in judged if one.part.kind)
    ordered = sorted(kinds, key=lambda kind: kind not in GOOD_NAMES)
    return [
        Known(
            "good parts" if kind in GOOD_NAMES else kind,
            [one.finding.score for one in judged if one.part.kind == kind and one.finding.score is not None],
            is_good=kind in GOOD_NAMES,
        )
        for kind in ordered
    ]


def counts_of(judged: Sequence[Judged]) -> list[list[str]]:
    """Return rows of text, their head first: for each kind how many were ok, ng and faults."""
    rows = [["known", "parts", *(outcome.value for outcome in Outcome)]]
    for kind in dict.fromkeys(one.part.kind for one in judged):
        found = [one.finding.outcome for one in judged if one.part.kind == kind]
        rows.append([kind or "nothing", str(len(found)), *(str(found.count(outcome)) for outcome in Outcome)])
    return rows


def as_csv(judged: Sequence[Judged]) -> str:
    """Return a row for each picture, with a head; RFC 4180."""
    text = io.StringIO(newline="")
    out = csv.writer(text)
    out.writerow(COLUMNS)
    for one in judged:
        found = one.finding
        out.writerow(
            [
                one.part.name,
                one.part.kind,
                found.outcome.value,
                "" if found.score is None else repr(found.score),
                "" if found.threshold is None else repr(found.threshold),
                found.reason.value if found.reason else "",
                found.detail or "",
            ]
        )
    return text.getvalue()
