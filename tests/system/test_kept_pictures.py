"""The archive of a daemon that inspects: what is in it, what people mark, what a replay and a second model say."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from commanded import PATIENCE_S, ask, camera_of, changes, judged, refused
from conftest import write_pictures, write_small_model
from daemon_process import DaemonProcess
from run_here import run_here

from inspectd.client import Control
from inspectd.history import pictures
from inspectd.history.pictures import parse_name
from inspectd.model.calibration import CameraRecord
from inspectd.records import Outcome
from inspectd.wire.requests import BypassRequest, MarkRequest, ThresholdRequest

FAST = '"sim://line?fps=200&width=64&height=64"'


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.png"), key=lambda path: path.name)


def camera(model: Path, more: str = "", name: str = "top") -> str:
    return f"{{name: {name}, source: {FAST}, model: {model}, deadline_ms: 5000{more}}}"


def archived(daemon: DaemonProcess, is_enough: Callable[[dict[str, Any]], bool]) -> None:
    """Wait until the archive says so."""
    daemon.listen(lambda d: bool(d.daemon_states) and is_enough(d.daemon_states[-1]["archive"]), PATIENCE_S)


def test_every_ng_is_there_and_500_pictures_replayed_have_the_scores_that_they_had(
    tmp_path: Path, models: tuple[Path, Path]
) -> None:
    low, high = models
    extra = "archive: {path: ARCHIVE, ok_share: 1}\n".replace("ARCHIVE", str(tmp_path / "a"))
    with DaemonProcess(tmp_path / "daemon", camera(low), extra=extra) as daemon, Control(daemon.control) as control:
        archived(daemon, lambda archive: archive["kept"] >= 250)
        ask(control, ThresholdRequest(camera="top", value=1.2, by="anna"))
        archived(daemon, lambda archive: archive["kept"] >= 520)
        assert daemon.stop() == 0
    said = {one["seq"]: one for one in daemon.verdicts if one["frame"] is not None}
    kept = files(tmp_path / "a")
    assert len(kept) >= 500
    for path in kept:
        found = pictures.read(path)
        assert json.loads(msgspec.json.encode(found.said.header)) == said[found.said.header.seq]
        assert found.map_ is not None
        assert found.map_.max() >= 128 or found.said.header.verdict is not Outcome.NG
    names = [parse_name(path.name) for path in kept]
    assert {name.seq for name in names if name} == set(said), "all were wanted, and none was lost"

    table = tmp_path / "scores.csv"
    same = run_here("replay", str(low), "--archive", str(tmp_path / "a"), "--csv", str(table))
    assert same.returncode == 0, same
    count = re.search(r"this form, (\d+) were scored before: the scores differ by at most (\S+);", same.stdout)
    assert count is not None, same
    assert int(count[1]) == len(kept)
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert len(rows) == len(kept)
    assert all(row["then"] == row["now"] for row in rows), "by the thresholds of then"
    assert max(abs(float(row["score"]) - float(row["score_then"])) for row in rows) <= 1e-5

    other = run_here("replay", str(high), "--archive", str(tmp_path / "a"), "--verdict", "ng")
    assert other.returncode == 0, other
    assert re.search(rf"ng +{sum(row['then'] == 'ng' for row in rows)} +\d+ +0 +0", other.stdout), other
    assert "None of them was scored by this model" in other.stdout

    broken = kept[0].read_bytes()
    kept[0].write_bytes(broken[: len(broken) // 2])
    assert "is damaged" in run_here("replay", str(low), "--archive", str(tmp_path / "a")).stdout


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (
            ["replay", "MODEL", "--archive", "/nowhere"],
            "/nowhere is no folder that this user may read; expected an archive",
        ),
        (["replay", "MODEL", "--archive", "EMPTY"], "holds no pictures that are meant"),
        (["replay", "MODEL", "--archive", "EMPTY", "--since", "yesterday"], "expected a day such as 2026-11-01"),
        (["replay", "MODEL", "--archive", "EMPTY", "--threshold", "nan"], "expected a number"),
        (["mark", "1", "bad", "--by", " "], "The mark is not what was expected"),
    ],
)
def test_what_cannot_be_is_one_sentence(tmp_path: Path, small_model: Path, line: list[str], why: str) -> None:
    places = {"MODEL": str(small_model), "EMPTY": str(tmp_path)}
    ended = run_here(*(places.get(word, word) for word in line), *(["--camera", "top"] if line[0] == "mark" else []))
    assert ended.returncode == 2, ended
    assert why in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_what_a_person_says_of_a_part_is_audited_and_keeps_its_picture(
    tmp_path: Path, models: tuple[Path, Path]
) -> None:
    low, _ = models
    with DaemonProcess(tmp_path / "daemon", camera_of(low)) as daemon, Control(daemon.control) as control:
        daemon.listen(lambda d: any(one["verdict"] == "ng" for one in d.verdicts))
        wrong = next(one for one in daemon.verdicts if one["verdict"] == "ng")
        epoch = wrong["epoch"]
        typed = ["mark", str(wrong["seq"]), "good", "--control", daemon.control, "--by", "anna", "--why", "only dust"]
        ended = run_here(*typed)
        assert ended.returncode == 0, ended
        assert "is marked good: " in ended.stdout
        (path,) = (daemon.archive / "top" / "marked" / "good").iterdir()
        assert pictures.read(path).said.header.seq == wrong["seq"]
        changed = ask(control, MarkRequest(camera="top", epoch=epoch, seq=wrong["seq"], say="bad", by="hmi"))
        assert changed == {"epoch": epoch, "picture": str(daemon.archive / "top" / "marked" / "bad" / path.name)}

        ask(control, BypassRequest(camera="top", seconds=60, by="anna", why="a new lamp"))
        had = len(daemon.verdicts)
        daemon.listen(lambda d: d.verdicts[-1]["reason"] == "bypass" and len(d.verdicts) > had + 3)
        passed_by = daemon.verdicts[-1]["seq"]
        assert ask(control, MarkRequest(camera="top", seq=passed_by, say="bad", by="hmi"))["picture"] is None
        assert "no picture of it" in run_here("mark", str(passed_by), "bad", "--control", daemon.control).stdout
        unknown = refused(control, MarkRequest(camera="top", seq=10**9, say="bad", by="hmi"))
        assert (unknown.code, "There is no verdict 1000000000" in str(unknown)) == ("bad_value", True)
        daemon.stop()
    marks = [change for change in changes(daemon) if change.what == "mark"]
    assert [(one.by, one.why, one.new["say"]) for one in marks[:2]] == [
        ("anna", "only dust", "good"),
        ("hmi", None, "bad"),
    ]
    with DaemonProcess(tmp_path / "daemon", camera_of(low)) as again, Control(again.control) as control:
        judged(again, 1)
        later = ask(control, MarkRequest(camera="top", epoch=epoch, seq=wrong["seq"], say="good", by="hmi"))
        assert later["picture"] is not None, "of an earlier epoch"


def test_a_second_model_judges_silently_and_what_both_disagree_on_is_kept(
    tmp_path: Path, models: tuple[Path, Path]
) -> None:
    low, high = models
    cameras = f"{camera(high, f', shadow: {low}')}, {camera(high, name='side')}"
    extra = f"archive: {{path: {tmp_path}/a, ok_share: 0}}\n"
    with DaemonProcess(tmp_path / "daemon", cameras, extra=extra) as daemon, Control(daemon.control) as control:

        def shadow(name: str) -> Any:
            return next((one["shadow"] for one in reversed(daemon.states) if one["camera"] == name), None)

        daemon.listen(lambda _: (shadow("top") or {"rejected": 0})["rejected"] >= 3)
        found = shadow("top")
        assert found["model"].startswith("small ")
        assert found["compared"] == found["agreed"] + found["rejected"]
        assert (found["passed"], found["faults"], found["detail"]) == (0, 0, None)
        assert shadow("side") is None
        status = run_here("status", "--control", daemon.control)
        assert re.search(r"top: the second model small \w+ agrees on \d+ of \d+; it rejects \d+", status.stdout)
        ask(control, ThresholdRequest(camera="top", value=60.0, by="anna"))
        assert daemon.stop() == 0
    assert {one["verdict"] for one in daemon.verdicts if one["camera"] == "top"} <= {"ok", "fault"}
    kept = [pictures.read(path) for path in files(tmp_path / "a")]
    assert kept
    for one in kept:
        assert (one.said.header.camera, one.said.header.verdict) == ("top", Outcome.OK)
        assert one.said.shadow is not None
        assert one.said.shadow.verdict is Outcome.NG


@pytest.mark.parametrize("kind", ["missing", "no threshold"])
def test_a_second_model_that_cannot_be_used_costs_no_verdict_and_is_said(
    tmp_path: Path, small_model: Path, kind: str
) -> None:
    second = tmp_path / "second"
    if kind == "no threshold":
        write_small_model(second, threshold=None)
    with DaemonProcess(tmp_path / "daemon", camera_of(small_model, more=f", shadow: {second}")) as daemon:
        judged(daemon, 5)
        daemon.listen(lambda d: bool(d.states))
        shadow = daemon.states[-1]["shadow"]
        assert (shadow["model"], shadow["compared"]) == (None, 0)
        assert ("no threshold" if kind == "no threshold" else "no model folder") in shadow["detail"]
        assert run_here("status", "--control", daemon.control).returncode == 0
        assert "has no second model" in daemon.log
    if kind == "missing":
        checked = run_here("check", "--config", str(daemon.config))
        assert (checked.returncode, "shadow: There is no model folder" in checked.stderr) == (2, True)


def test_an_archive_that_cannot_be_written_is_said_everywhere_and_costs_no_verdict(
    tmp_path: Path, models: tuple[Path, Path]
) -> None:
    low, _ = models
    (tmp_path / "blocked").write_text("a file where the folder should be")
    extra = f"archive: {{path: {tmp_path}/blocked, ok_share: 1}}\n"
    with DaemonProcess(tmp_path / "daemon", camera_of(low), extra=extra) as daemon:
        archived(daemon, lambda archive: sum(archive["lost"].values()) > 0)
        said = daemon.daemon_states[-1]["archive"]
        assert not said["ok"]
        assert "blocked cannot be written" in said["detail"]
        daemon.listen(lambda d: d.states[-1]["detail"] == said["detail"])
        judged(daemon, 5)
        assert all(one["score"] is not None for one in daemon.verdicts[-5:])
        assert "Inspection goes on" in daemon.log
        assert "blocked cannot be written" in run_here("status", "--control", daemon.control).stdout
        (tmp_path / "blocked").unlink()
        archived(daemon, lambda archive: archive["ok"] and archive["kept"] > 0)


def test_an_archive_without_a_journal_is_refused(tmp_path: Path, small_model: Path) -> None:
    config = tmp_path / "inspectd.yaml"
    config.write_text(f"cameras: [{{name: a, source: 0, model: {small_model}}}]\njournal: {{path: null}}\n")
    ended = run_here("run", "--config", str(config))
    assert ended.returncode == 2
    assert "journal.path is null, and an archive needs the journal" in ended.stderr


def marked_folder(tmp_path: Path, source: Path, model: Path, say: str) -> Path:
    """Have a daemon judge a folder of pictures, mark them all, and return the camera's folder in its archive."""
    extra = f"archive: {{path: {tmp_path}/a, ok_share: 1}}\n"
    one = f"{{name: top, source: {source}, model: {model}, loop: true, fps: 20, deadline_ms: 5000}}"
    count = len(list(source.iterdir()))
    with DaemonProcess(tmp_path / "daemon", one, extra=extra) as daemon, Control(daemon.control) as control:
        archived(daemon, lambda archive: archive["kept"] >= count)
        for seq in range(1, count + 1):
            assert ask(control, MarkRequest(camera="top", seq=seq, say=say, by="anna"))["picture"] is not None  # type: ignore[arg-type]
        daemon.stop()
    return tmp_path / "a" / "top"


def test_a_model_that_passes_what_people_marked_as_bad_is_not_installed_unless_told_otherwise(
    tmp_path: Path, models: tuple[Path, Path], pictures: Path
) -> None:
    low, high = models
    marked_folder(tmp_path, pictures, low, "bad")
    typed = ["install", str(high), "top", "--models", str(tmp_path / "models"), "--archive", str(tmp_path / "a")]
    refusal = run_here(*typed)
    assert refusal.returncode == 2, refusal
    assert re.search(r"would pass 12 of 12 parts of top that people marked as bad: \S+_ng\.png", refusal.stderr)
    assert not (tmp_path / "models").exists()
    other = run_here("install", str(high), "side", *typed[3:])
    assert (other.returncode, "of top some are (--camera)" in other.stdout) == (0, True)
    assert run_here("install", str(high), "side", "--camera", "top", *typed[3:]).returncode == 2
    assert run_here(*typed, "--despite-marked").returncode == 0
    good = run_here("install", str(low), *typed[2:])
    assert good.returncode == 0, good
    assert "It rejects all parts of top that people marked as bad: 12." in good.stdout
    seen = CameraRecord("folder", None, 0, 0)
    elsewhere = write_small_model(tmp_path / "roi", threshold=1.0, roi=(0, 0, 640, 640), camera=seen)
    for line, why in (
        (["--archive", "/nowhere"], "--archive /nowhere is no folder"),
        ([], "cannot judge 12 of 12 parts of top that people marked as bad"),
    ):
        refusal = run_here("install", str(elsewhere), *typed[2:], *line)
        assert (refusal.returncode, why in refusal.stderr) == (2, True), refusal
    damaged = next((tmp_path / "a" / "top" / "marked" / "bad").iterdir())
    damaged.write_bytes(damaged.read_bytes()[:99])
    refusal = run_here("install", str(low), *typed[2:])
    assert (refusal.returncode, "is damaged" in refusal.stderr) == (2, True)


def test_what_people_marked_goes_into_the_next_calibration(tmp_path: Path, small_model: Path, pictures: Path) -> None:
    bad = tmp_path / "bad"
    write_pictures(bad, 3, seed=7)
    camera_folder = marked_folder(tmp_path, bad, small_model, "bad")
    (camera_folder / "marked" / "good").mkdir()
    moved = next((camera_folder / "marked" / "bad").iterdir())
    moved.rename(camera_folder / "marked" / "good" / moved.name)
    typed = ["calibrate", "--camera", str(pictures), "--imagesize", "64", "--meta_epochs", "1", "--gan_epochs", "1"]
    typed += ["--results_path", str(tmp_path / "results"), "--run_name", "next", "--with-marked"]
    ended = run_here(*typed, str(camera_folder))
    assert ended.returncode == 0, ended
    assert "from 13 pictures" in ended.stdout
    assert "1 picture is learned from that people have marked as good." in ended.stdout
    assert "of 2 known defects are missed" in ended.stdout
    nothing = run_here(*typed, str(pictures))
    assert nothing.returncode == 2
    assert "has no marked pictures; expected a camera's folder in the archive" in nothing.stderr
