"""The few error classes of inspectd.

Every message is for a person: one full sentence that says what is wrong, where, what was expected, and
what to do. The command line prints the message alone and exits with the class's code.
"""

from __future__ import annotations


class InspectdError(Exception):
    """Something a person can mend. `exit_code` is what the process ends with if nobody handles it."""

    exit_code = 3


class UsageError(InspectdError):
    """Bad usage, configuration, pictures or model folder: the same command will fail again (exit 2)."""

    exit_code = 2


class StartError(InspectdError):
    """The environment refused: a source, port, disk or device could not be had (exit 3)."""

    exit_code = 3


class LostError(InspectdError):
    """The engine or the publisher is lost while running: systemd must start us again (exit 4)."""

    exit_code = 4


class CameraError(InspectdError):
    """One camera failed. Its supervisor handles it by restarting that camera and nothing else."""
