"""`inspectd service`: as a service of this machine."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from inspectd.service import Service

_root = click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/"),
    help="The folder of an image, instead of this machine.",
)


@click.group(epilog="Example: inspectd service install")
def command() -> None:
    """Install, upgrade or remove the daemon as a service of systemd, with what belongs to it.

    Unit, folders for configuration and keys, groups, rules for Prometheus, a dashboard, and completion for shells. Each
    thing that is done is said. What you have changed is kept, and what is new laid beside it. Needs root (sudo).
    """


@command.command(epilog="Example: inspectd service install")
@_root
def install(root: Path) -> None:
    """Put everything in place; again, only what is missing."""
    _service(root).install()


@command.command(epilog="Example: inspectd service upgrade --restart")
@_root
@click.option(
    "--restart", "restarts", is_flag=True, help="Restart the daemon: parts that pass meanwhile are not inspected."
)
def upgrade(root: Path, restarts: bool) -> None:
    """Put in place what the version that is now installed brings; configuration, models, journal and keys are kept."""
    _service(root).upgrade(restarts=restarts)


@command.command(epilog="Example: inspectd service remove")
@_root
def remove(root: Path) -> None:
    """Stop the daemon and take away what was placed; configuration, models, journal and keys are kept."""
    _service(root).remove()


def _service(root: Path) -> Service:
    from inspectd.cli.completion import SHELLS, script_of
    from inspectd.service import Machine, Service

    program = Path(sysconfig.get_path("scripts")) / "inspectd"
    machine = Machine(root.resolve(), program, Path(sys.executable).resolve())
    return Service(machine, click.echo, {shell: script_of(shell) for shell in SHELLS})
