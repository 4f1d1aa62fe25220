"""A hundred thousand triggers on four cameras with everything that goes wrong; and would it be seen?"""

from __future__ import annotations

import pytest
from storm import Storm

from inspectd.line.ledger import Ledger
from inspectd.records import Reason


def test_each_of_a_hundred_thousand_triggers_has_the_verdict_of_its_own_part_or_the_right_reason() -> None:
    storm = Storm(seed=0)
    storm.run(100_000)
    storm.check_end()
    assert storm.asked == sum(storm.outcomes.values()) >= 100_000
    rare = {name: storm.outcomes[name] for name in ("ok", "ng", *(reason.value for reason in Reason))}
    never = {"identity", "no_threshold", "shutdown"}
    assert {name for name, count in rare.items() if count < 100} == never, "everything else was met often enough"


def test_a_ledger_that_forgets_the_next_part_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    match = Ledger.match

    def forgetful(self: Ledger, *arguments: object, **more: object) -> object:
        for account in self._accounts.values():
            for entry in account.waiting:
                entry.next_trigger_ns = None
        return match(self, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Ledger, "match", forgetful)
    with pytest.raises(AssertionError):
        Storm(seed=0).run(3_000)
