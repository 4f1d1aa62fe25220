"""`inspectd test`: a model on a folder of pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import click

FILE = click.Path(path_type=Path)


@click.command(epilog="Example: inspectd test results/project/group/top pictures/tuesday --csv tuesday.csv")
@click.argument("run", metavar="MODEL", type=FILE)
@click.argument("folder", type=FILE)
@click.option("--model", "number", type=click.IntRange(0), help="Which model of a run that has several.")
@click.option("--csv", "csv_path", type=FILE, help="Write a row for each picture there: its score, verdict and reason.")
@click.option("--threshold", type=float, help="Judge by this one.  [the model's own]")
@click.option("--as-camera", is_flag=True, help="Look at size, light, lens and scene too, as with live pictures.")
@click.option("--gpu", type=int, help="CUDA device; -1: CPU.  [the first GPU if there is one]")
def command(
    run: Path,
    folder: Path,
    number: int | None,
    csv_path: Path | None,
    threshold: float | None,
    as_camera: bool,
    gpu: int | None,
) -> None:
    """Judge the pictures of FOLDER by a model (a run or a model folder), and say what other thresholds would do.

    In sub-folders good (or ok) and others named by their defects, it is known what each part is. Nothing is changed.
    """
    from rich.console import Console
    from rich.progress import Progress

    from inspectd.atomic import check_can_write, write_whole
    from inspectd.engine.choose import choose_backend
    from inspectd.errors import UsageError
    from inspectd.line.thresholds import table_of
    from inspectd.model.locate import find_model
    from inspectd.simplenet import bundle
    from inspectd.trial import as_csv, counts_of, known_of, parts_below, try_out

    parts, notes = parts_below(folder)
    if csv_path is not None:
        check_can_write(csv_path)
    where = find_model(run, number)
    model = bundle.load(where)
    own = model.calibration.threshold if model.calibration else None
    value = threshold if threshold is not None else own.value if own is not None else None
    if value is None:
        raise UsageError(f"The model {where} has no threshold to judge by; give one with --threshold.")
    if not math.isfinite(value):
        raise UsageError(f"The threshold is {value}; expected a number that scores can be held against.")
    backend = choose_backend("auto" if gpu is None else "cpu" if gpu < 0 else f"cuda:{gpu}")
    with Progress(console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task("pictures", total=len(parts))
        tried = try_out(model, backend, parts, threshold=threshold, is_camera=as_camera)
        judged = list(bars.track(tried, task_id=bar, total=len(parts)))
    for note in notes:
        click.echo(f"note: {note}")
    click.echo(f"{model.label} on {len(judged)} pictures, threshold {value:.4g}:")
    show_rows(counts_of(judged))
    known = known_of(judged)
    if known:
        click.echo("What other thresholds would do (good parts and defects by their folders):")
        show_rows(table_of(value, known))
    else:
        click.echo("Nothing is known of these parts: put good ones into a sub-folder good, and defects into others.")
    if csv_path is not None:
        write_whole(csv_path, as_csv(judged).encode())
        click.echo(f"Scores: {csv_path}")


def show_rows(rows: Sequence[Sequence[str]]) -> None:
    """Print rows of text in columns, the first one to the left."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True)]
        click.echo("  " + "   ".join([row[0].ljust(widths[0]), *cells]).rstrip())
