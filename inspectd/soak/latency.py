"""How long verdicts took, in bins, so that a week takes no more room than a minute. Pure."""

from __future__ import annotations

BIN_MS, BINS = 0.25, 8000
"""Up to two seconds; what takes longer counts as that."""


class Latencies:
    """Of one stretch of time."""

    def __init__(self) -> None:
        self._bins = [0] * BINS
        self.count = 0

    def note(self, ms: float) -> None:
        """Count one."""
        self._bins[min(BINS - 1, int(max(0.0, ms) / BIN_MS))] += 1
        self.count += 1

    def percentile(self, share: float) -> float | None:
        """Return what this share of them did not exceed, in milliseconds; None: there are none."""
        wanted, seen = share * self.count, 0
        if self.count == 0:
            return None
        for i, count in enumerate(self._bins):
            seen += count
            if seen >= wanted:
                return (i + 1) * BIN_MS
        return BINS * BIN_MS
