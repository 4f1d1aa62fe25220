"""What an archive, and a second model, cost the cameras beside them.

    python tests/benchmarks/beside_line.py                       # this machine's CPU
    python tests/benchmarks/beside_line.py --device cuda --fps 30

Daemons with the same two cameras in turns: with neither; with a share of the pictures of both cameras kept; with a second model
at the first camera. What is printed is the other camera's latency.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from switching import ask_for_model, kind_of, write_models

from inspectd.client import Subscription
from inspectd.percentiles import percentile

WAYS = ("neither", "archive", "shadow")
WARM_S = 3.0


def configuration(folder: Path, way: str, given: argparse.Namespace) -> str:
    """Return the configuration of one way."""
    shadow = f", shadow: {folder}/other" if way == "shadow" else ""
    cameras = "\n".join(
        f'  - {{name: c{i}, source: "sim://line?seed={i}&fps={given.fps:g}&width={given.width}&height={given.height}'
        f'&ahead=12", model: {folder}/one, deadline_ms: 1000, open_timeout_ms: 60000{shadow if i == 0 else ""}}}'
        for i in range(2)
    )
    archive = f"path: {folder}/archive, ok_share: {given.share:g}" if way == "archive" else "max_gb: 0"
    return (
        f"engine: {{device: {given.device}}}\ncameras:\n{cameras}\n"
        f'publish: {{bind: "ipc://{folder}/verdicts"}}\ncontrol: {{bind: "ipc://{folder}/control"}}\n'
        f'metrics: {{listen: "127.0.0.1:0"}}\njournal: {{path: {folder}/journal.db}}\narchive: {{{archive}}}\n'
    )


def run(folder: Path, way: str, given: argparse.Namespace) -> tuple[list[float], str]:
    """Return the other camera's latencies in ms, and what the way itself has done."""
    config = folder / "inspectd.yaml"
    config.write_text(configuration(folder, way, given))
    latencies: list[float] = []
    done = ""
    with (
        Subscription(f"ipc://{folder}/verdicts", "", high_water=0) as everything,
        subprocess.Popen(
            [sys.executable, "-m", "inspectd", "run", "--config", str(config)], stderr=subprocess.DEVNULL
        ) as daemon,
    ):
        try:
            began_ns = None
            while True:
                message = everything.receive(180)
                if message is None:
                    raise SystemExit("the daemon says nothing")
                if (daemon_state := message.daemon) is not None and way == "archive" and daemon_state.archive:
                    done = f"{daemon_state.archive.kept} pictures kept, {sum(daemon_state.archive.lost.values())} lost"
                if (state := message.state) is not None and state.shadow is not None:
                    done = f"{state.shadow.compared} pictures compared"
                verdict = message.verdict
                if verdict is None or verdict.score is None or verdict.t.captured is None:
                    continue
                began_ns = began_ns or message.received_ns
                elapsed_s = (message.received_ns - began_ns) / 1e9
                if elapsed_s > WARM_S + given.seconds:
                    return latencies, done
                if elapsed_s > WARM_S and verdict.camera == "c1":
                    latencies.append((message.received_ns - verdict.t.captured) / 1e6)
        finally:
            daemon.terminate()


def main() -> None:
    """Print a row for each turn, and the means."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask_for_model(ask)
    ask.add_argument("--width", type=int, default=1280)
    ask.add_argument("--height", type=int, default=960)
    ask.add_argument("--fps", type=float, default=5)
    ask.add_argument("--seconds", type=float, default=20)
    ask.add_argument("--share", type=float, default=1, help="of pictures that are ok and kept; all others always are")
    ask.add_argument("--ways", default=",".join(WAYS))
    ask.add_argument("--rounds", type=int, default=4)
    given = ask.parse_args()
    kind = kind_of(given)
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in given.ways.split(",")}
    with tempfile.TemporaryDirectory(prefix="inspectd-beside-") as name:
        folder = Path(name)
        torch.manual_seed(0)
        write_models(folder, kind)
        for _ in range(given.rounds):
            for way in given.ways.split(","):
                latencies, done = run(folder, way, given)
                found[way].append((percentile(latencies, 0.5), percentile(latencies, 0.99)))
                p50, p99 = found[way][-1]
                print(f"{way:8} {len(latencies):5} verdicts, p50 {p50:5.1f} ms, p99 {p99:5.1f} ms; {done}", flush=True)
    for way, rows in found.items():
        p50, p99 = (sum(row[i] for row in rows) / len(rows) for i in (0, 1))
        print(f"{way:8} mean p50 {p50:.1f} ms, mean p99 {p99:.1f} ms")


if __name__ == "__main__":
    main()
