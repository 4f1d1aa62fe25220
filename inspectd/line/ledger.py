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
from dataclasses import dataclass, field, replace

from inspectd.line.entries import Entry, Judged, Trial, Trials
from inspectd.records import Counts, Finding, Outcome, Reason, Stamp, Verdict, fault

Clock = Callable[[], int]
MOST_WAITING = 100
"""Triggers of a camera that may wait for their pictures."""
PARTS_REMEMBERED = 1000
"""Of a camera: a part that is triggered again within so many is counted as repeated."""


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
    silent: Reason = Reason.DEADLINE
    trials: Trials | None = None
    is_open: bool = True
    last_frame: int = 0
    counts: Counts = field(default_factory=Counts)
    open: set[Entry] = field(default_factory=set)
    waiting: deque[Entry] = field(default_factory=deque)  # triggers that have no frame yet, oldest first
    last_trigger: Entry | None = None
    own_ns: int | None = None  # when the last frame was taken that was a trigger itself
    parts: dict[str, None] = field(default_factory=dict)  # of the last triggers, in their order
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

    def add_camera(
        self,
        name: str,
        deadline_ms: float | None,
        trigger_delay_ms: float = 0,
        silent: Reason = Reason.DEADLINE,
        trials: Trials | None = None,
    ) -> None:
        """Open an account; ValueError when it is open. `deadline_ms` counts from capture or trigger; None: no deadline.

        `silent`: the reason of the fault where a trigger brought no picture. `trials`: of known parts.
        An account that was closed goes on where it ended: `seq` and the frames' numbers never begin anew.
        """
        deadline_ns = None if deadline_ms is None else int(deadline_ms * 1e6)
        with self._changed:
            account = self._accounts.setdefault(name, _Account(name, None, 0, is_open=False))
            if account.is_open:
                raise ValueError(f"camera {name} has an account in the ledger already; it is not opened twice")
            account.deadline_ns, account.trigger_delay_ns = deadline_ns, int(trigger_delay_ms * 1e6)
            account.silent, account.trials = silent, trials
            account.is_open = True

    def remove_camera(self, name: str, detail: str) -> None:
        """Close an account: what is open becomes `fault: shutdown`, and no frame or trigger is taken any more."""
        with self._changed:
            self._close_account(self._accounts[name], detail)

    # Opening

    def open_frame(self, stamp: Stamp, recipe: Judged | None = None) -> Entry | None:
        """Promise a verdict for a frame; None once the account is closed (the frame is then not taken)."""
        with self._changed:
            account = self._accounts[stamp.camera]
            if not account.is_open:
                return None
            entry = Entry(stamp.camera, _due(stamp.captured_ns, account), part=stamp.part, recipe=recipe)
            entry.trial = _trial(account, stamp.captured_ns)
            account.counts.captured += 1
            self._attach(account, entry, stamp)
            self._enter(account, entry)
            return entry

    def open_trigger(
        self, camera: str, part: str | None = None, recipe: Judged | None = None, trial: Trial | None = None
    ) -> Entry | None:
        """Promise a verdict for a trigger, by its deadline, whether a frame comes or not; None: the account is closed.

        `trial`: the part is this known one; None: any, or the one that is expected.
        A part may be triggered again: each trigger has a verdict of its own. When too many wait for a picture, this one
        is `fault: overload` at once.
        """
        with self._changed:
            account = self._accounts[camera]
            if not account.is_open:
                return None
            now = self._clock()
            entry = Entry(camera, _due(now, account), part=part, trigger_ns=now, recipe=recipe)
            entry.trial = trial or _trial(account, now)
            self._number_trigger(account, entry)
            if account.last_trigger is not None:
                account.last_trigger.next_trigger_ns = now
            account.last_trigger = entry
            account.waiting.append(entry)
            self._enter(account, entry)
            if account.own_ns is not None and now - account.own_ns < (account.deadline_ns or 0):
                why = (
                    "a picture that nobody had announced came just before, and may be this part's; announce a part "
                    "before its picture is taken"
                )
                self._end(account, entry, fault(Reason.DEADLINE, why))
            elif len(account.waiting) > MOST_WAITING:
                why = f"{MOST_WAITING} triggers wait for a picture already; this part was not seen"
                self._end(account, entry, fault(Reason.OVERLOAD, why))
            return entry

    def open_part(self, stamp: Stamp, part: str, recipe: Judged | None = None, *, is_first: bool) -> Entry | None:
        """Promise a verdict for a part that was found in a frame; None: the account is closed.

        `is_first`: of the parts that were found in it, so that the frame is counted once.
        """
        with self._changed:
            account = self._accounts[stamp.camera]
            if not account.is_open:
                return None
            entry = self._open_triggering(account, stamp, recipe, part, is_counted=is_first)
            account.counts.captured += is_first
            return entry

    def look_again(self, entry: Entry, stamp: Stamp, *, is_first: bool) -> bool:
        """Note one more frame for a part; False: its promise is closed, and the frame is not taken."""
        with self._changed:
            if not entry.is_open:
                return False
            account = self._accounts[entry.camera]
            account.counts.captured += is_first
            account.counts.in_flight += is_first
            entry.frames += is_first
            account.last_frame = max(account.last_frame, stamp.frame)
            return True

    def miss_part(self, camera: str, part: str, taken_ns: int, recipe: Judged | None, finding: Finding) -> Entry | None:
        """Say of a part that went by and was in no frame that could be inspected; None: the account is closed."""
        with self._changed:
            account = self._accounts[camera]
            if not account.is_open:
                return None
            entry = Entry(camera, None, part=part, trigger_ns=taken_ns, recipe=recipe)
            entry.trial = _trial(account, taken_ns)
            self._number_trigger(account, entry)
            account.open.add(entry)
            self._end(account, entry, finding)
            return entry

    def pass_by(self, stamp: Stamp) -> None:
        """Count a frame that is for nobody."""
        with self._changed:
            account = self._accounts[stamp.camera]
            if account.is_open:
                account.last_frame = max(account.last_frame, stamp.frame)
                account.counts.captured += 1
                account.counts.unmatched += 1

    def match(
        self, stamp: Stamp, own: Judged | None = None, *, is_timed: bool = True, window_ns: int | None = None
    ) -> Entry | None:
        """Give a frame to the trigger that it belongs to; None: it is for nobody.

        `own`: where a frame that belongs to no trigger is one itself: what it is judged by.
        `is_timed` False: nobody knows when the frame was taken, so that it belongs to no trigger.
        `window_ns`: so long after trigger and delay a frame may be taken; None: as long as the deadline allows.

        It belongs to the last trigger that it is later than, by the delay, whatever became of that one: the part in
        front of the camera is the one that came last. Parts that were triggered before, and have no frame yet, went by
        unseen, as did one whose first frame is too late: they are faults. A frame serves one trigger, and a trigger
        takes the first frame that is its own.
        """
        with self._changed:
            account = self._accounts[stamp.camera]
            if not account.is_open:
                return None
            account.last_frame = max(account.last_frame, stamp.frame)
            account.counts.captured += 1
            taken_ns = stamp.captured_ns - account.trigger_delay_ns  # as the parts' sensor would have it
            while is_timed and account.waiting and taken_ns > (account.waiting[0].trigger_ns or 0):
                entry = account.waiting[0]
                late_ns = taken_ns - (entry.trigger_ns or 0)
                if entry.next_trigger_ns is not None and taken_ns > entry.next_trigger_ns:
                    account.counts.triggers_overtaken += 1
                    why = "the next trigger came before the camera gave a picture; this part was not seen"
                    self._end(account, entry, fault(Reason.OVERLOAD, why))
                elif window_ns is not None and late_ns > window_ns:
                    self._end(account, entry, fault(Reason.PICTURE, _too_late(late_ns, window_ns)))
                else:
                    account.waiting.popleft()
                    self._attach(account, entry, stamp)
                    return entry
            if own is not None:
                return self._open_triggering(account, stamp, own, stamp.part)
            account.counts.unmatched += 1
            return None

    # Closing

    def close(self, entry: Entry, finding: Finding, stamp: Stamp | None = None) -> bool:
        """Keep the promise of `entry`. False: the finding came too late, and only counts.

        `stamp`: of the frame that decided, where there were several.
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
            entry.stamp = stamp or entry.stamp
            self._end(account, entry, _believed(account, entry, finding))
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
            if entry.trial is not None:
                entry.trial.give_back()
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

    def close_waiting(self, camera: str, finding: Finding) -> None:
        """Close all triggers that have no frame yet: none will come."""
        with self._changed:
            account = self._accounts[camera]
            for entry in tuple(account.waiting):
                self._end(account, entry, finding)

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

    def holds(self, camera: str, recipe: Judged) -> bool:
        """Whether a promise is open that is to be kept by this recipe."""
        with self._changed:
            return any(entry.recipe is recipe for entry in self._accounts[camera].open)

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

    def _attach(self, account: _Account, entry: Entry, stamp: Stamp, *, is_counted: bool = True) -> None:
        account.last_frame = max(account.last_frame, stamp.frame)
        account.counts.in_flight += is_counted
        entry.frames += is_counted
        entry.stamp, entry.queued_ns = stamp, self._clock()

    def _open_triggering(
        self, account: _Account, stamp: Stamp, recipe: Judged | None, part: str | None, *, is_counted: bool = True
    ) -> Entry:
        """Promise a verdict for a frame that is a trigger itself."""
        taken_ns = account.own_ns = stamp.captured_ns
        due_ns = _due(taken_ns, account)
        entry = Entry(stamp.camera, due_ns, part=part, trigger_ns=taken_ns, recipe=recipe)
        entry.trial = _trial(account, taken_ns)
        self._number_trigger(account, entry)
        self._attach(account, entry, stamp, is_counted=is_counted)
        self._enter(account, entry)
        return entry

    def _number_trigger(self, account: _Account, entry: Entry) -> None:
        account.counts.triggers += 1
        account.counts.triggers_pending += 1
        entry.trigger = str(account.counts.triggers)
        if entry.part is not None:
            account.counts.triggers_repeated += entry.part in account.parts
            account.parts.pop(entry.part, None)
            account.parts[entry.part] = None
            if len(account.parts) > PARTS_REMEMBERED:
                del account.parts[next(iter(account.parts))]

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

    def _end(self, account: _Account, entry: Entry, finding: Finding) -> None:
        self._book(account, entry)
        self._publish_verdict(account, entry, finding)
        self._publish_pending(account, entry)

    def _book(self, account: _Account, entry: Entry) -> None:
        self._leave(account, entry)
        if entry.trigger is not None:
            account.counts.triggers_pending -= 1
            account.counts.triggers_closed += 1
            if entry.stamp is None and entry in account.waiting:
                account.waiting.remove(entry)
        account.counts.in_flight -= entry.frames
        account.counts.judged += entry.frames

    def _close_account(self, account: _Account, detail: str) -> None:
        account.is_open = False
        for entry in sorted(account.open, key=_age):
            self._end(account, entry, fault(Reason.SHUTDOWN, detail))

    def _close_late(self, entry: Entry) -> None:
        account = self._accounts[entry.camera]
        reason, waited = Reason.DEADLINE, entry.lacks
        if entry.stamp is None:
            reason, waited = account.silent, "the trigger brought no picture"
        deadline_ms = (account.deadline_ns or 0) / 1e6
        self._end(account, entry, fault(reason, f"{waited} within {deadline_ms:g} ms"))

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
            recipe=entry.recipe.name if entry.recipe is not None else None,
            challenge=entry.trial.challenge if entry.trial is not None else None,
        )
        if entry.trial is not None:
            entry.trial.seq = counts.last_seq
        self._publish(entry.verdict)


def _due(began_ns: int, account: _Account) -> int | None:
    return None if account.deadline_ns is None else began_ns + account.deadline_ns


def _trial(account: _Account, began_ns: int) -> Trial | None:
    return account.trials.take(began_ns) if account.trials is not None else None


def _believed(account: _Account, entry: Entry, finding: Finding) -> Finding:
    """Return what is said: what was found, unless known parts say that nothing may be `ok`, or this is one of them."""
    if entry.trial is not None:
        return entry.trial.conclude(finding)
    if finding.outcome is not Outcome.OK or account.trials is None or (why := account.trials.why_not()) is None:
        return finding
    return replace(finding, outcome=Outcome.FAULT, reason=Reason.BYPASS, detail=why)


def _too_late(late_ns: int, window_ns: int) -> str:
    return (
        f"the first picture of it was taken {late_ns / 1e6:.0f} ms late, and {window_ns / 1e6:g} are allowed "
        "(trigger_window_ms): it may show another part"
    )


def _age(entry: Entry) -> int:
    if entry.stamp is not None:
        return entry.stamp.captured_ns
    return entry.trigger_ns or 0
