"""`inspectd challenge`: show a camera a part that is known."""

from __future__ import annotations

from pathlib import Path

import click

from inspectd.cli import connecting

HERE_S = 5.0
ANSWER_S = 60.0
"""Beside the time for which a part is waited: its picture is kept, and earlier ones are judged again."""


@click.command(epilog="Example: inspectd challenge top bad --part M-7")
@click.argument("camera")
@click.argument("say", metavar="good|bad", type=click.Choice(["good", "bad"]))
@click.option("--part", metavar="ID", help="Which known part it is: its pictures are held against its earlier ones.")
@click.option("--next", "is_next", is_flag=True, help="Mode trigger: it comes down the line, which triggers for it.")
@click.option("--within", "within_s", type=float, default=30.0, show_default=True, help="Seconds to wait for the part.")
@connecting.signed
@connecting.control
@connecting.keys
def command(
    camera: str,
    say: str,
    part: str | None,
    is_next: bool,
    within_s: float,
    by: str | None,
    why: str | None,
    control: str,
    server_key: Path | None,
    key: Path | None,
) -> None:
    """Have the next part that CAMERA sees judged as one that is known to be good, or bad.

    A good one must be accepted, a bad one found; else nothing is passed until it is, and the exit code is 2. It is 3
    where the part was not judged, and nothing has changed. The earlier picture of the same part, judged again, tells
    whether the camera has changed or the model.
    """
    import msgspec

    from inspectd.wire.requests import ChallengeRequest, StatusRequest

    keys = connecting.read_keys(server_key, key)
    fields = {"camera": camera, "say": say, "part": part, "next": is_next, "within_s": within_s, "by": by, "why": why}
    request = connecting.built(ChallengeRequest, "challenge", **fields)
    connecting.ask(control, keys, StatusRequest(), HERE_S)  # nobody waits a minute for a daemon that is not there
    try:
        said = connecting.ask(control, keys, request, within_s + ANSWER_S)
    except KeyboardInterrupt:  # else the next part of the line would be taken for it
        connecting.ask(control, keys, msgspec.structs.replace(request, cancel=True), HERE_S)
        raise
    click.echo(said["detail"], err=not said["passed"])
    if said["rejudged"] is not None:
        click.echo(said["rejudged"]["detail"], err=not said["passed"])
    if said["picture"] is not None:
        click.echo(f"Its picture: {said['picture']}")
    elif said["verdict"]["score"] is not None:
        click.echo("No picture of it was kept: the archive cannot be written, or there is none.")
    if not said["passed"]:
        raise click.exceptions.Exit(3 if said["passed"] is None else 2)
