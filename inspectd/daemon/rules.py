"""The table of alarms as Prometheus' alert rules (shipped: `configs/prometheus/alerts.yaml`), and as one for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from inspectd.alarms import OF_CAMERA, OF_DAEMON, Alarm, Priority

METRIC = "inspectd_alarm"
"""1 while an alarm is raised, by `camera` (none: of the daemon itself), `alarm` and `priority`."""
SEVERITIES = {
    Priority.CRITICAL: "critical",
    Priority.HIGH: "critical",
    Priority.MEDIUM: "warning",
    Priority.LOW: "info",
}
"""What Alertmanager's routes usually ask for: wake somebody, open a ticket, or show it."""
HEADER = """\
# Prometheus' alert rules for inspectd, made from the daemon's table of alarms (a test holds them to it).
# Delays, and what hides what, are the daemon's: a rule fires as long as its alarm is raised. What is changed here is
# better put into a file beside this one.
"""
COLUMNS = ("alarm", "priority", "what is the case", "what follows", "what to do", "raised", "over", "hidden by")


def alert_rules() -> str:
    """Return the text of the rules' file."""
    groups = [
        {
            "name": "inspectd-cameras",
            "rules": [_rule(one, "Camera {{ $labels.camera }}") for one in _raised(OF_CAMERA)],
        },
        {"name": "inspectd", "rules": [_rule(one, "inspectd on {{ $labels.instance }}") for one in _raised(OF_DAEMON)]},
    ]
    return HEADER + yaml.safe_dump({"groups": groups}, sort_keys=False, width=118, allow_unicode=True)


def alert_name(alarm: Alarm) -> str:
    """Return what Prometheus calls an alarm."""
    return "Inspectd" + "".join(part.capitalize() for part in alarm.name.split("_"))


def alarm_table() -> str:
    """Return the table of `systemd/README.md`, in Markdown."""
    rows = [_row(alarm, f"a camera {alarm.meaning}") for alarm in OF_CAMERA]
    rows += [_row(alarm, f"the daemon {alarm.meaning}") for alarm in OF_DAEMON]
    return "\n".join(f"| {' | '.join(row)} |" for row in [COLUMNS, ["---"] * len(COLUMNS), *rows]) + "\n"


def _raised(alarms: Iterable[Alarm]) -> list[Alarm]:
    return [alarm for alarm in alarms if alarm.priority is not Priority.EVENT]


def _rule(alarm: Alarm, who: str) -> dict[str, Any]:
    its_own = {"expr": alarm.expression, "for": f"{alarm.on_delay_s or 0:g}s"} if alarm.expression else None
    return {
        "alert": alert_name(alarm),
        **(its_own or {"expr": f'{METRIC}{{alarm="{alarm.name}"}} == 1'}),
        "labels": {"severity": SEVERITIES[alarm.priority], "priority": str(alarm.priority)},
        "annotations": {
            "summary": f"{who} {alarm.meaning}",
            "description": alarm.consequence,
            "action": alarm.action,
        },
    }


def _row(alarm: Alarm, meaning: str) -> list[str]:
    raised = [f"{alarm.least} in {alarm.within_s:g} s"] if alarm.least else []
    if alarm.on_delay_s is not None:
        raised += [f"after {alarm.on_delay_s:g} s" if alarm.on_delay_s else "at once"]
    if alarm.expression:
        raised = [f"{raised[0]}, by Prometheus (`{alarm.expression}`)"]
    return [
        f"`{alarm.name}`",
        str(alarm.priority),
        meaning,
        alarm.consequence,
        alarm.action,
        " or ".join(raised) or "never",
        f"after {alarm.off_delay_s:g} s without" if alarm.off_delay_s else "at once",
        ", ".join(f"`{name}`" for name in alarm.suppressed_by) or "nothing",
    ]
