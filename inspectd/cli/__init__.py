"""The command line: one program, thin commands, each loaded when it is called.

Owns: options, what is printed, and exit codes.
Threads: the main thread.
Never: work of its own; a command starts what does it.

Errors that a person can mend end in one sentence on stderr and the error's exit code: 0 done, 2 bad usage
or configuration, 3 could not start, 4 the engine or the publisher is lost.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from inspectd.errors import InspectdError
from inspectd.version import VERSION

COMMANDS = {
    "demo": "A simulated line, calibrated and inspected: needs nothing.",
    "calibrate": "Train a model on good parts of a camera, folder or video.",
    "test": "Judge a folder of pictures, and say what other thresholds would do.",
    "install": "Put a calibrated model where the daemon looks, and back.",
    "run": "The daemon.",
    "reload": "Have a daemon read its configuration again.",
    "watch": "What a daemon says, live.",
    "hmi": "The operator's page: what a daemon says, for a browser.",
    "hmi-user": "Who may log in to the operator's page.",
    "status": "How a daemon and its cameras are.",
    "trigger": "Tell a daemon that a part is there.",
    "mark": "Say that a part was good, or bad, whatever was said of it.",
    "challenge": "Show a camera a part that is known to be good, or bad.",
    "gage": "How far its decisions can be trusted: an attribute study with known parts.",
    "replay": "Archived pictures through a model: what was said, and what it says.",
    "audit": "Who changed what, and whether that is the whole truth.",
    "conformance": "Whether a daemon or gateway speaks the protocol.",
    "init": "Write a first configuration.",
    "check": "Say everything that is wrong with a configuration.",
    "bench": "Throughput and latency per stage on this machine.",
    "soak": "A daemon on simulated cameras for hours, with all that may go wrong.",
    "cameras": "List what is plugged in.",
    "keygen": "Make the keys that a daemon or client elsewhere needs.",
    "service": "Install the daemon as a service of systemd, upgrade it, remove it.",
    "completion": "What bash, zsh or fish need to complete commands.",
}


class LazyGroup(click.Group):
    """Knows its commands by name; imports `inspectd.cli.<name>` when one is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import and return a command."""
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"inspectd.cli.{name.replace('-', '_')}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: inspectd demo",
)
@click.version_option(VERSION, message="inspectd %(version)s")
def program() -> None:
    """Inspect parts with cameras: verdicts over ZeroMQ, metrics for Prometheus, models from good parts only."""


def main(arguments: list[str] | None = None) -> Any:
    """Run the program and end the process with its exit code."""
    try:
        sys.exit(program.main(arguments, prog_name="inspectd", standalone_mode=False) or 0)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        print("Stopped.", file=sys.stderr)
        sys.exit(130)
    except InspectdError as error:
        print(f"inspectd: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
