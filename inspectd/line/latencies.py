"""How long a camera's verdicts took."""

from __future__ import annotations

from collections import deque

from inspectd.percentiles import percentile
from inspectd.records import Verdict

NEWEST = 1000
"""Of which percentiles are taken."""
ENOUGH = 100
"""With fewer, one in a hundred is the slowest of all, which tells nothing."""


class Latencies:
    """Of the newest verdicts. Noted from one thread, asked from any."""

    def __init__(self) -> None:
        self._all_ms: deque[float] = deque(maxlen=NEWEST)
        self._scored_ms: deque[float] = deque(maxlen=NEWEST)

    def note(self, verdict: Verdict, published_ns: int) -> None:
        """Take note of a verdict that was published."""
        latency_ns = verdict.latency_ns(published_ns)
        if latency_ns is not None:
            self._all_ms.append(latency_ns / 1e6)
            if verdict.finding.scored_ns is not None:
                self._scored_ms.append(latency_ns / 1e6)

    @property
    def p99_ms(self) -> float | None:
        """99th percentile from capture (or trigger) to verdict, faults included; None: there was no verdict yet."""
        found = tuple(self._all_ms)
        return percentile(found, 0.99) if found else None

    @property
    def scored_ms(self) -> tuple[float, float] | None:
        """Median and 99th percentile from capture to verdict of what was scored; None: nothing was."""
        found = tuple(self._scored_ms)
        return (percentile(found, 0.5), percentile(found, 0.99)) if found else None

    @property
    def one_in_a_hundred_ms(self) -> float | None:
        """99th percentile from capture to verdict of what was scored; None: of too few."""
        found = tuple(self._scored_ms)
        return percentile(found, 0.99) if len(found) >= ENOUGH else None
