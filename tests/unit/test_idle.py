"""Scoring gives way to short work, until that costs it its core."""

from __future__ import annotations

import logging
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from inspectd.engine import idle
from inspectd.engine.idle import IdlePriority

CAP_SYS_NICE = 23
CAPABILITIES = int(Path("/proc/self/status").read_text().partition("CapEff:")[2].split()[0], 16)
MAY_RETURN = bool(CAPABILITIES >> CAP_SYS_NICE & 1) or resource.getrlimit(resource.RLIMIT_NICE)[0] >= 20
GIVING_WAY = os.SCHED_IDLE if MAY_RETURN else os.SCHED_OTHER


def policy() -> int:
    return os.sched_getscheduler(0)


def test_only_scoring_gives_way_and_only_in_its_own_thread() -> None:
    priority = IdlePriority()
    may_look, seen = threading.Event(), []

    def look() -> None:
        may_look.wait()
        seen.append(policy())

    other = threading.Thread(target=look)
    other.start()  # now: a thread that is begun later inherits the policy
    with priority.scoring():
        assert policy() == GIVING_WAY
        may_look.set()
        other.join()
    assert (seen, policy()) == ([os.SCHED_OTHER], os.SCHED_OTHER)


def test_an_error_while_scoring_ends_it() -> None:
    with pytest.raises(ValueError, match="mine"), IdlePriority().scoring():
        raise ValueError("mine")
    assert policy() == os.SCHED_OTHER


def test_a_picture_that_is_not_scored_in_time_ends_it_for_all_threads_and_for_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(idle, "PATIENCE_S", 0.05)
    priority = IdlePriority()
    is_told = threading.Event()
    monkeypatch.setattr(idle.LOG, "warning", lambda *_: is_told.set())
    with priority.scoring():
        before = policy()
        assert not MAY_RETURN or is_told.wait(10)
        assert (before, policy()) == (GIVING_WAY, os.SCHED_OTHER)
    with priority.scoring():
        assert policy() == os.SCHED_OTHER


@pytest.mark.parametrize(("waits", "too_long"), [(0.0, False), (0.1, False), (1.0, True)])
def test_waiting_for_cores_is_a_share_of_the_time_that_threads_could_run(
    monkeypatch: pytest.MonkeyPatch, waits: float, too_long: bool
) -> None:
    """`waits`: seconds for each that the thread runs."""
    looks = iter(range(1, 10))

    def ran_and_waited(_: int) -> tuple[float, float]:
        seconds = float(next(looks))
        return seconds, seconds * waits

    monkeypatch.setattr(idle, "_ran_and_waited_s", ran_and_waited)
    priority = IdlePriority()
    priority._began_s = {7: time.monotonic()}
    assert not priority._waits_for_cores(), "at first nothing is known"
    assert [priority._waits_for_cores() for _ in range(3)] == [too_long] * 3


@pytest.mark.skipif(not MAY_RETURN, reason="this user may not leave idle priority")
def test_where_scoring_waits_for_cores_nobody_gives_way_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "PATIENCE_S", 60.0)
    priority = IdlePriority()
    is_asked = threading.Event()
    monkeypatch.setattr(priority, "_waits_for_cores", lambda: is_asked.set() or True)
    monkeypatch.setattr(idle, "_sleep", lambda _: time.sleep(0.01))
    with priority.scoring():
        assert is_asked.wait(10)
        with priority._lock:
            assert policy() == os.SCHED_OTHER
    with priority.scoring():
        assert policy() == os.SCHED_OTHER
    monkeypatch.setattr(priority, "_waits_for_cores", lambda: False)
    with priority._lock:
        priority._paused_until_s = 0.0
    with priority.scoring():
        assert policy() == os.SCHED_IDLE, "later it is tried again"


def test_how_long_a_thread_ran_is_read_and_a_stranger_is_unknown() -> None:
    known = idle._ran_and_waited_s(threading.get_native_id())
    assert known is not None
    assert known[0] > 0
    assert known[1] >= 0
    assert idle._ran_and_waited_s(2**30) is None


def test_who_gives_way_does_so_in_all_threads_and_only_meanwhile() -> None:
    program = """
import os, threading, time
from pathlib import Path
from calibrate.acquire.from_daemon import giving_way
group = Path("/proc/self/autogroup")
end = threading.Event()
other = threading.Thread(target=end.wait)
other.start()
def seen():
    is_idle = [os.sched_getscheduler(thread) == os.SCHED_IDLE for thread in (0, other.native_id)]
    return is_idle, group.read_text().split()[-1] if group.exists() else None
before = seen()
with giving_way():
    inside = seen()
print(inside, seen() == before)
end.set()
"""
    line = [sys.executable, "-c", program]
    done = subprocess.run(line, capture_output=True, text=True, check=True, start_new_session=True)
    group = "'19'" if Path("/proc/self/autogroup").exists() else "None"
    assert done.stdout == f"([True, True], {group}) {MAY_RETURN}\n"


def test_threads_that_could_not_return_never_give_way(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    allowed = os.sched_setscheduler

    def one_way(thread: int, wanted: int, param: os.sched_param) -> None:
        if wanted != os.SCHED_IDLE:
            raise PermissionError(1, "Operation not permitted")
        allowed(thread, wanted, param)

    monkeypatch.setattr(os, "sched_setscheduler", one_way)
    with caplog.at_level(logging.INFO), IdlePriority().scoring():
        assert policy() == os.SCHED_OTHER
    assert "RLIMIT_NICE" in caplog.text


def test_a_policy_that_somebody_chose_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getscheduler", lambda _thread: os.SCHED_BATCH)
    monkeypatch.setattr(os, "sched_setscheduler", lambda *_: pytest.fail("it was changed"))
    with IdlePriority().scoring():
        pass
