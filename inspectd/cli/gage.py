"""`inspectd gage`: an attribute study, as a quality engineer asks for it."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from inspectd.cli import connecting

if TYPE_CHECKING:
    from inspectd.client import Keys
    from inspectd.gage.live import Shown
    from inspectd.gage.statistics import Analysis
    from inspectd.gage.study import Trial

FILE = click.Path(path_type=Path)
MOST_AGAIN = 3
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"


@click.command(epilog="Example: inspectd gage top --study gear.csv --good G1 --good G2 --bad B1 --bad B2 --label early")
@click.argument("camera", required=False)
@click.option("--study", "path", type=FILE, required=True, help="The file that all trials are kept in; more are added.")
@click.option("--good", multiple=True, metavar="ID", help="A part that is known to be good; may be repeated.")
@click.option("--bad", multiple=True, metavar="ID", help="A part that is known to be bad; may be repeated.")
@click.option("--repeats", type=click.IntRange(1, 100), default=3, show_default=True, help="How often each is shown.")
@click.option("--label", default="", help="What may matter and is the same for these trials: a shift, an operator.")
@click.option(
    "--pictures", "folder", type=FILE, help="Not CAMERA, but good/PART/… and bad/PART/… with a picture a trial."
)
@click.option("--model", "run", type=FILE, help="With --pictures: the model (a run or a model folder) that judges.")
@click.option("--report", "report_path", type=FILE, help="The page.  [the study's name with .html]")
@click.option(
    "--within", "within_s", type=float, default=30.0, show_default=True, help="Seconds to wait for a verdict."
)
@connecting.control
@connecting.keys
def command(
    camera: str | None,
    path: Path,
    good: tuple[str, ...],
    bad: tuple[str, ...],
    repeats: int,
    label: str,
    folder: Path | None,
    run: Path | None,
    report_path: Path | None,
    within_s: float,
    control: str,
    server_key: Path | None,
    key: Path | None,
) -> None:
    """Show CAMERA of a running daemon known parts again and again, and say how far its decisions can be trusted.

    The parts are asked for in random order; each is taken out and put back before it is shown again. Trials are kept
    at once, and another run (another day, another shift) adds to them. Without CAMERA and --pictures what is kept is
    reported. The line must not run meanwhile. Exit code 2: not accepted.
    """
    from inspectd.atomic import check_can_write, write_whole
    from inspectd.errors import UsageError
    from inspectd.gage import report, statistics, study

    report_path = report_path or path.with_suffix(".html")
    if report_path == path:
        raise UsageError(f"The study and its report are both {path}; expected two files.")
    _check(camera, good, bad, folder, run)
    before = study.read(path)
    check_can_write(path)
    check_can_write(report_path)
    production: list[float] = []
    if camera is not None:
        keys = connecting.read_keys(server_key, key)
        production = _show(camera, path, before, _plan(good, bad, repeats, label), within_s, control, keys)
    elif folder is not None and run is not None:
        production = _judge(folder, run, path, label)
    trials = study.read(path)
    if not trials:
        raise UsageError(f"The study {path} holds no trials; give a CAMERA and parts, or --pictures and --model.")
    analysis = statistics.analyse(trials, production)
    write_whole(report_path, report.render(f"Attribute study {path.stem}", trials, analysis).encode())
    _say(analysis)
    click.echo(f"Trials: {path}\nReport: {report_path}")
    if not analysis.is_accepted:
        raise click.exceptions.Exit(2)


def _check(camera: str | None, good: Sequence[str], bad: Sequence[str], folder: Path | None, run: Path | None) -> None:
    from inspectd.errors import UsageError

    if camera is not None and (folder is not None or run is not None):
        raise UsageError("CAMERA and --pictures are two ways to get trials; expected one of them.")
    if camera is not None and not (good or bad):
        raise UsageError("No part is named; expected --good ID and --bad ID, once for each part.")
    if camera is None and (good or bad):
        raise UsageError("--good and --bad name parts that are shown to a CAMERA; expected one.")
    if (folder is None) != (run is None):
        raise UsageError("Of --pictures and --model one is missing; expected both, or none.")
    if both := set(good) & set(bad):
        raise UsageError(f"The part {min(both)} is said to be good, and bad; expected one of the two.")
    for name in (*good, *bad):
        if re.fullmatch(NAME, name) is None:
            raise UsageError(f"A part is called {name[:80]!r}; expected 1 to 64 letters, digits, _, . and -.")


def _plan(good: Sequence[str], bad: Sequence[str], repeats: int, label: str) -> list[Shown]:
    """Return what is shown, each part once in each round, the rounds in random order."""
    from inspectd.gage.live import Shown
    from inspectd.records import Known

    parts = [
        Shown(name, known, label)
        for known, names in ((Known.GOOD, good), (Known.BAD, bad))
        for name in dict.fromkeys(names)
    ]
    return [one for _ in range(repeats) for one in random.sample(parts, len(parts))]


def _show(
    camera: str,
    path: Path,
    before: Sequence[Trial],
    plan: Sequence[Shown],
    within_s: float,
    control: str,
    keys: Keys | None,
) -> list[float]:
    """Have all parts shown, and keep each trial at once; return scores of the production."""
    from inspectd.client import ForeignReplyError, NoReplyError, NotAllowedError, RefusalError
    from inspectd.errors import StartError, UsageError
    from inspectd.gage import study
    from inspectd.gage.live import Inspection

    known = {one.part: one.known for one in before}
    for one in plan:
        if known.get(one.part, one.known) is not one.known:
            raise UsageError(f"The part {one.part} is {known[one.part]} in {path}, and {one.known} here.")
    connecting.check_address("--control", control)
    try:
        with connecting.in_words(control), Inspection(camera, control, keys, connecting.user()) as inspection:
            inspection.check()
            production = inspection.production()
            click.echo(
                "The line must stand. Take each part out and put it back before it is shown again.\n"
                "Enter: it is in place (mode part: let it come now); q: stop here."
            )
            for number, one in enumerate(plan, 1):
                for trial in _tries(inspection, one, f"{number} of {len(plan)}: {one.part}", within_s):
                    study.append(path, [trial])
    except _Stopped:
        click.echo("Stopped; what was shown is kept.")
        return production
    except RefusalError as error:
        raise UsageError(f"{error.code}: {error}") from None
    except (NoReplyError, NotAllowedError, ForeignReplyError) as error:
        raise StartError(str(error)) from None
    return production


class _Stopped(Exception):  # noqa: N818 - it is no error
    """Somebody has seen enough."""


def _tries(inspection: object, shown: Shown, what: str, within_s: float) -> Iterator[Trial]:
    """Yield the trials of one part: where there was no decision it is shown again."""
    from inspectd.client import RefusalError
    from inspectd.gage.live import Inspection

    assert isinstance(inspection, Inspection)
    for _ in range(MOST_AGAIN):
        answer = click.prompt(f"{what} (known {shown.known})", default="", show_default=False)
        if answer.strip().lower() in ("q", "quit"):
            raise _Stopped
        try:
            trial = inspection.judge(shown, within_s)
        except RefusalError as error:
            if error.code not in connecting.PASSING:
                raise
            click.echo(f"  {error} Show it again.")
            continue
        score = "" if trial.score is None else f", score {trial.score:.4g}"
        click.echo(f"  {trial.verdict}{score}{f': {trial.reason}, show it again' if not trial.is_judged else ''}")
        yield trial
        if trial.is_judged:
            return


def _judge(folder: Path, run: Path, path: Path, label: str) -> list[float]:
    """Judge all pictures, and keep the trials; return the calibration's held-out scores."""
    from inspectd.engine.choose import choose_backend
    from inspectd.errors import UsageError
    from inspectd.gage import pictures, study
    from inspectd.model.locate import find_model
    from inspectd.simplenet import bundle

    found = pictures.find(folder)
    known = {one.picture for one in study.read(path)}
    if again := [one.picture.name for one in found if one.picture.name in known]:
        raise UsageError(f"{path} has {again[0]} already ({len(again)} of these pictures); a trial counts once.")
    where = find_model(run, None)
    model = bundle.load(where)
    if model.calibration is None or model.calibration.threshold is None:
        raise UsageError(f"The model {where} has no threshold to judge by; calibrate with inspectd.")
    study.append(path, pictures.judge(model, choose_backend("auto"), found, label))
    return list(model.calibration.held_out_scores)


def _say(analysis: Analysis) -> None:
    from inspectd.cli.test import show_rows
    from inspectd.gage.report import notes_of, repeatability_of, row_of

    click.echo(f"{analysis.trials} trials: {'accepted' if analysis.is_accepted else 'NOT accepted'}")
    if analysis.criteria:
        rows = [[row[0], *row[2:]] for row in map(row_of, analysis.criteria)]
        show_rows([["", "figure", "95 %", "limit", "", ""], *rows])
    for name, text in repeatability_of(analysis):
        click.echo(f"  {name}: {text}")
    for note in notes_of(analysis):
        click.echo(f"note: {note}")
