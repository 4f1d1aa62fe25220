"""`inspectd` in a process of its own that starts at once: forked from one that has loaded torch and all the rest.

Loading takes most of a start. Tests of the start itself, and those that begin with a command line, start Python anew.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from inspectd.cameras.capture import die_with_parent

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["pytest", "openvino", "inspectd.cli.run", "inspectd.daemon.life"])


class ForkedInspectd:
    """Like a `subprocess.Popen` of `inspectd` with these arguments, its stderr appended to a file."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], stderr: Path) -> None:
        self._process = _FORKS.Process(target=_run, args=(list(arguments), dict(environment), stderr), daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, or the negative number of the signal that ended it; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return the exit code; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for its end and return the exit code; TimeoutError."""
        self._process.join(timeout_s)
        if self._process.exitcode is None:
            raise TimeoutError(f"inspectd runs after {timeout_s} s")
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def _run(arguments: list[str], environment: dict[str, str], stderr: Path) -> None:
    die_with_parent()  # the server of forks, which ends with the tests, however they end
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(os.open(stderr, os.O_WRONLY | os.O_APPEND | os.O_CREAT), 2)
    from inspectd.cli import main

    main(arguments)
