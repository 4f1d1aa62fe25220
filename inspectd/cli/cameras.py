"""`inspectd cameras`: what is plugged in."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(epilog="Example: inspectd cameras --snapshot /tmp")
@click.option(
    "--snapshot",
    type=click.Path(path_type=Path, file_okay=False),
    help="Save one picture of each camera into this folder.",
)
def command(snapshot: Path | None) -> None:
    """List cameras on this machine: the stable path for `source`, name, formats; save a picture of each."""
    from inspectd.cameras.discovery import Device, discover
    from inspectd.cameras.snapshot import save_snapshot
    from inspectd.errors import InspectdError

    def show(device: Device) -> None:
        click.echo(f"{device.path}  ({device.node})  {device.name}")
        for form in device.formats:
            click.echo(f"    {form.fourcc}  {form.description}: {', '.join(form.sizes)}")
        if device.problem is not None:
            click.echo(f"    {device.problem}")

    devices = discover()
    if not devices:
        click.echo("No camera is plugged in that V4L2 knows (there is no capture device below /dev/video*).")
    for device in devices:
        show(device)
        if snapshot is not None and device.problem is None:
            try:
                click.echo(f"    picture: {save_snapshot(device.path, snapshot)}")
            except InspectdError as error:
                click.echo(f"    no picture: {error}")
