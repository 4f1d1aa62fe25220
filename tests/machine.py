"""A machine of its own with systemd as its first process: a container over this machine's files, which stay as is.

What is written there lies in memory. The wheel is installed into /opt/inspectd with the system's Python; what it
depends on is lent by the environment that the tests run in.
"""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PYTHON = Path("/usr/bin/python3")
LENT = "/opt/lent"
NOT_WANTED = ("postgresql.service", "prometheus.service", "prometheus-node-exporter.service", "nginx.service")
"""Services of this machine that a container over its files would start."""


class Machine:
    """A running container; `root` is where its files are seen from outside."""

    def __init__(self, root: Path, leader: int) -> None:
        self.root = root
        self._leader = leader

    def run(self, *command: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a command on that machine."""
        enter = ["nsenter", "--target", str(self._leader), "--all", "env", "--chdir=/"]
        return subprocess.run([*enter, *command], capture_output=True, text=True, check=False, timeout=timeout_s)

    def does(self, *command: str, timeout_s: float = 120) -> str:
        """Run a command that must succeed; return what it printed."""
        done = self.run(*command, timeout_s=timeout_s)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file there."""
        here = self.root / path.lstrip("/")
        here.parent.mkdir(parents=True, exist_ok=True)
        here.write_text(text, encoding="utf-8")
        here.chmod(mode)

    def until(self, what: str, *command: str, timeout_s: float) -> None:
        """Wait until a command prints something."""
        give_up_s = time.monotonic() + timeout_s
        while what not in (said := self.run(*command).stdout):
            assert time.monotonic() < give_up_s, f"{' '.join(command)} says after {timeout_s} s: {said}"
            time.sleep(0.25)


@contextmanager
def machine_with(wheel: Path, folder: Path) -> Iterator[Machine]:
    """Boot a machine on which the wheel is installed; where that cannot be, the test is skipped and says why."""
    why = _why_not()
    if why is not None:
        pytest.skip(why)
    root = folder / "root"
    mounted = _mount(folder)
    if mounted is not None:
        pytest.skip(f"this machine mounts nothing for a container: {mounted}")
    container: subprocess.Popen[bytes] | None = None
    try:
        (root / "etc" / "machine-id").unlink(missing_ok=True)
        (root / "etc" / "machine-id").touch()
        for name in NOT_WANTED:
            unit = root / "etc" / "systemd" / "system" / name
            unit.unlink(missing_ok=True)
            unit.symlink_to("/dev/null")
        for name in ("lib/inspectd", "lib/private/inspectd", "cache/inspectd"):
            shutil.rmtree(root / "var" / name, ignore_errors=True)
        shutil.copy(wheel, root / "opt")
        container = subprocess.Popen(
            [
                "systemd-nspawn",
                f"--directory={root}",
                f"--machine=inspectd-{os.getpid()}",
                f"--bind-ro={site.getsitepackages()[0]}:{LENT}",
                *("--boot", "--register=no", "--keep-unit", "--private-network", "--console=pipe"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        machine = Machine(root, _leader(container))
        # Some other service of this machine may fail inside (degraded): that is none of ours.
        machine.until("multi-user.target", "systemctl", "list-units", "--state=active", "--no-pager", timeout_s=60)
        _install(machine, wheel.name)
        yield machine
    finally:
        if container is not None:
            container.terminate()
            try:
                container.wait(30)
            except subprocess.TimeoutExpired:
                container.kill()
                container.wait()
        for mount in (root, folder):
            subprocess.run(["umount", "--lazy", str(mount)], capture_output=True, check=False)


def _why_not() -> str | None:
    if os.geteuid() != 0 or shutil.which("systemd-nspawn") is None:
        return "a machine of its own needs root and systemd-nspawn (Debian's package systemd-container)"
    if not PYTHON.exists():
        return f"a machine of its own needs the system's Python, {PYTHON}"
    version = subprocess.run(
        [PYTHON, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, check=True
    )
    if version.stdout.split() != [b"%d" % number for number in sys.version_info[:2]]:
        return f"{PYTHON} is another Python than the tests', whose libraries it is lent"
    return None


def _mount(folder: Path) -> str | None:
    """Lay a file system in memory over this machine's; return why that cannot be."""
    lines = [["mount", "-t", "tmpfs", "tmpfs", str(folder)]]
    over = f"lowerdir=/,upperdir={folder}/up,workdir={folder}/work"
    lines.append(["mount", "-t", "overlay", "overlay", "-o", over, f"{folder}/root"])
    for line in lines:
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        if done.returncode:
            return done.stderr.strip()
        for name in ("up", "work", "root"):
            (folder / name).mkdir(exist_ok=True)
    return None


def _leader(container: subprocess.Popen[bytes]) -> int:
    """Return the process that is the first one inside."""
    children = Path(f"/proc/{container.pid}/task/{container.pid}/children")
    give_up_s = time.monotonic() + 30
    while time.monotonic() < give_up_s:
        if container.poll() is not None:
            pytest.skip(f"systemd-nspawn starts no container here (exit {container.returncode})")
        if found := children.read_text(encoding="ascii").split():
            return int(found[0])
        time.sleep(0.1)
    raise AssertionError("systemd-nspawn started nothing")


def _install(machine: Machine, wheel: str) -> None:
    """As a user does, but for what it depends on."""
    machine.does(str(PYTHON), "-m", "venv", "--without-pip", "/opt/inspectd")
    packages = f"/opt/inspectd/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    machine.write(f"{packages}/lent.pth", f"{LENT}\n")
    pip = ["/opt/inspectd/bin/python", "-m", "pip", "install", "--no-deps", "--no-index", "--quiet"]
    machine.does(*pip, "--root-user-action=ignore", "--ignore-installed", f"/opt/{wheel}")
