"""`inspectd install`: a calibrated model to where the daemon looks, and back."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from inspectd.model.store import Installed

MODELS = Path("/var/lib/inspectd/models")


@click.command(epilog="Example: inspectd install results/project/group/top top; inspectd install --rollback top")
@click.argument("names", nargs=-1, metavar="RUN NAME")
@click.option("--model", "number", type=click.IntRange(0), help="Which model of a run that has several.")
@click.option("--models", type=click.Path(path_type=Path), default=MODELS, show_default=True, help="Where to.")
@click.option("--rollback", is_flag=True, help="Return to the model that stood under NAME before.")
def command(names: tuple[str, ...], number: int | None, models: Path, rollback: bool) -> None:
    """Put a model of RUN where the daemon looks, under NAME; the one that was there is kept for --rollback."""
    from inspectd.errors import UsageError
    from inspectd.model.locate import find_model
    from inspectd.model.store import install, roll_back

    if rollback and len(names) != 1:
        raise UsageError(f"--rollback has {len(names)} names; expected one: inspectd install --rollback NAME.")
    if not rollback and len(names) != 2:
        raise UsageError(f"install has {len(names)} names; expected two: inspectd install RUN NAME.")
    source = None if rollback else find_model(Path(names[0]), number)
    done = roll_back(names[0], models) if source is None else install(source, names[1], models)
    for line in _says(done, models):
        click.echo(line)


def _says(done: Installed, models: Path) -> list[str]:
    calibration = done.model.calibration
    threshold = calibration.threshold if calibration else None
    elsewhere = "" if models == MODELS else f" --models {shlex.quote(str(models))}"
    what = f"{done.model.label}, threshold {threshold.value:.4g}" if threshold else done.model.label
    if not done.is_new:
        return [f"{done.folder} holds this very model already ({what}); nothing was changed."]
    return [
        f"{done.folder}: {what}",
        f"Previous: {done.previous}; `inspectd install --rollback {done.folder.name}{elsewhere}` returns to it."
        if done.previous
        else "There was no model under this name before.",
        f"Next: cameras: - model: {done.folder} in the configuration; a running daemon takes it at its next start.",
    ]
