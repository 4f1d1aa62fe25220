"""What publishing and keeping verdicts costs, and what a subscriber that stops costs the others.

python tests/benchmarks/line.py rate                 # 1,000 verdicts a second through publisher and journal
python tests/benchmarks/line.py stopped              # a daemon; one of two subscribers is stopped for a minute
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import zmq

from inspectd.bench.models import Kind, write_random_model
from inspectd.client import Subscription
from inspectd.history import reading
from inspectd.history.file import Limits
from inspectd.history.journal import Journal
from inspectd.percentiles import percentile
from inspectd.records import Finding, Mask, Outcome, Region, Stamp, Verdict
from inspectd.simplenet.backbone import EMBEDDED, EMBEDDED_LAYERS
from inspectd.wire.messages import VerdictMessage
from inspectd.wire.publisher import Publisher

LISTENER = """
import sys
from inspectd.client import Subscription
with Subscription(sys.argv[1], "verdict/", "mask/", "daemon/", high_water=0) as heard:
    count = 0
    while (message := heard.receive(3)) is not None:
        count += message.topic.name == "verdict"
print(count)
"""
STOPPED = """
import sys
from inspectd.following import Follower, Missed
with Follower(sys.argv[1], sys.argv[2]) as follower:
    heard, missed = {}, 0
    while True:
        one = follower.receive(1)
        if isinstance(one, Missed):
            missed += one.last - one.first + 1
        elif one is not None:
            heard.setdefault(one.camera, []).append(one.seq)
            print(one.camera, one.seq, follower.filled, missed, flush=True)
"""


def cpu_s(name: str) -> float:
    """Return how long a thread of this process has run."""
    (thread,) = [one for one in threading.enumerate() if one.name == name]
    return int(Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text().split()[0]) / 1e9


def rate(given: argparse.Namespace) -> None:
    """Feed both, and print what each of them used."""
    with tempfile.TemporaryDirectory() as folder:
        path, endpoint = Path(folder) / "journal.db", f"ipc://{folder}/verdicts"
        journal = Journal(path, "e1", Limits(30, 1e9))
        journal.start()
        publisher = Publisher(zmq.Context(), endpoint, "all", "e1")
        publisher.bind()
        publisher.start(None, keep=journal.put)  # type: ignore[arg-type]
        listener = subprocess.Popen([sys.executable, "-c", LISTENER, endpoint], stdout=subprocess.PIPE, text=True)
        time.sleep(2)
        mask = Mask(np.zeros((32, 32), np.uint8), (0, 0, 640, 480))
        regions = tuple(Region(10 * i, 20, 30, 40, 1200, 1.5) for i in range(3))
        finding = Finding(
            Outcome.NG,
            None,
            None,
            1.5,
            1.0,
            0.01,
            regions,
            "bench 0123456789ab",
            (640, 480),
            (0, 0, 640, 480),
            mask,
            1,
            2,
        )
        before = {name: cpu_s(name) for name in ("publisher", "journal")}
        began_s, seq, total = time.monotonic(), 0, int(given.rate * given.seconds)
        while seq < total:
            while seq < min(total, (time.monotonic() - began_s) * given.rate):
                seq += 1
                publisher.put(Verdict("top", seq, finding, 0, Stamp("top", seq, time.monotonic_ns()), queued_ns=1))
            time.sleep(0.002)
        journal.flush(10)
        took_s = time.monotonic() - began_s
        used = {name: cpu_s(name) - before[name] for name in before}
        kept = len(reading.verdicts_after(path, "top", "e1", 0, 10**7, 10**10)[0])
        heard = int(listener.communicate()[0])
        bytes_ = path.stat().st_size
        journal.stop()
        publisher.stop()
    print(f"{total} verdicts with masks in {took_s:.1f} s: {heard} heard, {kept} kept, {bytes_ / total:.0f} bytes each")
    for name, seconds in used.items():
        print(f"{name}: {seconds / total * 1e6:.0f} microseconds of CPU a verdict")


def stopped(given: argparse.Namespace) -> None:
    """Run a daemon with two cameras; print a row before, while and after one of two subscribers is stopped."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_random_model(folder / "model", Kind(EMBEDDED, EMBEDDED_LAYERS, 224, 224))
        published, control = f"ipc://{folder}/verdicts", f"ipc://{folder}/control"
        cameras = "\n".join(
            f'  - {{name: c{i}, source: "sim://line?seed={i}&fps={given.fps:g}&width=640&height=480&ahead=12", '
            f"model: {folder}/model, deadline_ms: 1000}}"
            for i in range(2)
        )
        (folder / "inspectd.yaml").write_text(
            f'cameras:\n{cameras}\npublish: {{bind: "{published}"}}\ncontrol: {{bind: "{control}"}}\n'
            f'metrics: {{listen: "127.0.0.1:0"}}\njournal: {{path: {folder}/journal.db}}\narchive: {{path: {folder}/archive}}\n'
        )
        command = [sys.executable, "-m", "inspectd", "run", "--config", str(folder / "inspectd.yaml")]
        daemon = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        other = None
        try:
            with Subscription(published, "", high_water=0) as everything:
                while everything.receive(60).verdict is None:  # type: ignore[union-attr]
                    pass
                with (folder / "other").open("w") as out:
                    other = subprocess.Popen([sys.executable, "-c", STOPPED, published, control], stdout=out)
                memory = psutil.Process(daemon.pid)
                listen(everything, 5)
                for way, seconds in (("both", given.seconds), ("stopped", given.seconds), ("both again", 15.0)):
                    if way == "stopped":
                        os.kill(other.pid, signal.SIGSTOP)
                    if way == "both again":
                        os.kill(other.pid, signal.SIGCONT)
                    before_mb = memory.memory_info().rss / 1e6
                    most_mb, latencies, last = listen(everything, seconds, memory)
                    print(
                        f"{way:10} {len(latencies):6} verdicts, p50 {percentile(latencies, 0.5):5.1f} ms, "
                        f"p99 {percentile(latencies, 0.99):5.1f} ms, memory {before_mb:.0f} MB, at most "
                        f"{most_mb - before_mb:+.1f}",
                        flush=True,
                    )
        finally:
            daemon.terminate()
            daemon.wait()
            if other is not None:
                other.kill()
                other.wait()
        lines = [line.split() for line in (folder / "other").read_text().splitlines()]
        for camera in ("c0", "c1"):
            seqs = [int(line[1]) for line in lines if line[0] == camera]
            whole = seqs == list(range(seqs[0], seqs[0] + len(seqs)))
            print(
                f"the stopped one heard {camera} {seqs[0]} to {seqs[-1]} (published: {last[camera]}), without a gap: {whole}"
            )
        print(f"filled from the journal: {lines[-1][2]}, missed: {lines[-1][3]}")


def listen(
    everything: Subscription, seconds: float, memory: psutil.Process | None = None
) -> tuple[float, list[float], dict[str, int]]:
    """Return the daemon's largest memory, latencies in ms, and the last numbers."""
    until_s, most_mb, latencies, last = time.monotonic() + seconds, 0.0, [], {}
    next_s = 0.0
    while time.monotonic() < until_s:
        message = everything.receive(0.1)
        verdict: VerdictMessage | None = message.verdict if message is not None else None
        if message is not None and verdict is not None and verdict.t.captured is not None:
            latencies.append((message.received_ns - verdict.t.captured) / 1e6)
            last[verdict.camera] = verdict.seq
        if memory is not None and time.monotonic() > next_s:
            next_s = time.monotonic() + 0.5
            most_mb = max(most_mb, memory.memory_info().rss / 1e6)
    return most_mb, latencies, last


def main() -> None:
    """Choose."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("what", choices=("rate", "stopped"))
    ask.add_argument("--rate", type=float, default=1000)
    ask.add_argument("--fps", type=float, default=30)
    ask.add_argument("--seconds", type=float, default=60)
    given = ask.parse_args()
    {"rate": rate, "stopped": stopped}[given.what](given)


if __name__ == "__main__":
    main()
