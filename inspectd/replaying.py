"""Pictures of an archive through a model: the same scores as when they were taken, or what another model would say.

Owns: which pictures of an archive are meant, and what of two judgements is told.
Threads: the caller's; the engine's own.
Never: another way of judging than the daemon's.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from inspectd.config import CameraConfig
from inspectd.engine.backend import Backend, Parity, Request
from inspectd.errors import UsageError
from inspectd.history import pictures
from inspectd.history.pictures import MARKS, KeptPicture, Said, camera_of, mark_of
from inspectd.line.fitness import find_problem, size_mismatch
from inspectd.line.inspection import conclude
from inspectd.line.recipe import Recipe, recipe_for
from inspectd.records import Finding, Outcome, Reason, Rect, fault
from inspectd.simplenet.bundle import Bundle

TOGETHER = 8
"""Pictures that are given to the engine at once."""
TOLERANCE = 1e-5
"""Of a score, by the same model on the same device and in the same form: relative, or absolute below 1."""
COLUMNS = ("picture", "camera", "at", "mark", "then", "model_then", "score_then", "now", "score", "threshold", "detail")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which pictures of an archive are meant; None: whatever they are."""

    camera: str | None = None
    verdict: Outcome | None = None
    since: str | None = None
    """The first day, YYYY-MM-DD."""
    only_marked: bool = False


@dataclass(frozen=True, slots=True)
class Replayed:
    """A picture, what was said of it, and what the model says of it now."""

    path: Path
    said: Said
    finding: Finding
    is_same: bool
    """It was scored then by this model, on this device and in this form."""

    @property
    def mark(self) -> str | None:
        """What a person says of the part."""
        return mark_of(self.path)

    @property
    def difference(self) -> float | None:
        """How far the score is from the one then, in what is allowed where everything is the same; None: there is none.

        Infinite: one of the two has no score.
        """
        then, now = self.said.header.score, self.finding.score
        if not self.is_same or then is None:
            return None
        return float("inf") if now is None else abs(now - then) / max(1.0, abs(then))


def find(archive: Path, wanted: Wanted) -> list[Path]:
    """Return the pictures of an archive, or of a folder in it, that are meant, the oldest first.

    UsageError: there are none, or no such folder.
    """
    if not archive.is_dir() or not os.access(archive, os.R_OK | os.X_OK):
        raise UsageError(
            f"{archive} is no folder that this user may read; expected an archive, as archive.path in the "
            "configuration names it."
        )
    found: list[Path] = []
    for path in _below(archive.resolve()):
        name = pictures.parse_name(path.name)
        is_meant = name is not None and (
            (wanted.verdict is None or name.verdict is wanted.verdict)
            and (wanted.since is None or name.day >= wanted.since)
            and (not wanted.only_marked or mark_of(path) is not None)
            and (wanted.camera is None or wanted.camera == camera_of(path))
        )
        if is_meant:
            found.append(path)
    if not found:
        raise UsageError(f"The archive {archive} holds no pictures that are meant; see the options.")
    return sorted(found, key=lambda path: path.name)


def _below(folder: Path) -> Iterator[Path]:
    """Yield all files below a folder; UsageError: some of them cannot be seen."""

    def refuse(error: OSError) -> None:
        raise UsageError(f"{error.filename} cannot be read: {error.strerror}; use sudo, or another folder.")

    for place, _, names in os.walk(folder, onerror=refuse):
        yield from (Path(place, name) for name in names)


def replay(
    model: Bundle, backend: Backend, paths: Sequence[Path], *, threshold: float | None = None
) -> Iterator[Replayed | str]:
    """Judge pictures as the daemon would; of one that cannot be read, say why.

    `threshold`: None: that of then where it was the same model, else the model's own.
    """
    judge = _Judge(model, backend.prepare(model), threshold)
    waiting = iter(paths)
    while some := list(islice(waiting, TOGETHER)):
        read = [_read(path) for path in some]
        looked_at = [one if isinstance(one, str) else judge.look(one) for one in read]
        to_score = [
            (recipe, kept.picture)
            for kept, recipe in zip(read, looked_at, strict=True)
            if isinstance(recipe, Recipe) and isinstance(kept, KeptPicture)
        ]
        requests = [Request(model, recipe.areas[0].geometry, picture) for recipe, picture in to_score]
        scored = iter(backend.score(requests))
        for kept, found in zip(read, looked_at, strict=True):
            if isinstance(kept, str) or isinstance(found, str):
                yield str(kept)
                continue
            height, width = kept.picture.shape[:2]
            finding = conclude(found, (width, height), [next(scored)]) if isinstance(found, Recipe) else found
            yield Replayed(kept.path, kept.said, finding, judge.is_same(kept.said))


class _Judge:
    """What a model judges by, picture by picture."""

    def __init__(self, model: Bundle, parity: Parity, threshold: float | None) -> None:
        self._model = model
        self._parity = parity
        self._threshold = threshold
        self._recipes: dict[tuple[float | None, Rect | None], Recipe] = {}

    def is_same(self, said: Said) -> bool:
        """Whether a picture was scored by this model, on this device and in this form."""
        if said.header.areas:  # its score is that of the worst, which may lie elsewhere
            return False
        return said.header.model == self._model.label and said.form == str(self._parity.variant)

    def look(self, kept: KeptPicture) -> Recipe | Finding:
        """Return what a picture is judged by, or why it may not be judged."""
        recipe = self._recipe(kept.said)
        height, width = kept.picture.shape[:2]
        if kept.said.is_live and (why := size_mismatch(recipe.areas[0], width, height)) is not None:
            return fault(Reason.IDENTITY, why, model=self._model.label)
        return find_problem(recipe, kept.picture, is_camera=kept.said.is_live) or recipe

    def _recipe(self, said: Said) -> Recipe:
        threshold = self._threshold
        if threshold is None and said.header.model == self._model.label:
            threshold = said.header.threshold
        roi = said.header.image.roi if self._model.calibration is None and said.header.image is not None else None
        key = (threshold, roi)
        if key not in self._recipes:
            camera = CameraConfig(name="replay", source="archive", model=self._model.name, threshold=threshold, roi=roi)
            self._recipes[key] = recipe_for(camera, self._model, self._parity)
        return self._recipes[key]


def _read(path: Path) -> KeptPicture | str:
    try:
        return pictures.read(path)
    except UsageError as error:
        return str(error)


def table_of(replayed: Sequence[Replayed]) -> list[list[str]]:
    """Return rows of text, their head first: of what was said then, and of what people say, what is said now."""
    rows = [["then", "pictures", *(f"now {outcome.value}" for outcome in Outcome)]]
    groups = [(outcome.value, [r for r in replayed if r.said.header.verdict is outcome]) for outcome in Outcome]
    groups += [(f"marked {mark}", [r for r in replayed if r.mark == mark]) for mark in MARKS]
    for name, group in groups:
        if group:
            found = [one.finding.outcome for one in group]
            rows.append([name, str(len(found)), *(str(found.count(outcome)) for outcome in Outcome)])
    return rows


def as_csv(replayed: Sequence[Replayed]) -> str:
    """Return a row for each picture, with a head; RFC 4180."""
    text = io.StringIO(newline="")
    out = csv.writer(text)
    out.writerow(COLUMNS)
    for one in replayed:
        header, found = one.said.header, one.finding
        out.writerow(
            [
                one.path.name,
                header.camera,
                header.at or "",
                one.mark or "",
                header.verdict.value,
                header.model or "",
                "" if header.score is None else repr(header.score),
                found.outcome.value,
                "" if found.score is None else repr(found.score),
                "" if found.threshold is None else repr(found.threshold),
                found.detail or "",
            ]
        )
    return text.getvalue()
