"""Threads that score give way to short work, until that costs them their core."""

from __future__ import annotations

import logging
import os
import resource
import threading
from pathlib import Path

import pytest
import torch

from inspectd.engine import workers as helpers
from inspectd.engine.workers import Helpers

CAP_SYS_NICE = 23
CAPABILITIES = int(Path("/proc/self/status").read_text().partition("CapEff:")[2].split()[0], 16)
MAY_RETURN = bool(CAPABILITIES >> CAP_SYS_NICE & 1) or resource.getrlimit(resource.RLIMIT_NICE)[0] >= 20
GIVING_WAY = os.SCHED_IDLE if MAY_RETURN else os.SCHED_OTHER


def policy(_item: object = None) -> int:
    return os.sched_getscheduler(0)


def test_results_come_in_order_from_single_threaded_threads() -> None:
    pool, threads = Helpers(2), torch.get_num_threads()
    assert pool.map(lambda i: i * i, range(20)) == [i * i for i in range(20)]
    assert pool.map(lambda _: torch.get_num_threads(), range(8)) == [1] * 8
    assert torch.get_num_threads() == threads
    finish = pool.submit(divmod, 7, 2)
    assert (finish(), finish()) == ((3, 1), (3, 1))


def test_an_error_in_the_work_is_the_callers() -> None:
    pool = Helpers(1)
    with pytest.raises(TimeoutError, match="mine"):
        pool.submit(raising)()
    assert pool.map(policy, [0]) == [GIVING_WAY], "no reason to stop giving way"


def raising() -> None:
    raise TimeoutError("mine")


def test_scoring_gives_way_to_everything_else_and_nothing_else_does() -> None:
    assert Helpers(2).map(policy, range(4)) == [GIVING_WAY] * 4
    assert policy() == os.SCHED_OTHER


def test_work_that_is_not_done_in_time_ends_that_for_the_threads_that_wait_for_a_core(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(helpers, "PATIENCE_S", 0.05)
    pool, may_end = Helpers(1), threading.Event()

    def stuck() -> tuple[int, int]:
        before = policy()
        may_end.wait()
        return before, policy()

    begun, queued = pool.submit(stuck), pool.submit(policy)
    threading.Timer(0.2, may_end.set).start()
    with caplog.at_level(logging.WARNING):
        assert begun() == (GIVING_WAY, os.SCHED_OTHER)
    assert queued() == os.SCHED_OTHER
    assert caplog.text.count("does not give way") == (GIVING_WAY != os.SCHED_OTHER)


def test_threads_that_could_not_return_never_give_way(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    allowed = os.sched_setscheduler

    def one_way(thread: int, wanted: int, param: os.sched_param) -> None:
        if wanted != os.SCHED_IDLE:
            raise PermissionError(1, "Operation not permitted")
        allowed(thread, wanted, param)

    monkeypatch.setattr(os, "sched_setscheduler", one_way)
    with caplog.at_level(logging.INFO):
        assert Helpers(2).map(policy, range(4)) == [os.SCHED_OTHER] * 4
    assert "RLIMIT_NICE" in caplog.text


def test_a_policy_that_somebody_chose_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getscheduler", lambda _thread: os.SCHED_BATCH)
    monkeypatch.setattr(os, "sched_setscheduler", lambda *_: pytest.fail("it was changed"))
    assert Helpers(1).map(str, [1]) == ["1"]
