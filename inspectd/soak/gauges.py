"""What a process takes of its machine, again and again, and whether that stays as it is."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import median

import psutil

EVERY_S = 2.0
WARM_UP = 0.2
"""Share of the time in which memory, descriptors and threads may still grow."""
FEWEST = 40
"""Measurements after that, to say anything."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The daemon with its capture children, at one moment."""

    at_s: float
    daemon_mb: float
    """Resident memory of its own process."""
    all_mb: float
    """With its children's, what they share counted once."""
    descriptors: int
    threads: int
    processes: int


@dataclass(frozen=True, slots=True)
class Allowed:
    """By how much a figure may be larger at the end than after the warm-up."""

    name: str
    unit: str
    of: Callable[[Sample], float]
    share: float
    least: float

    def grown(self, before: float, after: float) -> bool:
        """Whether it is more than that."""
        return after - before > max(self.least, self.share * before)


PROCESSES = "processes"
FIGURES = (
    Allowed("memory of the daemon", "MB", lambda one: one.daemon_mb, 0.03, 8.0),
    Allowed("memory with its cameras", "MB", lambda one: one.all_mb, 0.03, 16.0),
    Allowed("descriptors", "", lambda one: one.descriptors, 0.0, 4.0),
    Allowed("threads", "", lambda one: one.threads, 0.0, 2.0),
    Allowed(PROCESSES, "", lambda one: one.processes, 0.0, 1.0),
)


@dataclass(frozen=True, slots=True)
class Trend:
    """One figure over the whole time, after the warm-up."""

    name: str
    unit: str
    before: float
    """Median of the first quarter."""
    after: float
    """Median of the last quarter."""
    most: float
    is_flat: bool | None
    """None: there are too few measurements to tell."""


def trends_of(samples: Sequence[Sample]) -> list[Trend]:
    """Return what became of each figure, at the moments when as many cameras as usual were there."""
    if not samples:
        return []
    began_s, ended_s = samples[0].at_s, samples[-1].at_s
    warm = [one for one in samples if one.at_s >= began_s + WARM_UP * (ended_s - began_s)]
    usual, _ = Counter(one.processes for one in warm).most_common(1)[0]
    alike = [one for one in warm if one.processes == usual]
    quarter = max(1, len(alike) // 4)
    found = []
    for figure in FIGURES:
        values = [figure.of(one) for one in (warm if figure.name == PROCESSES else alike)]
        before, after = median(values[:quarter]), median(values[-quarter:])
        is_flat = None if len(alike) < FEWEST else not figure.grown(before, after)
        found.append(Trend(figure.name, figure.unit, before, after, max(values), is_flat))
    return found


class Gauges:
    """Measures a process and its children."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.samples: list[Sample] = []

    def measure(self) -> None:
        """Measure once."""
        with suppress(psutil.Error):  # a child has just ended; the next look sees it no more
            self.samples.append(self._look())

    def _look(self) -> Sample:
        family = [self._process, *self._process.children(recursive=True)]
        return Sample(
            at_s=time.monotonic(),
            daemon_mb=self._process.memory_info().rss / 1e6,
            all_mb=sum(one.memory_full_info().pss for one in family) / 1e6,
            descriptors=self._process.num_fds(),
            threads=self._process.num_threads(),
            processes=len(family),
        )
