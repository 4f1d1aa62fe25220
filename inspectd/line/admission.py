"""Which frames owe a verdict, and what becomes of one that gives way. One strategy per camera."""

from __future__ import annotations

from typing import Protocol

from inspectd.line.batcher import Policy
from inspectd.line.ledger import Entry, Ledger
from inspectd.records import Reason, Stamp, fault


class Admission(Protocol):
    """A camera's strategy. Called from the camera's thread."""

    def admit(self, stamp: Stamp) -> Entry | None:
        """Return the ledger entry that a captured frame shall close; None: nobody waits for it."""

    def give_way(self, entry: Entry) -> None:
        """Account for an admitted frame that cannot be inspected because another one is."""

    def miss(self, stamp: Stamp) -> None:
        """Account for a frame that was captured while all slots were in use."""


class Stream:
    """Every frame owes a verdict.

    `latest`: unless a newer one takes its place, which is counted as displaced. `every`: a frame that does not fit is
    `fault: overload`.
    """

    def __init__(self, ledger: Ledger, policy: Policy) -> None:
        self._ledger = ledger
        self._policy = policy

    def admit(self, stamp: Stamp) -> Entry | None:
        """Open an entry; None once the camera's account is closed."""
        return self._ledger.open_frame(stamp)

    def give_way(self, entry: Entry) -> None:
        """Displace a frame, or close it as `fault: overload`."""
        if self._policy == "latest":
            self._ledger.displace(entry)
        else:
            why = "frames come faster than they can be inspected; this one was not"
            self._ledger.close(entry, fault(Reason.OVERLOAD, why))

    def miss(self, stamp: Stamp) -> None:
        """Admit the frame, and have it give way at once."""
        entry = self.admit(stamp)
        if entry is not None:
            self.give_way(entry)
