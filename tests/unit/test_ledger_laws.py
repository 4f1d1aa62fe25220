"""The ledger's laws under random arrivals, deadlines, engine stalls and shutdowns (hypothesis)."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from inspectd.line.entries import Entry
from inspectd.line.ledger import Ledger
from inspectd.records import Finding, Outcome, Reason, Stamp, Verdict, fault

MS = 1_000_000
CAMERAS = ("stream", "every", "trigger", "file")
FINDINGS = (
    Finding(Outcome.OK, score=0.1, threshold=1.0),
    Finding(Outcome.NG, score=2.0, threshold=1.0),
    fault(Reason.ENGINE, "the engine said so"),
)


class Line(RuleBasedStateMachine):
    """A daemon's life, event by event. The engine holds entries and may close them whenever it likes, or never."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = 10**9
        self.said: list[Verdict] = []
        self.ledger = Ledger(self.said.append, lambda: self.now_ns)
        self.engine: list[Entry] = []
        self.owed: dict[int, Entry] = {}  # promises that were made, by identity
        self.displaced: set[int] = set()
        self.frames = dict.fromkeys(CAMERAS, 0)
        self.triggers = 0
        self.is_shut = False

    @initialize(deadline_ms=st.integers(1, 500), delay_ms=st.integers(0, 50))
    def open_shop(self, deadline_ms: int, delay_ms: int) -> None:
        for name in CAMERAS:
            self.ledger.add_camera(name, None if name == "file" else deadline_ms, delay_ms)

    def next_stamp(self, camera: str, age_ms: int) -> Stamp:
        self.frames[camera] += 1
        return Stamp(camera, self.frames[camera], self.now_ns - age_ms * MS)

    def promise(self, entry: Entry | None) -> None:
        assert (entry is None) == self.is_shut
        if entry is not None:
            self.owed[id(entry)] = entry

    @rule(camera=st.sampled_from(("stream", "every", "file")), age_ms=st.integers(0, 600))
    def frame_arrives(self, camera: str, age_ms: int) -> None:
        entry = self.ledger.open_frame(self.next_stamp(camera, age_ms))
        self.promise(entry)
        if entry is not None:
            self.engine.append(entry)

    @rule()
    def trigger_arrives(self) -> None:
        self.triggers += 1
        self.promise(self.ledger.open_trigger("trigger", f"part-{self.triggers}"))

    @rule(age_ms=st.integers(-20, 100))
    def frame_for_triggers_arrives(self, age_ms: int) -> None:
        entry = self.ledger.match(self.next_stamp("trigger", age_ms))
        if entry is not None:
            assert entry.is_open
            assert entry not in self.engine, "one trigger got two frames"
            self.engine.append(entry)

    @precondition(lambda self: self.engine)
    @rule(data=st.data(), finding=st.sampled_from(FINDINGS), keeps=st.booleans())
    def engine_answers(self, data: st.DataObject, finding: Finding, keeps: bool) -> None:
        """Also late, and also twice."""
        entry = data.draw(st.sampled_from(self.engine))
        was_open = entry.is_open
        is_overdue = entry.deadline_ns is not None and entry.deadline_ns <= self.now_ns
        is_in_time = was_open and (finding.outcome is Outcome.FAULT or not is_overdue)
        assert self.ledger.close(entry, finding) == is_in_time
        assert not entry.is_open
        if not keeps:
            self.engine.remove(entry)

    @rule(ms=st.integers(0, 700))
    def time_passes_unnoticed(self, ms: int) -> None:
        """The clock's thread is not woken."""
        self.now_ns += ms * MS

    @precondition(lambda self: any(e.trigger is None for e in self.engine))
    @rule(data=st.data())
    def a_newer_frame_displaces(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from([e for e in self.engine if e.trigger is None]))
        self.engine.remove(entry)
        if self.ledger.displace(entry):
            self.displaced.add(id(entry))

    @rule(camera=st.sampled_from(CAMERAS))
    def camera_goes_away(self, camera: str) -> None:
        self.ledger.publish_fault(camera, fault(Reason.CAMERA_LOST, "unplugged"))

    @rule(ms=st.integers(0, 700))
    def time_passes(self, ms: int) -> None:
        self.now_ns += ms * MS
        due_ns = self.ledger.expire()
        assert due_ns is None or due_ns > self.now_ns
        for entry in self.owed.values():
            if entry.deadline_ns is not None and entry.deadline_ns <= self.now_ns:
                assert not entry.is_open, "a deadline passed without a verdict"

    @rule()
    def shutdown(self) -> None:
        self.ledger.shutdown("stopping")
        self.is_shut = True
        assert not any(entry.is_open for entry in self.owed.values())

    @invariant()
    def the_laws_hold(self) -> None:
        for camera in self.ledger.cameras:
            counts = self.ledger.counts(camera)
            assert counts.broken_law() is None
            mine = [v for v in self.said if v.camera == camera]
            assert [v.seq for v in mine] == list(range(1, len(mine) + 1))
            for outcome in Outcome:
                assert counts.outcomes[outcome] == sum(v.finding.outcome is outcome for v in mine)

    @invariant()
    def every_promise_is_kept_once(self) -> None:
        """Each closed promise was published exactly once, or displaced; no open one was."""
        frames = [(v.camera, v.stamp.frame) for v in self.said if v.stamp is not None]
        assert len(frames) == len(set(frames))
        triggers = [v.trigger for v in self.said if v.trigger is not None]
        assert len(triggers) == len(set(triggers))
        for key, entry in self.owed.items():
            if entry.trigger is not None:
                was_said = entry.trigger in triggers
            else:
                assert entry.stamp is not None
                was_said = (entry.camera, entry.stamp.frame) in frames
            assert was_said == (not entry.is_open and key not in self.displaced)

    def teardown(self) -> None:
        self.shutdown()
        self.the_laws_hold()
        self.every_promise_is_kept_once()


Line.TestCase.settings = settings(max_examples=300, stateful_step_count=60, deadline=None)
TestLedgerLaws = Line.TestCase
