"""`inspectd conformance`: hold a daemon, or a gateway, against the protocol's document."""

from __future__ import annotations

from pathlib import Path

import click

from inspectd.cli import connecting


@click.command(epilog="Example: inspectd conformance tcp://127.0.0.1:5556 --control tcp://127.0.0.1:5557")
@click.argument("address", default=connecting.PUBLISHED)
@click.option("--control", metavar="ADDRESS", help="Ask there, too; nothing is changed.")
@click.option("--seconds", type=click.FloatRange(2, 3600), default=10, show_default=True, help="How long to listen.")
@connecting.keys
def command(address: str, control: str | None, seconds: float, server_key: Path | None, key: Path | None) -> None:
    """Listen to what is published at ADDRESS, and say which rules of the protocol are kept; exit 2 if one is not."""
    import sys

    from inspectd.client import NotAllowedError
    from inspectd.conformance import Rules, ask, listen
    from inspectd.errors import StartError

    connecting.check_address("ADDRESS", address)
    keys = connecting.read_keys(server_key, key)
    rules = Rules()
    try:
        with connecting.in_words(address):
            listen(rules, address, seconds, keys)
        if control is not None:
            connecting.check_address("--control", control)
            with connecting.in_words(control):
                ask(rules, control, keys)
    except NotAllowedError as error:
        raise StartError(str(error)) from None
    for rule in rules:
        click.echo(f"{'broken' if rule.broken else 'kept  '}  {rule.name} ({rule.looked} times looked at)")
        for why in rule.broken:
            click.echo(f"        {why}")
    broken = sum(bool(rule.broken) for rule in rules)
    click.echo(f"{broken} of {len(list(rules))} rules are broken.")
    if broken:
        sys.exit(2)
