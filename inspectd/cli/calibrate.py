"""`inspectd calibrate`: hands over to the calibrate package."""

from __future__ import annotations

from calibrate.cli import command

__all__ = ["command"]
