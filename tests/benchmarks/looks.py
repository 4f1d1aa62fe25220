"""What it takes to look whether a picture may be judged, before the network sees it: light, scene, colours, lens.

python tests/benchmarks/looks.py --width 1920 --height 1080
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as `inspectd run` does

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cv2
from conftest import small_artefact

from inspectd.config import CameraConfig
from inspectd.line.fitness import find_problem
from inspectd.line.recipe import recipe_for
from inspectd.model.calibration import CameraRecord
from inspectd.model.framing import find_framing, find_tint, shrink, tint
from inspectd.model.optics import Optics, limits_of, look_through, places
from inspectd.percentiles import percentile
from inspectd.sim.line import Line

PARTS = 12


def main() -> None:
    """Print the median and the 99th percentile."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--width", type=int, default=1920)
    ask.add_argument("--height", type=int, default=1080)
    ask.add_argument("--rounds", type=int, default=500)
    given = ask.parse_args()
    cv2.setNumThreads(1)
    line, area = Line(0, width=given.width, height=given.height), (0, 0, given.width, given.height)
    parts = [line.render(i) for i in range(PARTS)]
    middle = np.median(np.stack([places(part, area, 255) for part in parts]), axis=0)
    lenses = [lens for part in parts if (lens := look_through(part, area, 255)) is not None]
    optics = Optics(
        tuple(int(v) for v in np.rint(10 * middle)),
        limits_of([1.0], 0.5, 2.0),
        limits_of([lens.noise for lens in lenses], None, 99.0),
        limits_of([lens.sharpness or 0.0 for lens in lenses], 0.0, None),
        limits_of([lens.edges for lens in lenses], 0.0, None),
    )
    model = small_artefact(
        1.0,
        camera=CameraRecord("0", None, given.width, given.height),
        framing=find_framing([shrink(part) for part in parts]),
        tint=find_tint([tint(part) for part in parts]),
        optics=optics,
        statistics={"grey_lowest": 0.0, "grey_highest": 255.0, "contrast_mean": 1.0},
    )
    assert model.calibration is not None
    assert None not in (model.calibration.framing, model.calibration.tint), "some of it would not be looked at"
    recipe = recipe_for(CameraConfig(name="top", source=0, model="m"), model)
    took = []
    for i in range(given.rounds):
        began_s = time.perf_counter()
        found = find_problem(recipe, parts[i % PARTS], is_camera=True)
        took.append((time.perf_counter() - began_s) * 1000)
        assert found is None, found
    print(f"{given.width}×{given.height}: median {percentile(took, 0.5):.2f} ms, p99 {percentile(took, 0.99):.2f} ms")


if __name__ == "__main__":
    main()
