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
    """List cameras on this machine: the stable path for `source`, name, formats; save a picture of each.

    GigE Vision and USB3 Vision cameras that answer are listed by their serial numbers.
    """
    from inspectd.cameras.discovery import Device, discover
    from inspectd.cameras.vision import library
    from inspectd.errors import InspectdError

    def show(device: Device) -> None:
        click.echo(f"{device.path}  ({device.node})  {device.name}")
        for form in device.formats:
            click.echo(f"    {form.fourcc}  {form.description}: {', '.join(form.sizes)}")
        if device.problem is not None:
            click.echo(f"    {device.problem}")

    try:
        vision = library.found()
    except InspectdError as error:
        vision, why = [], f" {error}."
    else:
        why = ""
    devices = discover()
    if not devices and not vision:
        click.echo(f"No camera is plugged in that V4L2 knows (there is no capture device below /dev/video*).{why}")
    for address, name in vision:
        click.echo(f"{address}  {name}")
        if snapshot is not None:
            _save(address, snapshot)
    for device in devices:
        show(device)
        if snapshot is not None and device.problem is None:
            _save(device.path, snapshot)


def _save(source: str, folder: Path) -> None:
    """Save a picture of a camera and say where, or why not."""
    from inspectd.cameras.snapshot import save_snapshot
    from inspectd.errors import InspectdError

    try:
        click.echo(f"    picture: {save_snapshot(source, folder)}")
    except InspectdError as error:
        click.echo(f"    no picture: {error}")
