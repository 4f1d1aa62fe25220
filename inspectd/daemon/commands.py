"""What the control socket can be asked for: tables from request to handler.

Every handler runs on the control socket's thread, and must not keep it: what takes longer is done by a worker. One
makes changes, which may take as long as a model is loaded; another answers from the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec

from inspectd.daemon.bypasses import Bypasses
from inspectd.daemon.changes import Changes
from inspectd.daemon.pictures import Budget, Pictures
from inspectd.daemon.triggers import Triggers
from inspectd.daemon.worker import Reply, Worker
from inspectd.history import reading
from inspectd.history.database import JournalError
from inspectd.history.journal import Journal
from inspectd.wire.control import Answer
from inspectd.wire.requests import (
    AuditRequest,
    BypassRequest,
    CaptureRequest,
    ChallengeRequest,
    MarkRequest,
    ModelRequest,
    RecipeRequest,
    RefusedError,
    ReloadRequest,
    Request,
    RevertRequest,
    SnapshotRequest,
    StatusRequest,
    ThresholdRequest,
    TriggerRequest,
    VerdictsRequest,
    brief,
)

FLUSH_S = 5.0
MOST_BYTES = 4_000_000
"""Of the headers in one answer."""

Handlers = Mapping[type[Request], Callable[[Any, Answer], None]]
"""By the type of a request, who answers it; RefusedError is an answer, too."""


class StatusSource(Protocol):
    """Who can say how things are."""

    def report(self) -> dict[str, Any]:
        """The daemon's state with the states of all cameras."""


class Commands:
    """Answers the requests of one daemon."""

    def __init__(self, cameras: Collection[str], *tables: Handlers) -> None:
        """`cameras`: the names of those that are inspected; they may change."""
        self._cameras = cameras
        self._handlers = {kind: handler for table in tables for kind, handler in table.items()}

    def handle(self, request: Request, answer: Answer) -> None:
        """Answer a request, at once or later; RefusedError says why it is not done."""
        camera = getattr(request, "camera", None)
        if camera is not None and camera not in self._cameras:
            names = ", ".join(self._cameras)
            raise RefusedError("unknown_camera", f"There is no camera {brief(camera)}; there are: {names}.")
        self._handlers[type(request)](request, answer)


def telling(status: StatusSource) -> Handlers:
    """How things are."""

    def report(_request: StatusRequest, answer: Answer) -> None:
        answer.reply(status.report())

    return {StatusRequest: report}


def showing(pictures: Pictures) -> Handlers:
    """What cameras see."""
    return {CaptureRequest: pictures.capture, SnapshotRequest: pictures.snapshot}


def triggering(triggers: Triggers) -> Handlers:
    """That a part is there."""
    return {TriggerRequest: triggers.trigger}


def challenging(ask: Callable[[ChallengeRequest, Answer], None]) -> Handlers:
    """That the next part is a known one."""
    return {ChallengeRequest: ask}


def remembering(journal: Journal, epoch: str, budget: Budget, worker: Worker) -> Handlers:
    """What the journal holds."""

    def flushed() -> Path:
        journal.flush(FLUSH_S)
        if journal.path is None:
            raise JournalError("No journal is kept: journal.path is null.")
        return journal.path

    def verdicts(request: VerdictsRequest, answer: Answer) -> None:
        def find() -> Reply:
            wanted = request.epoch or epoch
            headers, is_complete = reading.verdicts_after(
                flushed(), request.camera, wanted, request.after, request.limit, MOST_BYTES
            )
            budget.spend(sum(map(len, headers)))
            found = [msgspec.Raw(header) for header in headers]
            return Reply({"epoch": wanted, "verdicts": found, "is_complete": is_complete})

        budget.check()
        worker.answer(answer, find)

    def audit(request: AuditRequest, answer: Answer) -> None:
        def find() -> Reply:
            rows, is_complete = reading.changes_after(flushed(), request.after, request.limit, MOST_BYTES)
            budget.spend(sum(len(row.change) for row in rows))
            found = [{"n": row.n, "change": msgspec.Raw(row.change.encode()), "hash": row.hash} for row in rows]
            return Reply({"rows": found, "is_complete": is_complete})

        budget.check()
        worker.answer(answer, find)

    return {VerdictsRequest: verdicts, AuditRequest: audit}


def changing(
    changes: Changes,
    bypasses: Bypasses,
    worker: Worker,
    prompt: Worker,
    marking: Worker,
    reload: Callable[[str | None], Reply],
) -> Handlers:
    """What is changed while the line runs, and what people say of parts.

    `prompt`: a worker that never waits for a model to be loaded, nor for the archive, as `marking` does.
    """

    def model(request: ModelRequest, answer: Answer) -> None:
        worker.answer(answer, lambda: changes.model(request, answer.user), changes.give_up_unused)

    def threshold(request: ThresholdRequest, answer: Answer) -> None:
        worker.answer(answer, lambda: changes.threshold(request, answer.user))

    def revert(request: RevertRequest, answer: Answer) -> None:
        worker.answer(answer, lambda: changes.revert(request, answer.user), changes.give_up_unused)

    def recipe(request: RecipeRequest, answer: Answer) -> None:
        prompt.answer(answer, lambda: changes.recipe(request, answer.user))

    def bypass(request: BypassRequest, answer: Answer) -> None:
        number = bypasses.number(request.camera)
        if request.seconds == 0:
            answer.reply(*bypasses.end(request, answer.user))
        else:
            prompt.answer(answer, lambda: bypasses.begin(request, answer.user, number))

    def mark(request: MarkRequest, answer: Answer) -> None:
        marking.answer(answer, lambda: changes.mark(request, answer.user))

    def read_again(_request: ReloadRequest, answer: Answer) -> None:
        worker.answer(answer, lambda: reload(answer.user), changes.give_up_unused)

    return {
        ModelRequest: model,
        ThresholdRequest: threshold,
        RevertRequest: revert,
        RecipeRequest: recipe,
        BypassRequest: bypass,
        MarkRequest: mark,
        ReloadRequest: read_again,
    }
