"""Commands to a daemon that inspects: what they change, what they leave alone, and what a restart keeps of it."""

from __future__ import annotations

import json
import re
import shutil
import signal
import time
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
import zmq
from commanded import PATIENCE_S, ask, camera_of, changes, judged, refused
from conftest import write_small_model
from daemon_process import DaemonProcess

from inspectd.client import Control, NoReplyError, RefusalError, Subscription, connected
from inspectd.daemon.models import MOST_IDLE
from inspectd.history import reading
from inspectd.wire.requests import (
    BypassRequest,
    ModelRequest,
    RevertRequest,
    SnapshotRequest,
    ThresholdRequest,
    VerdictsRequest,
)


def test_verdicts_that_were_missed_are_got_from_the_journal_as_they_were_published(
    tmp_path: Path, models: tuple[Path, Path]
) -> None:
    with DaemonProcess(tmp_path / "daemon", camera_of(models[0])) as daemon, Control(daemon.control) as control:
        judged(daemon, 30)
        result = ask(control, VerdictsRequest(camera="top", after=10, limit=15))
        assert (result["epoch"], result["is_complete"]) == (daemon.verdicts[0]["epoch"], False)
        assert result["verdicts"] == daemon.verdicts[10:25]
        rest = ask(control, VerdictsRequest(camera="top", after=25))
        assert rest["is_complete"]
        assert rest["verdicts"][:5] == daemon.verdicts[25:30]
        assert ask(control, VerdictsRequest(camera="top", after=0, epoch="unknown"))["verdicts"] == []
        assert refused(control, VerdictsRequest(camera="side", after=0)).code == "unknown_camera"
        epoch = result["epoch"]
        daemon.stop()
        said = len(daemon.verdicts)
    with DaemonProcess(tmp_path / "daemon", camera_of(models[0])) as again, Control(again.control) as control:
        judged(again, 1)
        result = ask(control, VerdictsRequest(camera="top", after=said - 2, epoch=epoch))
        assert result["verdicts"] == daemon.verdicts[-2:], "an epoch that is over can still be asked for"


def test_a_threshold_is_tried_on_what_was_said_is_kept_and_is_taken_back(
    tmp_path: Path, models: tuple[Path, Path]
) -> None:
    low, _ = models
    with DaemonProcess(tmp_path / "daemon", camera_of(low)) as daemon, Control(daemon.control) as control:
        judged(daemon, 20)
        tried = ask(control, ThresholdRequest(camera="top", value=2.0, by="anna", dry_run=True))
        overtaken = refused(control, ThresholdRequest(camera="top", value=2.0, by="anna", instead_of=1.5))
        assert overtaken.code == "changed"
        assert "is 1.0 by now, not 1.5: somebody else has changed it" in str(overtaken)
        assert (tried["threshold"], tried["overrides"]) == (1.0, {})
        trial = tried["trial"]
        assert trial["ng_then"] <= trial["ng"] == trial["ng_then"] + trial["passed"] - trial["rejected"]
        assert trial["verdicts"] >= 20
        headers = reading.verdicts_after(
            daemon.journal, "top", daemon.verdicts[0]["epoch"], 0, trial["verdicts"], 10**9
        )[0]
        scores = [json.loads(header)["score"] for header in headers]
        assert (trial["ng"], trial["ng_then"]) == (sum(s > 1.0 for s in scores), sum(s > 2.0 for s in scores))
        assert trial["passed"] == sum(1.0 < s <= 2.0 for s in scores)

        changed = ask(control, ThresholdRequest(camera="top", value=2.0, by="anna", why="too many rejects"))
        assert (changed["threshold"], changed["overrides"]) == (2.0, {"threshold": 2.0})
        at = len(daemon.verdicts)
        daemon.listen(lambda d: any(v["threshold"] == 2.0 for v in d.verdicts[at:]))
        daemon.listen(lambda d: d.states[-1]["overrides"] == {"threshold": 2.0})
        daemon.process.kill()
        daemon.process.wait()
    thresholds = [v["threshold"] for v in daemon.verdicts]
    assert thresholds == sorted(thresholds), "from one frame on, and never back"
    with DaemonProcess(tmp_path / "daemon", camera_of(low)) as again, Control(again.control) as control:
        judged(again)
        assert {v["threshold"] for v in again.verdicts} == {2.0}
        assert "what commands changed wins over the configuration" in again.log
        assert ask(control, RevertRequest(camera="top", by="anna"))["overrides"] == {}
        daemon_verdicts = len(again.verdicts)
        again.listen(lambda d: d.verdicts[-1]["threshold"] == 1.0 and len(d.verdicts) > daemon_verdicts)
        again.stop()
    told = [(c.what, c.camera, c.who, c.by, c.why) for c in changes(again) if c.what in {"threshold", "revert"}]
    assert told == [("threshold", "top", None, "anna", "too many rejects"), ("revert", "top", None, "anna", None)]
    (one,) = [c for c in changes(again) if c.what == "threshold"]
    assert (one.old["threshold"], one.new["threshold"]) == (1.0, 2.0)
    with DaemonProcess(tmp_path / "daemon", camera_of(low)) as third:
        judged(third)
        assert {v["threshold"] for v in third.verdicts} == {1.0}
    assert [c.what for c in changes(third)] == ["start", "threshold", "start", "revert", "stop", "start"]


@pytest.mark.parametrize(
    ("value", "why"), [(-5.0, "every part would be ng"), (1e6, "every defect might be ok"), (1e308, "every defect")]
)
def test_a_threshold_by_which_nothing_or_everything_passes_is_refused(
    tmp_path: Path, models: tuple[Path, Path], value: float, why: str
) -> None:
    with DaemonProcess(tmp_path / "daemon", camera_of(models[0])) as daemon, Control(daemon.control) as control:
        error = refused(control, ThresholdRequest(camera="top", value=value, by="anna"))
        assert error.code == "bad_value"
        assert re.search(rf"{why}.*scored -1 to 0.*its own threshold is 1; expected -1 to 29\.5\.$", str(error))
        judged(daemon)
        assert {v["threshold"] for v in daemon.verdicts} == {1.0}
    assert [c.what for c in changes(daemon)] == ["start"]


def test_a_threshold_that_was_set_for_another_model_is_not_used(tmp_path: Path, models: tuple[Path, Path]) -> None:
    low, high = models
    with DaemonProcess(tmp_path / "daemon", camera_of(low)) as daemon, Control(daemon.control) as control:
        ask(control, ThresholdRequest(camera="top", value=2.0, by="anna"))
        daemon.stop()
    with DaemonProcess(tmp_path / "daemon", camera_of(high)) as again, Control(again.control) as control:
        judged(again)
        assert {v["threshold"] for v in again.verdicts} == {50.0}
        assert again.states[-1]["overrides"] == {}
        assert re.search(
            r"the threshold 2 that a command set was for another model than small \w+, and is not", again.log
        )
        ask(control, ThresholdRequest(camera="top", value=51.0, by="anna"))
        assert ask(control, ModelRequest(camera="top", path=str(low)))["overrides"] == {"model": str(low)}
        had = len(again.verdicts)
        again.listen(lambda d: d.verdicts[-1]["threshold"] == 1.0 and len(d.verdicts) > had)


def test_a_model_that_cannot_be_used_leaves_the_old_one_judging(tmp_path: Path, models: tuple[Path, Path]) -> None:
    low, high = models
    plain = write_small_model(tmp_path / "plain", threshold=None)
    (high / "ckpt.pth").write_bytes(b"no")
    with DaemonProcess(tmp_path / "daemon", camera_of(low)) as daemon, Control(daemon.control) as control:
        for path, code, why in (
            (str(high), "bad_model", "is not the file that calibration.json was written for"),
            ("/nowhere", "bad_model", "There is no model folder /nowhere"),
            ("models/top", "bad_value", "expected an absolute path"),
            (str(plain), "bad_model", "has no threshold"),
        ):
            error = refused(control, ModelRequest(camera="top", path=path, by="anna"))
            assert error.code == code
            assert why in str(error)
        judged(daemon, 20)
        assert {(v["verdict"] in {"ok", "ng"}, v["threshold"]) for v in daemon.verdicts} == {(True, 1.0)}
        daemon.listen(lambda d: "is not used any more" in d.log)
        assert daemon.log.count("is not used any more") == 1, "the one that was loaded before it was refused"
    assert [c.what for c in changes(daemon)] == ["start"]


def test_switched_many_times_under_load_every_frame_is_judged_by_what_it_was_admitted_with(
    tmp_path: Path, models: tuple[Path, Path]
) -> None:
    """Two cameras; only one is switched. The reply comes when the new model judges: no frame that was captured later is
    judged by the old one. The others come in turn, and are so many that each is loaded anew."""
    low = models[0]
    others = [write_small_model(tmp_path / f"other {i}", threshold=50.0 + i) for i in range(5)]
    cameras = f"{camera_of(low)}, {camera_of(low, 'side')}"
    switched: list[tuple[float, int]] = []
    with DaemonProcess(tmp_path / "daemon", cameras) as daemon, Control(daemon.control) as control:
        judged(daemon, 10)
        for turn in range(200):
            model = low if turn % 2 else others[turn // 2 % len(others)]
            result = ask(control, ModelRequest(camera="top", path=str(model), by="test"))
            switched.append((result["threshold"], time.monotonic_ns()))
            daemon.listen(lambda _: True)
        judged(daemon, 20)
        assert daemon.stop() == 0
    top = [v for v in daemon.verdicts if v["camera"] == "top"]
    side = [v for v in daemon.verdicts if v["camera"] == "side"]
    for said in (top, side):
        assert [v["seq"] for v in said] == list(range(1, len(said) + 1))
        assert {v["reason"] for v in said} <= {None, "shutdown"}
    for name, said in (("top", top), ("side", side)):  # a busy machine may displace a frame; none is lost
        counts = next(state["counts"] for state in reversed(daemon.states) if state["camera"] == name)
        assert counts["captured"] == len(said) + counts["displaced"]
    assert {v["threshold"] for v in side if v["verdict"] != "fault"} == {1.0}
    scored = [v for v in top if v["verdict"] != "fault"]
    for v in scored:
        assert (v["verdict"] == "ng") == (v["score"] > v["threshold"])
        before = [one for one in switched if one[1] <= v["t"]["queued"]]
        after = next((one for one in switched if one[1] > v["t"]["queued"]), None)
        expected = {before[-1][0] if before else 1.0} | ({after[0]} if after is not None else set())
        assert v["threshold"] in expected
    assert len([c for c in changes(daemon) if c.what == "model"]) == 200
    # The low model stays, for the other camera; the others come and go, but for the last few.
    assert daemon.log.count("differs from the textbook") == 1 + 100
    assert daemon.log.count("is not used any more") == 100 - MOST_IDLE


def test_a_bypass_is_timed_told_and_does_not_survive_a_restart(tmp_path: Path, models: tuple[Path, Path]) -> None:
    with DaemonProcess(tmp_path / "daemon", camera_of(models[0])) as daemon, Control(daemon.control) as control:
        judged(daemon)
        until = ask(control, BypassRequest(camera="top", seconds=1, by="anna", why="a new lamp"))["until"]
        daemon.listen(lambda d: d.states[-1]["state"] == "bypass" and not d.states[-1]["inspecting"])
        daemon.listen(lambda d: d.verdicts[-1]["reason"] == "bypass")
        assert daemon.verdicts[-1]["detail"] == f"bypass until {until} by anna: a new lamp"
        daemon.listen(lambda d: d.verdicts[-1]["reason"] is None)
        ask(control, BypassRequest(camera="top", seconds=3600, by="anna", why="again"))
        had = len(daemon.verdicts)
        daemon.listen(lambda d: any(v["reason"] == "bypass" for v in d.verdicts[had:]))
        assert ask(control, BypassRequest(camera="top", seconds=0, by="anna", why="done"))["until"] is None
        daemon.listen(lambda d: d.verdicts[-1]["reason"] is None)
        ask(control, BypassRequest(camera="top", seconds=3600, by="anna", why="and once more"))
        daemon.process.kill()
        daemon.process.wait()
    with DaemonProcess(tmp_path / "daemon", camera_of(models[0])) as again:
        judged(again)
        assert {v["reason"] for v in again.verdicts} == {None}
    told = [c.what for c in changes(again)]
    assert told == ["start", "bypass", "bypass_end", "bypass", "bypass_end", "bypass", "start"]


def test_the_end_of_a_bypass_is_never_overtaken_by_its_beginning(tmp_path: Path, models: tuple[Path, Path]) -> None:
    with (
        DaemonProcess(tmp_path / "daemon", camera_of(models[0])) as daemon,
        connected(zmq.DEALER, daemon.control, None) as dealer,
    ):
        judged(daemon)
        for number in range(20):
            for seconds in (3600, 0):
                request = BypassRequest(id=f"{number} {seconds}", camera="top", seconds=seconds, by="anna", why="x")
                dealer.send(msgspec.json.encode(request))
        replies = [json.loads(dealer.recv()) for _ in range(40)]
        assert {reply["id"] for reply in replies} == {f"{n} {s}" for n in range(20) for s in (3600, 0)}
        assert all(reply["ok"] for reply in replies if reply["id"].endswith(" 0"))
        daemon.listen(lambda d: d.verdicts[-1]["reason"] is None)
        judged(daemon)
        assert daemon.verdicts[-1]["reason"] is None
        assert daemon.stop() == 0
    told = [c.what for c in changes(daemon)]
    assert told.count("bypass") == told.count("bypass_end") + told.count("undone")


def test_pictures_for_people_come_as_often_as_was_asked_and_only_to_those_who_look(
    tmp_path: Path, models: tuple[Path, Path]
) -> None:
    with DaemonProcess(tmp_path / "daemon", camera_of(models[0])) as daemon, Control(daemon.control) as control:
        daemon.listen(lambda d: len(d.verdicts) >= 5)
        with Subscription(daemon.endpoint, "frame/top/") as looking:
            seen = [looking.receive(PATIENCE_S) for _ in range(4)]
        daemon.listen(lambda d: len(d.verdicts) >= seen[-1].header.seq)  # type: ignore[union-attr]
        for one in seen:
            assert one is not None
            assert json.loads(one.encoded) == daemon.verdicts[one.header.seq - 1]
            picture = cv2.imdecode(np.frombuffer(one.part or b"", np.uint8), cv2.IMREAD_COLOR)
            assert picture.shape == (64, 64, 3)
        ages = [one.header.t.published for one in seen if one is not None]
        assert min(np.diff(ages)) > 0.45e9, "publish.frame_hz is 2"
        described, (jpeg,) = control.ask(SnapshotRequest(camera="top"), PATIENCE_S)
        assert (described["w"], described["h"]) == (64, 64)
        assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (64, 64, 3)


def test_a_threshold_is_one_of_the_model_that_judges_whatever_lies_in_its_folder_now(
    tmp_path: Path, models: tuple[Path, Path]
) -> None:
    low, high = models
    with DaemonProcess(tmp_path / "daemon", camera_of(low)) as daemon, Control(daemon.control) as control:
        judged(daemon)
        label = daemon.verdicts[-1]["model"]
        shutil.rmtree(low)
        shutil.move(high, low)
        changed = ask(control, ThresholdRequest(camera="top", value=2.0, by="anna"))
        assert (changed["model"], changed["threshold"]) == (label, 2.0)
        at = len(daemon.verdicts)
        daemon.listen(lambda d: any(v["threshold"] == 2.0 for v in d.verdicts[at:]))
        judged(daemon)
        assert {(v["model"], v["threshold"]) for v in daemon.verdicts[-5:]} == {(label, 2.0)}
        taken = ask(control, ModelRequest(camera="top", path=str(low), by="anna"))
        assert (taken["model"] != label, taken["threshold"], taken["overrides"]) == (True, 50.0, {})


def test_a_model_that_a_command_chose_and_that_is_gone_after_a_restart_is_a_fault_until_it_is_reverted(
    tmp_path: Path, models: tuple[Path, Path]
) -> None:
    low, high = models
    with DaemonProcess(tmp_path / "daemon", camera_of(low)) as daemon, Control(daemon.control) as control:
        ask(control, ModelRequest(camera="top", path=str(high), by="anna"))
        daemon.stop()
    shutil.rmtree(high)
    with DaemonProcess(tmp_path / "daemon", camera_of(low)) as again, Control(again.control) as control:
        judged(again)
        assert {v["reason"] for v in again.verdicts} == {"no_model"}
        assert "`revert` returns to the configuration's" in again.verdicts[-1]["detail"]
        ask(control, RevertRequest(camera="top", by="anna"))
        again.listen(lambda d: d.verdicts[-1]["threshold"] == 1.0)


def test_a_change_that_a_stop_comes_upon_is_made_and_answered_or_neither(
    tmp_path: Path, models: tuple[Path, Path]
) -> None:
    with DaemonProcess(tmp_path / "daemon", camera_of(models[0])) as daemon, Control(daemon.control) as control:
        judged(daemon)
        daemon.process.send_signal(signal.SIGTERM)
        try:
            is_made = ask(control, ModelRequest(camera="top", path=str(models[1]), by="anna")) is not None
        except (RefusalError, NoReplyError):
            is_made = False
        daemon.listen_to_the_end()
    assert is_made == ("model" in [c.what for c in changes(daemon)])
