"""Capture children are forked by a process that has loaded everything: what becomes of either when one dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from conftest import write_pictures
from reconnecting import captures_of, forker_of

from inspectd.cameras import process, protocol
from inspectd.cameras.child import Child
from inspectd.cameras.process import Forker
from inspectd.cameras.protocol import Captured, CaptureSettings, Failed, Opened

LINE = CaptureSettings(source="sim://line?fps=50&width=64&height=64", kind="simulated", slots=4)


@pytest.fixture
def forker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Forker]:
    """One of its own, which may be harmed."""
    one = Forker()
    monkeypatch.setattr("inspectd.cameras.child.FORKER", one)
    yield one
    one.close()


def wait_for(child: Child, kind: type) -> None:
    """Listen until a message of a kind comes."""
    give_up = time.monotonic() + 30
    while not isinstance(message := child.receive(1), kind):
        assert time.monotonic() < give_up
        assert kind is Failed or not isinstance(message, Failed), message


def is_gone(pid: int) -> bool:
    """Whether a process ends within a few seconds."""
    give_up = time.monotonic() + 10
    while psutil.pid_exists(pid):
        if time.monotonic() > give_up:
            return False
        time.sleep(0.02)
    return True


def test_children_are_one_process_each_and_know_nothing_of_each_other(forker: Forker) -> None:
    children = [Child(LINE) for _ in range(3)]
    for child in children:
        wait_for(child, Captured)
    assert len({child.pid for child in children}) == 3
    held = [len(os.listdir(f"/proc/{child.pid}/fd")) for child in children]  # noqa: PTH208
    assert len(set(held)) == 1, "a later child holds what belongs to an earlier one"
    assert Path(f"/proc/{children[0].pid}/oom_score_adj").read_text().strip() == "800"
    assert all(child.kill() and child.is_gone for child in children)
    assert all(is_gone(child.pid) for child in children)


def test_how_a_child_ended_is_told(forker: Forker) -> None:
    child = Child(LINE)
    wait_for(child, Captured)
    os.kill(child.pid, signal.SIGSEGV)
    give_up = time.monotonic() + 10
    while not isinstance(message := child.receive(1), Failed):
        assert time.monotonic() < give_up
    assert message.why == "the capture process ended by itself (signal SIGSEGV)"
    assert child.kill()


def test_a_child_that_ends_well_says_so_too(forker: Forker, tmp_path: Path) -> None:
    write_pictures(tmp_path / "p", 2)
    child = Child(CaptureSettings(source=str(tmp_path / "p"), kind="folder", slots=4))
    wait_for(child, protocol.Ended)
    assert child.kill()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_who_kills_or_stops_the_process_that_forks_gets_another_one(
    forker: Forker, monkeypatch: pytest.MonkeyPatch, how: signal.Signals
) -> None:
    first = Child(LINE)
    wait_for(first, Captured)
    assert forker._process is not None
    os.kill(forker._process.pid, how)
    monkeypatch.setattr(process, "START_S", 5.0)
    second = Child(LINE)
    wait_for(second, Captured)
    wait_for(first, Failed)  # it ended with the process that had forked it
    assert first.kill()
    assert second.kill()


@pytest.mark.parametrize("free", [1, 2])
def test_where_descriptors_run_out_no_other_child_dies(forker: Forker, free: int) -> None:
    import resource

    first = Child(LINE)
    wait_for(first, Captured)
    assert forker._process is not None
    pid = forker._process.pid
    held = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}  # noqa: PTH208
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    most = next(limit for limit in range(100) if len(set(range(limit)) - held) == free)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, before[1]))
    with pytest.raises(OSError, match="Too many open files"):
        Child(LINE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    second = Child(LINE)
    wait_for(second, Captured)
    wait_for(first, Captured)
    assert forker._process.pid == pid
    assert first.kill()
    assert second.kill()


def test_a_child_that_leaks_ends_before_others_suffer() -> None:
    code = (
        "from inspectd.cameras.capture import limit_memory\n"
        "import numpy as np\n"
        "limit_memory()\n"
        "kept = []\n"
        "try:\n"
        "    while len(kept) < 100: kept.append(np.empty(100 << 20, np.uint8))\n"
        "except MemoryError: print(len(kept))\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 2 <= int(told) <= 41, "of 100 MB each, where 4 GB are allowed"


def test_many_threads_may_ask_at_once(forker: Forker) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def life(_: int) -> int:
        child = Child(LINE)
        try:
            wait_for(child, Opened)
            return child.pid
        finally:
            assert child.kill()

    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(life, range(24)))) == 24
    assert len(os.listdir("/proc/self/fd")) <= before + 1, "the link"  # noqa: PTH208


def test_a_child_that_nobody_waits_for_any_more_ends(forker: Forker) -> None:
    ours, theirs = protocol.pair()
    with theirs:
        started = forker.start(theirs)
    ours.close()
    assert started.wait(10) == 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_of_a_program_that_ends(how: signal.Signals) -> None:
    code = (
        "import time\n"
        "from inspectd.cameras.child import Child\n"
        "from inspectd.cameras.protocol import CaptureSettings\n"
        "child = Child(CaptureSettings(source='sim://line?fps=50&width=64&height=64', kind='simulated', slots=4))\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
        left = [process.pid for process in (forker_of(program.pid),) if process is not None]
        left += captures_of(program.pid)
        assert len(left) == 2
        program.send_signal(how)
        program.wait()
        assert all(map(is_gone, left))
