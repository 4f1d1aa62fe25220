"""`inspectd trigger`: tell a daemon that a part is there."""

from __future__ import annotations

from pathlib import Path

import click

from inspectd.cli import connecting

TIMEOUT_S = 30.0


@click.command(epilog="Example: inspectd trigger top --part A-4711 --wait")
@click.argument("camera")
@click.option("--part", help="What the part is called; stands in its verdict.")
@click.option("--recipe", help="The product that it is, where the camera has recipes.")
@click.option("--wait", is_flag=True, help="Wait for the verdict, and print it.")
@connecting.control
@connecting.keys
def command(
    camera: str,
    part: str | None,
    recipe: str | None,
    wait: bool,
    control: str,
    server_key: Path | None,
    key: Path | None,
) -> None:
    """Trigger an inspection at CAMERA."""
    import json

    from inspectd.wire.requests import TriggerRequest

    request = TriggerRequest(camera=camera, part=part, recipe=recipe, wait=wait)
    said = connecting.ask(control, connecting.read_keys(server_key, key), request, TIMEOUT_S)
    click.echo(json.dumps(said, indent=1) if wait else said)
