"""Trials from pictures: a folder for each known part, in it one picture for each time that it was shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from inspectd.engine.backend import Backend
from inspectd.errors import UsageError
from inspectd.gage.study import Trial
from inspectd.records import Known
from inspectd.simplenet.bundle import Bundle
from inspectd.trial import Part, parts_below, try_out


@dataclass(frozen=True, slots=True)
class Pictured:
    """A picture of a known part."""

    part: str
    known: Known
    picture: Part


def find(folder: Path) -> list[Pictured]:
    """Return the pictures below `good/PART/` and `bad/PART/`; UsageError: some lie elsewhere, or there are none."""
    parts, _ = parts_below(folder)
    found = []
    for one in parts:
        where = one.path.relative_to(folder).parts
        if len(where) != 3 or where[0] not in set(Known):
            raise UsageError(
                f"{one.path} is not where a study looks; expected {folder}/good/PART/… or {folder}/bad/PART/…: a "
                "folder for each part, in it a picture for each time that it was shown."
            )
        found.append(Pictured(where[1], Known(where[0]), one))
    both = {one.part for one in found if one.known is Known.GOOD} & {
        one.part for one in found if one.known is Known.BAD
    }
    if both:
        raise UsageError(f"The part {min(both)} lies below good and below bad; give each part a name of its own.")
    return found


def judge(model: Bundle, backend: Backend, pictures: Sequence[Pictured], label: str) -> Iterator[Trial]:
    """Judge each picture as the daemon would that of a live camera."""
    tried = try_out(model, backend, [one.picture for one in pictures], is_camera=True)
    for one, judged in zip(pictures, tried, strict=True):
        found = judged.finding
        yield Trial(
            one.part,
            one.known,
            label,
            found.outcome,
            str(found.reason or ""),
            found.score,
            found.threshold,
            found.model or "",
            "",
            one.picture.name,
        )
