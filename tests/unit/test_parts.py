"""Parts that pass a running camera: what is owed for them, what keeps them from being noticed, whose slots are held."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from conftest import small_artefact
from test_camera import OPENED, Post, config

from inspectd.config import LooksConfig
from inspectd.errors import UsageError
from inspectd.line.inspection import Inspection
from inspectd.line.products import Products
from inspectd.line.recipe import NoRecipe, Recipe, recipe_for
from inspectd.model.calibration import CameraRecord
from inspectd.model.presence import Presence, Side
from inspectd.records import Frame, Outcome, Picture, Reason, Stamp

SIZE = (64, 48)
PART = 10
FRAME_NS = 33_000_000


def presence(comes_from: Side | None = "left", **changes: object) -> Presence:
    """Squares of ten pixels on grey."""
    facts = {
        "picture": SIZE,
        "window": (0, 0, *SIZE),
        "step": 1,
        "empty": bytes([50] * (SIZE[0] * SIZE[1] * 3)),
        "allowed": bytes([20] * (SIZE[0] * SIZE[1])),
        "area": 100.0,
        "least": 0.8,
        "most": 1.2,
        "size": (12, 12),
        "comes_from": comes_from,
        "pictures": 4,
        "fps": 0.0,
        "covers": 0.1,
        "times": 5,
    }
    return Presence(**{**facts, **changes})  # type: ignore[arg-type]


def recipe(known: Presence | None = None) -> Recipe:
    known = known or presence()
    return recipe_for(config(), small_artefact(1.0, camera=CameraRecord("0", None, 12, 12), presence=known))


def picture(*corners: tuple[int, int], size: tuple[int, int] = SIZE) -> Picture:
    """The grey place with squares on it, by their upper left corners."""
    shown = np.full((size[1], size[0], 3), 50, np.uint8)
    for x, y in corners:
        shown[max(0, y) : max(0, y + PART), max(0, x) : max(0, x + PART)] = 200
    return shown


class Place(Post):
    """A camera before a place; what it is shown is taken a frame's time after what was before."""

    def __init__(self, made: Recipe | NoRecipe | None = None, **keys: object) -> None:
        super().__init__(made or recipe(), config(**{"mode": "part", "deadline_ms": 60_000, **keys}))
        self.camera.start()
        self.shown = 0
        self.at_ns = time.monotonic_ns() - 10_000_000_000
        self.inspection = Inspection(self, self.batcher, self.ledger, self.sinks)  # type: ignore[arg-type]
        self.scores = [0.5]

    depth = 1

    def show(self, *corners: tuple[int, int], size: tuple[int, int] = SIZE) -> None:
        self.show_picture(picture(*corners, size=size))

    def show_picture(self, shown: Picture) -> None:
        self.shown += 1
        self.at_ns += FRAME_NS
        number = self.shown
        self.camera.on_frame(Frame(Stamp("top", number, self.at_ns), shown, lambda: self.released.append(number)))
        self.check()

    def work(self) -> None:
        """Score what waits."""
        jobs = self.batcher.take(0)
        self.inspection.inspect(jobs, lambda asked: [np.full((2, 2), self.scores[0], np.float32) for _ in asked])
        self.check()

    def check(self) -> None:
        assert self.ledger.counts("top").broken_law() is None

    def pass_part(self, y: int = 20, work: bool = True) -> None:
        for x in range(-12, 70, 4):
            self.show(*([(x, y)] if -PART < x < SIZE[0] else []))
            if work:
                self.work()

    @property
    def is_all_given_back(self) -> bool:
        return sorted(self.released) == list(range(1, self.shown + 1))


def test_a_part_that_passes_gets_one_verdict_and_all_other_frames_none() -> None:
    place = Place()
    for _ in range(3):
        place.pass_part()
    assert [verdict.finding.outcome for verdict in place.said] == [Outcome.OK] * 3
    assert [verdict.trigger for verdict in place.said] == ["1", "2", "3"]
    assert len({verdict.part for verdict in place.said}) == 3
    (first, *_) = place.said
    assert first.finding.roi is not None
    x, _, w, h = first.finding.roi
    assert ((w, h), first.finding.picture) == ((12, 12), SIZE)
    assert first.stamp is not None
    assert abs(x + 6 - (first.stamp.frame * 4 - 12 - 4 + 5)) <= 2, "it is cut out where the part is"
    counts = place.ledger.counts("top")
    assert (counts.judged, counts.captured - counts.unmatched, counts.triggers_closed) == (3, 3, 3)
    assert place.is_all_given_back


def test_a_defect_is_where_it_is_in_the_cameras_picture() -> None:
    place = Place()
    place.scores = [5.0]
    place.pass_part()
    (verdict,) = place.said
    finding = verdict.finding
    assert finding.outcome is Outcome.NG
    assert finding.mask is not None
    assert finding.mask.area == finding.roi
    (region,) = finding.regions
    assert (region.x, region.y, region.w, region.h) == finding.roi


def test_two_parts_in_one_frame_are_two_verdicts_of_one_frame() -> None:
    place = Place(recipe(presence(None)))
    place.show()
    for _ in range(3):
        place.show((5, 5), (40, 30))
        place.work()
    assert [verdict.finding.outcome for verdict in place.said] == [Outcome.OK] * 2
    assert len({verdict.stamp.frame for verdict in place.said if verdict.stamp}) == 1
    assert place.is_all_given_back
    assert place.ledger.counts("top").judged == 1, "a frame is counted once"


def test_what_goes_by_and_is_no_part_is_a_fault() -> None:
    place = Place()
    for x in range(-24, 70, 4):
        place.show((x, 20), (x + PART, 20))  # two that touch
    place.show()
    assert [(v.finding.outcome, v.finding.reason) for v in place.said] == [(Outcome.FAULT, Reason.PICTURE)] * 2
    assert "2 parts that touch" in str(place.said[0].finding.detail)
    assert place.is_all_given_back


@pytest.mark.parametrize(("score", "outcome"), [(0.5, Outcome.OK), (5.0, Outcome.NG)])
def test_several_looks_are_one_verdict(score: float, outcome: Outcome) -> None:
    place = Place(looks=LooksConfig(best_of=3, ng_if=2))
    place.scores = [score]
    place.pass_part()
    assert [verdict.finding.outcome for verdict in place.said] == [outcome]
    assert place.is_all_given_back


def test_no_slot_is_held_for_a_part_whose_deadline_came_first() -> None:
    place = Place(looks=LooksConfig(best_of=3, ng_if=3), deadline_ms=1)
    place.scores = [5.0]
    place.pass_part()
    place.ledger.expire()
    place.show()
    place.work()
    assert place.reasons == [Reason.DEADLINE]
    assert place.is_all_given_back


def test_parts_that_come_faster_than_they_are_inspected_are_faults() -> None:
    place = Place()
    for y in (4, 18, 32, 4, 18, 32, 4):
        place.pass_part(y, work=False)
    assert place.reasons == [Reason.OVERLOAD] * 3, "four may wait"
    place.work()
    assert [verdict.finding.outcome for verdict in place.said[3:]] == [Outcome.OK] * 4
    assert place.is_all_given_back


def test_a_part_is_a_fault_as_long_as_the_camera_is_bypassed() -> None:
    place = Place()
    place.camera.pause("cleaning")
    place.pass_part()
    place.camera.resume()
    place.pass_part()
    assert place.reasons == [Reason.BYPASS, None]
    assert place.is_all_given_back


def test_a_camera_that_goes_away_closes_what_waits_for_looks_and_says_so_once() -> None:
    place = Place(looks=LooksConfig(best_of=3, ng_if=1))
    for x in (0, 4, 8, 12):
        place.show((x, 20))
        place.work()
    assert place.said == []
    place.camera.on_gone(Reason.CAMERA_LOST, "unplugged")
    assert place.reasons == [Reason.CAMERA_LOST] * 2, "of the part, and of the camera"
    assert place.is_all_given_back
    place.pass_part()
    assert len(place.said) == 3, "what comes afterwards is new"


@pytest.mark.parametrize(
    ("made", "reason"),
    [(NoRecipe("there is no model."), Reason.NO_MODEL), (recipe(presence(picture=(65, 48))), Reason.IDENTITY)],
)
def test_what_keeps_parts_from_being_noticed_is_said_once_and_stands_in_the_state(
    made: Recipe | NoRecipe, reason: Reason
) -> None:
    place = Place(made)
    for _ in range(5):
        place.show()
    assert place.reasons == [reason]
    assert not place.camera.is_inspecting
    assert place.is_all_given_back


def test_until_the_first_picture_after_each_opening_nothing_is_claimed_to_be_inspected() -> None:
    place = Place()
    place.camera.on_opened(OPENED)
    for _ in range(2):
        assert not place.camera.is_inspecting
        assert "no picture was looked at yet" in place.camera.caveats[-1]
        place.show()
        assert place.camera.is_inspecting
        assert place.camera.caveats == []
        place.camera.on_opened(OPENED)
    assert place.said == [], "it is no fault"


def test_a_place_that_looks_wholly_different_for_long_is_said_and_so_is_its_end() -> None:
    place = Place()
    place.show()
    assert place.camera.is_inspecting
    for _ in range(40):
        place.show(*[(x, y) for x in range(0, 64, PART) for y in range(0, 48, PART)])
    assert place.reasons == [Reason.PICTURE]
    assert not place.camera.is_inspecting
    assert "nearly everything differs" in place.camera.caveats[-1]
    for _ in range(3):
        place.show()
    assert place.camera.is_inspecting
    place.pass_part()
    assert place.said[-1].finding.outcome is Outcome.OK


def test_pictures_in_a_row_that_cannot_be_looked_at_are_said() -> None:
    place = Place()
    place.show()
    for number in range(2):
        place.camera.on_unreadable(Stamp("top", 100 + number, time.monotonic_ns()), "torn")
    assert place.said == [], "a part is whole in four pictures"
    for number in range(4):
        place.camera.on_missed(Stamp("top", 102 + number, time.monotonic_ns()))
    assert place.reasons == [Reason.PICTURE]
    place.check()


def test_a_part_that_is_in_front_of_the_camera_is_told_once_whatever_product_is_chosen_meanwhile() -> None:
    place = Place()
    for x in range(-12, 70, 4):
        if x == 24:
            place.camera.use(recipe(presence(least=0.7)))
        place.show(*([(x, 20)] if -PART < x < SIZE[0] else []))
        place.work()
    assert [verdict.finding.outcome for verdict in place.said] == [Outcome.OK]
    assert place.is_all_given_back


def test_a_part_that_the_camera_saw_but_once_is_missed_and_not_passed_over() -> None:
    place = Place()
    place.show()
    place.show((30, 20))
    for _ in range(6):
        place.show()
    assert place.reasons == [Reason.PICTURE]
    for _ in range(8):  # so fast that each is seen at the near end only
        place.show((-4, 20))
        place.show()
    assert place.reasons == [Reason.PICTURE] * 3


def test_a_part_behind_one_that_was_judged_is_another_one_even_where_they_were_one_thing_for_a_while() -> None:
    place = Place(recipe(presence(size=(11, 11))))
    for x in range(-30, 80, 2):
        near, far = (x - 14, 20), (x, 20)
        between = [(x - 6, 20)] if 40 <= x <= 56 else []  # a shadow joins them while the first one leaves
        place.show(*[one for one in (near, far, *between) if -PART < one[0] < SIZE[0]])
        place.work()
    assert len(place.said) == 2
    assert place.is_all_given_back


@pytest.mark.parametrize("level", [0, 25, 90])
def test_a_lamp_that_fails_is_said_even_where_a_dark_place_looks_empty(level: int) -> None:
    known = presence(allowed=bytes([60] * (SIZE[0] * SIZE[1])))
    place = Place(recipe(known))
    place.show()
    for _ in range(40):
        place.show_picture(np.full((SIZE[1], SIZE[0], 3), level, np.uint8))
    assert place.reasons == [Reason.PICTURE]
    assert "times as bright" in place.camera.caveats[-1]
    assert not place.camera.is_inspecting


def test_slots_are_not_held_between_looks() -> None:
    place = Place(recipe(presence(None)), looks=LooksConfig(best_of=20, ng_if=10))
    place.show()
    for i in range(12):
        place.scores = [5.0 if i % 2 else 0.5]
        place.show((5, 5), (40, 30), (40, 5))
        place.work()
    assert place.said == []
    assert place.is_all_given_back


def test_what_lies_there_and_is_no_part_is_said_once() -> None:
    place = Place(recipe(presence(None)))
    for _ in range(100):
        place.show((5, 5), (5 + PART, 5))
    assert place.reasons == [Reason.PICTURE]
    place.show()
    for _ in range(100):
        place.show((-5, 20))
    assert place.reasons == [Reason.PICTURE] * 2


@pytest.mark.parametrize("unseen", ["missed", "no model", "gap", "reopened"])
def test_a_part_that_may_have_been_exchanged_unseen_is_told_anew(unseen: str) -> None:
    place = Place(recipe(presence(None)))
    for _ in range(10):
        place.show((20, 20))
        place.work()
    assert len(place.said) == 1
    if unseen == "missed":
        for number in range(8):
            place.camera.on_missed(Stamp("top", 500 + number, place.at_ns))
    elif unseen == "no model":
        place.camera._duty = replace(place.camera._duty, products=Products({None: NoRecipe("none")}))
        place.show((20, 20))
        place.camera._duty = replace(place.camera._duty, products=Products({None: recipe(presence(None))}))
    elif unseen == "gap":
        place.at_ns += 2_000_000_000
    else:
        place.camera.on_opened(OPENED)
    for _ in range(4):
        place.show((20, 20))
        place.work()
    assert [v.finding.outcome for v in place.said if v.finding.outcome is not Outcome.FAULT] == [Outcome.OK] * 2


def test_parts_of_one_picture_hold_one_slot_however_many_they_are() -> None:
    place = Place(recipe(presence(None, covers=0.5)))
    corners = [(x, y) for x in (4, 27, 50) for y in (4, 32)]
    for _ in range(3):
        place.show(*corners)
    for _ in range(4):
        place.work()
    assert [verdict.finding.outcome for verdict in place.said] == [Outcome.OK] * 6
    assert place.is_all_given_back


def test_a_picture_full_of_crumbs_costs_no_time_and_is_said() -> None:
    place = Place(recipe(presence(area=20.0, size=(5, 5))))
    rng = np.random.default_rng(0)
    began_s = time.process_time()
    for _ in range(40):
        shown = picture()
        for x, y in product(range(1, 60, 11), range(1, 44, 11)):
            shown[y : y + 4, x : x + 4] = rng.integers(150, 200)
        place.show_picture(shown)
    assert time.process_time() - began_s < 10
    assert "too many things" in place.camera.caveats[-1]


def test_a_model_is_for_parts_or_for_whole_pictures() -> None:
    with pytest.raises(UsageError, match="fit together"):
        recipe(presence(step=0))
    for wrong in ({"size": (900, 900)}, {"area": 1e12}, {"size": (1, 1)}, {"allowed": b"\xff" * 64 * 48}):
        with pytest.raises(UsageError, match="fit together"):
            recipe(presence(**wrong))
