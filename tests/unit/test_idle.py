"""Scoring gives way to short work, until that costs it its core."""

from __future__ import annotations

import logging
import os
import resource
import threading
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
