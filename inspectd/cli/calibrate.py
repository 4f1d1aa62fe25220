"""`inspectd calibrate`: hands over to the calibrate package."""

from __future__ import annotations

import os

from calibrate.cli import command

# Before torch is loaded: its threads wait for each other by spinning, and on a busy machine a training never ends.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__all__ = ["command"]
