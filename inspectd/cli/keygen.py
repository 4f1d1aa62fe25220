"""`inspectd keygen`: a pair of CURVE keys, in files of libzmq's format."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(epilog="Example: inspectd keygen plc7 --folder keys; then give keys/plc7.key to whoever runs the daemon")
@click.argument("name")
@click.option("--folder", type=click.Path(path_type=Path), default=Path(), help="Where to; by default here.")
def command(name: str, folder: Path) -> None:
    """Make NAME.key, to be given away, and NAME.key_secret, which only you can read. NAME is who you are to others."""
    from inspectd.wire.keys import KeyPair, write_pair

    public, secret = write_pair(folder, name, KeyPair.new())
    click.echo(f"{public}: give it away.")
    click.echo(f"{secret}: keep it; who has it is {name}.")
    click.echo(
        f"A client: put {public.name} into the folder that publish.allow (to watch) or control.allow (to command) "
        "names; a running daemon takes it within a second."
    )
    click.echo(f"A daemon: security.curve_secret: {secret.absolute()}; its clients need {public.name}.")
