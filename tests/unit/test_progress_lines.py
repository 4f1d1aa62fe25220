"""`inspectd calibrate --progress lines`: what a program is told."""

from __future__ import annotations

import json

import pytest

from calibrate.progress import ProgressBars, ProgressLines, watcher_of


def test_each_line_is_an_object_and_steps_are_said_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [100.0]
    monkeypatch.setattr("calibrate.progress.time.monotonic", lambda: now_s[0])
    with ProgressLines() as lines:
        lines.stage("training", 100)
        lines.scalar("loss", 0.25, 1)
        for _ in range(100):
            now_s[0] += 0.05
            lines.step()
        lines.report("Look at the lamp.\nIt is dark.")
        assert lines.take_curve() == [("loss", 0.25, 1)]
        lines.finish("/run", ["Model: …"])
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert said[0] == {"stage": "training", "total": 100}
    steps = [one["done"] for one in said if "done" in one]
    assert steps[-1] == 100
    assert 20 <= len(steps) <= 26, "five a second"
    assert said[1]["loss"] == 0.25
    assert said[-2:] == [{"report": "Look at the lamp.\nIt is dark."}, {"run": "/run", "summary": ["Model: …"]}]


def test_a_stage_of_unknown_length_and_one_without_steps(capsys: pytest.CaptureFixture[str]) -> None:
    lines = ProgressLines()
    lines.stage("pictures", None)
    lines.stage("writing", 1)
    lines.step()
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert said == [{"stage": "pictures", "total": None}, {"stage": "writing", "total": 1}, {"done": 1}]


def test_who_is_told() -> None:
    assert isinstance(watcher_of("lines"), ProgressLines)
    assert isinstance(watcher_of("bars"), ProgressBars)
