"""Who asks for a change, as the audit has it."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from inspectd.wire.messages import rfc3339
from inspectd.wire.results import AuditChange


class Asker(NamedTuple):
    """Who asks for a change, and why."""

    who: str | None
    """Name of the client's key."""
    by: str | None
    why: str | None


NOBODY = Asker(None, None, None)


def change_of(
    epoch: str, what: str, camera: str | None, asker: Asker = NOBODY, old: Any = None, new: Any = None
) -> AuditChange:
    """Return a change of this moment."""
    at = rfc3339(time.time_ns())
    return AuditChange(at=at, epoch=epoch, what=what, camera=camera, old=old, new=new, **asker._asdict())
