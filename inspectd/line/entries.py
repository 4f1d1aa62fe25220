"""Promises of a verdict: what is known of each until it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from inspectd.records import Challenge, Finding, Stamp, Verdict


class Judged(Protocol):
    """What an entry is to be judged by, as far as the ledger has to know."""

    @property
    def name(self) -> str | None:
        """The product; None: the camera has but one."""


class Trial(Protocol):
    """That the part of an entry is a known one. Called with the ledger's lock held: all of it is quick."""

    challenge: Challenge
    seq: int | None
    """Of its verdict; None: there is none yet."""

    def conclude(self, finding: Finding) -> Finding:
        """Return what is said of the part, from what was found."""

    def give_back(self) -> None:
        """Take note that its picture gave way to a newer one, and got no verdict."""


class Trials(Protocol):
    """What is known of a camera's known parts. Called with the ledger's lock held: all of it is quick."""

    def take(self, began_ns: int | None) -> Trial | None:
        """Return the trial that a part is, which came at this time (monotonic); None: it is any part."""

    def why_not(self) -> str | None:
        """Return why nothing may be `ok` at present; None: it may."""


@dataclass(slots=True, eq=False)
class Entry:
    """One promise of a verdict. Belongs to the ledger; others only hand it back."""

    camera: str
    deadline_ns: int | None
    stamp: Stamp | None = None
    queued_ns: int | None = None
    trigger: str | None = None
    """Number of the trigger, per camera, from 1 in each epoch."""
    part: str | None = None
    trigger_ns: int | None = None
    next_trigger_ns: int | None = None
    """When the next part was there; None: it was not yet."""
    recipe: Judged | None = None
    """What was in force when it was opened."""
    frames: int = 0
    """Captured frames that are accounted for with it."""
    lacks: str = "its score was not ready"
    """What there is to say where the deadline comes first."""
    trial: Trial | None = None
    is_open: bool = True
    verdict: Verdict | None = None
    """What was published when it was closed; None for a displaced frame."""
