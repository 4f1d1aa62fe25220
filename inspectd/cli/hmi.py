"""`inspectd hmi`: the operator's page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from inspectd.cli import connecting

if TYPE_CHECKING:
    from inspectd.config import Config

ROLES = ("viewer", "operator", "engineer")
FILE = click.Path(path_type=Path)
EVERYWHERE = ("*", "0.0.0.0", "[::]")


@click.command(epilog="Example: inspectd hmi --config /etc/inspectd/inspectd.yaml")
@click.option("--config", "config_path", type=FILE, help="The daemon's: where it publishes, and what it keeps.")
@click.option("--published", metavar="ADDRESS", help="The daemon's publish.bind.  [the configuration's]")
@click.option("--control", metavar="ADDRESS", help="The daemon's control.bind.  [the configuration's]")
@connecting.keys
@click.option("--journal", type=FILE, help="The daemon's journal.path, for the gallery.  [the configuration's]")
@click.option("--archive", type=FILE, help="The daemon's archive.path.  [the configuration's]")
@click.option("--listen", default="127.0.0.1:9109", show_default=True, metavar="HOST:PORT", help="Where it is served.")
@click.option(
    "--users", help="Who may log in (`inspectd hmi-user`): a file, or credential:NAME; needed off the loopback."
)
@click.option(
    "--anyone", type=click.Choice(ROLES), help="What is allowed without logging in.  [engineer; with --users nothing]"
)
@click.option("--tls-cert", type=FILE, help="The certificate, PEM; needed off the loopback.")
@click.option("--tls-key", help="Its key, PEM: a file, or credential:NAME.")
@click.option("--below", default="", metavar="PATH", help="The path below which a proxy shows it, such as /line1.")
@click.option("--name", "names", multiple=True, help="A name by which browsers reach it; repeatable.")
@click.option("--state", type=FILE, help="Folder in which the shifts' counts are kept.  [not kept]")
@click.option("--shifts", default="06:00,14:00,22:00", show_default=True, help="When shifts begin, by the local clock.")
@click.option("--language", type=click.Choice(["en", "zh"]), help="For all.  [each browser's]")
@click.option("--log-format", type=click.Choice(["auto", "text", "journal", "json"]), default="auto", show_default=True)
def command(
    config_path: Path | None,
    published: str | None,
    control: str | None,
    server_key: Path | None,
    key: Path | None,
    journal: Path | None,
    archive: Path | None,
    users: str | None,
    tls_key: str | None,
    anyone: str | None,
    shifts: str,
    log_format: str,
    **more: object,
) -> None:
    """Serve the operator's page until Ctrl-C: a subscriber like any other, which no inspection waits for.

    On the loopback nobody logs in. Off it, browsers need a name and a password, and the page a certificate.
    """
    from inspectd import logs
    from inspectd.config_file import load
    from inspectd.credentials import secret_path
    from inspectd.errors import UsageError

    try:
        from inspectd.hmi.accounts import Role
        from inspectd.hmi.counts import parse_starts
        from inspectd.hmi.serving import serve
        from inspectd.hmi.settings import Settings
    except ImportError as error:
        raise UsageError(f"The page needs {error.name}, which is not installed: pip install 'inspectd[hmi]'") from None

    config = None if config_path is None else load(config_path)
    published = published or _reached(config.publish.bind if config else None, connecting.PUBLISHED)
    control = control or _reached(config.control.bind if config else None, connecting.CONTROL)
    connecting.check_address("--published", published)
    connecting.check_address("--control", control)
    kept = _kept(config)
    default = None if users is not None else "engineer"
    settings = Settings(
        published=published,
        config=config_path,
        control=control,
        keys=connecting.read_keys(server_key, key),
        users=None if users is None else secret_path("--users", users),
        tls_key=None if tls_key is None else secret_path("--tls-key", tls_key),
        anyone=Role(role) if (role := anyone or default) else None,
        shifts=parse_starts(shifts),
        journal=journal or kept[0],
        archive=archive or kept[1],
        **more,  # type: ignore[arg-type]
    )
    logs.begin(log_format)
    serve(settings)


def _reached(bind: str | None, default: str) -> str:
    """Return how what a daemon binds is reached from this machine."""
    if bind is None:
        return default
    for host in EVERYWHERE:
        bind = bind.replace(f"tcp://{host}:", "tcp://127.0.0.1:")
    return bind


def _kept(config: Config | None) -> tuple[Path | None, Path | None]:
    """Return where the daemon keeps its journal and its pictures."""
    if config is None:
        return None, None
    journal = None if config.journal.path is None else Path(config.journal.path)
    return journal, Path(config.archive.path) if config.archive.max_gb else None
