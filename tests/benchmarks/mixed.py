"""A good set with defective pictures mixed in: how many are found, how many good ones with them, and the threshold.

    python tests/benchmarks/mixed.py --data ../shared/data --class bottle --seeds 10

Calibrates as `calibrate --camera` does: with ten seeds on the good pictures alone, then on the same with 5 % of
defective ones spread among them, once for each of several draws of defects.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from calibrate.data.dataset import ClassFolder, TestPicture, add_files, find_class
from calibrate.evaluation.testset import evaluate
from calibrate.training.fit import Learned, learn, pictures_for
from calibrate.training.options import options_for
from inspectd.engine.backend import Backend
from inspectd.engine.choose import choose_backend
from inspectd.model.calibration import CameraRecord


def calibrate(paths: list[Path], seed: int, **changes: object) -> tuple[Learned, Backend, list[str]]:
    """Run the whole of `calibrate --camera` but for the files."""
    options = options_for(None, (), seed=seed, **changes)
    pictures = pictures_for(options)
    add_files(pictures, paths, 2, lambda: None)
    backend = choose_backend("cpu")
    learned = learn(pictures, options, backend, run="mixed", camera=CameraRecord("mixed", None, *pictures.size))
    return learned, backend, pictures.names


def mix(good: list[Path], defects: list[TestPicture], share: float, seed: int) -> tuple[list[Path], set[int]]:
    """Spread defects among the good ones so that they are `share` of all; return the list and their positions."""
    draws = np.random.default_rng(seed)
    count = round(len(good) * share / (1 - share))
    chosen = [defects[i].path for i in draws.choice(len(defects), count, replace=False)]
    mixed: list[Path] = list(good)
    for path in chosen:
        mixed.insert(int(draws.integers(len(mixed) + 1)), path)
    return mixed, {i for i, path in enumerate(mixed) if path in chosen}


def main() -> None:
    """Print what is found and what it does to the threshold."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--data", type=Path, required=True)
    ask.add_argument("--class", dest="name", default="bottle")
    ask.add_argument("--seeds", type=int, default=10)
    ask.add_argument("--mixes", type=int, default=5)
    ask.add_argument("--share", type=float, default=0.05)
    given = ask.parse_args()
    folder: ClassFolder = find_class(given.data, given.name)
    good = list(folder.train)
    defects = [test for test in folder.test if test.is_defective]

    thresholds = []
    for seed in range(given.seeds):
        learned, _, _ = calibrate(good, seed)
        assert learned.threshold is not None
        assert learned.cleaning is not None
        thresholds.append(learned.threshold.value)
        print(
            f"clean, seed {seed}: threshold {thresholds[-1]:.4f}, {len(learned.cleaning.unlike)} left out, {len(learned.unconfirmed)} held-out ones marked",
            flush=True,
        )
    mean, spread = float(np.mean(thresholds)), float(np.std(thresholds, ddof=1))
    print(f"clean: threshold {mean:.4f} ± {spread:.4f} over {given.seeds} seeds")
    for seed in range(given.mixes):
        paths, bad = mix(good, defects, given.share, seed)
        for clean in (True, False):
            learned, backend, _ = calibrate(paths, 0, clean=clean)
            assert learned.threshold is not None
            tested = evaluate(folder, learned.model, backend)
            held = set(learned.held_out)
            flagged = (
                set() if learned.cleaning is None else set(learned.cleaning.unlike) | set(learned.cleaning.unconfirmed)
            )
            value = learned.threshold.value
            print(
                f"mix {seed}, {'cleaned' if clean else 'as it is'}: {len(bad & flagged)} of {len(bad)} defective found ({len(bad & held)} of them "
                f"held out), {len(flagged - bad)} of {len(paths) - len(bad)} good ones with them; threshold {value:.4f} ({(value - mean) / spread:+.1f} spreads); "
                f"test: {tested.missed(value)} of {len(defects)} missed, {tested.rejected(value)} good rejected, image AUROC {tested.metrics.image_auroc:.4f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
