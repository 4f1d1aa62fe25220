"""Parts that pass freely: each owes one verdict, whoever noticed it. An admission, beside those of `admission.py`."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime

from inspectd.cameras.protocol import Opened
from inspectd.config import LooksConfig
from inspectd.line.entries import Entry, Judged
from inspectd.line.ledger import Ledger
from inspectd.line.looks import Case, Owed
from inspectd.line.passing import BRIEF, Look, Missed, Passing
from inspectd.line.placing import Placing
from inspectd.line.recipe import NoRecipe, Recipe
from inspectd.model.presence import LARGEST_GAIN, Presence, Sight
from inspectd.records import Finding, Frame, Reason, Rect, Stamp, fault

UNPACED_NS = 33_333_333
"""From picture to picture of a video that is read as fast as it is used."""
BLIND_NS = 1_000_000_000
"""So long the place may look as it never did before it is said that nothing can be told."""
SHORTEST_GAP_NS = 250_000_000
"""What is shorter is the camera's, or this machine's, usual unrest."""
FEWEST_PERIODS, MOST_PERIODS = 5, 30
"""Between pictures, of which the usual one is known."""
UNSEEN = "a part may have passed unseen"
UNWATCHED = "no picture was looked at yet; parts are noticed from the first one on"


class Parts:
    """A part owes a verdict from the first picture that shows all of it; frames without one are for nobody.

    What passes and cannot be inspected is a fault. So is, once, whatever keeps parts from being noticed. Called from
    the camera's thread.
    """

    def __init__(self, camera: str, ledger: Ledger, looks: LooksConfig, *, is_paced: bool) -> None:
        """`is_paced`: pictures come when they are taken; else as fast as they are used, and only their numbers say how
        far apart they are.
        """
        self._is_paced = is_paced
        self._camera = camera
        self._ledger = ledger
        self._looks = looks
        self._known: Presence | None = None
        self._tracker: Passing | Placing | None = None
        self._cases: dict[int, Case] = {}
        """Of parts whose verdict is not out, by their numbers."""
        self._last = 0
        """Number of the last part."""
        self._unseen = 0
        """Pictures in a row in which nothing could be looked for."""
        self._blind_since_ns: int | None = None
        self._taken_ns = 0
        self._periods_ns: deque[int] = deque(maxlen=MOST_PERIODS)
        self._began = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        self.trouble: str | None = UNWATCHED
        """Why no part would be noticed at present."""

    def admit(self, frame: Frame, recipe: Judged) -> Sequence[Owed]:
        """Return the parts of a picture that are owed a look, each cut out and held."""
        stamp, known = frame.stamp, self._presence(recipe)
        if known is None or (known.picture != frame.picture.shape[1::-1]):
            self._ledger.pass_by(stamp)
            self._say(self._why_unknown(recipe, known))
            self._lose_sight()
            return ()
        assert isinstance(recipe, Recipe)
        tracker = self._tracking(known)
        gap = self._why_unseen(known, stamp)
        sight = known.sight(frame.picture, recipe.areas[0].model.white_level)
        self._say(gap or self._why_blind(known, sight, stamp.captured_ns))
        at_ns = stamp.captured_ns if self._is_paced else stamp.frame * UNPACED_NS
        owed: list[Owed] = []
        is_counted = False
        for event in tracker.look(sight, at_ns):
            if isinstance(event, Missed):
                why = fault(Reason.PICTURE, event.why, model=recipe.label)
                self._ledger.miss_part(self._camera, self._id(event.part), stamp.captured_ns, recipe, why)
            elif (case := self._asked(event, stamp, recipe, is_first=not is_counted)) is not None:
                is_counted = True
                if case.wants_more():
                    owed.append(Owed(case.entry, frame.cut(self._around(case, known, event)), case))
        self._last = tracker.last
        self._end_what_left(tracker)
        if not is_counted:
            self._ledger.pass_by(stamp)
        return owed

    def admit_unseen(self, stamp: Stamp, recipe: Judged) -> Entry | None:
        """Count a frame in which nothing could be looked for; several of them in a row may have shown a part."""
        self._ledger.pass_by(stamp)
        known = self._presence(recipe)
        self._unseen += 1
        if known is not None and self._unseen >= _longest_gap(known):
            self._say(fault(Reason.PICTURE, f"{self._unseen} pictures in a row could not be looked at; {UNSEEN}"))
            self._lose_sight()
        self._forget_closed()
        return None

    def give_way(self, entry: Entry) -> None:
        """Close the part as `fault: overload`."""
        why = "parts come faster than their pictures can be inspected; this one was not"
        self._ledger.close(entry, fault(Reason.OVERLOAD, why))

    def gone(self, camera: str, finding: Finding) -> None:
        """Say once that parts pass unseen. What is in front of the camera when it is back is taken for new."""
        for case in self._cases.values():
            if self._looks.best_of > 1:  # no more looks will come
                self._ledger.close(case.entry, finding)
        self._lose_sight()
        self._periods_ns.clear()
        self._ledger.publish_fault(camera, finding)

    def opened(self, opened: Opened) -> None:
        """Take what is in front of the camera for new: nobody saw what happened before."""
        self._lose_sight()
        self._periods_ns.clear()
        self.trouble = self.trouble or UNWATCHED

    def _presence(self, recipe: Judged) -> Presence | None:
        return recipe.presence if isinstance(recipe, Recipe) else None

    def _tracking(self, known: Presence) -> Passing | Placing:
        if self._tracker is not None and self._known is known:
            return self._tracker
        before, old = self._tracker, self._known
        is_alike = old is not None and (old.picture, old.window, old.step) == (known.picture, known.window, known.step)
        new: Passing | Placing
        if known.comes_from is None:
            new = Placing(known, self._last)
            if isinstance(before, Placing) and is_alike:
                new.take_over(before)
        else:
            new = Passing(known, self._last)
            if isinstance(before, Passing) and is_alike and old is not None and old.comes_from == known.comes_from:
                new.take_over(before)
        self._known, self._tracker = known, new
        return new

    def _asked(self, look: Look, stamp: Stamp, recipe: Recipe, *, is_first: bool) -> Case | None:
        """Return the case of a part, for which the frame is counted then; None: it has enough looks."""
        if look.part > self._last:
            self._last = look.part
            entry = self._ledger.open_part(stamp, self._id(look.part), recipe, is_first=is_first)
            if entry is None:
                return None
            case = self._cases[look.part] = Case(entry, self._looks)
            return case
        found = self._cases.get(look.part)
        if found is None or not found.is_wanting:
            return None
        return found if self._ledger.look_again(found.entry, stamp, is_first=is_first) else None

    def _around(self, case: Case, known: Presence, look: Look) -> Rect:
        """Return what is cut out: as the recipe that judges the part has it, whatever was chosen meanwhile."""
        judging = case.entry.recipe
        own = judging.presence if isinstance(judging, Recipe) else None
        return (own if own is not None and own.window == known.window else known).around(look.thing)

    def _end_what_left(self, tracker: Passing | Placing) -> None:
        present = tracker.present
        for number, case in self._cases.items():
            if number not in present and (decided := case.end()) is not None:
                finding, frame = decided
                self._ledger.close(case.entry, finding, frame.stamp)
                frame.release()
        self._forget_closed()

    def _forget_closed(self) -> None:
        for number, case in tuple(self._cases.items()):
            if not case.entry.is_open:
                case.drop()
                del self._cases[number]

    def _id(self, number: int) -> str:
        return f"{self._began}-{number}"

    # What keeps parts from being noticed

    def _say(self, finding: Finding | None) -> None:
        why = finding.detail if finding is not None else None
        is_new = why is not None and self.trouble in (None, UNWATCHED)
        self.trouble = why
        if is_new and finding is not None:
            self._ledger.publish_fault(self._camera, finding)

    def _why_unknown(self, recipe: Judged, known: Presence | None) -> Finding:
        if isinstance(recipe, NoRecipe):
            return fault(Reason.NO_MODEL, f"{recipe.why} Without it no part is noticed.")
        why = "the model does not know what a part is; calibrate it with mode: part"
        if known is not None:
            why = "the picture has another size than those that parts were calibrated in; no part is noticed"
        return fault(Reason.IDENTITY, why)

    def _why_unseen(self, known: Presence, stamp: Stamp) -> Finding | None:
        """Return why a part may have passed since the last picture; then nothing is known of what is there."""
        self._unseen = 0
        since_ns, self._taken_ns = stamp.captured_ns - self._taken_ns, stamp.captured_ns
        if not self._is_paced or since_ns <= 0:
            return None
        usual = sorted(self._periods_ns)[len(self._periods_ns) // 2] if len(self._periods_ns) >= FEWEST_PERIODS else 0
        self._periods_ns.append(since_ns)
        if since_ns < max(SHORTEST_GAP_NS, _longest_gap(known) * usual) or usual == 0:
            return None
        self._lose_sight()
        return fault(Reason.PICTURE, f"no picture came for {since_ns / 1e9:.1f} s; {UNSEEN}")

    def _lose_sight(self) -> None:
        """Take what is in front of the camera for new from now on: it may have been exchanged unseen."""
        if self._tracker is not None:
            self._tracker.forget()
        self._forget_closed()

    def _why_blind(self, known: Presence, sight: Sight, now_ns: int) -> Finding | None:
        """Return why parts cannot be told, where that has been so for a while."""
        why = None
        if not 1 / LARGEST_GAIN <= sight.brightness <= LARGEST_GAIN:
            why = (
                f"the empty place is {sight.brightness:.2f} times as bright as at calibration; check lamp and exposure"
            )
        elif sight.covered > known.covers + (1 - known.covers) / 2:
            why = (
                "nearly everything differs from the empty place; was the light or the camera changed, or is something "
                "in front of it? Mend it, or calibrate again"
            )
        elif sight.is_crowded:
            why = "too many things lie there to be told apart; clean the place"
        if why is None:
            self._blind_since_ns = None
            return None
        if self._blind_since_ns is None:
            self._blind_since_ns = now_ns
        is_long = now_ns - self._blind_since_ns >= BLIND_NS
        return fault(Reason.PICTURE, f"no part is noticed: {why}") if is_long else None


def _longest_gap(known: Presence) -> int:
    """Return how many pictures may be missing: what passes is in more, what lies there is not exchanged so fast."""
    return max(1, known.pictures - 1) if known.comes_from is not None else min(BRIEF, max(1, known.pictures - 1))
