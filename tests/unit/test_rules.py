"""What is shipped for Prometheus, and the table for people, are what the table of alarms says."""

from __future__ import annotations

import re

import yaml
from conftest import ROOT

from inspectd.alarms import OF_CAMERA, OF_DAEMON
from inspectd.daemon.rules import alarm_table, alert_name, alert_rules

SHIPPED = ROOT / "configs" / "prometheus" / "alerts.yaml"
README = ROOT / "systemd" / "README.md"


def test_the_shipped_alert_rules_are_those_of_the_code() -> None:
    assert SHIPPED.read_text(encoding="utf-8") == alert_rules()


def test_each_alarm_has_its_rule_but_events() -> None:
    names = [rule["alert"] for group in yaml.safe_load(alert_rules())["groups"] for rule in group["rules"]]
    assert sorted(names) == sorted(alert_name(one) for one in (*OF_CAMERA, *OF_DAEMON) if one.name != "shutdown")
    assert all(re.fullmatch(r"Inspectd[A-Z][A-Za-z]+", name) for name in names)
    assert len(set(names)) == len(names)


def test_the_readme_has_the_table() -> None:
    assert alarm_table() in README.read_text(encoding="utf-8")
