"""`inspectd reload`: have a running daemon read its configuration again."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import click

from inspectd.cli import connecting

ANSWER_S, TIMEOUT_S = 5.0, 300.0
"""New models are loaded and tried meanwhile."""


@click.command(epilog="Example: inspectd reload --config /etc/inspectd/inspectd.yaml")
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    help="The daemon's YAML file: looked at first, and where it is asked.",
)
@click.option("--pid", type=click.IntRange(1), help="Off the loopback without keys: its process, which is sent SIGHUP.")
@connecting.control
@connecting.keys
def command(config_path: Path | None, pid: int | None, control: str, server_key: Path | None, key: Path | None) -> None:
    """Have the daemon read its configuration again; exit 2 and the reasons where it refuses, and goes on as it was.

    Models are loaded and tried first. What did not change loses no frame; a camera that is judged by something else
    loses none either; one whose own settings changed is opened anew.
    """
    from inspectd import config_file
    from inspectd.addresses import is_local
    from inspectd.errors import StartError
    from inspectd.wire.requests import ReloadRequest, StatusRequest

    if config_path is not None:
        control = config_file.load(config_path).control.bind
        if not is_local(control) and key is None and pid is not None:
            try:
                os.kill(pid, signal.SIGHUP)
            except OSError as error:
                raise StartError(f"Process {pid} cannot be asked: {error.strerror}.") from None
            click.echo(f"Asked process {pid}; its log says what came of it.")
            return
    keys = connecting.read_keys(server_key, key)
    connecting.ask(control, keys, StatusRequest(), ANSWER_S)  # nobody there is no news after minutes
    said = connecting.ask(control, keys, ReloadRequest(), TIMEOUT_S)
    for what, names in said.items():
        if names and what != "notes":
            click.echo(f"{what}: {', '.join(names)}")
    for note in said["notes"]:
        click.echo(note)
