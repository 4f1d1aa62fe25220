"""`inspectd audit`: who changed what, and whether that is the whole truth."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from inspectd.reading import one_line

if TYPE_CHECKING:
    from inspectd.history.audit import Row

FILE = click.Path(path_type=Path)
JOURNAL = Path("/var/lib/inspectd/journal.db")
HEAD = re.compile(r"(\d{1,18}):([0-9a-f]{64})")


@click.command(
    epilog="Example: inspectd audit --verify --head 12:5011f9ff… (from the log: audit: row 12 has the hash …)"
)
@click.option("--journal", type=FILE, default=JOURNAL, show_default=True, help="The configuration's journal.path.")
@click.option("--csv", "csv_path", type=FILE, help="Write all rows there.")
@click.option("--verify", is_flag=True, help="Say whether a row was changed, removed or moved; exit 2 if so.")
@click.option("--head", metavar="N:HASH", help="With --verify: a row's hash from the daemon's log, to be held against.")
def command(journal: Path, csv_path: Path | None, verify: bool, head: str | None) -> None:
    """Print what was changed, by whom and why, from a journal; a daemon may be writing it meanwhile."""
    from inspectd.atomic import write_whole
    from inspectd.errors import UsageError
    from inspectd.history import audit, reading

    noted = HEAD.fullmatch(head) if head is not None else None
    if head is not None and (noted is None or not verify):
        raise UsageError(f"--head is {head!r}; expected N:HASH with --verify, as the log says it.")
    rows, last = reading.all_changes(journal)
    if csv_path is not None:
        write_whole(csv_path, _csv(rows))
        click.echo(f"{csv_path}: {len(rows)} rows")
    elif not verify:
        for row in rows:
            click.echo(_line(row))
    if not verify:
        return
    broken = audit.find_break(rows, last)
    if broken is None and noted is not None:
        broken = _missed(rows, int(noted[1]), noted[2])
    if broken is not None:
        raise UsageError(f"The audit of {journal} is not whole. {broken}")
    click.echo(f"The audit of {journal} is whole: {last.n} rows, the last one's hash is {last.hash}.")


def _missed(rows: list[Row], n: int, hash_: str) -> str | None:
    """Return what is wrong if row `n` must have this hash."""
    found = next((row.hash for row in rows if row.n == n), None)
    if found == hash_:
        return None
    return f"Row {n} is missing." if found is None else f"Row {n} has the hash {found}: what is there was written anew."


def _change(row: Row) -> dict[str, Any]:
    """Return a row's change; one that is no JSON any more as it is."""
    try:
        change = json.loads(row.change)
    except ValueError:
        change = None
    return change if isinstance(change, dict) else {"what": row.change}


def _line(row: Row) -> str:
    change = _change(row)
    who = change.get("who") or change.get("by")
    claimed = f" (as {change['by']})" if change.get("who") and change.get("by") else ""
    text = f"{row.n:5}  {change.get('at')}  {change.get('camera') or '-':12} {change.get('what')}"
    if change.get("old") is not None or change.get("new") is not None:
        text += f": {_brief(change.get('old'))} -> {_brief(change.get('new'))}"
    if who:
        text += f"  by {who}{claimed}"
    if change.get("why"):
        text += f": {change['why']}"
    return one_line(text)


def _brief(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_brief(one)}" for key, one in value.items())
    return "none" if value is None else str(value)


def _csv(rows: list[Row]) -> bytes:
    columns = ("at", "epoch", "what", "camera", "old", "new", "who", "by", "why")
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["n", *columns, "hash"])
    for row in rows:
        change = _change(row)
        cells = [change.get(name) for name in columns]
        plain = ["" if one is None else one if isinstance(one, str) else json.dumps(one) for one in cells]
        # A spreadsheet would take what begins like this for a formula.
        writer.writerow([row.n, *(f"'{one}" if one[:1] in "=+-@\t\r" and one else one for one in plain), row.hash])
    return text.getvalue().encode()
