"""What switching models by command costs a line that runs.

    python tests/benchmarks/switching.py                      # this machine's CPU
    python tests/benchmarks/switching.py --device cuda --cameras 8 --fps 30

A daemon with simulated cameras runs quietly and with one camera's model switched again and again, in turns.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from inspectd.bench.models import Kind, random_models
from inspectd.client import Control, Subscription
from inspectd.percentiles import percentile
from inspectd.simplenet import bundle
from inspectd.simplenet.backbone import EMBEDDED, EMBEDDED_LAYERS
from inspectd.wire.requests import ModelRequest

START_S = 180.0


def write_models(folder: Path, kind: Kind) -> list[Path]:
    """Write two models with one backbone."""
    paths = []
    for name, model in zip(("one", "other"), random_models(kind, 2), strict=True):
        (folder / name).mkdir()
        bundle.save(folder / name, model)
        paths.append(folder / name)
    return paths


def ask_for_model(ask: argparse.ArgumentParser) -> None:
    """Let the command line say on what device which network judges."""
    ask.add_argument("--device", default="auto")
    ask.add_argument("--backbone", default=EMBEDDED)
    ask.add_argument("--layers", default=",".join(EMBEDDED_LAYERS))
    ask.add_argument("--size", type=int, default=224)


def kind_of(given: argparse.Namespace) -> Kind:
    """Return the network that the command line asks for."""
    return Kind(given.backbone, tuple(given.layers.split(",")), given.size, given.size)


def main() -> None:
    """Print a row for each turn."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask_for_model(ask)
    ask.add_argument("--cameras", type=int, default=2)
    ask.add_argument("--fps", type=float, default=5)
    ask.add_argument("--seconds", type=float, default=15)
    ask.add_argument("--rounds", type=int, default=3)
    ask.add_argument("--switches", type=int, default=0, help="so many in a turn, evenly; 0: one after the other")
    given = ask.parse_args()
    kind = kind_of(given)
    with tempfile.TemporaryDirectory(prefix="inspectd-switching-") as name:
        folder = Path(name)
        torch.manual_seed(0)
        models = write_models(folder, kind)
        cameras = "\n".join(
            f'  - {{name: c{i}, source: "sim://line?seed={i}&fps={given.fps:g}&width=640&height=480&ahead=12", '
            f"model: {models[0]}, deadline_ms: 1000, open_timeout_ms: 60000}}"
            for i in range(given.cameras)
        )
        (folder / "inspectd.yaml").write_text(
            f"engine: {{device: {given.device}}}\ncameras:\n{cameras}\n"
            f'publish: {{bind: "ipc://{folder}/verdicts"}}\ncontrol: {{bind: "ipc://{folder}/control"}}\n'
            f'metrics: {{listen: "127.0.0.1:0"}}\njournal: {{path: {folder}/journal.db}}\narchive: {{path: {folder}/archive}}\n'
        )
        with (folder / "log").open("w+") as log:
            command = [sys.executable, "-m", "inspectd", "run", "--config", str(folder / "inspectd.yaml")]
            daemon = subprocess.Popen(command, stderr=log)
            try:
                measure(folder, models, given)
            finally:
                daemon.terminate()
                daemon.wait()
        print((folder / "log").read_text()[-1500:] if daemon.returncode else "", end="")


def measure(folder: Path, models: list[Path], given: argparse.Namespace) -> None:
    """Take turns, and print what a subscriber saw in each."""
    with (
        Subscription(f"ipc://{folder}/verdicts", "verdict/", high_water=0) as verdicts,
        Control(f"ipc://{folder}/control") as control,
    ):
        seen: set[str] = set()
        give_up_s = time.monotonic() + START_S
        while len(seen) < given.cameras:
            assert time.monotonic() < give_up_s, (folder / "log").read_text()
            if (message := verdicts.receive(0.2)) is not None:
                seen.add(message.header.camera)
        time.sleep(3)
        turn = 0
        print(
            f"{'turn':10} {'switches':>8} {'s each':>7} {'verdicts':>8} {'faults':>6} {'p50 ms':>7} {'p99 ms':>7}  of c0"
        )
        last: dict[str, int] = {}
        for _ in range(given.rounds):
            for way in ("quiet", "switching"):
                while verdicts.receive(0) is not None:
                    pass  # of the turn before
                began_s, took = time.monotonic(), []
                while (now_s := time.monotonic()) < began_s + given.seconds:
                    if way == "switching" and (
                        not given.switches or now_s >= began_s + len(took) * given.seconds / given.switches
                    ):
                        turn += 1
                        control.ask(ModelRequest(camera="c0", path=str(models[turn % 2]), by="benchmark"), 120)
                        took.append(time.monotonic() - now_s)
                    else:
                        time.sleep(0.05)
                show(way, took, verdicts, last)


def show(way: str, took: list[float], verdicts: Subscription, last: dict[str, int]) -> None:
    """Print one row from what has come."""
    late: dict[bool, list[float]] = {True: [], False: []}
    count = faults = 0
    while (message := verdicts.receive(0.0)) is not None:
        header = message.header
        count += 1
        faults += header.verdict == "fault"
        assert last.get(header.camera, header.seq - 1) < header.seq
        last[header.camera] = header.seq
        if header.t.captured is not None:
            late[header.camera == "c0"].append((header.t.published - header.t.captured) / 1e6)
    both = [*late[True], *late[False]]
    mean = sum(took) / len(took) if took else 0.0
    print(
        f"{way:10} {len(took):8} {mean:7.2f} {count:8} {faults:6} {percentile(both, 0.5):7.1f} "
        f"{percentile(both, 0.99):7.1f}  {percentile(late[True], 0.99):.1f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
