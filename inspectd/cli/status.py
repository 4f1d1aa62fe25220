"""`inspectd status`: how a running daemon is, at a glance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from inspectd.cli import connecting
from inspectd.reading import one_line

TIMEOUT_S = 5.0
URGENT = frozenset({"critical", "high"})
LEFT = frozenset({"camera", "state", "model"})


@click.command(epilog="Example: inspectd status; inspectd status --json | jq .inspecting")
@connecting.control
@connecting.keys
@click.option("--json", "as_json", is_flag=True, help="Print what the daemon answers as it is.")
def command(control: str, server_key: Path | None, key: Path | None, as_json: bool) -> None:
    """Say how a running daemon and its cameras are; exit 3 if it does not answer, 2 if a camera is not inspected."""
    import json
    import sys

    from rich.console import Console

    from inspectd.errors import StartError
    from inspectd.wire.requests import StatusRequest

    said = connecting.ask(control, connecting.read_keys(server_key, key), StatusRequest(), TIMEOUT_S)
    try:
        enabled = [camera for camera in said["cameras"].values() if camera.get("enabled", True)]
        is_well = bool(enabled) and all(camera["inspecting"] for camera in enabled)
        if as_json:
            click.echo(json.dumps(said, indent=1))
        else:
            _show(Console(highlight=False), said)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise StartError(f"What {control} answers is not the state of an inspectd: {error!r}.") from None
    if not is_well:
        sys.exit(2)


def _show(console: Any, said: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    hours, seconds = divmod(int(said["uptime_s"]), 3600)
    console.print(
        f"inspectd {said['version']}, epoch {said['epoch']}, up {hours} h {seconds // 60} min, "
        f"{said['device']} in {said['precision']}"
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("camera", "state", "ok", "ng", "fault", "fps", "p99 ms", "model"):
        table.add_column(title, justify="left" if title in LEFT else "right", no_wrap=True)
    details = []
    for name, camera in said["cameras"].items():
        counts = camera["counts"]
        changed = ", ".join(f"{key} {value}" for key, value in camera["overrides"].items())
        told = None if camera.get("alarms") else camera["detail"]  # else it stands below, with what to do
        detail = "; ".join(filter(None, [told, f"by command: {changed}" if changed else None]))
        table.add_row(
            name,
            Text(camera["state"], "green" if camera["inspecting"] else "bold red"),
            str(counts["ok"]),
            str(counts["ng"]),
            str(counts["fault"]),
            _number(camera["fps"]),
            _number(camera["p99_ms"]),
            Text(camera["model"] or "none"),
        )
        details += [f"{name}: {detail}"] if detail else []
        details += [f"{name}: {_shadow(shadow)}"] if (shadow := camera.get("shadow")) is not None else []
    console.print(table)
    for detail in details:
        console.print(Text(one_line(detail)), soft_wrap=True)
    for who, one in [("inspectd", said), *((f"camera {name}", camera) for name, camera in said["cameras"].items())]:
        for alarm in one.get("alarms", ()):
            _show_alarm(console, who, alarm)
    journal = said["journal"]
    if not journal["ok"]:
        console.print(Text(journal["detail"], "bold red"), soft_wrap=True)
    if lost := sum(journal["lost"].values()):
        console.print(Text(f"{lost} verdicts could not be kept in the journal.", "bold red"))
    archive = said.get("archive")
    if archive is not None and not archive["ok"]:
        console.print(Text(archive["detail"], "bold red"), soft_wrap=True)
    if archive is not None and (lost := sum(archive["lost"].values())):
        console.print(Text(f"{lost} pictures could not be kept in the archive.", "bold red"))


def _show_alarm(console: Any, who: str, alarm: dict[str, Any]) -> None:
    from rich.text import Text

    line = Text(f"{alarm['priority']}: ", "bold red" if alarm["priority"] in URGENT else "bold yellow")
    detail = alarm["detail"].rstrip(".")
    line.append(one_line(f"{who} {detail} (since {alarm['since'][:19]}Z). {alarm['action']}"), "default")
    console.print(line, soft_wrap=True)


def _shadow(shadow: dict[str, Any]) -> str:
    if shadow["model"] is None:
        return f"no second model: {shadow['detail']}"
    return (
        f"the second model {shadow['model']} agrees on {shadow['agreed']} of {shadow['compared']}; it rejects "
        f"{shadow['rejected']} that were ok, and passes {shadow['passed']} that were ng"
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
