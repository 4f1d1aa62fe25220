"""Threads that score on a CPU, each on one core."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

T = TypeVar("T")
_SETTING_THREADS = threading.Lock()


class Workers:
    """A pool of threads in which torch starts no others."""

    def __init__(self, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, "scoring", initializer=keep_torch_single_threaded)

    def map(self, work: Callable[[Any], T], items: Iterable[Any]) -> list[T]:
        """Do work on each item, side by side; an error of the work is the caller's."""
        return [future.result() for future in [self._pool.submit(work, item) for item in items]]


@contextmanager
def single_threaded_torch() -> Iterator[None]:
    """See `keep_torch_single_threaded`, for as long as it is entered."""
    threads = keep_torch_single_threaded()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def keep_torch_single_threaded() -> int:
    """Let torch start no threads for what the calling thread computes; return how many it had.

    Other threads keep their number.

    torch's own threads go on spinning for a while after each operation, on cores that the network needs next: with them
    a small network behind OpenVINO took twice as long.
    """
    with _SETTING_THREADS:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # of this thread, and of threads that are yet to use torch
        torch.get_num_threads()  # from here on this thread's number is its own
        restoring = threading.Thread(target=torch.set_num_threads, args=(threads,))
        restoring.start()
        restoring.join()
    return threads
