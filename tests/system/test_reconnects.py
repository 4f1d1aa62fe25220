"""A camera that is lost and comes back again and again leaves nothing behind."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from commanded import camera_of
from daemon_process import DaemonProcess
from reconnecting import Footprint, capture_of, lose

FEW, MORE = 3, 8


def test_a_daemon_holds_the_same_after_few_reconnects_and_after_many(small_model: Path, tmp_path: Path) -> None:
    """`tests/benchmarks/reconnects.py` does so 500 times."""
    with DaemonProcess(tmp_path / "d", camera_of(small_model)) as daemon:
        daemon.listen(lambda d: bool(d.verdicts))
        lose(daemon.process.pid, FEW, settle_s=0.2)
        few = Footprint.of(daemon.process.pid)
        lose(daemon.process.pid, MORE, settle_s=0.2)
        many = Footprint.of(daemon.process.pid)
        assert (many.descriptors, many.threads, many.children) == (few.descriptors, few.threads, few.children)
        assert many.rings == few.rings == 1
        assert many.memory_mb - few.memory_mb < 5
        had = len(daemon.verdicts)
        daemon.listen(lambda d: len(d.verdicts) > had + 5)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_of_a_daemon_that_ends(small_model: Path, tmp_path: Path, how: signal.Signals) -> None:
    before = set(os.listdir("/dev/shm"))  # noqa: PTH208
    with DaemonProcess(tmp_path / "d", camera_of(small_model)) as daemon:
        daemon.listen(lambda d: bool(d.verdicts))
        capture = capture_of(daemon.process.pid)
        os.kill(daemon.process.pid, how)
        daemon.process.wait()
    give_up = time.monotonic() + 5
    while psutil.pid_exists(capture) and psutil.Process(capture).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < give_up, "the capture child outlives its daemon"
        time.sleep(0.05)
    assert set(os.listdir("/dev/shm")) <= before  # noqa: PTH208
