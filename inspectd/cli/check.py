"""`inspectd check`: everything that is wrong with a configuration, at once."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from inspectd.config import Config
    from inspectd.model.artefact import Artefact
    from inspectd.plan import AreaPlan


@click.command(epilog="Example: inspectd check --config /etc/inspectd/inspectd.yaml")
@click.option("--config", "config_path", type=click.Path(path_type=Path), required=True, help="The YAML file.")
def command(config_path: Path) -> None:
    """Validate a configuration, its models, devices and permissions; exit 2 if anything is wrong."""
    from inspectd import config_file
    from inspectd.cameras.image_files import shown
    from inspectd.cameras.sources import public_address
    from inspectd.errors import UsageError
    from inspectd.plan import plans_of

    settings = config_file.load(config_path)
    problems = [
        *problems_of_sources(settings),
        *problems_of_devices(settings),
        *problems_of_models(settings),
        *problems_of_keys(settings),
        *problems_of_journal(settings),
    ]
    for note in (*notes_of_folders(settings), *notes_of_triggers(settings), *notes_of_what_is_kept(settings)):
        click.echo(f"note: {note}")
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise UsageError(f"{config_path} has {len(problems)} problem{'s'[: len(problems) > 1]}:\n{lines}")
    for camera in settings.enabled_cameras:
        areas = [area for plan in plans_of(camera).values() for area in plan.areas]
        models = ", ".join(dict.fromkeys(area.model for area in areas))
        click.echo(f"camera {camera.name}: {shown(public_address(str(camera.source)))}, model {models}")
    click.echo(f"{config_path} is good.")


def problems_of_sources(settings: Config) -> list[str]:
    """Return what is wrong with the sources as far as nothing needs to be opened."""
    from inspectd.cameras.image_files import list_pictures, shown
    from inspectd.cameras.sources import Kind, encoding_problem, parse_source
    from inspectd.errors import UsageError
    from inspectd.line.admission import untriggerable

    problems = []
    for camera in settings.enabled_cameras:
        try:
            source = parse_source(camera.source)
            if (why := untriggerable(camera, source)) is not None:
                problems.append(f"Camera {camera.name}: {why}.")
            encoding = encoding_problem(source.address)
            if encoding is not None:
                problems.append(f"Camera {camera.name}: its source cannot be read as an address: {encoding}.")
            if source.kind is Kind.FOLDER and not list_pictures(Path(source.address)):
                problems.append(
                    f"Camera {camera.name}: the folder {shown(source.address)} holds no pictures; expected .png, .jpg, "
                    ".bmp, .tif, .webp, .pgm or .ppm below it."
                )
        except UsageError as error:
            problems.append(f"Camera {camera.name}: {error}")
    return problems


def notes_of_folders(settings: Config) -> list[str]:
    """Return what is passed over in folders that are inspected."""
    from inspectd.cameras.image_files import survey
    from inspectd.cameras.sources import Kind, parse_source
    from inspectd.errors import UsageError

    notes = []
    for camera in settings.enabled_cameras:
        try:
            source = parse_source(camera.source)
        except UsageError:
            continue  # told by problems_of_sources
        if source.kind is Kind.FOLDER:
            notes += [f"camera {camera.name}: {note}" for note in survey(Path(source.address)).notes]
    return notes


def notes_of_triggers(settings: Config) -> list[str]:
    """Return what is accepted of cameras on triggers that is not quite safe."""
    return [
        f"camera {camera.name}: pictures without a time of their own are matched to triggers by when they arrive "
        "(allow_arrival_time); one that was long under way may show the part before"
        for camera in settings.enabled_cameras
        if camera.allow_arrival_time
    ]


def problems_of_devices(settings: Config) -> list[str]:
    """Return which local cameras are absent or not permitted, and whether the engine's device exists."""
    from inspectd.cameras.sources import Kind, parse_source
    from inspectd.cameras.vision.library import missing
    from inspectd.engine.devices import check_engine
    from inspectd.errors import UsageError

    problems = []
    try:
        check_engine(settings.engine.device, settings.engine.precision)
    except UsageError as error:
        problems.append(f"engine: {error}")
    for camera in settings.enabled_cameras:
        try:
            source = parse_source(camera.source)
        except UsageError:
            continue  # told by problems_of_sources
        if source.kind is Kind.ARAVIS and (why := missing()) is not None:
            problems.append(f"Camera {camera.name}: {why}.")
        if source.kind is not Kind.DEVICE:
            continue
        node = f"/dev/video{source.address}" if source.address.isdecimal() else source.address
        if not Path(node).exists():
            problems.append(f"Camera {camera.name}: there is no {node}; `inspectd cameras` lists what is plugged in.")
        elif not os.access(node, os.R_OK | os.W_OK):
            problems.append(f"Camera {camera.name}: no permission for {node}; add this user to the group video.")
    return problems


def problems_of_models(settings: Config) -> list[str]:
    """Return which models cannot be used, and why."""
    from inspectd.errors import UsageError
    from inspectd.line.recipe import recipe_of
    from inspectd.model import artefact
    from inspectd.plan import AreaPlan, Plan, plans_of

    problems = []
    for camera in settings.enabled_cameras:
        plans = {f"recipe {name}: " if name is not None else "": plan for name, plan in plans_of(camera).items()}
        if camera.shadow is not None:
            plans["shadow: "] = Plan(None, (AreaPlan(None, camera.shadow, None, camera.roi),), camera.ignore, None)
        for what, plan in plans.items():
            try:
                models = {area.name: artefact.read(Path(area.model)).artefact for area in plan.areas}
                recipe = recipe_of(camera.name, plan, partial(_loaded, models))
                for area in recipe.areas:
                    if area.model.calibration is None and area.criterion is not None:
                        _try_to_load(Path(next(one.model for one in plan.areas if one.name == area.name)))
            except UsageError as error:
                said = str(error).removeprefix(f"Camera {camera.name}: ")
                where = "" if said.startswith(f"Camera {camera.name} ") else f"Camera {camera.name}: "
                problems.append(f"{where}{what}{said}")
                continue
            problems += [
                f"Camera {camera.name}: {what}the model {place.model} has no threshold; set cameras[].threshold, or "
                "calibrate with inspectd."
                for place, area in zip(plan.areas, recipe.areas, strict=True)
                if area.criterion is None
            ]
    return problems


def problems_of_keys(settings: Config) -> list[str]:
    """Return what is wrong with the daemon's own keys, and with those that may connect."""
    from inspectd.credentials import secret_path
    from inspectd.errors import UsageError
    from inspectd.wire.keys import read_allowed, read_pair

    problems = [*problems_of_metrics(settings)]
    security = settings.security
    for where, secret in (("curve_secret", security.curve_secret), ("next_secret", security.next_secret)):
        if secret is None:
            continue
        try:
            read_pair(secret_path(f"security.{where}", secret))
        except UsageError as error:
            problems.append(f"security.{where}: {error}")
    for where, folder in (("publish.allow", settings.publish.allow), ("control.allow", settings.control.allow)):
        try:
            problems += [f"{where}: {one}" for one in (read_allowed(Path(folder)).problems if folder else ())]
        except UsageError as error:
            problems.append(f"{where}: {error}")
    return problems


def problems_of_metrics(settings: Config) -> list[str]:
    """Return why certificate, key or token of the metrics cannot be used."""
    from inspectd.daemon.guard import guard_of
    from inspectd.errors import UsageError

    try:
        guard_of(settings.metrics)
    except UsageError as error:
        return [str(error)]
    return []


def problems_of_journal(settings: Config) -> list[str]:
    """Return why the journal, or what commands changed, cannot be used."""
    from inspectd.errors import UsageError
    from inspectd.history.beside import path_beside
    from inspectd.history.challenged import Challenged
    from inspectd.history.database import problem_of
    from inspectd.history.overrides import Overrides

    if settings.journal.path is None:
        return []
    path = Path(settings.journal.path)
    problem = problem_of(path)
    problems = [problem] if problem is not None else []
    for read, what in ((Overrides, "overrides"), (Challenged, "challenges")):
        try:
            read(path_beside(path, what))
        except UsageError as error:
            problems.append(str(error))
    return [f"journal.path: {one}" for one in problems]


def notes_of_what_is_kept(settings: Config) -> list[str]:
    """Return what this user may not write of journal and archive: the daemon's own user may."""
    from inspectd.history.database import can_write

    archive = settings.archive.path if settings.archive.max_gb > 0 else None
    kept = (("journal", settings.journal.path), ("archive", archive))
    return [
        f"this user may not write the {what} {path}"
        for what, path in kept
        if path is not None and not can_write(Path(path))
    ]


def _loaded(models: dict[str | None, Artefact], area: AreaPlan) -> tuple[Artefact, None]:
    return models[area.name], None


def _try_to_load(folder: Path) -> None:
    """Load a folder of the published code whole: nothing in it says what belongs to it."""
    from inspectd.simplenet import bundle

    bundle.load(folder)
