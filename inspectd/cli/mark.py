"""`inspectd mark`: tell a daemon what a person says of a part."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from inspectd.cli import connecting

if TYPE_CHECKING:
    from inspectd.client import Keys

TIMEOUT_S = 30.0


@click.command(epilog="Example: inspectd mark 4711 bad --why 'scratch on the rim'")
@click.argument("seq", type=click.IntRange(1))
@click.argument("say", type=click.Choice(["good", "bad"]))
@click.option("--camera", help="Whose verdict it is.  [the only camera]")
@click.option("--epoch", help="Of which start of the daemon.  [the present one]")
@connecting.signed
@connecting.control
@connecting.keys
def command(
    seq: int,
    say: str,
    camera: str | None,
    epoch: str | None,
    by: str | None,
    why: str | None,
    control: str,
    server_key: Path | None,
    key: Path | None,
) -> None:
    """Say that the part of verdict SEQ was good, or bad, whatever was said of it.

    Its picture, if the archive has one, stays for the next calibration (calibrate --with-marked).
    """
    from inspectd.wire.requests import MarkRequest

    keys = connecting.read_keys(server_key, key)
    where = camera or _only_camera(control, keys)
    request = connecting.built(MarkRequest, "mark", camera=where, epoch=epoch, seq=seq, say=say, by=by, why=why)
    said = connecting.ask(control, keys, request, TIMEOUT_S)
    if said["picture"] is None:
        click.echo(
            f"Verdict {seq} of {request.camera} is marked {say}. The archive has no picture of it; archive.ok_share in "
            "the configuration says of how many ok parts it keeps one."
        )
    else:
        click.echo(f"Verdict {seq} of {request.camera} is marked {say}: {said['picture']}")


def _only_camera(control: str, keys: Keys | None) -> str:
    from inspectd.errors import UsageError
    from inspectd.wire.requests import StatusRequest

    said = connecting.ask(control, keys, StatusRequest(), TIMEOUT_S)
    names = [name for name, camera in said["cameras"].items() if camera.get("enabled", True)]
    if len(names) != 1:
        raise UsageError(f"There are the cameras {', '.join(names)}; say which one with --camera.")
    return str(names[0])
