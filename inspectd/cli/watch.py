"""`inspectd watch`: what a daemon says, as it says it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from inspectd.cli import connecting

if TYPE_CHECKING:
    from rich.console import Console

    from inspectd.client import Keys, Message
    from inspectd.watching import Seen

REFRESH_S = 0.25


@click.command(epilog="Example: inspectd watch; inspectd watch --camera top --plain >> verdicts.log")
@click.option("--camera", "cameras", multiple=True, help="Only this one; may be given several times.")
@click.option("--plain", is_flag=True, help="A line for each verdict; the default where nobody sees a screen.")
@connecting.published
@connecting.keys
def command(cameras: tuple[str, ...], plain: bool, published: str, server_key: Path | None, key: Path | None) -> None:
    """Show what a daemon publishes until Ctrl-C: verdicts, states, what was lost on the way, and when it is silent."""
    from rich.console import Console

    from inspectd.client import NotAllowedError
    from inspectd.errors import StartError
    from inspectd.watching import Seen

    connecting.check_address("--published", published)
    console = Console(highlight=False)
    seen = Seen(published)
    messages = _messages(published, cameras, connecting.read_keys(server_key, key))
    try:
        with connecting.in_words(published):
            _show(console, seen, messages, is_plain=plain or not console.is_terminal)
    except NotAllowedError as error:
        raise StartError(str(error)) from None


def _show(console: Console, seen: Seen, messages: Iterator[Message | None], *, is_plain: bool) -> None:
    from rich.live import Live

    if is_plain:
        for message in messages:
            for line in seen.lines(message):
                print(line, flush=True)
        return
    with Live(console=console, auto_refresh=False) as live:
        shown_s = 0.0
        for message in messages:
            seen.take(message)
            if (now_s := time.monotonic()) >= shown_s + REFRESH_S:
                shown_s = now_s
                live.update(seen.table(now_s), refresh=True)


def _messages(published: str, cameras: tuple[str, ...], keys: Keys | None) -> Iterator[Message | None]:
    """Yield messages, and None when none came for a moment."""
    from inspectd.client import ForeignReplyError, Subscription

    topics = [f"{kind}/{name}/" for kind in ("verdict", "state") for name in cameras] or ["verdict/", "state/"]
    with Subscription(published, "daemon/", *topics, keys=keys) as subscription:
        while True:
            message = subscription.receive(REFRESH_S)
            try:
                _ = message.header if message is not None else None
            except ForeignReplyError:  # of a newer protocol, perhaps; what follows may be understood
                continue
            yield message
