"""What a calibration beside a daemon costs either of them.

    python tests/benchmarks/beside.py --pictures ../shared/data/bottle/train/good

A daemon with simulated cameras runs alone, beside a calibration that knows nothing of it, and beside one that gives way
(as `inspectd calibrate` does where a daemon answers), in turns; a calibration that ends begins again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inspectd.bench.daemon import Line, measure
from inspectd.bench.models import Kind
from inspectd.simplenet.backbone import EMBEDDED, EMBEDDED_LAYERS

CALIBRATE = """
import os, sys
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
from contextlib import nullcontext
from calibrate.acquire.from_daemon import giving_way
from inspectd.cli import main
with giving_way() if sys.argv[1] == "gives way" else nullcontext():
    main(["calibrate", *sys.argv[2:]])
"""
WAYS = ("alone", "beside", "gives way")
WARM_UP_S = 12.0


@contextmanager
def calibrating(way: str, pictures: Path, folder: Path) -> Iterator[None]:
    """Have a calibration running all the time, in a session of its own."""
    if way == "alone":
        yield
        return
    line = ["--camera", str(pictures), "--results_path", str(folder), "--run_name", "beside"]
    shell = 'while "$@"; do :; done'
    command = ["sh", "-c", shell, "sh", sys.executable, "-c", CALIBRATE, way, *line]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(WARM_UP_S)
        yield
    finally:
        subprocess.run(["pkill", "-s", str(process.pid)], check=False)
        process.wait()


def main() -> None:
    """Print a row for each way and round."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--pictures", type=Path, required=True)
    ask.add_argument("--cameras", type=int, default=2)
    ask.add_argument("--fps", type=float, default=5)
    ask.add_argument("--size", type=int, default=256)
    ask.add_argument("--seconds", type=float, default=10)
    ask.add_argument("--rounds", type=int, default=2)
    given = ask.parse_args()
    kind = Kind(EMBEDDED, EMBEDDED_LAYERS, given.size, given.size)
    line = Line(kind, "auto", "auto", (640, 480), given.cameras, given.fps, given.seconds)
    with tempfile.TemporaryDirectory() as name:
        for _ in range(given.rounds):
            for way in WAYS:
                with calibrating(way, given.pictures, Path(name)):
                    row = measure(line)
                print(
                    f"{way:10} p50 {row.p50_ms:6.1f} ms, p99 {row.p99_ms:6.1f} ms, {row.frames_per_s:.1f} a second",
                    flush=True,
                )


if __name__ == "__main__":
    main()
