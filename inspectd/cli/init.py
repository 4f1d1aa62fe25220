"""`inspectd init`: a first configuration, by asking what is plugged in."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from inspectd.cli.install import MODELS
from inspectd.service import CONFIG

FIRST_NAMES = ("top", "side", "front", "back")


@click.command(epilog="Example: inspectd init --config inspectd.yaml --camera top=/dev/video0")
@click.option(
    "--config", "path", type=click.Path(path_type=Path), default=CONFIG, show_default=True, help="Where it is written."
)
@click.option(
    "--camera", "given", multiple=True, metavar="NAME=SOURCE", help="A camera, instead of being asked; repeat."
)
@click.option("--force", is_flag=True, help="Write it even where there is one with cameras of your own.")
def command(path: Path, given: tuple[str, ...], force: bool) -> None:
    """Write a first configuration: which camera is called what, and where its model will be. All else has defaults."""
    from inspectd.atomic import write_whole
    from inspectd.config_file import parse
    from inspectd.errors import UsageError
    from inspectd.secrets import redact
    from inspectd.service import is_example

    if path.exists() and not force and not is_example(path):
        raise UsageError(f"{path} exists and is yours; expected another --config, or --force to write over it.")
    cameras = dict(map(_split, given)) if given else _asked()
    if given and len(cameras) < len(given):
        raise UsageError("--camera has a name twice; expected another one for each.")
    if not cameras:
        raise UsageError("No camera was chosen; nothing was written.")
    text = _written(cameras)
    parse(text, "the new configuration")
    if path.exists():
        path.replace(path.with_name(path.name + ".bak"))
        click.echo(f"What was there is {path}.bak.")
    write_whole(path, text.encode())
    path.chmod(0o644)
    if any(redact(source) != source for source in cameras.values()):
        click.echo(f"Anybody on this machine can read {path}, with the password in it: chmod it where they may not.")
    click.echo(f"Wrote {path}. Next, for each camera, show it good parts and install what it learns:")
    for name, source in cameras.items():
        click.echo(f"  inspectd calibrate --camera {shlex.quote(source)} --run_name {name}")
        click.echo(f"  sudo inspectd install results/project/group/{name} {name}")
    click.echo(f"  inspectd check --config {path}")


def _split(text: str) -> tuple[str, str]:
    from inspectd.errors import UsageError

    name, is_there, source = text.partition("=")
    if not is_there or not name or not source:
        raise UsageError(f"--camera is {text!r}; expected NAME=SOURCE such as top=/dev/video0.")
    return name, source


def _asked() -> dict[str, str]:
    """Ask for each camera that is plugged in what it is called; an empty name leaves it out."""
    from inspectd.cameras.discovery import discover
    from inspectd.cameras.vision import library
    from inspectd.errors import InspectdError, UsageError

    found = [(device.path, device.name) for device in discover() if device.problem is None]
    try:
        found += library.found()
    except InspectdError as error:
        click.echo(f"{error}.", err=True)
    if not _is_somebody_there():
        there = ", ".join(source for source, _ in found) or "none that V4L2 or Aravis knows"
        raise UsageError(f"Nobody can be asked here; expected --camera NAME=SOURCE. Plugged in: {there}.")
    cameras: dict[str, str] = {}
    names = iter(FIRST_NAMES)
    for source, what in found:
        click.echo(f"{source}  {what}")
        name = _name(cameras, next(names, ""))
        if name:
            cameras[name] = source
    if not found:
        click.echo("No camera is plugged in that V4L2 or Aravis knows.")
    while source := click.prompt(
        "Another camera (address of a network camera, or nothing)", default="", show_default=False
    ):
        name = _name(cameras, next(names, ""))
        if name:
            cameras[name] = source
    return cameras


def _is_somebody_there() -> bool:
    return sys.stdin.isatty()


def _name(taken: dict[str, str], suggested: str) -> str:
    from inspectd.config_file import parse
    from inspectd.errors import UsageError

    while True:
        said = click.prompt("  its name (- leaves it out)", default=suggested or None, type=str)
        if said == "-":
            return ""
        try:
            parse(_written({said: "0"}), "the name")
        except UsageError:
            click.echo("  expected a lower-case name such as top or cam-1: a-z, 0-9, _ and -, at most 32")
            continue
        if said not in taken:
            return str(said)
        click.echo(f"  {said} is the name of another camera already")


def _written(cameras: dict[str, str]) -> str:
    import yaml

    entries = [{"name": name, "source": source, "model": str(MODELS / name)} for name, source in cameras.items()]
    return (
        "# inspectd's configuration. Every other key, its default and what moving it costs: configs/inspectd.yaml of\n"
        "# the package. `inspectd check --config` says everything that is wrong with it.\n"
        + yaml.safe_dump({"cameras": entries}, sort_keys=False)
    )
