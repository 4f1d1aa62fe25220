"""`inspectd run`: the daemon."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import click

# Before numpy is loaded: its matrices are small here, and threads that wait for each other cost more than they save.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@click.command(epilog="Example: inspectd run --config /etc/inspectd/inspectd.yaml")
@click.option("--config", "config_path", type=click.Path(path_type=Path), required=True, help="The YAML file.")
@click.option(
    "--log-format",
    type=click.Choice(["auto", "text", "journal", "json"]),
    default="auto",
    show_default=True,
    help="How it logs to stderr, or to systemd's journal.",
)
@click.option("--exit-when-done", is_flag=True, help="End with the last finite source (file or folder).")
def command(config_path: Path, log_format: str, exit_when_done: bool) -> None:
    """Inspect what the configured cameras see, until SIGTERM or Ctrl-C; a second Ctrl-C forces the exit."""
    from inspectd import config_file, logs
    from inspectd.cli.check import notes_of_folders, problems_of_sources
    from inspectd.config import Config
    from inspectd.errors import UsageError

    logs.begin(log_format)

    def read() -> Config:
        found = config_file.load(config_path)
        if problems := problems_of_sources(found):
            raise UsageError("\n".join(problems))
        return found

    settings = read()
    for note in notes_of_folders(settings):
        logging.warning("%s", note)

    from inspectd.daemon.life import Daemon

    Daemon(settings, read, exit_when_done=exit_when_done).run()
