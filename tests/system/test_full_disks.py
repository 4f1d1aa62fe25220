"""Disks that are full or cannot be written: real ones, of memory, where the machine lets this user mount them."""

from __future__ import annotations

import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commanded import camera_of, judged
from daemon_process import DaemonProcess, metrics_port

PATIENCE_S = 60.0


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mount a disk of memory; called again, mount it anew with other options."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def do(*options: str) -> Path:
        line = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(disk)]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"this machine does not let this user mount a disk of memory: {done.stderr.strip()}")
        return disk

    yield do
    subprocess.run(["umount", "--lazy", str(disk)], capture_output=True, check=False)


def metric(daemon: DaemonProcess, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port(daemon.process.pid)}/metrics", timeout=10) as reply:
        lines = reply.read().decode().splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])


@pytest.mark.parametrize(
    ("broken", "mended", "why"),
    [
        (("size=200k",), ("remount", "size=40m"), "database or disk is full"),
        (("size=40m", "ro"), ("remount", "rw"), "Read-only file system"),
    ],
    ids=["full", "read-only"],
)
def test_inspection_goes_on_it_is_said_everywhere_and_what_waited_is_written(
    tmp_path: Path,
    models: tuple[Path, Path],
    mount: Callable[..., Path],
    broken: tuple[str, ...],
    mended: tuple[str, ...],
    why: str,
) -> None:
    disk = mount(*broken)
    extra = f"journal: {{path: {disk}/journal.db}}\narchive: {{path: {disk}/archive, ok_share: 1}}\n"
    with DaemonProcess(tmp_path / "daemon", camera_of(models[0]), extra=extra) as daemon:

        def said(what: str) -> bool:
            return bool(daemon.daemon_states) and not daemon.daemon_states[-1][what]["ok"]

        daemon.listen(lambda _: said("journal") and said("archive"), PATIENCE_S)
        judged(daemon, 20)
        now = daemon.daemon_states[-1]
        assert now["inspecting"]
        assert why in now["journal"]["detail"]
        assert now["archive"]["detail"] is not None
        assert daemon.states[-1]["detail"] == now["journal"]["detail"]
        assert "Inspection goes on" in daemon.log
        assert (metric(daemon, "inspectd_journal_ok"), metric(daemon, "inspectd_archive_ok")) == (0, 0)
        mount(*mended)
        daemon.listen(lambda _: not said("journal") and not said("archive"), PATIENCE_S)
        judged(daemon, 5)
        assert daemon.daemon_states[-1]["journal"]["lost"] == {}
        assert (metric(daemon, "inspectd_journal_ok"), metric(daemon, "inspectd_archive_ok")) == (1, 1)
        assert daemon.stop() == 0
    assert {v["reason"] for v in daemon.verdicts} <= {None, "shutdown"}
    assert not list(disk.rglob("*.partial"))
