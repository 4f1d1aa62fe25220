"""The shipped unit says what the daemon needs, and systemd agrees."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

UNIT = ROOT / "systemd" / "inspectd.service"
COMMAND = "/opt/inspectd/bin/inspectd run --config /etc/inspectd/inspectd.yaml"

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None,
    reason="systemd-analyze is not installed; it comes with the Debian package systemd",
)


def settings() -> dict[str, list[str]]:
    """Return every value of every key, as `Section.Key`."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, value = line.split("=", 1)
            found.setdefault(f"{section}.{key}", []).append(value)
    return found


def analyze(*arguments: str) -> str:
    """Return what systemd-analyze says."""
    command = ["systemd-analyze", "--no-pager", *arguments]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Unit.StartLimitIntervalSec", "0"),
        ("Service.Type", "notify"),
        ("Service.NotifyAccess", "main"),
        ("Service.ExecStart", COMMAND),
        ("Service.WatchdogSec", "30"),
        ("Service.Restart", "always"),
        ("Service.RestartPreventExitStatus", "2"),
        ("Service.KillMode", "mixed"),
        ("Service.SupplementaryGroups", "video render"),
        ("Service.StateDirectory", "inspectd"),
        ("Service.DevicePolicy", "closed"),
        ("Service.LimitMEMLOCK", "infinity"),
        ("Install.WantedBy", "multi-user.target"),
    ],
)
def test_the_contract_lines(key: str, value: str) -> None:
    assert settings()[key] == [value]


@pytest.mark.parametrize("key", ["RestartSec", "TimeoutStartSec", "TimeoutStopSec"])
def test_every_wait_is_bounded(key: str) -> None:
    (value,) = settings()[f"Service.{key}"]
    assert 0 < int(value) <= 600


@pytest.mark.parametrize(
    "key", ["PrivateDevices", "PrivateUsers", "MemoryDenyWriteExecute", "ProcSubset", "PrivateNetwork"]
)
def test_what_would_take_away_cameras_gpu_or_network_is_not_set(key: str) -> None:
    assert f"Service.{key}" not in settings()


@pytest.mark.parametrize("device", ["char-video4linux rw", "char-nvidia* rwm", "char-drm rw"])
def test_cameras_and_gpus_are_allowed(device: str) -> None:
    assert device in settings()["Service.DeviceAllow"]


def test_zeromq_may_ask_for_the_interfaces() -> None:
    """libzmq aborts the process in bind() when it cannot open a netlink socket."""
    (families,) = settings()["Service.RestrictAddressFamilies"]
    assert set(families.split()) == {"AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"}


def test_nothing_depends_on_a_home() -> None:
    text = UNIT.read_text(encoding="utf-8")
    assert not re.search(r"^(Environment=.*\bHOME=|.*%h)", text, flags=re.MULTILINE)


@needs_systemd
def test_systemd_finds_nothing_to_complain_about(tmp_path: Path) -> None:
    installed = tmp_path / UNIT.name
    text = UNIT.read_text(encoding="utf-8")
    program = COMMAND.split(maxsplit=1)[0]
    assert program in text
    installed.write_text(text.replace(program, "/bin/true"), encoding="utf-8")  # which exists everywhere
    said = analyze("verify", "--man=no", str(installed))
    assert [line for line in said.splitlines() if UNIT.name in line or UNIT.stem in line] == []


@needs_systemd
def test_systemd_rates_the_exposure_at_two_or_less() -> None:
    said = analyze("security", "--offline=true", str(UNIT))
    rating = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert rating is not None, said
    assert float(rating[1]) <= 2.0
