"""Debian's Prometheus on the loopback, with what is shipped for it, watching one daemon."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from conftest import ROOT

SHIPPED = ROOT / "configs" / "prometheus"
PACKAGE = "prometheus and promtool, which come with Debian's package prometheus"
HAS_PROMETHEUS = bool(shutil.which("prometheus") and shutil.which("promtool"))


class Prometheus:
    """A server of its own; ended by its process id."""

    def __init__(self, folder: Path, port: int, target: int) -> None:
        """Begin to scrape a port once a second, with the shipped rules looked at as often."""
        folder.mkdir()
        settings = yaml.safe_load((SHIPPED / "prometheus.yaml").read_text(encoding="utf-8"))
        settings["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        settings["rule_files"] = [str(SHIPPED / name) for name in settings["rule_files"]]
        (job,) = settings["scrape_configs"]
        job["static_configs"] = [{"targets": [f"127.0.0.1:{target}"]}]
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        self._log = (folder / "log.txt").open("w", encoding="utf-8")
        self._url = f"http://127.0.0.1:{port}/api/v1"
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yaml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=self._log,
            stderr=self._log,
        )

    def __enter__(self) -> Prometheus:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)
        self._log.close()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the vector that an expression gives now; it may be empty."""
        asked = urllib.parse.urlencode({"query": expression})
        found: list[dict[str, Any]] = self._ask(f"query?{asked}")["result"]
        return found

    def firing(self) -> dict[str, dict[str, str]]:
        """Return the labels of the alerts that fire, by name and camera."""
        alerts = [one for one in self._ask("alerts")["alerts"] if one["state"] == "firing"]
        return {f"{one['labels']['alertname']} {one['labels'].get('camera', '')}".strip(): one for one in alerts}

    def until(self, holds: Callable[[Prometheus], bool], timeout_s: float) -> None:
        """Wait until a condition holds."""
        give_up_s = time.monotonic() + timeout_s
        while True:
            try:
                if holds(self):
                    return
                said = f"firing: {sorted(self.firing())}"
            except OSError as error:  # it does not listen yet
                said = str(error)
            assert time.monotonic() < give_up_s, f"it did not happen in {timeout_s} s; {said}"
            time.sleep(0.5)

    def _ask(self, what: str) -> Any:
        with urllib.request.urlopen(f"{self._url}/{what}", timeout=10) as reply:
            return json.load(reply)["data"]
