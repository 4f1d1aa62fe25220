"""What five browsers cost: the daemon's latency without and with them, in turns; and how responsive their page stays.

    python tests/benchmarks/page_load.py [--cameras 16] [--fps 30] [--seconds 20] [--rounds 4]

Simulated cameras, a model that costs little, one process each for the daemon and the page's server. Of the five browsers one is
Chromium, which counts its long tasks; four take and answer as its script does. All five have the idle class of the scheduler:
on a line they run on panel PCs, not on the inspection's. Latency is from capture to publication, as the journal has it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from chromium import chromium
from conftest import write_small_model
from daemon_process import DaemonProcess
from hmi_process import HmiProcess

from inspectd.history.reading import verdicts_before

TAKING = """
import json, os, struct, sys
from websockets.sync.client import connect
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
with connect(sys.argv[1], additional_headers={"origin": sys.argv[2]}, max_size=None) as socket:
    while True:
        data = socket.recv()
        (length,) = struct.unpack_from("<I", data)
        socket.send(json.dumps({"ack": json.loads(data[4 : 4 + length])["n"]}))
"""
LONG_TASKS = """
window.long = [];
new PerformanceObserver((list) => list.getEntries().forEach((one) => window.long.push(one.duration)))
  .observe({ entryTypes: ["longtask"] });
window.frames_ = [];
let last = performance.now();
requestAnimationFrame(function next(now) { window.frames_.push(now - last); last = now; requestAnimationFrame(next); });
"""


def latencies_ms(journal: Path, since_ns: int, until_ns: int) -> list[float]:
    """Return those of the verdicts that were published in a while."""
    found = []
    for _, header in verdicts_before(journal, None, None, 200_000):
        times = json.loads(header)["t"]
        if times["published"] < since_ns:
            break
        if times["published"] <= until_ns and times["captured"] is not None:
            found.append((times["published"] - times["captured"]) / 1e6)
    return sorted(found)


def main() -> None:
    """Run, and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--cameras", type=int, default=16)
    arguments.add_argument("--fps", type=float, default=30)
    arguments.add_argument("--seconds", type=float, default=20)
    arguments.add_argument("--rounds", type=int, default=4)
    asked = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = write_small_model(folder / "model", threshold=1e6)
        source = f"sim://line?fps={asked.fps}&width=64&height=64&ahead=30"
        cameras = ", ".join(
            f'{{name: cam-{i:02d}, source: "{source}&seed={i}", model: {model}, deadline_ms: 5000}}'
            for i in range(asked.cameras)
        )
        with (
            DaemonProcess(folder / "d", cameras) as daemon,
            HmiProcess(folder / "h", daemon.endpoint, daemon.control, "--config", str(daemon.config)) as server,
        ):
            time.sleep(15)
            ratios = []
            for turn in range(asked.rounds):
                without = _measure(daemon, asked.seconds)
                with_ = _watched(daemon, server, asked.seconds, asked.cameras)
                ratios.append(with_[1] / without[1])
                print(
                    f"round {turn + 1}: without p50 {without[0]:.2f} p99 {without[1]:.2f} ms ({without[2]} verdicts); "
                    f"with five browsers p50 {with_[0]:.2f} p99 {with_[1]:.2f} ms ({with_[2]})",
                    flush=True,
                )
            print(f"p99 with five browsers: {statistics.median(ratios):.3f} times that without (median of the rounds)")


def _measure(daemon: DaemonProcess, seconds: float) -> tuple[float, float, int]:
    began_ns = time.monotonic_ns()
    time.sleep(seconds)
    until_ns = time.monotonic_ns()
    time.sleep(1.5)  # the journal writes
    found = latencies_ms(daemon.journal, began_ns, until_ns)
    return found[len(found) // 2], found[int(len(found) * 0.99)], len(found)


def _watched(daemon: DaemonProcess, server: HmiProcess, seconds: float, cameras: int) -> tuple[float, float, int]:
    address = f"{server.origin.replace('http', 'ws')}/feed"
    command = [sys.executable, "-c", TAKING, address, server.origin]
    takers = [subprocess.Popen(command) for _ in range(4)]
    try:
        with chromium() as browser:
            page = browser.new_context(bypass_csp=True, viewport={"width": 1024, "height": 768}).new_page()
            page.goto(f"{server.origin}/")
            page.wait_for_function(f"document.querySelectorAll('.tile:not(.stale)').length === {cameras}")
            for pid in _descendants(os.getpid(), "chromium"):
                os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
            time.sleep(3)
            page.evaluate(LONG_TASKS)
            found = _measure(daemon, seconds)
            long_ms = sorted(page.evaluate("window.long"))
            frames_ms = sorted(page.evaluate("window.frames_"))
            tasks = f"{len(long_ms)} tasks of more than 50 ms" + (f", the longest {long_ms[-1]:.0f}" if long_ms else "")
            print(f"  Chromium: {tasks}; frames p95 {frames_ms[int(len(frames_ms) * 0.95)]:.0f} ms ({len(frames_ms)})")
            return found
    finally:
        for one in takers:
            one.kill()
            one.wait()


def _descendants(pid: int, name: str) -> list[int]:
    import psutil

    return [one.pid for one in psutil.Process(pid).children(recursive=True) if name in one.name()]


if __name__ == "__main__":
    main()
