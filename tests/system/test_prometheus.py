"""What is shipped for Prometheus and Grafana, in front of a real Prometheus with a real daemon behind it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from cameras_on_loopback import free_port, mjpeg_server
from conftest import ROOT, write_small_model
from forked import ForkedInspectd
from prometheus import HAS_PROMETHEUS, PACKAGE, SHIPPED, Prometheus

from inspectd.alarms import OF_CAMERA, OF_DAEMON, Alarm, Priority
from inspectd.client import Control, Keys, NotAllowedError, Subscription
from inspectd.daemon.rules import METRIC, alert_name
from inspectd.wire.keys import KeyPair, write_pair
from inspectd.wire.requests import (
    BypassRequest,
    ChallengeRequest,
    ModelRequest,
    ReloadRequest,
    ThresholdRequest,
    TriggerRequest,
)

pytestmark = pytest.mark.skipif(not HAS_PROMETHEUS, reason=f"needs {PACKAGE}")

DASHBOARD = ROOT / "configs" / "grafana" / "inspectd.json"
EMPTY_WITHOUT = {
    "inspectd_shadow_verdicts_total",
    "inspectd_picture_drift_ratio",
    "inspectd_score_drift",
    "inspectd_challenge_told",
    "== 1",
    "> 0",
}
"""What asks for second models, for many pictures of a calibrated camera, for known parts, or for what is not the case,
may be answered with nothing."""
RAISED = [one for one in (*OF_CAMERA, *OF_DAEMON) if one.priority is not Priority.EVENT]


def promtool(*arguments: str) -> str:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_shipped_configuration_and_rules_are_right() -> None:
    said = promtool("check", "config", "--lint=all", "--lint-fatal", str(SHIPPED / "prometheus.yaml"))
    assert "SUCCESS: 2 rule files found" in said
    for rules in ("alerts.yaml", "recording.yaml"):
        assert "SUCCESS" in promtool("check", "rules", "--lint=all", "--lint-fatal", str(SHIPPED / rules))


def series_of(alarm: Alarm) -> tuple[dict[str, Any], str]:
    """Return what its rule is fed: well for 3 minutes, then not for 3, then well; and the camera's name."""
    camera = "top" if alarm in OF_CAMERA else ""
    name = (
        f'{METRIC}{{job="inspectd",instance="pc",camera="{camera}",alarm="{alarm.name}",priority="{alarm.priority}"}}'
    )
    values = "0x11 1x11 0x40"
    if alarm.name == "down":
        name, values = 'up{job="inspectd",instance="pc"}', "1x11 0x11 1x40"
    elif alarm.name == "restarting":
        name, values = 'process_start_time_seconds{job="inspectd",instance="pc"}', "1x8 2 3 4x80"
    return {"series": name, "values": values}, camera


@pytest.mark.parametrize("alarm", RAISED, ids=lambda alarm: str(alarm.name))
def test_each_alert_fires_and_stops_by_what_the_daemon_says(alarm: Alarm, tmp_path: Path) -> None:
    series, camera = series_of(alarm)
    severity = {"critical": "critical", "high": "critical", "medium": "warning", "low": "info"}[alarm.priority]
    who = f"Camera {camera}" if camera else "inspectd on pc"
    of_alarm = {"alarm": alarm.name, "camera": camera} if not alarm.expression else {}
    labels = {"job": "inspectd", "instance": "pc", "severity": severity, "priority": str(alarm.priority), **of_alarm}
    fires = {
        "exp_labels": {name: str(value) for name, value in labels.items() if value},
        "exp_annotations": {
            "summary": f"{who} {alarm.meaning}",
            "description": alarm.consequence,
            "action": alarm.action,
        },
    }
    looks = [("2m", []), ("5m", [fires]), ("25m", [])]
    test = {
        "rule_files": [str(SHIPPED / "alerts.yaml")],
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [series],
                "alert_rule_test": [
                    {"eval_time": at, "alertname": alert_name(alarm), "exp_alerts": found} for at, found in looks
                ],
            }
        ],
    }
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(test))), encoding="utf-8")
    assert "SUCCESS" in promtool("test", "rules", str(tmp_path / "test.yaml"))


# With a daemon behind it


class Pictures:
    """What a camera on the loopback shows: a word may be changed at any time."""

    def __init__(self) -> None:
        rng = np.random.default_rng(5)
        self.word = "well"
        self._well = [_jpeg(rng, 64, 48) for _ in range(50)]
        self._large = [_jpeg(rng, 96, 72) for _ in range(50)]

    def __call__(self, number: int) -> bytes | None:
        """Return the next picture; None: the connection is closed."""
        well = self._well[number % 50]
        return {
            "well": well,
            "frozen": self._well[0],
            "torn": well[: len(well) // 2],
            "large": self._large[number % 50],
            "gone": None,
        }[self.word]


def _jpeg(rng: np.random.Generator, width: int, height: int) -> bytes:
    return bytes(cv2.imencode(".jpg", rng.integers(0, 255, (height, width, 3), np.uint8))[1])


class Site:
    """A daemon with a camera for each trouble, and a Prometheus that watches it."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.port, self.published, self.control_port = free_port(), free_port(), free_port()
        self.model = write_small_model(folder / "model", threshold=1e6)
        self.low = write_small_model(folder / "low", threshold=-1e6)
        self.bare = write_small_model(folder / "bare", threshold=None)
        for name in ("line3", "hmi", "stranger"):
            write_pair(folder / "keys", name, KeyPair.new())
        (folder / "watch").mkdir()
        (folder / "watch" / "hmi.key").write_bytes((folder / "keys" / "hmi.key").read_bytes())
        self.disk = folder / "disk"
        self.disk.mkdir()
        self.pictures = Pictures()
        camera_port = stack.enter_context(mjpeg_server(self.pictures, fps=20))
        line, sim = "sim://line?width=64&height=64", f"mode: trigger, model: {self.model}"
        self.control = f"ipc://{folder}/control"
        self.config = folder / "inspectd.yaml"
        self.config.write_text(
            "cameras:\n"
            f"- {{name: top, source: 'http://127.0.0.1:{camera_port}/', model: {self.model}, deadline_ms: 5000}}\n"
            f"- {{name: side, source: '{line}&fps=10', model: {folder}/none, deadline_ms: 5000}}\n"
            f"- {{name: slow, source: '{line}&fps=0.5', deadline_ms: 20, {sim}}}\n"
            f"- {{name: few, source: '{line}&fps=0.5', deadline_ms: 9000, {sim}}}\n"
            f"- {{name: bare, source: '{line}&fps=5', model: {self.bare}, deadline_ms: 5000}}\n"
            f"- {{name: known, source: '{line}&fps=5', model: {self.model}, deadline_ms: 5000}}\n"
            f"publish: {{bind: 'tcp://lo:{self.published}', allow: {folder}/watch}}\n"
            f"security: {{curve_secret: {folder}/keys/line3.key_secret}}\n"
            f"control: {{bind: '{self.control}'}}\n"
            f"metrics: {{listen: '127.0.0.1:{self.port}'}}\n"
            f"journal: {{path: {self.disk}/journal.db}}\narchive: {{path: {folder}/archive, ok_share: 1}}\n"
        )
        self.daemon = self.start()
        self.prometheus = stack.enter_context(Prometheus(folder / "prometheus", free_port(), self.port))

    def start(self) -> ForkedInspectd:
        """Start the daemon."""
        self.started_s = time.time()
        self.daemon = ForkedInspectd(["run", "--config", str(self.config)], os.environ, self.folder / "log")
        return self.daemon

    def is_seen(self) -> None:
        """Wait until Prometheus has seen the daemon that was started last."""
        since = self.started_s - 0.5  # the kernel knows a process's start to some hundredths of a second
        self.prometheus.until(lambda p: bool(p.query(f"process_start_time_seconds > {since}")), 60)

    def end(self) -> None:
        """End the daemon at once."""
        self.daemon.kill()
        self.daemon.wait()

    def metrics(self) -> str:
        """Return what the daemon answers."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as reply:
            return str(reply.read().decode())

    def fires(self, *alerts: str, timeout_s: float = 60) -> None:
        """Wait until these alerts fire."""
        self.prometheus.until(lambda p: set(alerts) <= p.firing().keys(), timeout_s)

    def is_over(self, *alerts: str, timeout_s: float = 60) -> None:
        """Wait until none of these alerts fires."""
        self.prometheus.until(lambda p: not set(alerts) & p.firing().keys(), timeout_s)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("site")
        (folder / "log").write_text("")
        site = Site(folder, stack)
        stack.callback(site.end)
        stack.callback(subprocess.run, ["umount", "--lazy", str(site.disk)], capture_output=True, check=False)
        site.prometheus.until(lambda p: bool(p.query('inspectd_camera_inspecting{camera="top"} == 1')), 60)
        yield site


def test_the_metrics_are_as_prometheus_wants_them(site: Site) -> None:
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=site.metrics(), capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_query_of_the_dashboard_is_answered(site: Site) -> None:
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    site.prometheus.until(lambda p: bool(p.query("camera:inspectd_latency_seconds:p99_5m > 0")), 60)
    variables = [one["query"]["query"] for one in board["templating"]["list"] if one["type"] == "query"]
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    queries += [re.sub(r"label_values\((.*), \w+\)", r"\1", one) for one in variables]
    queries += [one["expr"] for one in board["annotations"]["list"]]
    assert len(queries) > 30
    for query in queries:
        for name, value in (("$instance", ".*"), ("$camera", ".*"), ("$__rate_interval", "5m"), ("$__range", "5m")):
            query = query.replace(name, value)  # noqa: PLW2901
        found = site.prometheus.query(query)
        assert found or any(part in query for part in EMPTY_WITHOUT), query


def test_no_metric_has_a_label_by_frame_or_part(site: Site) -> None:
    labels = set(re.findall(r'[{,](\w+)="', site.metrics()))
    assert labels <= {
        *("camera", "verdict", "reason", "state", "alarm", "priority", "stage", "le", "recipe", "area", "model"),
        *("digest", "device", "precision", "version", "socket", "agreement", "what", "known"),
    }


def told(site: Site, ask: Callable[[Control], Any]) -> Any:
    with Control(site.control) as control:
        return ask(control)


def test_what_a_camera_does_is_told_and_is_over(site: Site) -> None:
    with Control(site.control) as control:
        for part in range(5):
            control.ask(TriggerRequest(camera="few", part=f"F-{part}"), 10)
        for part in range(5):
            control.ask(TriggerRequest(camera="slow", part=f"S-{part}"), 10)
            time.sleep(0.3)
    site.fires("InspectdOverload few", "InspectdDeadline slow")
    for word, alert in (("frozen", "InspectdCameraFrozen"), ("gone", "InspectdCameraLost")):  # after which it is back
        site.pictures.word = word
        site.fires(f"{alert} top")
        site.pictures.word = "well"
        site.is_over(f"{alert} top")
    site.pictures.word = "large"
    site.fires("InspectdIdentity top")
    site.pictures.word = "torn"
    site.fires("InspectdPicture top")
    site.pictures.word = "well"
    site.is_over("InspectdIdentity top")
    site.fires("InspectdUnsteady top")  # frozen, lost, twice of another size
    # A picture that comes damaged from a busy machine begins the minute anew.
    site.is_over("InspectdPicture top", "InspectdOverload few", "InspectdDeadline slow", timeout_s=240)


def test_what_hides_others_is_told_alone(site: Site) -> None:
    site.pictures.word = "gone"
    site.fires("InspectdCameraLost top")
    assert (
        not {"InspectdCameraFrozen top", "InspectdPicture top", "InspectdIdentity top"}
        & site.prometheus.firing().keys()
    )
    site.pictures.word = "well"
    site.is_over("InspectdCameraLost top")


def test_what_is_asked_of_it_is_told_and_is_over(site: Site) -> None:
    site.fires("InspectdNoModel side")
    told(site, lambda c: c.ask(ModelRequest(camera="side", path=str(site.model), by="anna"), 30))
    told(site, lambda c: c.ask(BypassRequest(camera="side", seconds=60, by="anna", why="a new lamp"), 10))
    site.fires("InspectdBypass side")
    assert "InspectdNoModel side" not in site.prometheus.firing()
    told(site, lambda c: c.ask(BypassRequest(camera="side", seconds=0, by="anna", why="it is there"), 10))
    site.is_over("InspectdBypass side", "InspectdNoModel side")


def test_a_model_without_a_threshold_is_told_and_is_over(site: Site) -> None:
    site.fires("InspectdNoThreshold bare")
    told(site, lambda c: c.ask(ThresholdRequest(camera="bare", value=5.0, by="anna"), 30))
    site.is_over("InspectdNoThreshold bare")


def test_known_parts_that_are_not_told_or_not_shown_are_told_and_are_over(site: Site) -> None:
    def show(passed: bool) -> None:
        said, _ = told(site, lambda c: c.ask(ChallengeRequest(camera="known", say="bad", by="anna"), 30))
        assert said["passed"] is passed

    show(passed=False)
    site.fires("InspectdChallengeFailed known")
    told(site, lambda c: c.ask(ModelRequest(camera="known", path=str(site.low), by="anna"), 30))
    show(passed=True)
    site.is_over("InspectdChallengeFailed known")
    text = site.config.read_text()
    site.config.write_text(text.replace("name: known,", "name: known, challenge: {bad_every_h: 0.012},"))
    told(site, lambda c: c.ask(ReloadRequest(), 30))
    site.fires("InspectdChallengeSoon known")
    site.fires("InspectdChallengeDue known")
    assert "InspectdBypass known" not in site.prometheus.firing()
    show(passed=True)
    site.is_over("InspectdChallengeDue known", "InspectdChallengeSoon known")


def test_strangers_are_told(site: Site) -> None:
    keys = Keys.read(site.folder / "keys" / "line3.key", site.folder / "keys" / "stranger.key_secret")
    for _ in range(6):
        with suppress(NotAllowedError), Subscription(f"tcp://127.0.0.1:{site.published}", keys=keys) as subscription:
            subscription.receive(1.0)
    site.fires("InspectdClientsRefused")


def test_a_disk_that_is_full_is_told_and_is_over(site: Site) -> None:
    site.end()
    options = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(site.disk)]
    if (done := subprocess.run(options, capture_output=True, text=True, check=False)).returncode:
        site.start()
        pytest.skip(f"this machine does not let this user mount a disk of memory: {done.stderr.strip()}")
    site.config.write_text(site.config.read_text().replace(f"{site.folder}/archive", f"{site.disk}/archive"))
    site.start()
    site.is_seen()
    site.prometheus.until(lambda p: bool(p.query("inspectd_journal_written_total > 20")), 60)
    with (site.disk / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
        while True:
            ballast.write(bytes(4096))
    site.fires("InspectdJournal", "InspectdArchive")
    (site.disk / "ballast").unlink()
    site.is_over("InspectdJournal", "InspectdArchive")


def test_a_daemon_that_is_away_and_one_that_starts_again_and_again_are_told(site: Site) -> None:
    os.kill(site.daemon.pid, signal.SIGSTOP)
    site.fires("InspectdDown")
    os.kill(site.daemon.pid, signal.SIGCONT)
    site.is_over("InspectdDown")
    for _ in range(3):
        site.end()
        site.start()
        site.is_seen()
    site.fires("InspectdRestarting")
