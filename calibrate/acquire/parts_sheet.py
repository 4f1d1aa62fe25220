"""How parts were told apart, on one sheet: the empty place, parts as they are cut out, and what is none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from calibrate.acquire.presence import Learnt
from inspectd.model.presence import Presence, Small, Thing

COLUMNS = 6
CELL_PX, CAPTION_PX = 180, 20
OF_A_KIND, APART = 3, 30
"""Of what is no part: so many of each kind are shown, of pictures that are so far apart."""
PART, OTHER = (60, 150, 40), (40, 60, 200)  # BGR


def draw_parts(learnt: Learnt, watched: Sequence[Small]) -> NDArray[np.uint8]:
    """Draw the sheet, BGR, from the pictures that were watched."""
    known = learnt.presence
    cells = [_cell(learnt.empty, "the empty place")]
    cells += [_with_box(known, watched[i], thing, PART, f"a part ({i + 1})") for i, thing in _parts(learnt, watched)]
    cells += [_cell(learnt.empty * 0, "")] * (-len(cells) % COLUMNS)
    cells += [
        _with_box(known, watched[i], thing, OTHER, f"none: {_why(known, thing)}")
        for i, thing in _others(known, watched)
    ]
    cells += [_cell(learnt.empty * 0, "")] * (-len(cells) % COLUMNS)
    rows = [np.hstack(cells[i : i + COLUMNS]) for i in range(0, len(cells), COLUMNS)]
    return np.asarray(np.vstack(rows), np.uint8)


def _parts(learnt: Learnt, watched: Sequence[Small]) -> Iterator[tuple[int, Thing]]:
    """Yield some parts, from the beginning to the end."""
    chosen = np.unique(np.linspace(0, len(learnt.parts) - 1, COLUMNS - 1).astype(int))
    for spell in (learnt.parts[i] for i in chosen):
        number = spell.frames[len(spell.frames) // 2]
        things = [thing for thing in learnt.presence.sight_of(watched[number]).things if thing.is_part]
        if things:
            yield number, things[0]


def _others(known: Presence, watched: Sequence[Small]) -> Iterator[tuple[int, Thing]]:
    """Yield some things that are no parts, of each kind."""
    shown: dict[str, list[int]] = {}
    for number, small in enumerate(watched):
        for thing in known.sight_of(small).things:
            before = shown.setdefault(_why(known, thing), [])
            is_new = not thing.is_part and len(before) < OF_A_KIND and (not before or number - before[-1] > APART)
            if is_new and sum(map(len, shown.values())) < 2 * COLUMNS:
                before.append(number)
                yield number, thing


def _why(known: Presence, thing: Thing) -> str:
    if thing.touches:
        return f"at the {' and '.join(sorted(thing.touches))}"
    if known.least <= thing.share <= known.most:
        return "not alone"
    return f"{thing.share:.1f} of a part"


def _with_box(
    known: Presence, small: Small, thing: Thing, colour: tuple[int, int, int], caption: str
) -> NDArray[np.uint8]:
    drawn = _coloured(small)
    x, y, w, h = known.around(thing) if thing.is_part else thing.box
    (x0, y0), step = known.window[:2], known.step
    corner = (round((x - x0) / step), round((y - y0) / step))
    cv2.rectangle(drawn, (*corner, round(w / step), round(h / step)), colour, 1)
    return _cell(drawn, caption)


def _coloured(small: Small) -> NDArray[np.uint8]:
    return small.copy() if small.ndim == 3 else np.asarray(cv2.cvtColor(small, cv2.COLOR_GRAY2BGR), np.uint8)


def _cell(small: Small, caption: str) -> NDArray[np.uint8]:
    """Return a small picture with its caption, all of one size."""
    coloured = _coloured(np.asarray(small, np.uint8))
    scale = CELL_PX / max(coloured.shape[:2])
    size = (max(1, round(coloured.shape[1] * scale)), max(1, round(coloured.shape[0] * scale)))
    cell = np.full((CELL_PX + CAPTION_PX, CELL_PX + 6, 3), 255, np.uint8)
    if caption:
        cell[: size[1], : size[0]] = cv2.resize(coloured, size, interpolation=cv2.INTER_AREA)
    cv2.putText(cell, caption, (2, CELL_PX + 14), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return cell
