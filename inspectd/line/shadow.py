"""A second model that judges a camera's pictures silently: what it would have said, beside what was said.

It is a sink: it is given pictures when their verdicts are out, and no verdict waits for it. Its pictures are scored one
at a time, at moments when no frame waits for the engine; while one waits for that, no other is taken.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from inspectd.engine.backend import Request, Score, Scorer
from inspectd.line.inspection import conclude
from inspectd.line.recipe import NoRecipe, Recipe
from inspectd.records import Finding, Outcome, Picture, Stamp, Verdict

LOG = logging.getLogger(__name__)

PATIENCE_S, LOOK_S = 1.0, 0.002
"""How long it gives way to frames at most, and how often it looks: an engine that is never idle still tells something,
for a small share of its time."""
STOP_S = 2.0
JUDGED = (Outcome.OK, Outcome.NG)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often a second model said the same."""

    recipe: Recipe | NoRecipe
    """What it judges by, or why it cannot."""
    counts: Mapping[tuple[Outcome, Outcome], int] = field(default_factory=dict)
    """By what was said and what it said, since the model or the threshold that judges was changed."""


@dataclass(frozen=True, slots=True)
class _Taken:
    stamp: Stamp
    picture: Picture
    verdict: Verdict


def wait_for_idle(is_idle: Callable[[], bool], is_stopped: Callable[[], bool], sleep: Callable[[float], None]) -> None:
    """Give way to frames that wait for the engine, for a while."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not is_stopped() and not is_idle() and time.monotonic() < give_up_s:
        sleep(LOOK_S)


class Shadows:
    """The second models of all cameras that have one, and the thread that asks them."""

    def __init__(
        self,
        scorer: Scorer,
        recipes: Mapping[str, Recipe | NoRecipe],
        is_idle: Callable[[], bool],
        look: Callable[[str, Recipe, Picture], Finding | None],
        on_disagreement: Callable[[Stamp, Picture, Verdict, Finding], None],
    ) -> None:
        """`recipes`: by camera. `is_idle`: whether no frame waits for the engine.

        `look`: says why a camera's picture may not be judged by a recipe.
        `on_disagreement`: takes a picture that the two models judge differently, with what each of them said.
        """
        self._scorer = scorer
        self._recipes = dict(recipes)
        self._is_idle = is_idle
        self._look = look
        self._on_disagreement = on_disagreement
        self._counts: dict[str, dict[tuple[Outcome, Outcome], int]] = {name: {} for name in recipes}
        self._basis: dict[str, tuple[str | None, float | None]] = {}
        """By camera, model and threshold of what its second model was compared with."""
        self._next: dict[str, _Taken] = {}
        """By camera, the one that is judged next."""
        self._failure: str | None = None
        self._is_started = False
        self._under_way: Recipe | NoRecipe | None = None
        self._changed = threading.Condition()
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def start(self) -> None:
        """Begin to judge, where there is something to judge by."""
        self._is_started = True
        self._begin()

    def use(self, camera: str, recipe: Recipe | NoRecipe | None) -> None:
        """Give a camera another second model, or (None) none; what was counted before is of the last one."""
        with self._changed:
            self._next.pop(camera, None)
            self._counts[camera], self._basis = {}, {key: one for key, one in self._basis.items() if key != camera}
            self._recipes = {key: one for key, one in self._recipes.items() if key != camera}
            if recipe is not None:
                self._recipes[camera] = recipe
        self._begin()

    def _begin(self) -> None:
        is_wanted = any(isinstance(recipe, Recipe) for recipe in self._recipes.values())
        if self._is_started and is_wanted and self._thread.ident is None:
            self._thread.start()

    def stop(self) -> None:
        """End, when the picture under way is scored."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(STOP_S)

    @property
    def recipes(self) -> list[Recipe | NoRecipe]:
        """All second models, and the one that judges just now."""
        under_way = [] if self._under_way is None else [self._under_way]
        return [*self._recipes.values(), *under_way]

    def agreement(self, camera: str) -> Agreement | None:
        """Return how often a camera's second model agreed; None: it has none. From any thread."""
        recipe = self._recipes.get(camera)
        if recipe is None:
            return None
        return Agreement(NoRecipe(self._failure) if self._failure else recipe, dict(self._counts.get(camera, {})))

    def wants(self, stamp: Stamp, verdict: Verdict | None) -> bool:
        """Whether a picture was judged, and none of its camera waits for its second model."""
        return (
            verdict is not None
            and verdict.finding.outcome in JUDGED
            and isinstance(self._recipes.get(stamp.camera), Recipe)
            and stamp.camera not in self._next
            and self._failure is None
        )

    def take(self, stamp: Stamp, picture: Picture, verdict: Verdict | None) -> None:
        """Copy a picture."""
        if verdict is None:
            return
        taken = _Taken(stamp, picture.copy(), verdict)
        with self._changed:
            self._next[stamp.camera] = taken
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            with self._scorer.seat() as score:
                while (taken := self._take_next()) is not None:
                    self._compare(taken, score)
                    self._under_way = None
        except Exception as error:  # a thread's top: what judges silently must not end anything else
            LOG.exception("second models judge nothing any more")
            self._failure = f"second models judge nothing any more: {type(error).__name__}: {error}"
            self._next.clear()

    def _take_next(self) -> _Taken | None:
        """Return the next picture, at a moment when nothing else is to be scored."""
        while not self._is_stopped:
            with self._changed:
                self._changed.wait_for(lambda: self._is_stopped or self._next)
            wait_for_idle(self._is_idle, lambda: self._is_stopped, time.sleep)
            with self._changed:
                if self._next and not self._is_stopped:  # its camera may have another model by now, or none
                    taken = self._next.pop(next(iter(self._next)))
                    self._under_way = self._recipes.get(taken.stamp.camera)
                    return taken
        return None

    def _compare(self, taken: _Taken, score: Score) -> None:
        camera, said = taken.stamp.camera, taken.verdict.finding.outcome
        recipe = self._under_way
        if not isinstance(recipe, Recipe):
            return
        finding = self._look(camera, recipe, taken.picture)
        if finding is None:
            height, width = taken.picture.shape[:2]
            scores = score([Request(area.model, area.geometry, taken.picture) for area in recipe.areas])
            finding = conclude(recipe, (width, height), scores)
        basis = (taken.verdict.finding.model, taken.verdict.finding.threshold)
        both = (said, finding.outcome)
        with self._changed:
            if self._recipes.get(camera) is not recipe:
                return
            counts = self._counts[camera] if self._basis.get(camera) == basis else {}
            self._basis[camera] = basis
            self._counts[camera] = counts | {both: counts.get(both, 0) + 1}
        if finding.outcome in JUDGED and finding.outcome is not said:
            self._on_disagreement(taken.stamp, taken.picture, taken.verdict, finding)
