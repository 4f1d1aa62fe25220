"""A study: known parts, each shown several times, and what was said each time. A CSV file that grows with each."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from inspectd.errors import StartError, UsageError
from inspectd.reading import read_regular
from inspectd.records import Known, Outcome

COLUMNS = ("part", "known", "label", "verdict", "reason", "score", "threshold", "model", "at", "picture")
MOST_BYTES = 1 << 26


@dataclass(frozen=True, slots=True)
class Trial:
    """A known part, shown once."""

    part: str
    known: Known
    label: str
    """Shift, or whatever else may matter; empty: nothing."""
    verdict: Outcome
    reason: str
    """Of a fault."""
    score: float | None
    threshold: float | None
    model: str
    at: str
    """When its picture was taken, RFC 3339; empty: nobody knows."""
    picture: str
    """Name of the file; empty: it was not kept."""

    @property
    def is_judged(self) -> bool:
        """Whether there was a decision."""
        return self.verdict is not Outcome.FAULT

    @property
    def is_passed(self) -> bool:
        """Whether it was let pass."""
        return self.verdict is Outcome.OK

    @property
    def is_right(self) -> bool:
        """Whether the decision was right."""
        return self.is_passed is (self.known is Known.GOOD)


def read(path: Path) -> list[Trial]:
    """Read a study; none where there is no file. UsageError names the line that is wrong."""
    try:
        text = read_regular(path, MOST_BYTES).decode()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"The study {path} cannot be read: {why}.") from None
    rows = csv.reader(io.StringIO(text, newline=""))
    try:
        head = next(rows, None)
        if head is not None and tuple(head) != COLUMNS:
            raise UsageError(f"{path} is no study: its first line is {','.join(head)[:80]!r}, not {','.join(COLUMNS)}.")
        trials = [_trial(path, rows.line_num, row) for row in rows if row]
    except csv.Error as error:
        raise UsageError(f"{path}, line {rows.line_num}: {error}.") from None
    _check(path, trials)
    return trials


def append(path: Path, trials: Iterable[Trial]) -> None:
    """Add trials at the end of a study, which are on the disk then; StartError: they cannot be written."""
    text = io.StringIO(newline="")
    out = csv.writer(text)
    try:
        if not path.exists() or path.stat().st_size == 0:
            out.writerow(COLUMNS)
        for one in trials:
            out.writerow(
                [one.part, one.known, one.label, one.verdict, one.reason, _number(one.score), _number(one.threshold),
                 one.model, one.at, one.picture]
            )  # fmt: skip
        with path.open("a", encoding="utf-8", newline="") as file:
            file.write(text.getvalue())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StartError(f"The study {path} cannot be written: {error.strerror}.") from None


def _number(value: float | None) -> str:
    return "" if value is None else repr(value)


def _trial(path: Path, line: int, row: Sequence[str]) -> Trial:
    if len(row) != len(COLUMNS):
        raise UsageError(f"{path}, line {line} has {len(row)} columns; expected {len(COLUMNS)}: {','.join(COLUMNS)}.")
    part, known, label, verdict, reason, score, threshold, model, at, picture = row
    if not part:
        raise UsageError(f"{path}, line {line}: part is empty; expected its name.")
    if known not in set(Known):
        raise UsageError(f"{path}, line {line}: known is {known[:40]!r}; expected good or bad.")
    if verdict not in set(Outcome):
        raise UsageError(f"{path}, line {line}: verdict is {verdict[:40]!r}; expected ok, ng or fault.")
    score_, threshold_ = _parsed(path, line, "score", score), _parsed(path, line, "threshold", threshold)
    return Trial(part, Known(known), label, Outcome(verdict), reason, score_, threshold_, model, at, picture)


def _parsed(path: Path, line: int, name: str, text: str) -> float | None:
    try:
        value = float(text) if text else None
    except ValueError:
        value = math.nan
    if value is not None and not math.isfinite(value):
        raise UsageError(f"{path}, line {line}: {name} is {text[:40]!r}; expected a number, or nothing.")
    return value


def _check(path: Path, trials: Sequence[Trial]) -> None:
    known: dict[str, Known] = {}
    for one in trials:
        if known.setdefault(one.part, one.known) is not one.known:
            raise UsageError(
                f"{path}: the part {one.part} is said to be good, and bad; give each part a name of its own."
            )
