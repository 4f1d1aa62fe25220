"""Capture processes: each reads one source into its ring until it is told to end, or killed.

`python -m inspectd.cameras.capture FD` loads cv2, numpy and PyAV, never torch, and then waits at its link, FD, for
`inspectd.cameras.process` to ask for children, which it forks: a camera that has to be opened again waits for no
library to load, and takes no core from the others for it. OpenCV may hang or crash in a child; nothing but that child
is lost. When the link is closed, all of them end.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import importlib
import os
import resource
import select
import signal
import socket
import sys
import traceback
from contextlib import suppress
from pathlib import Path

from inspectd.cameras import protocol
from inspectd.cameras.protocol import CaptureSettings
from inspectd.secrets import redact

PR_SET_PDEATHSIG = 1
MOST_MEMORY = 4 << 30
"""Bytes that a child may take for itself, on a PC with twice as much: a driver that leaks ends before others suffer."""
FIRST_TO_BE_KILLED = 800
"""Of `oom_score_adj`: where memory runs out, a capture child is to be killed and not the engine."""
LOADED = (
    "cv2",
    "inspectd.cameras.hand",
    "inspectd.cameras.grabbers.folder",
    "inspectd.cameras.grabbers.network",
    "inspectd.cameras.grabbers.opening",
    "inspectd.cameras.grabbers.simulated",
    "inspectd.cameras.grabbers.v4l2",
    "inspectd.cameras.grabbers.video",
)
"""Before the first fork. Not Aravis: it has threads, which a fork leaves behind."""


def main() -> None:
    """Entry point: load, then fork children until the link is closed."""
    link = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    for name in LOADED:
        with suppress(ImportError):  # the child that needs it says so in its last words
            importlib.import_module(name)
    gc.freeze()  # what is loaded stays shared memory
    Nursery(link).run()


class Nursery:
    """Forks capture children, and reports to who asked for each: its number and a descriptor, later how it ended."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._reports: dict[int, tuple[int, socket.socket]] = {}
        """By the child's descriptor: its number, and where its end is told."""
        self._poll = select.poll()
        self._poll.register(link, select.POLLIN)

    def run(self) -> None:
        """Serve until the link is closed; the children end with this process."""
        while True:
            for fd, _ in self._poll.poll():
                if fd != self._link.fileno():
                    self._tell_end(fd)
                elif not self._take_request():
                    return

    def _take_request(self) -> bool:
        """Fork a child; False: the link is closed."""
        packet, fds, _, _ = socket.recv_fds(self._link, 64, 2)
        if not packet:
            return False
        sockets = [socket.socket(fileno=fd) for fd in fds]  # fewer where there are no descriptors left
        try:
            self._fork(sockets)
        except OSError as error:
            for report in sockets[:1]:
                self._answer(report, protocol.NotStarted(error.strerror or type(error).__name__))
                report.close()
        for channel in sockets[1:]:
            channel.close()
        return True

    def _fork(self, sockets: list[socket.socket]) -> None:
        """Fork a child, and say so; OSError: there is none."""
        if len(sockets) < 2:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        report, channel = sockets
        forker = os.getpid()
        child = os.fork()
        if child == 0:
            self._be_child(channel, report, forker)
        try:
            pidfd = os.pidfd_open(child)
        except OSError:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise
        self._reports[pidfd] = child, report
        self._poll.register(pidfd, select.POLLIN)
        self._answer(report, protocol.Started(child), pidfd)

    def _tell_end(self, pidfd: int) -> None:
        child, report = self._reports.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(child, 0)
        self._answer(report, protocol.Exited(os.waitstatus_to_exitcode(status)))
        report.close()

    def _answer(self, report: socket.socket, word: protocol.Report, pidfd: int | None = None) -> None:
        with suppress(OSError):  # who asked has gone
            socket.send_fds(report, [protocol.encode_report(word)], [] if pidfd is None else [pidfd])

    def _be_child(self, channel: socket.socket, report: socket.socket, forker: int) -> None:
        """Close what is the others', capture, and end this process."""
        code = 1
        try:
            die_with_parent(forker)
            for other, (_, to) in self._reports.items():
                os.close(other)
                to.close()
            report.close()
            self._link.close()
            limit_memory()
            capture(channel)
            code = 0
        except BaseException:  # noqa: BLE001 - a process's top
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)


def capture(channel: socket.socket) -> None:
    """Be a capture child: take the settings, and hand pictures over until the source or the channel ends."""
    with suppress(BrokenPipeError, ConnectionResetError):  # the parent has gone: so do we
        packet = channel.recv(protocol.MAX_PACKET)
        if not packet:
            return
        settings = protocol.decode_settings(packet)
        # OpenCV reads it when it waits for a picture for the first time.
        os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(settings.select_s))
        run(channel, settings)
        while channel.recv(64):  # a socket that is closed with unread words in it loses our last ones
            pass


def run(channel: socket.socket, settings: CaptureSettings) -> None:
    """Open the source and hand its pictures over."""
    from inspectd.cameras.hand import Hand, tell
    from inspectd.errors import CameraError

    try:
        import cv2

        from inspectd.cameras.grabbers.opening import open_grabber

        cv2.setNumThreads(1)
        tell(channel, protocol.Alive(0, False))  # from here on it is the source that takes its time
        grabber = open_grabber(settings, lambda: tell(channel, protocol.Alive(0, False)))
        try:
            Hand(channel, settings).pass_on(grabber)
        finally:
            grabber.close()
        tell(channel, protocol.Ended())
    except CameraError as error:
        tell(channel, protocol.Failed(redact(str(error))))
    except OSError as error:
        if isinstance(error, BrokenPipeError | ConnectionResetError):
            raise
        tell(channel, protocol.Failed(redact(f"no memory for {settings.slots} pictures of {settings.source}: {error}")))
    except MemoryError:
        tell(channel, protocol.Failed(redact(f"{settings.source} needs more memory than a camera may have here")))
    except Exception as error:  # noqa: BLE001 - the process's top: its last words are a sentence
        why = f"{settings.source} cannot be read: {type(error).__name__}: {error}"
        tell(channel, protocol.Failed(redact(why)[:1000]))


def limit_memory() -> None:
    """Let this process run out of memory before the others do."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(FIRST_TO_BE_KILLED), encoding="ascii")
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    with suppress(OSError, ValueError):  # it is lower already
        resource.setrlimit(resource.RLIMIT_DATA, (min(MOST_MEMORY, installed // 2), hard))


def die_with_parent(parent: int | None = None) -> None:
    """Ask the kernel to end this process with its parent, however that one dies.

    `parent`: its number; None: whoever that is now.
    """
    parent = parent or os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        os._exit(0)


if __name__ == "__main__":
    main()
