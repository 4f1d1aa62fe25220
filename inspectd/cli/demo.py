"""`inspectd demo`: a simulated line, calibrated and inspected by the same commands as a real one."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from inspectd.cli import demo_faults

if TYPE_CHECKING:
    from rich.console import Console

    from inspectd.sim.line import Part
    from inspectd.wire.messages import VerdictMessage

LEARNED_PARTS = 160
DURATION_S, FAULTS_S, PAGE_S = 20.0, 80.0, 600.0
PARTS_PER_S = 5.0
DEFECTS = 0.35
LEARN_SEED_OFFSET = 1000


@click.command(epilog="Example: inspectd demo --duration 30")
@click.option(
    "--duration",
    "duration_s",
    type=click.FloatRange(1, 3600),
    metavar="S",
    help="How long the line runs.  [default: 20, with --faults 80, with --hmi 600]",
)
@click.option("--faults", is_flag=True, help="The camera misbehaves in every way that it can.")
@click.option("--hmi", "on_page", is_flag=True, help="Show it on the operator's page, too, in a browser.")
@click.option("--seed", type=click.IntRange(0, 2**31), default=0, show_default=True, help="Another seed, other parts.")
def command(duration_s: float | None, faults: bool, on_page: bool, seed: int) -> None:
    """Calibrate on good parts of a simulated line, then inspect it: verdicts are printed as they arrive.

    Needs no camera, network or configuration. Some parts carry defects, from gross to too subtle to find; the
    table at the end says which were missed.
    """
    from rich.console import Console

    if faults and on_page:
        raise click.UsageError("--faults and --hmi are two demos; expected one of them.")
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory(prefix="inspectd-demo-") as folder:
        model = _calibrate(console, Path(folder), seed)
        if faults:
            demo_faults.inspect(console, Path(folder), model, seed, duration_s or FAULTS_S)
            return
        parts = max(1, math.ceil((duration_s or (PAGE_S if on_page else DURATION_S)) * PARTS_PER_S))
        with _page(console, Path(folder)) if on_page else nullcontext():
            seen = _inspect(console, Path(folder), model, seed, parts)
    _report(console, seen, parts)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A verdict beside the truth."""

    part: Part
    verdict: VerdictMessage

    @property
    def is_right(self) -> bool:
        return self.verdict.verdict == ("ok" if self.part.defect is None else "ng")

    @property
    def latency_ms(self) -> float:
        return (self.verdict.t.published - (self.verdict.t.captured or 0)) / 1e6

    @property
    def truth(self) -> str:
        defect = self.part.defect
        return "good" if defect is None else f"{defect.size} {defect.kind}"


def _calibrate(console: Console, folder: Path, seed: int) -> Path:
    console.print(f"[b]1. Calibrating[/b] on {LEARNED_PARTS} good parts: inspectd calibrate --camera sim://line")
    _call(
        "calibrate",
        "--camera",
        f"sim://line?seed={seed + LEARN_SEED_OFFSET}&parts={LEARNED_PARTS}",
        "--results_path",
        str(folder),
        "--run_name",
        "demo",
        "--seed",
        str(seed),
    )
    return folder / "project" / "group" / "demo" / "models" / "0"


def _call(*arguments: str) -> None:
    ended = subprocess.run([sys.executable, "-m", "inspectd", *arguments], check=False)
    if ended.returncode:
        sys.exit(ended.returncode)


def _inspect(console: Console, folder: Path, model: Path, seed: int, parts: int) -> list[_Seen]:
    """Run the daemon on the line and listen to it like any other subscriber."""
    source = f"sim://line?seed={seed}&parts={parts}&fps={PARTS_PER_S:g}&defects={DEFECTS}"
    config, endpoint = write_config(folder, f'source: "{source}", model: {model}, policy: every, deadline_ms: 1500')
    console.print(f"\n[b]2. Inspecting[/b] {parts} parts at {PARTS_PER_S:g} a second: inspectd run --config …")
    command = [sys.executable, "-m", "inspectd", "run", "--config", str(config), "--exit-when-done"]
    seen: list[_Seen] = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as daemon:
        try:
            for one in _listen(console, endpoint, seed, daemon):
                seen.append(one)
                console.print(_line(one), soft_wrap=True)
                if len(seen) == parts:
                    break
        except BaseException:
            daemon.terminate()
            raise
        _, log = daemon.communicate()
    if daemon.returncode:
        print(log, file=sys.stderr, end="")
        sys.exit(daemon.returncode)
    return seen


@contextmanager
def _page(console: Console, folder: Path) -> Iterator[None]:
    """Serve the operator's page of what is inspected meanwhile, and open a browser where there is a screen."""
    from inspectd.addresses import free_port

    address = f"127.0.0.1:{free_port()}"
    where = ("--published", f"ipc://{folder}/verdicts", "--control", f"ipc://{folder}/control")
    kept = ("--journal", f"{folder}/journal.db", "--archive", f"{folder}/archive")
    command = [sys.executable, "-m", "inspectd", "hmi", *where, *kept, "--listen", address]
    console.print(f"\nThe operator's page: http://{address}/")
    with subprocess.Popen(command) as page:
        try:
            if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
                webbrowser.open(f"http://{address}/")
            yield
        finally:
            page.terminate()


def write_config(folder: Path, camera: str) -> tuple[Path, str]:
    """Write the configuration of a daemon with one camera, `line`; return it and where its verdicts come."""
    endpoint = f"ipc://{folder}/verdicts"
    config = folder / "inspectd.yaml"
    config.write_text(
        f"cameras: [{{name: line, {camera}}}]\n"
        f'publish: {{bind: "{endpoint}"}}\n'
        f'control: {{bind: "ipc://{folder}/control"}}\n'
        'metrics: {listen: "127.0.0.1:0"}\n'
        f"journal: {{path: {folder}/journal.db}}\narchive: {{path: {folder}/archive}}\n",
        encoding="utf-8",
    )
    return config, endpoint


def _listen(console: Console, endpoint: str, seed: int, daemon: subprocess.Popen[str]) -> Iterator[_Seen]:
    """Yield each verdict beside the truth, until the daemon ends."""
    from inspectd.client import Subscription
    from inspectd.sim.line import Line

    line = Line(seed, defects=DEFECTS)
    with Subscription(endpoint, "verdict/line/") as subscription:
        while (message := subscription.receive(0.5)) is not None or daemon.poll() is None:
            verdict = message.verdict if message is not None else None
            if verdict is None:
                continue
            if verdict.part is None:
                console.print(f"[red]{verdict.verdict} {verdict.reason}: {verdict.detail}[/red]")
            else:
                yield _Seen(line.part(int(verdict.part.removeprefix("part-"))), verdict)


def _line(seen: _Seen) -> str:
    verdict = seen.verdict
    colour = {"ok": "green", "ng": "yellow", "fault": "red"}[verdict.verdict]
    score = "     " if verdict.score is None else f"{verdict.score:5.2f}"
    threshold = "     " if verdict.threshold is None else f"{verdict.threshold:.2f}"
    note = "" if seen.is_right else "  <- missed" if seen.part.defect else "  <- false reject"
    if verdict.verdict == "fault":
        note = f"  <- {verdict.reason}: {verdict.detail}"
    return (
        f"{verdict.part}  [{colour}]{verdict.verdict:5}[/{colour}]  score {score}  threshold {threshold}"
        f"  {seen.latency_ms:5.0f} ms   truth: {seen.truth}{note}"
    )


def _report(console: Console, seen: list[_Seen], parts: int) -> None:
    from rich.table import Table

    from inspectd.percentiles import percentile
    from inspectd.sim.line import KINDS, SIZES

    table = Table(title="Defects found / shown", title_justify="left")
    table.add_column("")
    for size in SIZES:
        table.add_column(size, justify="right")
    for kind in KINDS:
        cells = []
        for size in SIZES:
            shown = [s for s in seen if s.part.defect and (s.part.defect.kind, s.part.defect.size) == (kind, size)]
            cells.append(f"{sum(s.is_right for s in shown)} / {len(shown)}" if shown else "–")
        table.add_row(kind, *cells)
    good = [s for s in seen if s.part.defect is None]
    rejected = [s for s in good if s.verdict.verdict == "ng"]
    faults = [s for s in seen if s.verdict.verdict == "fault"]
    missed = [s for s in seen if s.part.defect is not None and s.verdict.verdict == "ok"]
    latencies = [s.latency_ms for s in seen]
    console.print()
    console.print(
        f"[b]3. Result[/b]: {len(seen)} of {parts} parts have a verdict: {sum(s.is_right for s in seen)} correct, "
        f"{len(missed)} missed, {len(rejected)} false rejects of {len(good)} good parts, {len(faults)} faults.",
        soft_wrap=True,
    )
    if latencies:
        p50, p99 = percentile(latencies, 0.5), percentile(latencies, 0.99)
        console.print(f"Capture to verdict: median {p50:.0f} ms, p99 {p99:.0f} ms.")
    console.print(table)
