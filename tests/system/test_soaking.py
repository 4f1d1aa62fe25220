"""`inspectd soak`, as who buys a PC runs it, only shorter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HARD = {"missing", "doubled", "unaccounted", "passed", "restarted", "ended", "kept"}
"""What must never be, however busy the machine is."""


@pytest.mark.timeout(900)  # two calibrations: slow where others use the processor too
def test_a_short_soak_holds_the_daemon_to_the_truth(tmp_path: Path) -> None:
    result = tmp_path / "soak.json"
    asked = ["--minutes", "0.5", "--cameras", "2", "--fps", "10", "--every", "1", "--seed", "3", "--json", str(result)]
    ended = subprocess.run(
        [sys.executable, "-m", "inspectd", "soak", *asked], capture_output=True, text=True, check=False, timeout=800
    )
    assert result.is_file(), ended.stderr + ended.stdout
    found = json.loads(result.read_text())
    assert not HARD & found["wrong"].keys(), found["told"]
    is_good = not found["wrong"] and "BAD" not in ended.stdout
    assert ended.returncode == (0 if is_good else 2)
    assert found["verdicts"] > 300
    assert found["said"]["ok"] > 100
    assert sum(found["events"].values()) > 12
    assert found["troubles"]
    assert [one["is_flat"] for one in found["trends"]] == [None] * 5, "it is too short to tell"
    assert "verdicts missing" in ended.stdout


def test_a_soak_that_cannot_keep_its_result_does_not_begin(tmp_path: Path) -> None:
    (tmp_path / "nowhere").write_text("no folder")
    asked = ["soak", "--json", str(tmp_path / "nowhere" / "soak.json")]
    ended = subprocess.run(
        [sys.executable, "-m", "inspectd", *asked], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode in (2, 3)
    assert "Traceback" not in ended.stderr
    assert "nowhere" in ended.stderr
