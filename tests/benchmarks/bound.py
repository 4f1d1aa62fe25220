"""Does the threshold keep what it promises? Score-level repetitions with the very function that calibrate uses.

    python tests/benchmarks/bound.py results/project/group/top/models/0

Held-out and fresh good scores are drawn from a smooth fit through the held-out scores of a real run (its own
quantiles, with a normal tail beyond the last), so that the true rate of false rejects above any threshold is
known. Coverage: the share of repetitions in which that rate is within the bound that was proven. Once without painted
defects, and once with such as cross-fitted calibrations have, which choose the threshold by the bulk of the scores; once
more with some odd good parts, for which a proven threshold would lie above the defects. Then
with autocorrelated scores, as neighbouring frames have: the bound assumes exchangeable parts, and this shows what it is
worth where they are not, and what is left of it when the number of independent parts is estimated.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from calibrate.training.independence import independent_parts
from calibrate.training.threshold import choose_threshold, parts_needed
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

    def odd(self, share: float) -> list[float]:
        """Return scores of odd parts, so many that they are this share beside the others: beyond all of these."""
        spread = float(self._known.std())
        count = round(share * len(self._known) / (1 - share))
        return [float(self._known[-1]) + spread * (1 + i) for i in range(count)]

    def rate_above(self, threshold: float) -> float:
        """Return the true share of parts that score above a threshold."""
        low, high = -12.0, 12.0
        for _ in range(80):
            middle = (low + high) / 2
            low, high = (middle, high) if self.score(np.array([middle]))[0] <= threshold else (low, middle)
        return float(norm.sf(low))


def coverage(
    of: Distribution,
    count: int,
    given: argparse.Namespace,
    *,
    with_painted: bool,
    keep: float = 0.0,
    is_estimated: bool = False,
) -> tuple[float, float]:
    """Return the share of repetitions in which the true rate is within the bound, and the median bound.

    `keep`: autocorrelation of neighbours; `is_estimated`: the number of independent parts is.
    """
    draws = np.random.default_rng(count)
    kept, bounds = [], []
    for _ in range(given.repeats):
        z = draws.standard_normal(count)
        for i in range(1, count if keep else 0):
            z[i] = keep * z[i - 1] + np.sqrt(1 - keep**2) * z[i]
        scores = of.score(z).tolist()
        painted = of.score(draws.normal(3, 3, 100)).tolist() if with_painted else []
        parts = independent_parts(scores) if is_estimated else math.inf
        threshold = choose_threshold(scores, given.rate, given.confidence, painted=painted, independent=parts)
        kept.append(float(of.rate_above(threshold.value) <= threshold.proven_rate))
        bounds.append(threshold.proven_rate)
    return float(np.mean(kept)), float(np.median(bounds))


def main() -> None:
    """Print coverage for several numbers of parts."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("model", type=Path)
    ask.add_argument("--repeats", type=int, default=2000)
    ask.add_argument("--rate", type=float, default=0.01)
    ask.add_argument("--confidence", type=float, default=0.95)
    ask.add_argument("--odd", type=float, default=0.02, help="Share of good parts that score high for a reason.")
    given = ask.parse_args()
    calibration = bundle.load(given.model).calibration
    if calibration is None or len(calibration.held_out_scores) < 8:
        raise SystemExit(f"{given.model} has no held-out scores to draw from")
    of = Distribution(list(calibration.held_out_scores))
    needed = parts_needed(given.rate, given.confidence)
    print(f"{len(calibration.held_out_scores)} held-out scores of {calibration.run}; {given.repeats} repetitions each")
    odd = Distribution([*calibration.held_out_scores, *of.odd(given.odd)])
    for name, scores, with_painted in (
        ("without", of, False),
        ("with painted defects", of, True),
        (f"with painted defects and {given.odd:.0%} odd parts", odd, True),
    ):
        print(name)
        for count in (15, 60, 120, needed, 640, 1500):
            kept, bound = coverage(scores, count, given, with_painted=with_painted)
            print(f"{count:5} held-out parts: coverage {kept:.1%} of {given.confidence:.0%}, median bound {bound:.2%}")
    for count in (120, 640):
        for keep in (0.0, 0.5, 0.9, 0.98):
            for is_estimated in (False, True):
                kept, bound = coverage(of, count, given, with_painted=True, keep=keep, is_estimated=is_estimated)
                how = "independent parts estimated" if is_estimated else "taken as independent"
                print(
                    f"{count:5} correlated by {keep}, {how}: coverage {kept:.1%}, median bound {bound:.2%}", flush=True
                )


if __name__ == "__main__":
    main()
