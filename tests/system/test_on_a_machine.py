"""As an operations engineer has it: installed from a wheel under a real systemd, started, hurt, upgraded, removed."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator

import pytest
from conftest import write_small_model
from machine import Machine, machine_with
from wheels import built, copied

CONFIG = "/etc/inspectd/inspectd.yaml"
PROGRAM = "/opt/inspectd/bin/inspectd"
SIM = "sim://line?fps=10&width=64&height=64"
CAMERAS = f'cameras: [{{name: top, source: "{SIM}", model: /etc/inspectd/model, deadline_ms: 5000}}]\n'
LOG_OF_TODAY = ("journalctl", "-u", "inspectd", "--no-pager", "--lines=3", "-o", "cat")
LISTEN = """
import json, sys, zmq
socket = zmq.Context().socket(zmq.SUB)
socket.subscribe("verdict/top/")
socket.connect("tcp://127.0.0.1:5556")
assert socket.poll(10_000), "no verdict came"
print(json.loads(socket.recv_multipart()[1])["verdict"])
"""

PAGE = "import urllib.request; found = urllib.request.urlopen('http://127.0.0.1:9109/{}').read(); print({})"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    wheel = built(copied(tmp_path_factory.mktemp("source")), tmp_path_factory.mktemp("wheel"))
    folder = tmp_path_factory.mktemp("machine")
    model = write_small_model(folder.parent / "model-of-the-machine", threshold=1e6)
    with machine_with(wheel, folder) as one:
        shutil.copytree(model, one.root / "etc" / "inspectd" / "model")
        one.does("chmod", "-R", "a+rX", "/etc/inspectd")
        yield one


def shows(machine: Machine, *names: str) -> list[str]:
    """Return properties of the unit."""
    said = machine.does("systemctl", "show", "inspectd", "--property", ",".join(names))
    found = dict(line.split("=", 1) for line in said.splitlines())
    return [found[name] for name in names]


def status(machine: Machine) -> str:
    return machine.run("systemctl", "status", "inspectd", "--no-pager", "--full").stdout


def start(machine: Machine) -> None:
    assert machine.run("systemctl", "start", "inspectd").returncode == 0, status(machine)


def is_answered(machine: Machine) -> None:
    """Verdicts arrive at a subscriber."""
    assert machine.does("/opt/inspectd/bin/python", "-c", LISTEN).strip() == "ok"


def test_it_is_installed_and_each_thing_is_said(machine: Machine) -> None:
    said = machine.does(PROGRAM, "service", "install")
    for what in ("wrote /etc/systemd/system/inspectd.service", f"wrote {CONFIG}", "systemctl enable inspectd.service"):
        assert what in said
    again = machine.does("inspectd", "service", "install")
    assert "/etc/systemd/system/inspectd.service is as it should be" in again
    assert "wrote" not in again
    assert machine.does("systemctl", "is-enabled", "inspectd").strip() == "enabled"
    refused = machine.run("runuser", "-u", "nobody", "--", PROGRAM, "service", "install")
    assert (refused.returncode, refused.stderr.count("\n")) == (3, 1)
    assert "needs root: use sudo. Nothing was changed." in refused.stderr


def test_a_broken_configuration_is_refused_at_the_start_and_read_in_the_status(machine: Machine) -> None:
    machine.write(CONFIG, CAMERAS.replace("model", "modle"))
    assert machine.run("systemctl", "start", "inspectd").returncode != 0
    assert shows(machine, "ActiveState", "NRestarts", "ExecMainStatus") == ["failed", "0", "2"]
    said = status(machine)
    assert "cameras[0].modle is not a known key; did you mean" in said, said


def test_it_is_active_only_when_it_is_ready(machine: Machine) -> None:
    machine.write(CONFIG, CAMERAS)
    start(machine)
    said = json.loads(machine.does("inspectd", "status", "--json"))
    assert said["cameras"]["top"]["counts"]["ok"] > 0
    assert 'Status: "top running' in status(machine)
    is_answered(machine)


def test_its_journal_has_levels_and_fields(machine: Machine) -> None:
    machine.does("pkill", "-KILL", "--full", "inspectd.cameras.capture")
    of_camera = ["journalctl", "-u", "inspectd", "INSPECTD_CAMERA=top", "-o", "json", "--no-pager"]
    machine.until("camera top is back", *of_camera, timeout_s=30)
    lines = [json.loads(line) for line in machine.does(*of_camera).splitlines()]
    lost = next(line for line in lines if line["MESSAGE"].startswith("camera top is lost: "))
    assert (lost["PRIORITY"], lost["LOGGER"]) == ("4", "inspectd.cameras.supervisor")
    said = machine.does("journalctl", "-u", "inspectd", "-p", "info..info", "-o", "cat", "--no-pager")
    assert "ready: top running" in said


def test_it_is_reloaded_and_a_broken_configuration_is_refused_with_the_old_one_running_on(machine: Machine) -> None:
    before = shows(machine, "MainPID")
    machine.write(CONFIG, CAMERAS.replace("deadline_ms", "threshold: 7.5, deadline_ms"))
    machine.does("systemctl", "reload", "inspectd")
    assert "the configuration was read again: judged: top" in status(machine)
    machine.write(CONFIG, CAMERAS.replace("model", "modle"))
    assert machine.run("systemctl", "reload", "inspectd").returncode != 0
    assert "cameras[0].modle is not a known key" in status(machine)
    machine.write(CONFIG, CAMERAS.replace("/etc/inspectd/model", "/etc/inspectd/none"))
    assert machine.run("systemctl", "reload", "inspectd").returncode != 0
    assert "There is no model folder /etc/inspectd/none" in status(machine)
    assert shows(machine, "MainPID", "ActiveState") == [*before, "active"]
    is_answered(machine)
    machine.write(CONFIG, CAMERAS)
    machine.does("systemctl", "kill", "--kill-whom=main", "--signal=HUP", "inspectd")
    machine.until("read again: judged: top", *LOG_OF_TODAY, timeout_s=30)
    machine.until("ActiveState=active", "systemctl", "show", "inspectd", "-p", "ActiveState", timeout_s=5)
    assert shows(machine, "MainPID") == before


@pytest.mark.parametrize("unit", ["inspectd", "inspectd-hmi"])
def test_its_exposure_is_small(machine: Machine, unit: str) -> None:
    said = machine.does("systemd-analyze", "security", unit, "--no-pager")
    assert float(said.split(f"Overall exposure level for {unit}.service:")[1].split()[0]) <= 2.0


def test_the_page_is_a_service_of_its_own_that_reads_and_cannot_harm(machine: Machine) -> None:
    python = "/opt/inspectd/bin/python"
    machine.does("systemctl", "start", "inspectd-hmi")
    machine.until("True", python, "-c", PAGE.format("healthz", "b'\"daemon_age_s\":null' not in found"), timeout_s=30)
    assert (
        machine.does(python, "-c", PAGE.format("gallery?verdict=ok", "found.count(b'<li data-verdict=\"ok\"') > 0"))
        == "True\n"
    )
    (pid,) = [
        one.split("=")[1] for one in machine.does("systemctl", "show", "inspectd-hmi", "-p", "MainPID").splitlines()
    ]
    inside = ("nsenter", "--target", pid, "--mount", "--")
    (daemon,) = shows(machine, "MainPID")
    user = machine.does("stat", "-c", "%u", f"/proc/{pid}").strip()
    assert user == machine.does("stat", "-c", "%u", f"/proc/{daemon}").strip() != "0"
    for path in ("/var/lib/inspectd/x", "/etc/inspectd/x", "/x"):
        assert "Read-only file system" in machine.run(*inside, "touch", path).stderr
    machine.does("systemctl", "stop", "inspectd-hmi")
    is_answered(machine)


@pytest.mark.parametrize(
    ("signal", "says", "patience_s"),
    [("KILL", "status=9/KILL", 30), ("STOP", "Watchdog timeout", 90)],
    ids=["killed", "stopped"],
)
def test_it_comes_back(machine: Machine, signal: str, says: str, patience_s: float) -> None:
    before, restarts = shows(machine, "MainPID", "NRestarts")
    machine.does("systemctl", "kill", "--kill-whom=main", f"--signal={signal}", "inspectd")
    machine.until(
        f"NRestarts={int(restarts) + 1}", "systemctl", "show", "inspectd", "-p", "NRestarts", timeout_s=patience_s
    )
    machine.until("active", "systemctl", "is-active", "inspectd", timeout_s=patience_s)
    machine.until("top", "inspectd", "status", timeout_s=patience_s)
    assert shows(machine, "MainPID") != [before]
    assert says in machine.does("journalctl", "-u", "inspectd", "--no-pager")
    is_answered(machine)


def test_an_upgrade_keeps_everything_and_the_line_runs_on(machine: Machine) -> None:
    alerts = "/etc/inspectd/prometheus/alerts.yaml"
    machine.write(alerts, "groups: []\n")
    before = shows(machine, "MainPID")
    said = machine.does(PROGRAM, "service", "upgrade")
    assert f"kept {alerts}, which was changed here; what this version brings is {alerts}.new" in said
    assert f"kept {CONFIG}" in said
    assert "when the line may pause: systemctl restart inspectd.service" in said
    assert shows(machine, "MainPID") == before
    assert machine.does("cat", CONFIG) == CAMERAS
    machine.does(PROGRAM, "service", "upgrade", "--restart")
    assert shows(machine, "MainPID") != before
    is_answered(machine)


def test_it_stops_in_time_and_leaves_no_process(machine: Machine) -> None:
    began_s = time.monotonic()
    machine.does("systemctl", "stop", "inspectd")
    assert time.monotonic() - began_s < 5
    assert shows(machine, "ActiveState", "Result") == ["inactive", "success"]
    assert machine.run("pgrep", "-f", "inspectd.cameras.capture").returncode == 1


@pytest.mark.parametrize("is_encrypted", [False, True], ids=["plain", "encrypted"])
def test_keys_are_handed_over_by_systemd(machine: Machine, is_encrypted: bool) -> None:
    name = "sealed" if is_encrypted else "line3"
    folder = "/etc/inspectd/credentials"
    machine.does(PROGRAM, "keygen", name, "--folder", folder if not is_encrypted else "/root/keys")
    machine.does("cp", f"{folder if not is_encrypted else '/root/keys'}/{name}.key", "/etc/inspectd/watch")
    if is_encrypted:
        key, sealed = f"/root/keys/{name}.key_secret", f"/etc/inspectd/{name}.cred"
        machine.does("systemd-creds", "encrypt", f"--name={name}.key_secret", key, sealed)
        line = f"LoadCredentialEncrypted={name}.key_secret:{sealed}"
        machine.write("/etc/systemd/system/inspectd.service.d/keys.conf", f"[Service]\n{line}\n")
        machine.does("systemctl", "daemon-reload")
    machine.write(
        CONFIG,
        f"{CAMERAS}publish: {{bind: 'tcp://lo:5556', allow: /etc/inspectd/watch}}\n"
        f"security: {{curve_secret: 'credential:{name}.key_secret'}}\n",
    )
    start(machine)
    assert "top running" in status(machine)
    machine.does("systemctl", "stop", "inspectd")
    machine.write(CONFIG, machine.does("cat", CONFIG).replace(name, "gone"))
    assert machine.run("systemctl", "start", "inspectd").returncode != 0
    assert "credential:gone.key_secret, which systemd did not hand over" in status(machine)
    machine.write(CONFIG, CAMERAS)


def test_removing_it_leaves_only_data(machine: Machine) -> None:
    start(machine)
    said = machine.does(PROGRAM, "service", "remove")
    assert "kept /etc/inspectd and /var/lib/inspectd" in said
    assert machine.run("systemctl", "cat", "inspectd").returncode != 0
    assert machine.run("pgrep", "-f", "inspectd run").returncode == 1
    left = machine.does("find", "/etc/inspectd", "/var/lib/private/inspectd", "-type", "f").split()
    kinds = (
        "/model/",
        "/credentials/",
        "/watch/",
        "inspectd.yaml",
        "sealed.cred",
        "alerts.yaml",
        ".installed.json",
        "/private/",
    )
    assert all(any(kind in path for kind in kinds) for path in left), left
    assert f"{CONFIG}" in left
    assert any(path.endswith("journal.db") for path in left)
    assert not (machine.root / "usr/local/bin/inspectd").is_symlink()
    again = machine.does(PROGRAM, "service", "install")
    assert f"kept {CONFIG}" in again
    start(machine)
    is_answered(machine)
