"""Capture processes, seen from the program that wants them: one that forks, started once, and its children.

The one that forks is not tied to the thread that started it, as PR_SET_PDEATHSIG would: it ends when its link is
closed, which the kernel does however this program dies, and its children end with it.
"""

from __future__ import annotations

import atexit
import errno
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
ANSWER_S = 5.0
"""How long one that has loaded everything may take to fork a child."""
ENDS_S = 0.1
"""How long one whose link was closed takes to be gone."""
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
        self._has_answered = False

    def start(self, channel: socket.socket) -> CaptureProcess:
        """Start a capture child on its end of a channel; OSError says why that cannot be."""
        link = self._running()
        try:
            return self._ask(link, channel)
        except TimeoutError:  # it hangs
            self._end(link)
        except (BrokenPipeError, ConnectionResetError):
            if self._runs():  # the request did not get through: there are no descriptors left there
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE)) from None
            self._end(link)
        return self._ask(self._running(), channel)

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

    def _runs(self) -> bool:
        with self._lock, suppress(subprocess.TimeoutExpired):
            return self._process is not None and self._process.wait(ENDS_S) is None
        return True

    def _end(self, link: socket.socket) -> None:
        with self._lock:
            if link is not self._link or self._process is None:
                return  # another thread was faster
            self._link, self._has_answered = None, False
            link.close()
            self._process.kill()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(END_S)

    def _ask(self, link: socket.socket, channel: socket.socket) -> CaptureProcess:
        report, theirs = protocol.pair()
        try:
            with theirs:
                socket.send_fds(link, [REQUEST], [theirs.fileno(), channel.fileno()])
            return self._answer(report)
        except OSError:
            report.close()
            raise

    def _answer(self, report: socket.socket) -> CaptureProcess:
        patience_s = ANSWER_S if self._has_answered else START_S
        if not _is_readable(report.fileno(), patience_s):
            raise TimeoutError(f"none has been forked within {patience_s:g} s")
        packet, fds, _, _ = socket.recv_fds(report, 1024, 1)
        if not packet:
            raise BrokenPipeError("the process that forks them has ended")
        self._has_answered = True
        answer = protocol.decode_report(packet)
        if isinstance(answer, Started) and fds:
            return CaptureProcess(answer.pid, fds[0], report)
        raise OSError(answer.why if isinstance(answer, protocol.NotStarted) else os.strerror(errno.EMFILE))


def _is_readable(fd: int, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


FORKER = Forker()
"""This program's."""
atexit.register(FORKER.close)
