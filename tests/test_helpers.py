"""Threads that score give way to short work, until that costs them their core."""

from __future__ import annotations

import logging
import os
import threading
import time

import pytest
import torch

from inspectd.engine import helpers
from inspectd.engine.helpers import Helpers


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
    assert pool.map(policy, [0]) == [os.SCHED_IDLE], "no reason to stop giving way"


def raising() -> None:
    raise TimeoutError("mine")


def test_scoring_gives_way_to_everything_else_and_nothing_else_does() -> None:
    assert Helpers(2).map(policy, range(4)) == [os.SCHED_IDLE] * 4
    assert policy() == os.SCHED_OTHER


def test_work_that_is_not_done_in_time_ends_that_and_is_done(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(helpers, "PATIENCE_S", 0.05)
    pool, may_end = Helpers(1), threading.Event()
    stuck = pool.submit(may_end.wait)
    queued = pool.submit(policy)
    waiting = threading.Thread(target=stuck)
    with caplog.at_level(logging.WARNING):
        waiting.start()
        while "does not give way" not in caplog.text:
            time.sleep(0.01)
    assert pool.map(policy, [0]) == [os.SCHED_OTHER], "new work does not wait for the thread that is stuck"
    may_end.set()
    waiting.join()
    assert stuck() is True
    assert queued() == os.SCHED_IDLE, "what was queued before is done where it was queued"
    assert caplog.text.count("does not give way") == 1


def test_a_sandbox_that_forbids_it_is_no_obstacle(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", forbidden)
    with caplog.at_level(logging.INFO):
        assert Helpers(1).map(policy, [0]) == [os.SCHED_OTHER]
    assert "cannot give way" in caplog.text
