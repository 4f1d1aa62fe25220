"""`inspectd hmi-user`: who may log in to the operator's page."""

from __future__ import annotations

import sys
from pathlib import Path

import click

ROLES = ("viewer", "operator", "engineer")


@click.command(epilog="Example: inspectd hmi-user anna --role engineer --users /etc/inspectd/hmi-users.json")
@click.argument("name")
@click.option(
    "--users", "path", type=click.Path(path_type=Path), required=True, help="The file; it is made where there is none."
)
@click.option("--role", type=click.Choice(ROLES), default="viewer", show_default=True, help="What they may do.")
@click.option("--remove", is_flag=True, help="Take them off instead; their sessions end.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
def command(name: str, path: Path, role: str, remove: bool, password_stdin: bool) -> None:
    """Add NAME to those who may log in, or change their password and role. A running page knows it at once.

    A viewer watches; an operator also triggers, marks, bypasses and chooses recipes; an engineer may also change
    threshold and model.
    """
    import msgspec

    from inspectd.errors import UsageError
    from inspectd.hmi.accounts import Role, UserName, new_user, read_users, write_users

    try:
        msgspec.convert(name, UserName)
    except msgspec.ValidationError:
        raise UsageError(f"NAME is {name!r}; expected letters, digits, ., _ and -, at most 32.") from None
    users = read_users(path) if path.exists() else {}
    if remove:
        if name not in users:
            raise UsageError(f"{path} has no user {name}; it has: {', '.join(sorted(users)) or 'nobody'}.")
        del users[name]
    else:
        if password_stdin:
            password = sys.stdin.readline().rstrip("\r\n")
        else:
            password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
        users[name] = new_user(Role(role), password)
    write_users(path, users)
    click.echo(f"{name} {'is no user of the page any more' if remove else f'may log in as {role}'}.")
