"""What other cameras feel of one that misbehaves.

    python tests/benchmarks/neighbours.py
    python tests/benchmarks/neighbours.py --plugged-in

A daemon with two cameras: one that is simulated and well, and another one, MJPEG over HTTP or (a fake) on USB, that is
well and misbehaves in turns, as short stretches that follow each other, so that a machine's moods fall on all of them.
Printed for each stretch's kind: the good camera's latency from capture to publication, p50 and p99, over all its
stretches, and that to the well ones'. The server of an MJPEG camera runs with idle priority: a camera has a processor
of its own.
"""

from __future__ import annotations

import argparse
import functools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import psutil
from cameras_on_loopback import free_port
from conftest import write_small_model
from reconnecting import captures_of

from inspectd.client import Subscription
from inspectd.model.calibration import CameraRecord
from inspectd.percentiles import percentile

SIZE = (320, 240)
WAYS = ("well", "flaps", "floods", "torn", "half", "endless", "killed", "stopped", "away")
WAYS_PLUGGED_IN = ("well", "leaks", "hang", "frozen", "unplugged")
LEAKS = "1_000_000"
"""Bytes with each picture: a colour picture of 640×480."""
SETTLE_S = 2.0
START_S = 6.0
SERVER = Path(__file__).resolve().parents[1] / "servers" / "mjpeg.py"


class BadCamera(Protocol):
    """A camera that misbehaves when it is told to."""

    source: str
    size: tuple[int, int]
    environment: Mapping[str, str]
    """What the daemon must know besides."""

    def be(self, way: str) -> None:
        """Begin to misbehave in a way, or to be well."""

    def harm_child(self, way: str, daemon: int) -> None:
        """Do what is done to its capture child again and again."""

    def end(self) -> None:
        """End it."""


class PluggedIn(BadCamera):
    """A fake V4L2 camera, which is steered by a file."""

    def __init__(self, folder: Path) -> None:
        self.source, self.size = "0", (64, 48)
        self._script = folder / "camera"
        self.be("well")
        fakes = Path(__file__).resolve().parents[1] / "fakes"
        self.environment = {"FAKE_CAMERA": str(self._script), "PYTHONPATH": str(fakes), "FAKE_LEAKS": LEAKS}

    def be(self, way: str) -> None:
        """Begin to misbehave in a way, or to be well."""
        scratch = self._script.with_suffix(".new")
        scratch.write_text("ok" if way == "well" else way)
        scratch.rename(self._script)

    def harm_child(self, way: str, daemon: int) -> None:
        """It harms itself."""

    def end(self) -> None:
        """It ends with its capture child."""


class OnNetwork(BadCamera):
    """The server, and what is done to it or to its capture child."""

    size = SIZE
    environment: Mapping[str, str] = {}

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.source = f"http://127.0.0.1:{self.port}/"
        self._good: int | None = None
        self._script = folder / "word"
        self._script.write_text("well")
        command = [sys.executable, str(SERVER), str(self.port), *map(str, SIZE), "25", str(self._script)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        os.sched_setscheduler(self.process.pid, os.SCHED_IDLE, os.sched_param(0))
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def be(self, way: str) -> None:
        """Begin to misbehave in a way, or to be well."""
        self.process.send_signal(signal.SIGSTOP if way == "away" else signal.SIGCONT)
        scratch = self._script.with_suffix(".new")
        scratch.write_text(way if way in ("flaps", "floods", "torn", "half", "endless") else "well")
        scratch.rename(self._script)

    def harm_child(self, way: str, daemon: int) -> None:
        """Kill or stop the capture child again and again, as soon as there is one."""
        if way in ("killed", "stopped"):
            for child in set(captures_of(daemon)) - {self._other(daemon)}:
                os.kill(child, signal.SIGKILL if way == "killed" else signal.SIGSTOP)

    def end(self) -> None:
        """End its server."""
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()

    def _other(self, daemon: int) -> int:
        """Return the good camera's capture child, which has no connection."""
        if self._good is None:
            self._good = next(pid for pid in captures_of(daemon) if not psutil.Process(pid).net_connections("tcp"))
        return self._good


def main() -> None:
    """Print the table."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--rounds", type=int, default=10)
    ask.add_argument("--seconds", type=float, default=6.0, help="of each stretch, beside what it needs to settle")
    ask.add_argument("--plugged-in", action="store_true", help="a camera on USB, not on the network")
    ask.add_argument("--ways", help="of misbehaving, with commas between them")
    given = ask.parse_args()
    ways = given.ways.split(",") if given.ways else WAYS_PLUGGED_IN if given.plugged_in else WAYS
    found: dict[str, list[float]] = defaultdict(list)
    verdicts: dict[str, int] = defaultdict(int)
    with tempfile.TemporaryDirectory(prefix="inspectd-neighbours-") as name:
        folder = Path(name)
        bad: BadCamera = PluggedIn(folder) if given.plugged_in else OnNetwork(folder)
        model = write_small_model(folder / "model", 1e6, camera=CameraRecord("fit", None, *SIZE))
        other = write_small_model(folder / "other", 1e6, camera=CameraRecord("fit", None, *bad.size))
        config, endpoint = folder / "inspectd.yaml", f"ipc://{folder}/p"
        config.write_text(
            "cameras:\n"
            f'  - {{name: bad, source: "{bad.source}", model: {other}}}\n'
            f'  - {{name: good, source: "sim://line?fps=20&width=320&height=240&ahead=12", model: {model}}}\n'
            f'publish: {{bind: "{endpoint}"}}\ncontrol: {{bind: "ipc://{folder}/c"}}\n'
            'metrics: {listen: "127.0.0.1:0"}\njournal: {path: null}\narchive: {max_gb: 0}\n'
        )
        command = [sys.executable, "-m", "inspectd", "run", "--config", str(config)]
        with (
            subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, **bad.environment}) as daemon,
            Subscription(endpoint, high_water=0) as ear,
        ):
            try:
                _listen(ear, START_S, lambda: None)
                for _ in range(given.rounds):
                    for way in ways:
                        bad.be(way)
                        harm = functools.partial(bad.harm_child, way, daemon.pid)
                        _listen(ear, SETTLE_S, harm)
                        of_good, of_bad = _listen(ear, given.seconds, harm)
                        found[way] += of_good
                        verdicts[way] += of_bad
                        bad.be("well")
                        _listen(ear, SETTLE_S, lambda: None)
            finally:
                daemon.terminate()
                bad.end()
    usual = percentile(found["well"], 0.99)
    print("| the bad camera | its verdicts a second | pictures of the good one | p50, ms | p99, ms | p99 to well |")
    print("|---|---|---|---|---|---|")
    for way, took in found.items():
        seconds = given.rounds * given.seconds
        p99 = percentile(took, 0.99)
        print(
            f"| {way} | {verdicts[way] / seconds:.0f} | {len(took)} | {percentile(took, 0.5):.1f} | {p99:.1f} | "
            f"{p99 / usual:.2f} |"
        )


def _listen(ear: Subscription, seconds: float, harm: Callable[[], None]) -> tuple[list[float], int]:
    """Listen for a while: the good camera's latencies in ms, and how many verdicts the bad one had."""
    took, of_bad, until_s, next_s = [], 0, time.monotonic() + seconds, 0.0
    while time.monotonic() < until_s:
        if time.monotonic() > next_s:
            harm()
            next_s = time.monotonic() + 0.25
        message = ear.receive(0.05)
        if message is None or (verdict := message.verdict) is None:
            continue
        of_bad += verdict.camera == "bad"
        if verdict.camera == "good" and verdict.t.captured is not None:
            took.append((verdict.t.published - verdict.t.captured) / 1e6)
    return took, of_bad


if __name__ == "__main__":
    main()
