"""`inspectd bench`: what it says is there, adds up, and can be read by machines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_cli import run

QUICK = ("--size", "64", "--picture", "96x64", "--seconds", "0.05")


def rows_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert run("bench", *QUICK, "--json", *arguments) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return rows


def test_forms_stages_and_ratios_of_one_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    arguments = ("--device", "cpu:torch", "--precision", "float32", "--models", "1", "--models", "3", "--batch", "2")
    rows = rows_of(capsys, *arguments, "--profile", str(trace))
    assert [(row["form"], row["models"]) for row in rows] == [
        ("textbook", 1),
        ("backbone", 1),
        ("folded", 1),
        ("textbook", 1),
        ("backbone", 1),
        ("folded", 3),
    ]
    textbook, _, folded = rows[:3]
    assert (folded["device"], folded["precision"]) == ("cpu:torch", "float32")
    assert (folded["size"], folded["picture"], folded["batch"]) == ("64x64", "96x64", 2)
    assert folded["p50_ms"] <= folded["p95_ms"] <= folded["p99_ms"]
    assert folded["to_textbook"] == pytest.approx(folded["frames_per_s"] / textbook["frames_per_s"])
    assert folded["to_backbone"] > 0
    assert list(folded["stages_ms"]) == ["preprocess", "backbone", "head", "mask"]
    assert all(ms > 0 for stage, ms in folded["stages_ms"].items() if stage != "head"), "the head is a difference"
    assert folded["host_mb"] > 0
    assert json.loads(trace.read_text())["traceEvents"]


def test_people_get_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("bench", *QUICK, "--size", "96x64", "--no-textbook") == 0
    said = capsys.readouterr().out
    for word in ("folded", "backbone", "96x64", "64x64", "frames/s", "preprocess"):
        assert word in said
    assert "textbook" not in said.replace("x textbook", "")


def test_a_daemon_with_simulated_cameras(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--device", "cpu:torch", "--precision", "float32", "--cameras", "2", "--fps", "10")
    row = rows_of(capsys, *arguments, "--no-textbook", "--seconds", "1.5")[-1]
    assert (row["form"], row["cameras"]) == ("daemon", 2)
    assert (row["device"], row["precision"]) == ("cpu:torch", "float32"), "as the metrics say"
    assert row["frames_per_s"] > 0
    assert 0 < row["overhead_p99_ms"] <= row["p99_ms"]
    assert set(row["stages_ms"]) == {"wait", "score", "publish"}
    assert row["displaced"] >= 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--device", "cuda:77"], "'cuda:77' does not exist"),
        (["--precision", "float16", "--device", "cpu"], "'float16' is not possible on the device 'cpu'"),
        (["--backbone", "resnet51"], "no backbone 'resnet51'"),
        (["--layer", "nowhere"], "no layer 'nowhere'"),
        (["--size", "0x4"], "'0x4' is not a size; expected one side, or width x height"),
        (["--size", "big"], "'big' is not a size"),
        (["--batch", "0"], "0 is not in the range"),
        (["--profile", "/nowhere/trace.json"], "/nowhere"),
    ],
)
def test_mistakes_are_said_in_a_sentence(capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    assert run("bench", *arguments) == 2
    said = capsys.readouterr().err
    assert says in said
    assert "Traceback" not in said
