"""The command line, run in the test's own process, which has torch loaded already."""

from __future__ import annotations

import io
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from typing import NamedTuple
from unittest import mock

import pytest

from calibrate.acquire import from_daemon
from inspectd.cli import main


class Ended(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def run_here(*line: str, typed: str = "") -> Ended:
    """Run `inspectd` with these arguments. `typed`: what somebody types."""
    out, err = io.StringIO(), io.StringIO()
    stays = mock.patch.object(from_daemon, "giving_way", nullcontext)  # the test's process gives way to nobody
    keyboard = mock.patch("sys.stdin", io.StringIO(typed))
    with stays, keyboard, redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main(list(line))
    return Ended(int(ended.value.code or 0), out.getvalue(), err.getvalue())
