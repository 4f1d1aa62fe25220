"""What whoever keeps watch may ask the daemon over HTTP: does it live, is it ready, are all parts inspected?"""

from __future__ import annotations

from inspectd.daemon.exporter import Probe
from inspectd.daemon.heartbeat import STALL_S, Heartbeat
from inspectd.daemon.status import Status


def probes_of(status: Status, heartbeat: Heartbeat) -> dict[str, Probe]:
    """Return them by path. Each answers its own question only: a lost camera does not make the daemon dead.

    `/healthz`: its vital threads get on, as the watchdog asks; restart it where they do not. `/readyz`: each camera
    judges or is known not to, as READY says. `/inspecting`: a part that passes any of its cameras now is inspected.
    """

    def lives() -> tuple[bool, str]:
        stalled = heartbeat.stalled(STALL_S)
        return not stalled, f"no progress for {STALL_S:g} s in: {', '.join(stalled)}" if stalled else "it gets on"

    def is_ready() -> tuple[bool, str]:
        return status.is_settled, status.sentence()

    return {"/healthz": lives, "/readyz": is_ready, "/inspecting": status.health}
