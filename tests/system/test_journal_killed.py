"""A publisher and its journal, killed at any moment: what was received is on the disk."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from inspectd.client import Subscription
from inspectd.history import reading
from inspectd.history.audit import find_break
from inspectd.history.database import JournalError

KILLS = 50
MOST_LOST_NS = 200_000_000
SPEAKER = """
import sys, time
from pathlib import Path
import zmq
from inspectd.history.file import Limits
from inspectd.history.journal import Journal
from inspectd.records import Finding, Outcome, Stamp, Verdict
from inspectd.wire.publisher import Publisher
from inspectd.wire.results import AuditChange

path, epoch, endpoint = sys.argv[1:]
journal = Journal(Path(path), epoch, Limits(30, 1e9))
journal.start()
publisher = Publisher(zmq.Context(), endpoint, "none", epoch)
publisher.bind()
publisher.start(None, keep=journal.put)
seq = 0
while True:
    for _ in range(10):
        seq += 1
        stamp = Stamp("top", seq, time.monotonic_ns())
        publisher.put(Verdict("top", seq, Finding(Outcome.OK, score=0.5, threshold=1.0), 0, stamp))
    if seq % 100 == 0:
        journal.note(AuditChange(at="", epoch=epoch, what="threshold", camera="top", new=seq))
    time.sleep(0.01)
"""


def test_killed_fifty_times_under_load_nothing_older_than_200_ms_is_missing(tmp_path: Path) -> None:
    path, endpoint = tmp_path / "journal.db", f"ipc://{tmp_path}/verdicts"
    draws = random.Random(1)
    received_in_all = 0
    for kill in range(KILLS):
        epoch = f"e{kill}"
        with Subscription(endpoint, "verdict/", high_water=0) as subscription:
            speaker = subprocess.Popen([sys.executable, "-c", SPEAKER, str(path), epoch, endpoint])
            try:
                first = subscription.receive(30)
                assert first is not None, "nothing was published"
                time.sleep(draws.uniform(0, 0.6))
            finally:
                killed_ns = time.monotonic_ns()
                speaker.kill()
                speaker.wait()
            received = [first.header]
            while (message := subscription.receive(0.05)) is not None:
                received.append(message.header)
        received_in_all += len(received)
        old = {one.seq for one in received if one.t.published < killed_ns - MOST_LOST_NS}
        try:
            headers, is_complete = reading.verdicts_after(path, "top", epoch, 0, 100_000, 10**9)
        except JournalError:
            assert not old, "it was killed before it had begun"
            continue
        assert is_complete
        rows = [msgspec.json.decode(one) for one in headers]
        assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
        assert old <= {row["seq"] for row in rows}
        changes, head = reading.all_changes(path)
        assert find_break(changes, head) is None
    assert received_in_all > 50 * KILLS
