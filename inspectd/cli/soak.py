"""`inspectd soak`: whether this machine can be trusted with a line."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

    from inspectd.soak.run import Result

LEARNED_PARTS = 160
LEARN_SEED = 5000
FILE = click.Path(path_type=Path)


@click.command(epilog="Example: inspectd soak --minutes 480 --json night.json")
@click.option("--minutes", type=click.FloatRange(0.1, 100_000), default=30, show_default=True, help="How long.")
@click.option("--cameras", type=click.IntRange(1, 16), default=4, show_default=True, help="Simulated ones.")
@click.option("--fps", type=click.FloatRange(1, 200), default=30, show_default=True, help="Pictures a second of each.")
@click.option("--every", "every_s", type=click.FloatRange(0.5, 3600), default=4, show_default=True, metavar="S",
              help="Between two things that are done to the daemon, on average.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0, 2**31), default=0, show_default=True, help="Another seed, other events.")
@click.option("--json", "json_path", type=FILE, help="Write the result there, for machines.")
def command(minutes: float, cameras: int, fps: float, every_s: float, seed: int, json_path: Path | None) -> None:
    """Run the whole daemon on simulated cameras that misbehave, do to it what may be done, and hold it to the truth.

    Needs no camera, network or configuration, and leaves nothing behind. Models and thresholds are changed, the
    configuration is read again, subscribers die, capture processes are killed and hang, a small disk is filled. No
    verdict may be missing or come twice, no unfit picture be ok; memory, descriptors, threads and latency must stay as
    they are. Exit code 2 where they do not.
    """
    from rich.console import Console

    from inspectd.atomic import check_can_write, write_whole
    from inspectd.soak.daemon import Model, Settings
    from inspectd.soak.run import as_json, soak

    if json_path is not None:
        check_can_write(json_path)
    console = Console(highlight=False)
    settings = Settings(cameras, fps, 320, 240, seed, defects=0.2, ahead=24, every_s=20.0, longest_s=4.0)
    with tempfile.TemporaryDirectory(prefix="inspectd-soak-") as name:
        folder = Path(name)
        models = [Model.read(_calibrate(console, folder, settings.width, settings.height, i)) for i in (1, 2)]
        console.print(f"[b]2. Soaking[/b]: {cameras} cameras at {fps:g} pictures a second for {minutes:g} min")
        result = soak(folder, models, settings, minutes * 60, every_s, lambda text: console.print(text, soft_wrap=True))
    _report(console, result)
    if json_path is not None:
        write_whole(json_path, as_json(result))
        console.print(f"Result: {json_path}")
    if not result.is_good:
        raise click.exceptions.Exit(2)


def _calibrate(console: Console, folder: Path, width: int, height: int, number: int) -> Path:
    """Return one of two models: what judges is exchanged again and again."""
    if number == 1:
        console.print(f"[b]1. Calibrating[/b] two models on {LEARNED_PARTS} good parts each: inspectd calibrate")
    source = f"sim://line?seed={LEARN_SEED + number}&parts={LEARNED_PARTS}&width={width}&height={height}"
    arguments = ["--camera", source, "--results_path", str(folder), "--run_name", f"soak{number}"]
    command_ = [sys.executable, "-m", "inspectd", "calibrate", *arguments, "--seed", str(number)]
    ended = subprocess.run(command_, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if ended.returncode:
        click.echo(ended.stderr, err=True)
        raise click.exceptions.Exit(ended.returncode)
    return folder / "project" / "group" / f"soak{number}" / "models" / "0"


def _report(console: Console, result: Result) -> None:
    from rich.table import Table

    said = ", ".join(f"{count} {what}" for what, count in result.said.items())
    console.print(f"\n[b]3. Result[/b]: {result.verdicts} verdicts ({said}); {result.displaced} pictures displaced.")
    console.print(f"Went wrong at cameras: {_counted(result.troubles)}.")
    console.print(f"Done to the daemon: {_counted(result.events)}.")
    if not result.has_disk:
        console.print("Not done: filling the disk. This user may not have one of their own (unshare, user namespaces).")
    table = Table(title="Against the truth", title_justify="left")
    for title in ("", "is", "must be", ""):
        table.add_column(title)
    for what, name in (
        ("missing", "verdicts missing"),
        ("doubled", "verdicts doubled"),
        ("unaccounted", "pictures that nobody counted"),
        ("passed", "ok of a picture that was not fit"),
        ("silent", "times without verdicts, and no reason"),
        ("faults", "faults without a reason"),
        ("late", "verdicts late, more than one in a thousand"),
        ("restarted", "restarts"),
        ("ended", "ends"),
        ("kept", "journal or archive not written at the end"),
        ("events", "answers that did not come, or were wrong"),
    ):
        count = result.wrong.get(what, 0)
        table.add_row(name, str(count), "0", _mark(count == 0))
    for one in result.trends:
        now, unit = f"{one.before:.0f} -> {one.after:.0f}", f" {one.unit}" if one.unit else ""
        table.add_row(f"{one.name} (most {one.most:.0f})", f"{now}{unit}", "the same", _mark(one.is_flat))
    first, last = (f"{one:.1f}" if one is not None else "-" for one in result.p99_ms)
    table.add_row("p99 from capture to verdict", f"{first} -> {last} ms", "the same", _mark(not result.is_slower))
    console.print(table)
    found = ", ".join(f"{size} {hits} of {shown}" for size, (hits, shown) in result.found.items() if shown)
    console.print(f"Defects found: {found or 'none were shown'}. The daemon ended within {result.stop_s:.1f} s.")
    for sentence in result.told:
        console.print(f"[red]{sentence}[/red]", soft_wrap=True)


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{what} {count}" for what, count in counts.items()) or "nothing"


def _mark(is_good: bool | None) -> str:
    return "too short to tell" if is_good is None else "[green]good[/green]" if is_good else "[red]BAD[/red]"
