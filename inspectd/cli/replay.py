"""`inspectd replay`: pictures of the archive through a model."""

from __future__ import annotations

import math
import re
from pathlib import Path

import click

FILE = click.Path(path_type=Path)
ARCHIVE = Path("/var/lib/inspectd/archive")


@click.command(epilog="Example: inspectd replay results/project/group/next --camera top --since 2026-11-01")
@click.argument("run", metavar="MODEL", type=FILE)
@click.option("--archive", type=FILE, default=ARCHIVE, show_default=True, help="The configuration's archive.path.")
@click.option("--model", "number", type=click.IntRange(0), help="Which model of a run that has several.")
@click.option("--camera", help="Only its pictures.")
@click.option("--verdict", type=click.Choice(["ok", "ng", "fault"]), help="Only those of which this was said.")
@click.option("--since", metavar="YYYY-MM-DD", help="Only those of this day and later (UTC).")
@click.option("--marked", is_flag=True, help="Only those that a person has marked.")
@click.option("--threshold", type=float, help="Judge by this one.  [as then, by the same model; else the model's own]")
@click.option("--csv", "csv_path", type=FILE, help="Write a row for each picture there.")
@click.option("--gpu", type=int, help="CUDA device; -1: CPU.  [the first GPU if there is one]")
def command(
    run: Path,
    archive: Path,
    number: int | None,
    camera: str | None,
    verdict: str | None,
    since: str | None,
    marked: bool,
    threshold: float | None,
    csv_path: Path | None,
    gpu: int | None,
) -> None:
    """Judge archived pictures by MODEL (a run or a model folder): what was said then, and what it says now.

    By the model that judged them, on the same device, the scores must be the same, else the exit code is 2. By another
    one the table says what it would have done. Nothing is changed.
    """
    from rich.console import Console
    from rich.progress import Progress

    from inspectd.atomic import check_can_write, write_whole
    from inspectd.cli.test import show_rows
    from inspectd.engine.choose import choose_backend
    from inspectd.errors import UsageError
    from inspectd.model.locate import find_model
    from inspectd.records import Outcome
    from inspectd.replaying import TOLERANCE, Replayed, Wanted, as_csv, find, replay, table_of
    from inspectd.simplenet import bundle

    if since is not None and re.fullmatch(r"\d{4}-\d{2}-\d{2}", since) is None:
        raise UsageError(f"--since is {since!r}; expected a day such as 2026-11-01.")
    if threshold is not None and not math.isfinite(threshold):
        raise UsageError(f"The threshold is {threshold}; expected a number that scores can be held against.")
    paths = find(archive, Wanted(camera, Outcome(verdict) if verdict else None, since, marked))
    if csv_path is not None:
        check_can_write(csv_path)
    model = bundle.load(find_model(run, number))
    backend = choose_backend("auto" if gpu is None else "cpu" if gpu < 0 else f"cuda:{gpu}")
    with Progress(console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task("pictures", total=len(paths))
        every = list(bars.track(replay(model, backend, paths, threshold=threshold), task_id=bar, total=len(paths)))
    replayed = [one for one in every if isinstance(one, Replayed)]
    for unreadable in [one for one in every if isinstance(one, str)]:
        click.echo(f"note: {unreadable}")
    click.echo(f"{model.label} on {len(replayed)} pictures of {archive}:")
    show_rows(table_of(replayed))
    if csv_path is not None:
        write_whole(csv_path, as_csv(replayed).encode())
        click.echo(f"Scores: {csv_path}")
    differences = {one.path: one.difference for one in replayed if one.difference is not None}
    if not differences:
        click.echo("None of them was scored by this model on this device and in this form before.")
        return
    worst = max(differences, key=lambda path: differences[path] or 0.0)
    click.echo(
        f"By this model, on this device and in this form, {len(differences)} were scored before: the scores differ by "
        f"at most {differences[worst]:.2g}; {TOLERANCE:g} is allowed."
    )
    if (differences[worst] or 0.0) > TOLERANCE:
        raise UsageError(f"The score of {worst} is not the one that it had; the machine, or the picture, has changed.")
