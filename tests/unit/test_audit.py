"""The audit's chain: whole, or broken in a way that is told."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from inspectd.history.audit import FIRST, Head, Row, find_break, next_row
from inspectd.wire.results import AuditChange


def change(what: str, value: float = 0.0) -> AuditChange:
    return AuditChange(at="2026-01-01T00:00:00.000000Z", epoch="e1", what=what, camera="top", new=value, who="plc7")


ROWS = []
_head = FIRST
for _value in range(6):
    ROWS.append(next_row(_head, change("threshold", _value)))
    _head = Head(ROWS[-1].n, ROWS[-1].hash)
NOTED = _head


def test_a_whole_chain_is_whole() -> None:
    assert find_break(ROWS, NOTED) is None
    assert find_break([], FIRST) is None


@given(st.data())
def test_any_change_removal_or_reordering_is_found(data: st.DataObject) -> None:
    rows = list(ROWS)
    at = data.draw(st.integers(0, len(rows) - 1))
    match data.draw(st.sampled_from(["change", "hash", "remove", "swap", "renumber", "twice"])):
        case "change":
            place = data.draw(st.integers(0, len(rows[at].change) - 1))
            other = "x" if rows[at].change[place] != "x" else "y"
            rows[at] = rows[at]._replace(change=rows[at].change[:place] + other + rows[at].change[place + 1 :])
        case "hash":
            rows[at] = rows[at]._replace(hash=rows[at - 1].hash)
        case "remove":
            del rows[at]
        case "swap":
            other_at = data.draw(st.integers(0, len(rows) - 1).filter(lambda one: one != at))
            one, other_row = rows[at], rows[other_at]
            rows[at], rows[other_at] = other_row._replace(n=one.n), one._replace(n=other_row.n)
        case "renumber":
            del rows[at]
            rows = [row._replace(n=n) for n, row in enumerate(rows, 1)]
        case "twice":
            rows.insert(at, rows[at])
    assert find_break(rows, NOTED) is not None


def test_a_chain_that_was_written_anew_has_another_head() -> None:
    head, forged = FIRST, []
    for value in range(6):
        forged.append(next_row(head, change("threshold", value + 1)))
        head = Head(forged[-1].n, forged[-1].hash)
    assert find_break(forged, head) is None
    assert (
        find_break(forged, NOTED)
        == "Row 6 is the last, and its hash is not the one that was noted when it was written."
    )
    assert find_break(ROWS[:4], NOTED) == "The last 2 rows are missing: row 6 was written, and row 4 is the last."
    assert find_break([ROWS[0], *ROWS[3:]], NOTED) == "Row 2 to 3 is missing."


def test_a_row_is_what_anybody_can_compute() -> None:
    first, second = ROWS[:2]
    assert first == Row(1, first.change, hashlib.sha256(b"0" * 64 + first.change.encode()).hexdigest())
    assert second.hash == hashlib.sha256((first.hash + second.change).encode()).hexdigest()
