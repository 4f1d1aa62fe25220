"""A daemon whose camera is lost again and again, and what that leaves behind."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

PATIENCE_S = 60.0
CAPTURE = "inspectd.cameras.capture"


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a process holds."""

    memory_mb: float
    """What it has written to: code that it shares with others does not count, whoever else runs."""
    descriptors: int
    threads: int
    children: int
    rings: int
    """Mappings of captured pictures."""

    @classmethod
    def of(cls, pid: int) -> Footprint:
        """Measure a process."""
        process = psutil.Process(pid)
        maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace")
        return cls(
            anonymous_mb(pid),
            process.num_fds(),
            process.num_threads(),
            len(process.children(recursive=True)),
            maps.count("inspectd-ring"),
        )


def anonymous_mb(pid: int) -> float:
    """Return the memory of a process that no file stands behind."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1e3
    raise AssertionError(f"the kernel says nothing of the memory of process {pid}")


def forker_of(pid: int) -> psutil.Process | None:
    """Return the process that forks a program's capture children; None: there is none now."""
    for child in psutil.Process(pid).children():
        with suppress(psutil.Error):
            if CAPTURE in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                return child
    return None


def captures_of(pid: int) -> list[int]:
    """Return the numbers of a program's capture children that run."""
    forker = forker_of(pid)
    with suppress(psutil.Error):
        found = [] if forker is None else forker.children()
        return [child.pid for child in found if child.status() != psutil.STATUS_ZOMBIE]
    return []


def capture_of(pid: int, than: int | None = None) -> int:
    """Wait for a daemon's capture child, another one than the last, and return its number."""
    give_up = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up:
        if others := [child for child in captures_of(pid) if child != than]:
            return others[0]
        time.sleep(0.02)
    raise AssertionError("the camera did not come back")


def lose(pid: int, times: int, *, settle_s: float = 0.4) -> None:
    """Kill a daemon's capture child so many times, each time when another one has had time to be opened."""
    last = None
    for _ in range(times):
        last = capture_of(pid, last)
        time.sleep(settle_s)
        os.kill(last, signal.SIGKILL)
    capture_of(pid, last)
    time.sleep(2)
