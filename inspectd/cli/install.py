"""`inspectd install`: a calibrated model to where the daemon looks, and back."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from inspectd.model.store import Installed

MODELS = Path("/var/lib/inspectd/models")
ARCHIVE = Path("/var/lib/inspectd/archive")


@click.command(epilog="Example: inspectd install results/project/group/top top; inspectd install --rollback top")
@click.argument("names", nargs=-1, metavar="RUN NAME")
@click.option("--model", "number", type=click.IntRange(0), help="Which model of a run that has several.")
@click.option("--models", type=click.Path(path_type=Path), default=MODELS, show_default=True, help="Where to.")
@click.option("--archive", type=click.Path(path_type=Path), default=ARCHIVE, show_default=True, help="See below.")
@click.option("--camera", help="The camera whose marked parts are judged.  [NAME]")
@click.option("--despite-marked", is_flag=True, help="Install it although it passes parts that people marked as bad.")
@click.option("--rollback", is_flag=True, help="Return to the model that stood under NAME before.")
def command(
    names: tuple[str, ...],
    number: int | None,
    models: Path,
    archive: Path,
    camera: str | None,
    despite_marked: bool,
    rollback: bool,
) -> None:
    """Put a model of RUN where the daemon looks, under NAME; the one that was there is kept for --rollback.

    Parts of the archive that people marked as bad (`inspectd mark`) are judged by it before; it is not installed while
    one of them would be ok.
    """
    from inspectd.errors import UsageError
    from inspectd.model.locate import find_model
    from inspectd.model.store import install, roll_back

    if rollback and len(names) != 1:
        raise UsageError(f"--rollback has {len(names)} names; expected one: inspectd install --rollback NAME.")
    if not rollback and len(names) != 2:
        raise UsageError(f"install has {len(names)} names; expected two: inspectd install RUN NAME.")
    source = None if rollback else find_model(Path(names[0]), number)
    if archive != ARCHIVE and not archive.is_dir():
        raise UsageError(f"--archive {archive} is no folder; expected the configuration's archive.path.")
    if source is not None and not despite_marked:
        for line in _judge_marked(source, archive, camera or names[1]):
            click.echo(line)
    done = roll_back(names[0], models) if source is None else install(source, names[1], models)
    for line in _says(done, models):
        click.echo(line)


def _judge_marked(source: Path, archive: Path, camera: str) -> list[str]:
    """Have a model judge the parts that people marked as bad; UsageError when it passes one, or cannot judge it."""
    from inspectd.errors import StartError, UsageError
    from inspectd.history.pictures import cameras_with_bad, find_bad

    try:
        paths = find_bad(archive, camera)
        elsewhere = ", ".join(name for name in cameras_with_bad(archive) if name != camera)
    except PermissionError as error:
        raise StartError(f"The archive {archive} cannot be read: {error.strerror}; use sudo.") from None
    if not paths:
        return [f"No part of {camera} is marked as bad; of {elsewhere} some are (--camera)."] if elsewhere else []

    from inspectd.engine.choose import choose_backend
    from inspectd.records import Outcome
    from inspectd.replaying import Replayed, replay
    from inspectd.simplenet import bundle

    click.echo(f"Judging the parts that people marked as bad: {len(paths)} …", err=True)
    model = bundle.load(source)
    own = model.calibration.threshold if model.calibration is not None else None
    if own is None:
        return []  # it is refused for that
    every = list(replay(model, choose_backend("auto"), paths, threshold=own.value))
    others = [one for one in every if isinstance(one, Replayed) and (one.said.header.areas or one.said.header.recipe)]
    every = [one for one in every if one not in others]  # which model is for them nobody says here
    unjudged = [one for one in every if isinstance(one, str)]
    judged = [one for one in every if isinstance(one, Replayed)]
    unjudged += [f"{one.path}: {one.finding.detail}." for one in judged if one.finding.outcome is Outcome.FAULT]
    passed = [one for one in judged if one.finding.outcome is Outcome.OK]
    if passed:
        some = ", ".join(str(one.path) for one in passed[:3]) + (f" and {len(passed) - 3} more" if passed[3:] else "")
        raise UsageError(
            f"{model.label} would pass {len(passed)} of {len(judged)} parts of {camera} that people marked as bad: "
            f"{some}. Nothing was installed; calibrate again (--with-marked), or install it with --despite-marked."
        )
    if unjudged:
        raise UsageError(
            f"{model.label} cannot judge {len(unjudged)} of {len(paths)} parts of {camera} that people marked as bad: "
            f"{unjudged[0]} Nothing was installed; remove it, or install with --despite-marked."
        )
    said = [f"It rejects all parts of {camera} that people marked as bad: {len(judged)}."] if judged else []
    if others:
        said.append(f"{len(others)} parts marked as bad are of recipes or areas of {camera}: it was not tried on them.")
    return said


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
        f"Next: cameras: - model: {done.folder} in the configuration; a running daemon takes it by `inspectd reload`.",
    ]
