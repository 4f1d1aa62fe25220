"""Does the threshold keep what it promises? Score-level repetitions with the very function that calibrate uses.

    python tests/benchmarks/bound.py results/project/group/top/models/0

Held-out and fresh good scores are drawn from a smooth fit through the held-out scores of a real run (its own
quantiles, with a normal tail beyond the last), so that the true rate of false rejects above any threshold is
known. Coverage: the share of repetitions in which that rate is within the bound that was proven. Then once
with autocorrelated scores, as neighbouring frames have, held out in blocks: the bound assumes exchangeable
parts, and this shows what it is worth where they are not.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from calibrate.training.threshold import choose_threshold, parts_needed, proven_rate
from inspectd.simplenet import bundle


class Distribution:
    """A continuous distribution through a run's held-out scores."""

    def __init__(self, scores: list[float]) -> None:
        self._known = np.sort(np.asarray(scores, np.float64))
        self._at = norm.ppf((np.arange(len(scores)) + 0.625) / (len(scores) + 0.25))  # Blom's positions
        self._slope = max(1e-9, float(np.polyfit(self._at, self._known, 1)[0]))

    def score(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bring standard normal values to scores, keeping their order."""
        inside = np.interp(z, self._at, self._known)
        beyond = np.maximum(z - self._at[-1], 0) + np.minimum(z - self._at[0], 0)
        return np.asarray(inside + beyond * self._slope + 1e-9 * z)  # strictly increasing

    def rate_above(self, threshold: float) -> float:
        """Return the true share of parts that score above a threshold."""
        low, high = -12.0, 12.0
        for _ in range(80):
            middle = (low + high) / 2
            low, high = (middle, high) if self.score(np.array([middle]))[0] <= threshold else (low, middle)
        return float(norm.sf(low))


def coverage(
    of: Distribution, count: int, rate: float, confidence: float, repeats: int, keep: float = 0.0
) -> list[float]:
    """Return, per repetition, 1 if the true rate is within the bound, else 0; `keep`: autocorrelation of z."""
    draws = np.random.default_rng(count)
    kept = []
    for _ in range(repeats):
        z = draws.standard_normal(count)
        for i in range(1, count if keep else 0):
            z[i] = keep * z[i - 1] + np.sqrt(1 - keep**2) * z[i]
        threshold = choose_threshold(of.score(z).tolist(), rate, confidence)
        kept.append(float(of.rate_above(threshold.value) <= threshold.proven_rate))
    return kept


def main() -> None:
    """Print coverage for several numbers of parts."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("model", type=Path)
    ask.add_argument("--repeats", type=int, default=2000)
    ask.add_argument("--rate", type=float, default=0.01)
    ask.add_argument("--confidence", type=float, default=0.95)
    given = ask.parse_args()
    calibration = bundle.load(given.model).calibration
    if calibration is None or len(calibration.held_out_scores) < 8:
        raise SystemExit(f"{given.model} has no held-out scores to draw from")
    of = Distribution(list(calibration.held_out_scores))
    needed = parts_needed(given.rate, given.confidence)
    print(f"{len(calibration.held_out_scores)} held-out scores of {calibration.run}; {given.repeats} repetitions each")
    for count in (15, 60, needed, 640, 1500):
        kept = coverage(of, count, given.rate, given.confidence, given.repeats)
        proven = proven_rate(count, 0, given.confidence)
        note = (
            "" if count >= needed else f" (too few for {given.rate:.1%}: {needed} are needed; best bound {proven:.2%})"
        )
        print(f"{count:5} held-out parts: coverage {np.mean(kept):.1%} of {given.confidence:.0%} promised{note}")
    for keep in (0.5, 0.9, 0.98):
        kept = coverage(of, 640, given.rate, given.confidence, given.repeats, keep)
        print(f"  640 held-out parts, neighbours correlated by {keep}: coverage {np.mean(kept):.1%}")


if __name__ == "__main__":
    main()
