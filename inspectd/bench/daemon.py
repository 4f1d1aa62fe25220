"""A whole daemon, as it will run: simulated cameras, a subscriber, and somebody who scrapes the metrics."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from inspectd.addresses import free_port
from inspectd.bench.models import Kind, write_random_model
from inspectd.bench.repeated import Repeated
from inspectd.bench.rows import Row
from inspectd.client import Message, Subscription
from inspectd.errors import StartError
from inspectd.percentiles import percentile
from inspectd.wire.messages import VerdictMessage
from inspectd.wire.topics import VERDICT

RENDERED = 12
"""Different pictures that a camera shows; rendered before the first is due."""
START_S = 120.0
SETTLE_S = 3.0
"""Of the beginning nothing is counted: cameras start one after the other."""
SCRAPE_S = 1.0


@dataclass(frozen=True, slots=True)
class Line:
    """What the daemon has to do."""

    kind: Kind
    device: str
    precision: str
    picture: tuple[int, int]
    cameras: int
    fps: float
    seconds: float


def measure(line: Line) -> Row:
    """Run a daemon for a while and return what a subscriber saw; StartError when it does not come up."""
    with tempfile.TemporaryDirectory(prefix="inspectd-bench-") as name:
        folder = Path(name)
        write_random_model(folder / "model", line.kind)
        port = free_port()
        (folder / "inspectd.yaml").write_text(_configuration(line, folder, port), encoding="utf-8")
        with (folder / "log").open("w+") as log:
            command = [sys.executable, "-m", "inspectd", "run", "--config", str(folder / "inspectd.yaml")]
            daemon = subprocess.Popen(command, stderr=log)
            try:
                scraper = _Scraper(port)
                with Repeated(SCRAPE_S, scraper.scrape):
                    seen = _listen(f"ipc://{folder}/verdicts", line, daemon, folder / "log")
                memory_mb = psutil.Process(daemon.pid).memory_info().rss / 1e6  # without its capture children
            finally:
                daemon.terminate()
                daemon.wait()
    return _row(line, seen, scraper.last, memory_mb)


def _configuration(line: Line, folder: Path, port: int) -> str:
    width, height = line.picture
    cameras = "\n".join(
        f'  - {{name: camera{i}, source: "sim://line?seed={i}&fps={line.fps:g}&width={width}&height={height}'
        f'&ahead={RENDERED}", model: {folder}/model, deadline_ms: 1000, open_timeout_ms: 60000}}'
        for i in range(line.cameras)
    )
    return (
        f"engine: {{device: {line.device}, precision: {line.precision}}}\ncameras:\n{cameras}\n"
        f'publish: {{bind: "ipc://{folder}/verdicts"}}\ncontrol: {{bind: "ipc://{folder}/control"}}\n'
        f'metrics: {{listen: "127.0.0.1:{port}"}}\njournal: {{path: {folder}/journal.db}}\n'
        f"archive: {{path: {folder}/archive}}\n"
    )


def _listen(endpoint: str, line: Line, daemon: subprocess.Popen[bytes], log: Path) -> list[Message]:
    """Collect verdicts for the line's time, beginning when all cameras run."""
    cameras: set[str] = set()
    seen: list[Message] = []
    begin_ns: int | None = None
    give_up_s = time.monotonic() + START_S
    with Subscription(endpoint, "verdict/", "mask/", high_water=0) as subscription:
        while begin_ns is None or time.monotonic_ns() < begin_ns + line.seconds * 1e9:
            if daemon.poll() is not None or (begin_ns is None and time.monotonic() > give_up_s):
                raise StartError(f"The daemon of the benchmark did not run: {log.read_text().strip()[-2000:]}")
            message = subscription.receive(0.2)
            if message is None or message.topic is not VERDICT:
                continue
            if begin_ns is None:
                cameras.add(message.header.camera)
                if len(cameras) == line.cameras:
                    begin_ns = message.received_ns + int(SETTLE_S * 1e9)
            elif message.received_ns >= begin_ns:
                seen.append(message)  # decoded when the daemon needs the processor no more
    return seen


def _row(line: Line, seen: Sequence[Message], facts: str, memory_mb: float) -> Row:
    verdicts: list[tuple[int, VerdictMessage]] = [(message.received_ns, message.header) for message in seen]
    latency, overhead = [], []
    stages: dict[str, list[float]] = {"wait": [], "score": [], "publish": []}
    for received, verdict in verdicts:
        t = verdict.t
        if t.captured is None or t.queued is None or t.started is None or t.scored is None:
            continue
        latency.append((received - t.captured) / 1e6)
        overhead.append(((received - t.captured) - (t.scored - t.started)) / 1e6)
        stages["wait"].append((t.started - t.captured) / 1e6)
        stages["score"].append((t.scored - t.started) / 1e6)
        stages["publish"].append((received - t.scored) / 1e6)
    if not latency:
        raise StartError("The daemon of the benchmark judged nothing; are its cameras slower than the run is long?")
    known = dict(re.findall(r'(device|precision)="([^"]*)"', facts))
    return Row(
        device=known.get("device", line.device),
        precision=known.get("precision", line.precision),
        form="daemon",
        backbone=line.kind.backbone,
        size=f"{line.kind.width}x{line.kind.height}",
        picture=f"{line.picture[0]}x{line.picture[1]}",
        batch=0,
        models=1,
        cameras=line.cameras,
        frames_per_s=len(latency) / line.seconds,
        p50_ms=percentile(latency, 0.5),
        p95_ms=percentile(latency, 0.95),
        p99_ms=percentile(latency, 0.99),
        stages_ms={stage: percentile(values, 0.5) for stage, values in stages.items()},
        host_mb=memory_mb,
        device_mb=None,
        overhead_p99_ms=percentile(overhead, 0.99),
        displaced=_displaced([verdict for _, verdict in verdicts]),
    )


def _displaced(verdicts: Sequence[VerdictMessage]) -> int:
    """Return how many frames gave way to newer ones between the first and the last verdict of each camera."""
    counts: dict[str, list[int]] = {}
    for verdict in verdicts:
        counts.setdefault(verdict.camera, []).append(verdict.displaced)
    return sum(of_camera[-1] - of_camera[0] for of_camera in counts.values())


class _Scraper:
    """Asks for the metrics, as Prometheus does, only more often."""

    def __init__(self, port: int) -> None:
        self.last = ""
        self._address = f"http://127.0.0.1:{port}/metrics"

    def scrape(self) -> None:
        """Ask once."""
        with suppress(OSError), urllib.request.urlopen(self._address, timeout=5) as answer:  # it may still start
            self.last = answer.read().decode()
