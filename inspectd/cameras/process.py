"""Capture processes, seen from the program that wants them: one that forks, started once, and its children.

The one that forks is not tied to the thread that started it, as PR_SET_PDEATHSIG would: it ends when its link is
closed, which the kernel does however this program dies, and its children end with it.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress

from inspectd.cameras import protocol
from inspectd.cameras.protocol import Exited, Started

START_S = 60.0
"""How long a capture process may take to start: on a busy PC that is no fault of the camera."""
END_S = 2.0
REQUEST = b"child"
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""numpy's threads would not be there after a fork, and are not wanted."""


class CaptureProcess:
    """A child, forked elsewhere: known by a descriptor, so that no other process is killed in its place."""

    def __init__(self, pid: int, pidfd: int, report: socket.socket) -> None:
        self.pid = pid
        self._pidfd = open(pidfd, "rb", buffering=0)  # noqa: SIM115 - closed when the process has ended
        self._report = report
        self._code: int | None = None

    def kill(self) -> None:
        """Send SIGKILL, unless it has ended."""
        if self._code is None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd.fileno(), signal.SIGKILL)

    def wait(self, timeout_s: float) -> int | None:
        """Wait for its end: the exit code, or the negative number of its signal; None: it runs."""
        if self._code is None and _is_readable(self._pidfd.fileno(), timeout_s):
            self._code = self._told_code()
            self._pidfd.close()
            self._report.close()
        return self._code

    def _told_code(self) -> int:
        if _is_readable(self._report.fileno(), END_S) and (packet := self._report.recv(64)):
            report = protocol.decode_report(packet)
            if isinstance(report, Exited):
                return report.code
        return -signal.SIGKILL  # it ended with the process that forked it


class Forker:
    """Keeps the process that forks, and asks it for children. Any thread may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._link: socket.socket | None = None

    def start(self, channel: socket.socket) -> CaptureProcess:
        """Start a capture child on its end of a channel; OSError says why that cannot be."""
        link = self._running()
        try:
            return _ask(link, channel)
        except (BrokenPipeError, ConnectionResetError, TimeoutError):  # somebody has killed it, or it hangs
            self._end(link)
        return _ask(self._running(), channel)

    def close(self) -> None:
        """End the process that forks, and with it the children that are left."""
        if self._link is not None:
            self._end(self._link)

    def _running(self) -> socket.socket:
        with self._lock:
            if self._link is None:
                self._link, theirs = protocol.pair()
                with theirs:
                    self._process = subprocess.Popen(
                        [sys.executable, "-m", "inspectd.cameras.capture", str(theirs.fileno())],
                        pass_fds=[theirs.fileno()],
                        stdin=subprocess.DEVNULL,
                        env={**os.environ, **ONE_THREAD},
                    )
            return self._link

    def _end(self, link: socket.socket) -> None:
        with self._lock:
            if link is not self._link or self._process is None:
                return  # another thread was faster
            self._link = None
            link.close()
            self._process.kill()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(END_S)


def _ask(link: socket.socket, channel: socket.socket) -> CaptureProcess:
    report, theirs = protocol.pair()
    with theirs:
        socket.send_fds(link, [REQUEST], [channel.fileno(), theirs.fileno()])
    if not _is_readable(report.fileno(), START_S):
        report.close()
        raise TimeoutError(f"none has been forked within {START_S:g} s")
    packet, fds, _, _ = socket.recv_fds(report, 1024, 1)
    if not packet:
        report.close()
        raise BrokenPipeError("the process that forks them has ended")
    answer = protocol.decode_report(packet)
    if not isinstance(answer, Started):
        report.close()
        raise OSError(answer.why if isinstance(answer, protocol.NotStarted) else "it ended at once")
    return CaptureProcess(answer.pid, fds[0], report)


def _is_readable(fd: int, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


FORKER = Forker()
"""This program's."""
atexit.register(FORKER.close)
