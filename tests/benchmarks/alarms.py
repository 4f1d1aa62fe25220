"""Alarms that take long, or a broken machine: each is raised by its real fault, and is over when that is mended.

    python tests/benchmarks/alarms.py          # as root: it stops a thread, and writes into the daemon's memory

- near_deadline: a camera that gives a picture every 2 s, triggered right after each, with little more than that allowed.
- stalled: the thread that computes most is stopped by the kernel (ptrace), as one that hangs in a driver.
- engine: the weights of the network's last layer are overwritten in memory with no numbers, as by a broken module.
"""

from __future__ import annotations

import ctypes
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from conftest import write_small_model
from daemon_process import DaemonProcess

from inspectd.client import Control, NoReplyError
from inspectd.wire.requests import ReloadRequest, TriggerRequest

LINE = "sim://line?width=64&height=64"
SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17
NAN = struct.pack("<f", float("nan"))
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.ptrace.argtypes = [ctypes.c_ulong, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def main() -> None:
    """Raise them one after the other."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = write_small_model(folder / "model", threshold=1e6)
        for kind in (near_deadline, stalled, engine):
            began_s = time.monotonic()
            kind(folder / kind.__name__, model)
            print(f"{kind.__name__}: raised, and over ({time.monotonic() - began_s:.0f} s)", flush=True)


def started(folder: Path, camera: str, extra: str = "") -> DaemonProcess:
    """Return a daemon that is ready."""
    daemon = DaemonProcess(folder, camera, extra=extra)
    daemon.listen(lambda d: "ready" in d.log)
    return daemon


def near_deadline(folder: Path, model: Path) -> None:
    """Latencies of nearly two seconds with 2.4 allowed; then with an hour."""
    allowed = "deadline_ms: 2400"
    camera = f'{{name: top, source: "{LINE}&fps=0.5", mode: trigger, model: {model}, {allowed}}}'
    with started(folder, camera) as daemon, Control(daemon.control) as control:
        for number in range(180):
            control.ask(TriggerRequest(camera="top", part=f"P-{number}", wait=True), 10)
            daemon.listen(lambda _: True)
            while (message := daemon._subscription.receive(0)) is not None:
                daemon._keep(message)
            if "near_deadline" in daemon.alarms():
                break
        assert "near_deadline" in daemon.alarms(), daemon.log
        daemon.config.write_text(daemon.config.read_text().replace(allowed, "deadline_ms: 3600000"))
        control.ask(ReloadRequest(), 30)
        daemon.listen(lambda d: d.states[-1]["inspecting"] and not d.alarms(), 90)


def stalled(folder: Path, model: Path) -> None:
    """A thread that does not get on: the daemon says so, and the metrics with it."""
    camera = f'{{name: top, source: "{LINE}&fps=30", model: {model}, deadline_ms: 1000}}'
    with started(folder, camera, "engine: {device: cpu:torch}\n") as daemon, Control(daemon.control) as control:
        daemon.listen(lambda d: len(d.verdicts) > 200)
        thread = busiest(daemon.process.pid)
        while True:
            hold(thread)
            try:  # it may have been stopped while nobody else may run (the interpreter's lock)
                control.status(2.0)
                break
            except NoReplyError:
                let_go(thread)
                time.sleep(0.05)
        until(lambda: "stalled" in own_alarms(control), 60)
        let_go(thread)
        until(lambda: "stalled" not in own_alarms(control), 30)


def engine(folder: Path, model: Path) -> None:
    """Scores that are no numbers, and none that is taken for one."""
    import torch

    last = torch.load(model / "ckpt.pth", weights_only=True)["discriminator"]["tail.weight"].float().numpy()
    patterns = [last.tobytes(), (-last).tobytes()]  # a score is the negative of what the discriminator says
    camera = f'{{name: top, source: "{LINE}&fps=10", model: {model}, deadline_ms: 5000}}'
    with started(folder, camera, "engine: {device: cpu:torch, precision: float32}\n") as daemon:
        daemon.listen(lambda d: len(d.verdicts) > 20)
        pid = daemon.process.pid
        places = {pattern: find(pid, pattern) for pattern in patterns}
        assert any(places.values()), "the weights are not in the daemon's memory as they are in the file"
        for pattern, found in places.items():
            write(pid, found, NAN * (len(pattern) // 4))
        daemon.listen(lambda d: "engine" in d.alarms(), 30)
        since = len(daemon.verdicts)
        daemon.listen(lambda d: len(d.verdicts) > since + 20)
        assert {one["reason"] for one in daemon.verdicts[since:]} == {"engine"}
        for pattern, found in places.items():
            write(pid, found, pattern)
        daemon.listen(lambda d: not d.alarms(), 120)
        assert daemon.verdicts[-1]["verdict"] == "ok"


def own_alarms(control: Control) -> set[str]:
    """Return what the daemon says of itself."""
    return {one["alarm"] for one in control.status(10)["alarms"]}


def until(is_so: Callable[[], bool], timeout_s: float) -> None:
    """Wait until something is the case."""
    give_up_s = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < give_up_s, "it did not happen"
        time.sleep(0.5)


def busiest(pid: int) -> int:
    """Return the thread of a process, other than its first, that has used the processor most."""

    def used(thread: Path) -> int:
        fields = (thread / "stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    threads = [one for one in Path(f"/proc/{pid}/task").iterdir() if int(one.name) != pid]
    return int(max(threads, key=used).name)


def hold(thread: int) -> None:
    """Stop one thread, and no other."""
    for request in (SEIZE, INTERRUPT):
        if _LIBC.ptrace(request, thread, None, None) != 0:
            raise OSError(ctypes.get_errno(), "ptrace")


def let_go(thread: int) -> None:
    """Let it go on."""
    if _LIBC.ptrace(DETACH, thread, None, None) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def find(pid: int, pattern: bytes) -> list[int]:
    """Return where bytes lie in a process's own memory."""
    found = []
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            span, rights, *_ = line.split()
            begin, end = (int(one, 16) for one in span.split("-"))
            if not rights.startswith("rw"):
                continue
            try:
                memory.seek(begin)
                data = memory.read(end - begin)
            except OSError:
                continue
            at = data.find(pattern)
            while at >= 0:
                found.append(begin + at)
                at = data.find(pattern, at + 4)
    return found


def write(pid: int, places: list[int], data: bytes) -> None:
    """Write into a process's memory."""
    with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
        for place in places:
            memory.seek(place)
            memory.write(data)


if __name__ == "__main__":
    main()
