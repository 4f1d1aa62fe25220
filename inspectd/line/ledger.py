"""The ledger: the one arbiter of "exactly one verdict".

Every frame taken and every trigger accepted opens one entry; the first closer wins, later ones are only
counted. The ledger owns `seq` and the deadlines, and works while the engine hangs: `expire` needs nobody
but the clock. Verdicts are handed to `publish` under the ledger's lock, so that they leave in the order of
`seq`; `publish` must therefore be quick and never block.

Laws, per camera and at any moment (`Counts.broken_law`):

    captured = judged + displaced + unmatched + in flight
    triggers = closed + pending
    verdicts = ok + ng + fault, and seq counts them without a gap
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from inspectd.records import Counts, Finding, Outcome, Reason, Stamp, Verdict, fault

Clock = Callable[[], int]


@dataclass(slots=True, eq=False)
class Entry:
    """One promise of a verdict. Belongs to the ledger; others only hand it back."""

    camera: str
    deadline_ns: int | None
    stamp: Stamp | None = None
    queued_ns: int | None = None
    trigger: str | None = None
    part: str | None = None
    trigger_ns: int | None = None
    is_open: bool = True
    verdict: Verdict | None = None
    """What was published when it was closed; None for a displaced frame."""


@dataclass(slots=True)
class _PendingFault:
    """A fault that no frame belongs to. It is published when all that was captured before it has its verdict."""

    finding: Finding
    before: set[Entry]


@dataclass(slots=True)
class _Account:
    camera: str
    deadline_ns: int | None
    trigger_delay_ns: int
    is_open: bool = True
    last_frame: int = 0
    counts: Counts = field(default_factory=Counts)
    open: set[Entry] = field(default_factory=set)
    waiting: deque[Entry] = field(default_factory=deque)  # triggers that have no frame yet, oldest first
    pending: list[_PendingFault] = field(default_factory=list)  # in their order


class Ledger:
    """Opens and closes entries for all cameras. Every method may be called from any thread."""

    def __init__(self, publish: Callable[[Verdict], None], clock: Clock = time.monotonic_ns) -> None:
        self._publish = publish
        self._clock = clock
        self._changed = threading.Condition()
        self._accounts: dict[str, _Account] = {}
        self._deadlines: list[tuple[int, int, Entry]] = []
        self._order = itertools.count()
        self._is_shut = False

    def add_camera(self, name: str, deadline_ms: float | None, trigger_delay_ms: float = 0) -> None:
        """Open an account; ValueError when it is open. `deadline_ms` counts from capture or trigger; None: no deadline.

        An account that was closed goes on where it ended: `seq` and the frames' numbers never begin anew.
        """
        deadline_ns = None if deadline_ms is None else int(deadline_ms * 1e6)
        with self._changed:
            account = self._accounts.setdefault(name, _Account(name, None, 0, is_open=False))
            if account.is_open:
                raise ValueError(f"camera {name} has an account in the ledger already; it is not opened twice")
            account.deadline_ns, account.trigger_delay_ns = deadline_ns, int(trigger_delay_ms * 1e6)
            account.is_open = True

    def remove_camera(self, name: str, detail: str) -> None:
        """Close an account: what is open becomes `fault: shutdown`, and no frame or trigger is taken any more."""
        with self._changed:
            self._close_account(self._accounts[name], detail)

    # Opening

    def open_frame(self, stamp: Stamp) -> Entry | None:
        """Promise a verdict for a frame; None once the account is closed (the frame is then not taken)."""
        with self._changed:
            account = self._accounts[stamp.camera]
            if not account.is_open:
                return None
            account.last_frame = max(account.last_frame, stamp.frame)
            deadline_ns = None if account.deadline_ns is None else stamp.captured_ns + account.deadline_ns
            entry = Entry(stamp.camera, deadline_ns, stamp, self._clock(), part=stamp.part)
            account.counts.captured += 1
            account.counts.in_flight += 1
            self._enter(account, entry)
            return entry

    def open_trigger(self, camera: str, trigger: str, part: str | None = None) -> Entry | None:
        """Promise a verdict for a trigger, by its deadline, whether a frame comes or not."""
        with self._changed:
            account = self._accounts[camera]
            if not account.is_open:
                return None
            now = self._clock()
            deadline_ns = None if account.deadline_ns is None else now + account.deadline_ns
            entry = Entry(camera, deadline_ns, trigger=trigger, part=part, trigger_ns=now)
            account.counts.triggers += 1
            account.counts.triggers_pending += 1
            account.waiting.append(entry)
            self._enter(account, entry)
            return entry

    def match(self, stamp: Stamp) -> Entry | None:
        """Give a frame to the oldest waiting trigger that it is later than; None: it is for nobody.

        A frame serves one trigger: the next trigger means the next part.
        """
        with self._changed:
            account = self._accounts[stamp.camera]
            if not account.is_open:
                return None
            account.last_frame = max(account.last_frame, stamp.frame)
            account.counts.captured += 1
            head = account.waiting[0] if account.waiting else None
            if head is None or stamp.captured_ns <= (head.trigger_ns or 0) + account.trigger_delay_ns:
                account.counts.unmatched += 1
                return None
            account.waiting.popleft()
            account.counts.in_flight += 1
            head.stamp, head.queued_ns = stamp, self._clock()
            return head

    # Closing

    def close(self, entry: Entry, finding: Finding) -> bool:
        """Keep the promise of `entry`. False: the finding came too late, and only counts.

        Too late is what comes after another closer, and a judgement that comes after the deadline, although the clock
        may not have struck yet: a busy machine wakes it late.
        """
        with self._changed:
            account = self._accounts[entry.camera]
            if entry.is_open and finding.outcome is not Outcome.FAULT and self._is_overdue(entry):
                self._close_late(entry)
            if not entry.is_open:
                account.counts.late += 1
                return False
            self._book(account, entry)
            self._publish_verdict(account, entry, finding)
            self._publish_pending(account, entry)
            return True

    def displace(self, entry: Entry) -> bool:
        """Give a stream's frame up for a newer one, without a verdict. False: it was closed before."""
        if entry.trigger is not None:
            raise ValueError(f"the entry of trigger {entry.trigger!r} cannot be displaced: it owes a verdict")
        with self._changed:
            if not entry.is_open:
                return False
            account = self._accounts[entry.camera]
            self._leave(account, entry)
            account.counts.in_flight -= 1
            account.counts.displaced += 1
            self._publish_pending(account, entry)
            return True

    def publish_fault(self, camera: str, finding: Finding) -> None:
        """Publish a verdict that no frame belongs to: the fault when a camera goes away.

        What was captured before and is still in flight gets its own verdict first, at the latest by its deadline: no
        `ok` comes after the news that the camera is gone.
        """
        with self._changed:
            account = self._accounts[camera]
            if not account.is_open:
                return
            account.pending.append(_PendingFault(finding, set(account.open)))
            self._publish_pending(account, None)

    def expire(self) -> int | None:
        """Close what is past its deadline; return when the next one is due (ns), or None."""
        with self._changed:
            while self._deadlines:
                due_ns, _, entry = self._deadlines[0]
                if entry.is_open and not self._is_overdue(entry):
                    return due_ns
                heapq.heappop(self._deadlines)
                if entry.is_open:
                    self._close_late(entry)
            return None

    def shutdown(self, detail: str) -> None:
        """Close all that is open with `fault: shutdown` and open nothing more."""
        with self._changed:
            self._is_shut = True
            for account in self._accounts.values():
                self._close_account(account, detail)
            self._changed.notify_all()

    # Reading

    def counts(self, camera: str) -> Counts:
        """Return a consistent copy of one camera's bookkeeping."""
        with self._changed:
            return self._accounts[camera].counts.copy()

    @property
    def cameras(self) -> Iterable[str]:
        """Names of all cameras with an account."""
        return tuple(self._accounts)

    def in_flight(self, camera: str | None = None) -> int:
        """Return how many promises are open, of one camera or (None) of all."""
        with self._changed:
            accounts = self._accounts.values() if camera is None else [self._accounts[camera]]
            return sum(len(account.open) for account in accounts)

    @property
    def deadlines_kept(self) -> int:
        """How many deadlines are remembered, those of closed entries included."""
        with self._changed:
            return len(self._deadlines)

    def last_frame(self, camera: str) -> int:
        """Return the highest number that a frame of this camera has had in this epoch."""
        with self._changed:
            return self._accounts[camera].last_frame

    def wait_for_deadline(self, due_ns: int | None, longest_s: float) -> None:
        """Sleep until `due_ns`, a nearer deadline than that, the shutdown, or `longest_s`."""
        with self._changed:
            if self._is_shut or (self._deadlines and (due_ns is None or self._deadlines[0][0] < due_ns)):
                return
            sleep_s = longest_s if due_ns is None else min(longest_s, (due_ns - self._clock()) / 1e9)
            if sleep_s > 0:
                self._changed.wait(sleep_s)

    # The rest is called with the lock held.

    def _enter(self, account: _Account, entry: Entry) -> None:
        account.open.add(entry)
        if entry.deadline_ns is not None:
            heapq.heappush(self._deadlines, (entry.deadline_ns, next(self._order), entry))
            self._drop_closed_deadlines()
            if self._deadlines[0][2] is entry:
                self._changed.notify_all()

    def _is_overdue(self, entry: Entry) -> bool:
        return entry.deadline_ns is not None and self._clock() >= entry.deadline_ns

    def _drop_closed_deadlines(self) -> None:
        open_ = sum(len(account.open) for account in self._accounts.values())
        if len(self._deadlines) > 2 * open_ + 64:
            self._deadlines = [item for item in self._deadlines if item[2].is_open]
            heapq.heapify(self._deadlines)

    def _leave(self, account: _Account, entry: Entry) -> None:
        entry.is_open = False
        account.open.discard(entry)

    def _book(self, account: _Account, entry: Entry) -> None:
        self._leave(account, entry)
        if entry.trigger is not None:
            account.counts.triggers_pending -= 1
            account.counts.triggers_closed += 1
            if entry.stamp is None:
                account.waiting.remove(entry)
        if entry.stamp is not None:
            account.counts.in_flight -= 1
            account.counts.judged += 1

    def _close_account(self, account: _Account, detail: str) -> None:
        account.is_open = False
        for entry in sorted(account.open, key=_age):
            self._book(account, entry)
            self._publish_verdict(account, entry, fault(Reason.SHUTDOWN, detail))
            self._publish_pending(account, entry)

    def _close_late(self, entry: Entry) -> None:
        account = self._accounts[entry.camera]
        self._book(account, entry)
        waited = "no frame came" if entry.stamp is None else "its score was not ready"
        deadline_ms = (account.deadline_ns or 0) / 1e6
        self._publish_verdict(account, entry, fault(Reason.DEADLINE, f"{waited} within {deadline_ms:g} ms"))
        self._publish_pending(account, entry)

    def _publish_pending(self, account: _Account, closed: Entry | None) -> None:
        """Publish the faults that waited for nothing but `closed`."""
        while account.pending:
            for one in account.pending:
                if closed is not None:
                    one.before.discard(closed)
            if account.pending[0].before:
                return
            self._publish_verdict(account, Entry(account.camera, None), account.pending.pop(0).finding)

    def _publish_verdict(self, account: _Account, entry: Entry, finding: Finding) -> None:
        counts = account.counts
        counts.last_seq += 1
        counts.outcomes[finding.outcome] += 1
        if finding.outcome is Outcome.FAULT and finding.reason is not None:
            counts.faults[finding.reason] = counts.faults.get(finding.reason, 0) + 1
        entry.verdict = Verdict(
            camera=entry.camera,
            seq=counts.last_seq,
            finding=finding,
            displaced=counts.displaced,
            stamp=entry.stamp,
            trigger=entry.trigger,
            part=entry.part,
            trigger_ns=entry.trigger_ns,
            queued_ns=entry.queued_ns,
        )
        self._publish(entry.verdict)


def _age(entry: Entry) -> int:
    if entry.stamp is not None:
        return entry.stamp.captured_ns
    return entry.trigger_ns or 0
