"""One verdict from several looks: what decides, and whose pictures are held and given back."""

from __future__ import annotations

import time
from itertools import product

import numpy as np
import pytest

from inspectd.config import LooksConfig
from inspectd.line.entries import Entry
from inspectd.line.ledger import Ledger
from inspectd.line.looks import Case
from inspectd.records import Finding, Frame, Outcome, Reason, Stamp, fault


class Held:
    """A case, and the frames that are held for it."""

    def __init__(self, best_of: int, ng_if: int) -> None:
        self.ledger = Ledger(lambda _: None)
        self.ledger.add_camera("top", 1000)
        entry = self.ledger.open_part(self.stamp(0), "p", is_first=True)
        assert entry is not None
        self.entry: Entry = entry
        self.case = Case(entry, LooksConfig(best_of=best_of, ng_if=ng_if))
        self.held: set[int] = set()

    @staticmethod
    def stamp(number: int) -> Stamp:
        return Stamp("top", number, time.monotonic_ns())

    def add(self, number: int, outcome: Outcome, score: float = 1.0) -> Finding | None:
        self.held.add(number)
        frame = Frame(self.stamp(number), np.zeros((4, 4), np.uint8), lambda: self.held.discard(number))
        finding = (
            fault(Reason.ENGINE, "broken") if outcome is Outcome.FAULT else Finding(outcome, score=score, threshold=1.0)
        )
        assert self.case.wants_more()
        decided = self.case.add(frame, finding)
        if decided is None:
            return None
        assert self.held <= {decided[1].stamp.frame}, "only the frame that decided is held still"
        decided[1].release()
        return decided[0]


OK, NG, FAULT = Outcome.OK, Outcome.NG, Outcome.FAULT


@pytest.mark.parametrize(
    ("looks", "ng_if", "says"),
    [
        ([OK], 1, OK),
        ([NG], 1, NG),
        ([FAULT], 1, FAULT),
        ([OK, OK, OK], 1, OK),
        ([OK, OK, NG], 1, NG),
        ([OK, NG, OK], 2, OK),
        ([NG, OK, NG], 2, NG),
        ([OK, OK], 2, OK),
        ([FAULT, OK, OK], 1, FAULT),
        ([FAULT, OK, OK], 2, OK),
        ([FAULT, NG, NG], 2, NG),
    ],
)
def test_the_verdict_is_out_as_soon_as_no_further_look_can_change_it(
    looks: list[Outcome], ng_if: int, says: Outcome
) -> None:
    one = Held(1 if len(looks) == 1 and ng_if == 1 and looks != [NG] else 3, ng_if)
    found = [one.add(number, outcome) for number, outcome in enumerate(looks, 1)]
    assert [finding for finding in found[:-1] if finding is not None] == []
    assert found[-1] is not None
    assert found[-1].outcome is says
    assert one.held == set()


@pytest.mark.parametrize("ng_if", [1, 2, 3])
def test_no_part_is_ok_that_fewer_looks_than_needed_found_good(ng_if: int) -> None:
    for looks in product((OK, NG, FAULT), repeat=3):
        one = Held(3, ng_if)
        for number, outcome in enumerate(looks, 1):
            finding = one.add(number, outcome)
            if finding is not None:
                if finding.outcome is OK:
                    assert looks[:number].count(OK) > 3 - ng_if
                if finding.outcome is NG:
                    assert looks[:number].count(NG) >= ng_if
                break
        else:
            pytest.fail(f"{looks} came to nothing")


def test_the_worst_look_that_agrees_is_the_verdicts() -> None:
    one = Held(3, 1)
    assert one.add(1, OK, 0.2) is None
    assert one.add(2, OK, 0.9) is None
    finding = one.add(3, OK, 0.4)
    assert finding is not None
    assert finding.score == 0.9


def test_a_part_that_leaves_after_too_few_looks_is_a_fault() -> None:
    one = Held(3, 1)
    assert one.add(1, OK) is None
    decided = one.case.end()
    assert decided is not None
    finding, frame = decided
    assert (finding.reason, finding.detail) == (
        Reason.DEADLINE,
        "only 1 of 3 looks were scored before the part was gone",
    )
    frame.release()
    assert one.held == set()
    assert not one.case.wants_more()


def test_looks_that_are_under_way_when_the_part_leaves_still_count() -> None:
    one = Held(2, 1)
    assert one.add(1, OK) is None
    assert one.case.wants_more()  # it is with the engine
    assert one.case.end() is None
    frame = Frame(one.stamp(2), np.zeros((4, 4), np.uint8), lambda: one.held.discard(2))
    decided = one.case.add(frame, Finding(OK, score=2.0, threshold=3.0))
    assert decided is not None
    assert (decided[0].outcome, decided[0].score) == (OK, 2.0)
    decided[1].release()
    assert one.held == set()


def test_what_is_held_is_given_back_when_the_deadline_was_first() -> None:
    one = Held(3, 1)
    assert one.add(1, OK) is None
    assert one.held == set(), "between looks a copy is enough"
    one.ledger.close(one.entry, fault(Reason.DEADLINE, "late"))
    one.case.drop()
    assert one.held == set()
    assert not one.case.wants_more()
