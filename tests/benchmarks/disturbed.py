"""What becomes of a class's test parts when the line changes: judged as the daemon judges a camera's pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
from rich.table import Table

from calibrate.data.dataset import ClassFolder, read_all
from calibrate.data.disturbance import DISTURBANCES, Disturbance
from inspectd.config import CameraConfig
from inspectd.engine.backend import Backend, Request
from inspectd.line.fitness import find_problem
from inspectd.line.judge import exceeds
from inspectd.line.recipe import recipe_for
from inspectd.records import Picture
from inspectd.simplenet.bundle import Bundle

CLEAN = "as taken"
TOGETHER = 8


class Disturbed(msgspec.Struct, frozen=True):
    """All test parts under one disturbance."""

    name: str
    is_usual: bool
    scores: list[float]
    faults: list[str]
    """For each part why the daemon would not judge its picture; empty: it would."""
    is_defective: list[bool]

    def good(self, threshold: float) -> tuple[int, int, int]:
        """Return how many good parts there are, how many are `ng`, how many a fault."""
        return self._count(threshold, of_defects=False)

    def defects(self, threshold: float) -> tuple[int, int, int]:
        """Return the same of the defects."""
        return self._count(threshold, of_defects=True)

    def _count(self, threshold: float, *, of_defects: bool) -> tuple[int, int, int]:
        parts = [(s, f) for s, f, b in zip(self.scores, self.faults, self.is_defective, strict=True) if b is of_defects]
        faults = sum(bool(fault) for _, fault in parts)
        return len(parts), sum(not fault and exceeds(score, threshold) for score, fault in parts), faults


def disturb(folder: ClassFolder, model: Bundle, backend: Backend) -> tuple[Disturbed, ...]:
    """Judge the test set as it was taken, and under each disturbance."""
    pictures: list[Picture] = []
    for _, picture in read_all([test.path for test in folder.test], 2):
        if isinstance(picture, str):
            raise SystemExit(picture)
        pictures.append(picture)
    bad = [test.is_defective for test in folder.test]
    return tuple(_judged(pictures, bad, model, backend, change) for change in (None, *DISTURBANCES))


def _judged(
    pictures: Sequence[Picture], bad: list[bool], model: Bundle, backend: Backend, change: Disturbance | None
) -> Disturbed:
    recipe = recipe_for(CameraConfig(name="camera", source="0", model="m"), model)
    draws = np.random.default_rng(0)
    scores: list[float] = []
    faults: list[str] = []
    for some in _some(pictures, change, draws):
        scores += [float(one.max()) for one in backend.score([Request(model, model.geometry, p) for p in some])]
        for picture in some:
            problem = find_problem(recipe, picture, is_camera=True)
            faults.append("" if problem is None else problem.detail or "fault")
    return Disturbed(change.name if change else CLEAN, change is None or change.is_usual, scores, faults, bad)


def _some(
    pictures: Sequence[Picture], change: Disturbance | None, draws: np.random.Generator
) -> Iterator[list[Picture]]:
    for start in range(0, len(pictures), TOGETHER):
        some = pictures[start : start + TOGETHER]
        if change is not None:
            some = [np.rint(change(_float(one), 1.0, draws)).astype(np.uint8) for one in some]
        yield list(some)


def _float(picture: Picture) -> np.ndarray:  # type: ignore[type-arg]
    return np.asarray(picture if picture.ndim == 3 else np.dstack([picture] * 3), np.float32)


def disturbance_table(tests: Sequence[tuple[str, float, Sequence[Disturbed]]]) -> Table:
    """Return a row for each disturbance: for each class good parts `ng` (and faults), defects found; seeds in turns."""
    classes = list(dict.fromkeys(of for of, _, _ in tests))
    shown = Table(title="disturbed test parts: good ones that are ng (+ fault), defects that are found")
    shown.add_column("disturbance")
    for of in classes:
        shown.add_column(of, justify="right")
    for number, first in enumerate(tests[0][2] if tests else ()):
        cells = []
        for of in classes:
            rows = [(one[number], threshold) for name, threshold, one in tests if name == of]
            good = [row.good(threshold) for row, threshold in rows]
            defects = [row.defects(threshold) for row, threshold in rows]
            rejected = " ".join(f"{ng}+{faults}" if faults else f"{ng}" for _, ng, faults in good)
            found = " ".join(f"{ng}+{faults}" if faults else f"{ng}" for _, ng, faults in defects)
            cells.append(f"{rejected} of {good[0][0]}; {found} of {defects[0][0]}")
        shown.add_row(first.name, *cells)
    return shown
