"""What a camera feels while the configuration is read again for the sake of others.

    python tests/benchmarks/reloading.py [--rounds 50]

A daemon with two simulated cameras at 30 pictures a second. In each round `side` is left as it is, and something else is
done: the threshold of `top` is changed, its model is exchanged, a third camera comes, and goes, the file is broken
(refused), and mended. Before each is a stretch of the same length in which nothing is done. Printed: frames of `side` that
got no verdict, in both kinds of stretches, and its latency from capture to publication, p50 and p99, over all of them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from conftest import write_small_model
from daemon_process import DaemonProcess

from inspectd.client import Control, RefusalError
from inspectd.percentiles import percentile
from inspectd.wire.requests import ReloadRequest

STRETCH_S, SETTLE_S, START_S = 2.0, 0.5, 6.0
SOURCE = '"sim://line?fps=30&width=320&height=240"'


class Line:
    """The daemon, its configuration, and which stretch each moment belongs to."""

    def __init__(self, folder: Path) -> None:
        self._models = [write_small_model(folder / name, threshold=limit) for name, limit in (("a", 1e5), ("b", 1e6))]
        self._top, self._third, self._is_broken, self._turn = "", False, False, 0
        self.daemon = DaemonProcess(folder / "daemon", f"{self._camera('top')}, {self._camera('side')}")
        self._rest = self.daemon.config.read_text().split("\n", 1)[1]
        self._control = Control(self.daemon.control)
        self.refused = 0

    def close(self) -> None:
        """End all."""
        self._control.close()

    def _camera(self, name: str, more: str = "", model: int = 0) -> str:
        return f"{{name: {name}, source: {SOURCE}, model: {self._models[model]}, deadline_ms: 1000{more}}}"

    def change(self) -> None:
        """Do what is next, and have it read."""
        turn, self._turn = self._turn, self._turn + 1
        steps: list[Callable[[], None]] = [
            self._threshold,
            self._model,
            self._add,
            self._remove,
            self._break,
            self._mend,
        ]
        steps[turn % len(steps)]()
        cameras = [self._camera("top", self._top, turn // len(steps) % 2), self._camera("side")]
        cameras += [self._camera("third")] if self._third else []
        text = f"cameras: [{', '.join(cameras)}]\n{self._rest}"
        self.daemon.config.write_text(text.replace("name: top", "nmae: top") if self._is_broken else text)
        try:
            self._control.ask(ReloadRequest(), 60)
        except RefusalError:
            self.refused += 1

    def _threshold(self) -> None:
        self._top = f", threshold: {1000 + self._turn}"

    def _model(self) -> None:
        self._top = ""

    def _add(self) -> None:
        self._third = True

    def _remove(self) -> None:
        self._third = False

    def _break(self) -> None:
        self._is_broken = True

    def _mend(self) -> None:
        self._is_broken = False


def main() -> None:
    """Run, and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=50)
    rounds = arguments.parse_args().rounds
    stretches: list[tuple[str, int, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        line = Line(Path(folder))
        with line.daemon as daemon:
            listen(daemon, START_S)
            for _ in range(rounds):
                for kind in ("nothing", "reloads"):
                    began_ns = time.monotonic_ns()
                    if kind == "reloads":
                        line.change()
                    listen(daemon, STRETCH_S - (time.monotonic_ns() - began_ns) / 1e9)
                    stretches.append((kind, began_ns, time.monotonic_ns()))
                    listen(daemon, SETTLE_S)
            line.close()
            report([one for one in daemon.verdicts if one["camera"] == "side"], stretches)
    print(f"{rounds} times, of which {line.refused} were refused")


def listen(daemon: DaemonProcess, seconds: float) -> None:
    """Take what is published."""
    until_s = time.monotonic() + seconds
    daemon.listen(lambda _: time.monotonic() >= until_s, seconds + 30)


def report(said: list[dict[str, object]], stretches: list[tuple[str, int, int]]) -> None:
    """Print what `side` felt."""
    times = [one["t"] for one in said]
    for kind in ("nothing", "reloads"):
        spans = [(began, ended) for what, began, ended in stretches if what == kind]
        mine = [i for i, t in enumerate(times) if any(began <= t["captured"] < ended for began, ended in spans)]  # type: ignore[index]
        took = [(times[i]["published"] - times[i]["captured"]) / 1e6 for i in mine]  # type: ignore[index]
        frames = [int(str(said[i]["frame"])) for i in mine]
        missing = sum(b - a - 1 for a, b in pairwise(frames) if b - a < 10)  # longer ones lie between two stretches
        print(
            f"{kind}: {len(mine)} verdicts, {missing} frames without one, "
            f"p50 {percentile(took, 0.5):.1f} ms, p99 {percentile(took, 0.99):.1f} ms"
        )


if __name__ == "__main__":
    main()
