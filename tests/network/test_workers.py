"""Threads that score on a CPU."""

from __future__ import annotations

import threading

import pytest
import torch
from conftest import torch_threads

from inspectd.engine.workers import Workers, keep_torch_single_threaded


def test_results_come_in_order_from_threads_in_which_torch_starts_no_others() -> None:
    workers, threads = Workers(2), torch.get_num_threads()
    assert workers.map(lambda i: i * i, range(20)) == [i * i for i in range(20)]
    assert workers.map(lambda _: torch.get_num_threads(), range(8)) == [1] * 8
    assert torch.get_num_threads() == threads


def test_an_error_in_the_work_is_the_callers() -> None:
    def fail(_: object) -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        Workers(1).map(fail, [0])


def test_many_threads_at_once_leave_the_others_their_number() -> None:
    with torch_threads(3):
        seen: list[int] = []

        def enter() -> None:
            keep_torch_single_threaded()
            seen.append(torch.get_num_threads())

        entering = [threading.Thread(target=enter) for _ in range(16)]
        for thread in entering:
            thread.start()
        for thread in entering:
            thread.join()
        later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        later.start()
        later.join()
        assert seen == [1] * 16 + [3]
        assert torch.get_num_threads() == 3
