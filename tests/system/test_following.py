"""A client that was away, or too slow, or came before the daemon: every verdict once, in order, or named."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conftest import write_small_model
from daemon_process import DaemonProcess

from inspectd.client import Control, NotAllowedError, Subscription
from inspectd.following import Follower, Missed
from inspectd.wire.messages import VerdictMessage

CAMERA = '{{name: {}, source: "sim://line?fps=20&width=64&height=64", model: {}, deadline_ms: 5000}}'


@pytest.fixture
def cameras(tmp_path: Path) -> str:
    model = write_small_model(tmp_path / "model")
    return f"{CAMERA.format('top', model)}, {CAMERA.format('side', model)}"


def collect(follower: Follower, until: Callable[[list[Any]], bool], timeout_s: float = 60.0) -> list[Any]:
    heard: list[Any] = []
    give_up_s = time.monotonic() + timeout_s
    while not until(heard):
        assert time.monotonic() < give_up_s, heard[-3:]
        one = follower.receive(0.5)
        if one is not None:
            heard.append(one)
    return heard


def seqs(heard: list[Any], camera: str = "top") -> list[int]:
    assert not [one for one in heard if isinstance(one, Missed)]
    return [one.seq for one in heard if one.camera == camera]


class Deaf(Subscription):
    """Loses what it is told to."""

    lost: Callable[[VerdictMessage], bool] = staticmethod(lambda _: False)

    def receive(self, timeout_s: float) -> Any:
        message = super().receive(timeout_s)
        is_lost = message is not None and message.verdict is not None and self.lost(message.verdict)
        return self.receive(timeout_s) if is_lost else message


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> type[Deaf]:
    monkeypatch.setattr("inspectd.following.Subscription", Deaf)
    monkeypatch.setattr(Deaf, "lost", staticmethod(lambda _: False))
    return Deaf


def test_what_was_lost_on_the_way_is_put_in_its_place(tmp_path: Path, cameras: str, deaf: type[Deaf]) -> None:
    deaf.lost = staticmethod(lambda one: one.camera == "top" and one.seq % 10 in {3, 4, 5})
    with DaemonProcess(tmp_path / "daemon", cameras) as daemon, Follower(daemon.endpoint, daemon.control) as follower:
        heard = collect(follower, lambda heard: sum(one.camera == "top" for one in heard) >= 60)
        for camera in ("top", "side"):
            said = seqs(heard, camera)
            assert said == list(range(said[0], said[0] + len(said)))
        assert follower.filled >= 12
        daemon.listen(lambda d: len(d.verdicts) >= len(heard))
        as_published = {(v["camera"], v["seq"]): v for v in daemon.verdicts}
        both = [one for one in heard if (one.camera, one.seq) in as_published]
        assert len(both) > 60
        assert [json.loads(msgspec.json.encode(one)) for one in both] == [as_published[o.camera, o.seq] for o in both]


def test_what_was_lost_at_the_end_shows_in_the_state(tmp_path: Path, cameras: str, deaf: type[Deaf]) -> None:
    deaf.lost = staticmethod(lambda one: one.seq > 10)
    with DaemonProcess(tmp_path / "daemon", cameras) as daemon, Follower(daemon.endpoint, daemon.control) as follower:
        heard = collect(follower, lambda heard: sum(one.camera == "top" for one in heard) >= 30)
        said = seqs(heard)
        assert said == list(range(said[0], said[0] + len(said)))


def test_over_a_restart_the_end_of_one_epoch_and_the_beginning_of_the_next_are_there(
    tmp_path: Path, cameras: str
) -> None:
    follower: Follower | None = None
    heard: list[Any] = []
    ended: dict[str, int] = {}
    over = ""
    for turn in range(2):
        with DaemonProcess(tmp_path / "daemon", cameras) as daemon:
            if follower is None:
                follower = Follower(daemon.endpoint, daemon.control)
            heard += collect(
                follower, lambda heard, over=over: sum(o.camera == "top" and o.epoch != over for o in heard) >= 10
            )
            daemon.listen(lambda d: len(d.verdicts) >= 40)  # which the follower does not hear: nobody calls receive
            daemon.stop()
            epoch = over = daemon.verdicts[0]["epoch"]
            ended[epoch] = max(v["seq"] for v in daemon.verdicts if v["camera"] == "top")
            if turn == 0:
                # what waits for it is thrown away, as by a client that was too slow
                while follower._subscription.receive(0.2) is not None:
                    pass
    first, second = ended
    follower.close()
    of = {epoch: [one.seq for one in heard if one.epoch == epoch and one.camera == "top"] for epoch in ended}
    assert of[first] == list(range(of[first][0], ended[first] + 1))
    assert of[second][:5] == [1, 2, 3, 4, 5]


def test_what_the_journal_does_not_hold_is_named(tmp_path: Path, cameras: str, deaf: type[Deaf]) -> None:
    deaf.lost = staticmethod(lambda one: one.camera == "top" and 20 <= one.seq < 30)
    with DaemonProcess(tmp_path / "daemon", cameras) as daemon, Follower(daemon.endpoint, daemon.control) as follower:
        before = collect(follower, lambda heard: any(one.camera == "top" and one.seq >= 15 for one in heard))
        with Control(daemon.control) as control:
            while not control.verdicts("top", 25).verdicts:
                pass
        with closing(sqlite3.connect(daemon.journal, timeout=5)) as file, file:
            file.execute("DELETE FROM verdicts WHERE camera = 'top' AND seq BETWEEN 22 AND 24")
        heard = before + collect(
            follower, lambda heard: any(one.camera == "top" and getattr(one, "seq", 0) > 35 for one in heard)
        )
        (missed,) = [one for one in heard if isinstance(one, Missed)]
        assert (missed.camera, missed.first, missed.last) == ("top", 22, 24)
        assert missed.why == "the journal does not hold them"
        said = [one.seq for one in heard if one.camera == "top" and not isinstance(one, Missed)]
        assert [seq for seq in said if 19 <= seq <= 27] == [19, 20, 21, 25, 26, 27]


def test_the_end_of_an_epoch_that_cannot_be_asked_for_is_said(tmp_path: Path, cameras: str) -> None:
    extra = "journal: {path: null}\n"
    with DaemonProcess(tmp_path / "daemon", cameras, extra=extra) as daemon:
        follower = Follower(daemon.endpoint, daemon.control, "top")
        heard = collect(follower, lambda heard: len(heard) >= 5)
        daemon.process.kill()
        daemon.process.wait()
    with DaemonProcess(tmp_path / "daemon", cameras, extra=extra), follower:
        heard += collect(follower, lambda heard: any(isinstance(one, Missed) for one in heard))
    missed = next(one for one in heard if isinstance(one, Missed))
    assert (missed.last, missed.why) == (None, "No journal is kept: journal.path is null.")


def test_who_may_watch_and_not_ask_hears_on_and_is_told_what_is_missing(
    tmp_path: Path, cameras: str, deaf: type[Deaf], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise NotAllowedError("this key is not on the list there")

    deaf.lost = staticmethod(lambda one: one.seq % 10 == 4)
    monkeypatch.setattr("inspectd.following.Control.verdicts", refuse)
    with DaemonProcess(tmp_path / "daemon", cameras) as daemon, Follower(daemon.endpoint, daemon.control, "top") as one:
        heard = collect(one, lambda heard: len(heard) >= 40)
    missed = [one for one in heard if isinstance(one, Missed)]
    assert {(one.first % 10, one.last, one.why) for one in missed} == {
        (4, one.first, "this key is not on the list there") for one in missed
    }
    assert len(missed) >= 3


def test_a_daemon_without_a_journal_is_followed_and_what_is_missing_is_named(
    tmp_path: Path, cameras: str, deaf: type[Deaf]
) -> None:
    deaf.lost = staticmethod(lambda one: one.camera == "top" and 20 <= one.seq < 30)
    with (
        DaemonProcess(tmp_path / "daemon", cameras, extra="journal: {path: null}\n") as daemon,
        Follower(daemon.endpoint, daemon.control, "top") as follower,
    ):
        heard = collect(follower, lambda heard: any(getattr(one, "seq", 0) > 35 for one in heard))
        missed = [one for one in heard if isinstance(one, Missed)]
        assert [seq for one in missed for seq in range(one.first, one.last + 1)] == list(range(20, 30))
        assert {one.why for one in missed} == {"No journal is kept: journal.path is null."}
