"""Known parts that are shown to the running daemon: what comes of them, what is kept of that, and what it means."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from inspectd.config import CameraConfig
from inspectd.daemon.asking import NOBODY, Asker, change_of
from inspectd.daemon.rejudging import Rejudging
from inspectd.daemon.roster import Roster
from inspectd.daemon.worker import Worker
from inspectd.errors import InspectdError, UsageError
from inspectd.history import pictures
from inspectd.history.archive import Archive
from inspectd.history.challenged import CameraChallenges, Challenged, ToldPart, UntoldPart
from inspectd.history.journal import Journal
from inspectd.line.challenges import Challenges, Trial, limits_of
from inspectd.line.recipe import Recipe
from inspectd.logs import EVIDENCE, about
from inspectd.records import Challenge, Known
from inspectd.wire.control import Answer
from inspectd.wire.messages import ChallengesMessage, VerdictMessage, rfc3339
from inspectd.wire.requests import ChallengeRequest, RefusedError
from inspectd.wire.results import ChallengeResult, RejudgedMessage

LOG = logging.getLogger(__name__)

FIELD = b'"challenge":'
VERDICT_S = 5.0
"""Beyond its deadline a verdict does not stay away so long."""
AGAIN_S, SAY_EVERY_S = 5.0, 60.0
"""What could not be kept is tried again so often, and said so often."""
FLUSH_S, PICTURE_S, LOOK_S, STOP_S = 5.0, 1.0, 0.05, 2.0


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """A part that somebody shows."""

    request: ChallengeRequest
    answer: Answer
    challenges: Challenges
    trial: Trial
    deadline_s: float


class Challenging:
    """Owns what is known of all cameras' challenges. `ask` is called on the control socket's thread."""

    def __init__(
        self,
        cameras: Callable[[], Roster],
        kept: Challenged,
        journal: Journal,
        archive: Archive,
        rejudging: Rejudging,
        epoch: str,
    ) -> None:
        """`cameras`: they are made with what is known here."""
        self._cameras = cameras
        self._kept = kept
        self._journal = journal
        self._archive = archive
        self._rejudging = rejudging
        self._epoch = epoch
        self._of: dict[str, Challenges] = {}
        self._asked: dict[str, _Asked] = {}
        self._lock = threading.Lock()
        self._keeping, self._telling = Worker("known parts"), Worker("known parts' pictures")
        """What was told is kept at once; who asked may have to wait for the archive and the engine."""
        self._keeping_now = threading.Lock()
        self._is_kept = True
        self._again: threading.Timer | None = None
        self._say_s = 0.0
        self._is_stopped = False
        self.trouble: str | None = None
        """Why what became of known parts would be forgotten at a restart; None: it would not."""

    def start(self) -> None:
        """Begin to keep, and to answer."""
        self._keeping.start()
        self._telling.start()

    def stop(self) -> None:
        """End, when no verdict can come any more; what is known then is kept."""
        self._is_stopped = True
        if self._again is not None:
            self._again.cancel()
        self._telling.stop()
        self._keeping.stop()
        last = threading.Thread(target=self._keep, daemon=True)  # on a disk that hangs it is not waited for
        last.start()
        last.join(STOP_S)

    def of(self, config: CameraConfig) -> Challenges:
        """Return what a camera is asked for, and how it did, however often it is opened anew."""
        found, limits = self._of.get(config.name), limits_of(config.challenge)
        if found is not None:
            found.limit(limits)
            return found
        found = self._of[config.name] = Challenges(config.name, limits)
        kept = self._kept.of(config.name)
        for told in kept.told:
            found.recall(Challenge(told.known), told.at_s, None)
        for untold in kept.untold:
            found.recall(Challenge(untold.known, untold.part), untold.at_s, untold.figures)
        return found

    def ask(self, request: ChallengeRequest, answer: Answer) -> None:
        """Have the next part taken for a known one; the answer comes when it was judged."""
        camera = self._cameras().find(request.camera)
        if request.cancel:
            self._cancel(camera.name)
            answer.reply(None)
            return
        with self._lock:
            if camera.name in self._asked:
                raise RefusedError("busy", f"Camera {camera.name} is being shown a known part already.")
            try:
                trial = camera.challenges.trial(Challenge(Known(request.say), request.part, request.study))
                is_told = camera.config.mode == "trigger" and camera.config.triggered_by == "command"
                if not is_told or request.next:
                    camera.challenges.expect(trial)
            except UsageError as error:
                raise RefusedError("busy", str(error)) from None
            deadline_s = camera.config.deadline_ms / 1000
            asked = self._asked[camera.name] = _Asked(request, answer, camera.challenges, trial, deadline_s)
        try:
            if is_told and not request.next:
                camera.trigger(request.part, camera.products.chosen, trial)
        except UsageError as error:
            self._forget(camera.name, asked)
            raise RefusedError("bad_value", str(error)) from None
        answer.later(request.within_s, partial(self._give_up, camera.name, asked))

    def _cancel(self, camera: str) -> None:
        """Expect no known part at a camera any more; one that has come is judged as such."""
        with self._lock:
            asked = self._asked.get(camera)
        if asked is not None and asked.challenges.give_up(asked.trial) and self._forget(camera, asked):
            asked.answer.refuse("cancelled", f"The {asked.trial.challenge} is not shown any more; nothing was changed.")

    def _give_up(self, camera: str, asked: _Asked) -> None:
        if asked.challenges.give_up(asked.trial):
            self._refuse(camera, asked)
        else:  # it has come, and its verdict is near, unless it gave way to a newer picture just now
            asked.answer.later(asked.deadline_s + VERDICT_S, partial(self._refuse, camera, asked))

    def _refuse(self, camera: str, asked: _Asked) -> None:
        if self._forget(camera, asked):  # else its verdict was heard, and the answer is on its way
            within_s = asked.request.within_s
            raise RefusedError(
                "timeout", f"No part came to camera {camera} within {within_s:g} s; nothing was changed."
            )

    def _forget(self, camera: str, asked: _Asked) -> bool:
        """Wait for this part no more; False: nobody did."""
        with self._lock:
            if self._asked.get(camera) is not asked:
                return False
            del self._asked[camera]
            return True

    def heard(self, camera: str, seq: int, header: bytes) -> None:
        """Note what is published. From the publisher's thread."""
        if FIELD not in header:
            return
        self._is_kept = False
        self._keeping.do(self._keep)
        running = self._cameras().get(camera)
        if running is not None:
            running.on_state()
        with self._lock:
            asked = self._asked.get(camera)
            if asked is not None and asked.trial.seq == seq:
                del self._asked[camera]
            else:  # nobody waits for it any more; what follows from it follows all the same
                asked = None
        verdict = msgspec.json.decode(header, type=VerdictMessage)
        self._note(asked, verdict)
        if asked is not None:
            recipe = running.products.recipes.get(verdict.recipe) if running is not None else None
            self._telling.do(lambda: self._conclude(asked, verdict, header, recipe))

    def _keep(self) -> None:
        """Keep what is known of all cameras; where that fails it is tried again."""
        with self._keeping_now:
            if self._is_kept:
                return
            self._is_kept = True
            try:
                for name, challenges in tuple(self._of.items()):
                    self._kept.put(name, kept_of(challenges))
                self.trouble = None
            except InspectdError as error:
                self._is_kept = False
                self.trouble = f"What became of known parts would be forgotten at a restart: {error}"
                self._try_again()

    def _try_again(self) -> None:
        if (now_s := time.monotonic()) >= self._say_s:
            self._say_s = now_s + SAY_EVERY_S
            LOG.error("%s", self.trouble, extra=EVIDENCE)
        if self._again is not None:
            self._again.cancel()
        if not self._is_stopped:
            self._again = threading.Timer(AGAIN_S, partial(self._keeping.do, self._keep))
            self._again.daemon = True
            self._again.start()

    def _note(self, asked: _Asked | None, verdict: VerdictMessage) -> None:
        """Write it into the audit, soon."""
        challenge = verdict.challenge
        assert challenge is not None
        new = {
            "known": challenge.known,
            "part": challenge.part,
            "passed": asked.trial.passed if asked is not None else None,
            "seq": verdict.seq,
            "verdict": verdict.verdict,
            "score": verdict.score,
            "threshold": verdict.threshold,
            "model": verdict.model,
        }
        asker = NOBODY
        if asked is not None:
            asker = Asker(asked.answer.user, asked.request.by, asked.request.why)
        what = "study" if challenge.study else "challenge"
        self._journal.note(change_of(self._epoch, what, verdict.camera, asker, new=new))

    def _conclude(self, asked: _Asked, verdict: VerdictMessage, header: bytes, recipe: object) -> None:
        trial, detail = asked.trial, _detail(asked, verdict)
        picture, rejudged = None, None
        self._keep()  # what is answered is kept, and in the audit, if that can be
        try:
            if self._journal.path is not None:
                self._journal.flush(FLUSH_S)
        except InspectdError as error:
            LOG.error("camera %s: a known part is not in the audit yet: %s", verdict.camera, error)
        try:
            picture = self._picture(verdict, header)
            if picture is not None and isinstance(recipe, Recipe) and not trial.challenge.is_study:
                rejudged = self._rejudge(picture, trial.challenge, recipe)
        except Exception:  # whatever it is, what came of the part is told
            LOG.exception("the pictures of a known part were not looked at")
        if not trial.challenge.is_study:
            LOG.log(
                logging.INFO if trial.passed else logging.ERROR,
                "camera %s: %s%s",
                verdict.camera,
                detail,
                f" {rejudged.detail}" if rejudged is not None else "",
                extra={**about(camera=verdict.camera), **EVIDENCE},
            )
        path = str(picture) if picture is not None else None
        result = ChallengeResult(passed=trial.passed, verdict=verdict, picture=path, rejudged=rejudged, detail=detail)
        asked.answer.soon(lambda: asked.answer.reply(msgspec.to_builtins(result)))

    def _picture(self, verdict: VerdictMessage, header: bytes) -> Path | None:
        """Return the part's picture, when it is written; None: it cannot be kept."""
        name, folder = pictures.name_of(header), self._archive.folder
        if name is None or folder is None:
            return None
        give_up_s = time.monotonic() + PICTURE_S
        while True:
            try:
                self._archive.flush()
            except InspectdError:
                return None
            found = pictures.find(folder, verdict.camera, name)
            if found is not None or time.monotonic() >= give_up_s:
                return found
            time.sleep(LOOK_S)  # its verdict may be published before it is offered

    def _rejudge(self, picture: Path, challenge: Challenge, recipe: Recipe) -> RejudgedMessage | None:
        folder = self._archive.folder
        assert folder is not None
        now = pictures.read(picture)
        then = self._rejudging.told_before(folder, now, challenge)
        return self._rejudging.rejudge(now, then, recipe) if then is not None else None


def kept_of(challenges: Challenges) -> CameraChallenges:
    """Return what is to be known of a camera after a restart."""
    return CameraChallenges(
        tuple(ToldPart(known, at_s) for known, at_s in challenges.told_at_s.items()),
        tuple(UntoldPart(one.known, one.part, how.at_s, how.figures) for one, how in challenges.failed.items()),
    )


def message_of(challenges: Challenges) -> ChallengesMessage | None:
    """Return how a camera did with known parts; None: none was shown, and none need be."""
    due_in_s, told_at_s = challenges.due_in_s(), challenges.told_at_s
    if due_in_s is None and not told_at_s and not challenges.has_failed:
        return None
    return ChallengesMessage(
        why_not=challenges.why_not(),
        due_in_s=None if due_in_s is None else max(0.0, round(due_in_s, 1)),
        told={str(known): rfc3339(round(at_s * 1e9)) for known, at_s in told_at_s.items()},
    )


def _detail(asked: _Asked, verdict: VerdictMessage) -> str:
    challenge, passed = asked.trial.challenge, asked.trial.passed
    if passed is None:
        return (
            f"The {challenge} was not judged ({verdict.reason}: {verdict.detail}); nothing was changed, show it again."
        )
    figures = f"score {verdict.score:.4g}, threshold {verdict.threshold:.4g}"
    if not passed:
        what = "not found" if challenge.known is Known.BAD else "rejected"
        follows = "" if challenge.is_study else " Nothing is passed until it is told."
        return f"The {challenge} was {what} ({figures}).{follows}"
    what = "found" if challenge.known is Known.BAD else "accepted"
    why_not = asked.challenges.why_not()
    return f"The {challenge} was {what} ({figures})." + (f" Still nothing is passed: {why_not}." if why_not else "")
