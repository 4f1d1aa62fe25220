"""`inspectd completion`: what a shell needs to complete its commands and options."""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish")


@click.command(epilog="Example: inspectd completion bash > ~/.local/share/bash-completion/completions/inspectd")
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    """Print the completion for a shell; `inspectd service install` puts it where shells look."""
    click.echo(script_of(shell), nl=False)


def script_of(shell: str) -> str:
    """Return the script for a shell, as click writes it."""
    from click.shell_completion import get_completion_class

    from inspectd.cli import program

    kind = get_completion_class(shell)
    assert kind is not None
    one = kind(program, {}, "inspectd", "_INSPECTD_COMPLETE")
    return one.source_template % one.source_vars() + "\n"
