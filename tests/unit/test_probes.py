"""What the daemon answers whoever keeps watch: one question each."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from inspectd.daemon.heartbeat import STALL_S, Heartbeat
from inspectd.daemon.probes import probes_of
from inspectd.daemon.status import Status


def test_each_question_has_its_own_answer() -> None:
    now_s = [100.0]
    heartbeat = Heartbeat(lambda: now_s[0])
    beat = heartbeat.beat("publisher")
    heartbeat.beat("clock")
    state = SimpleNamespace(is_settled=False, sentence=lambda: "top starting", health=lambda: (False, "top starting"))
    probes = probes_of(cast("Status", state), heartbeat)

    def answers() -> dict[str, bool]:
        return {path: probe()[0] for path, probe in probes.items()}

    assert answers() == {"/healthz": True, "/readyz": False, "/inspecting": False}
    state.is_settled = True
    assert answers() == {"/healthz": True, "/readyz": True, "/inspecting": False}, "a lost camera, for instance"
    now_s[0] += STALL_S + 1
    beat()
    assert probes["/healthz"]() == (False, "no progress for 20 s in: clock")
    assert answers()["/readyz"]
