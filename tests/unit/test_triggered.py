"""A camera that inspects on triggers: each gets one verdict, by the picture of its own part or none."""

from __future__ import annotations

import time
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from conftest import small_artefact
from test_camera import OPENED, Post, config

from inspectd.cameras.supervisor import State
from inspectd.errors import UsageError
from inspectd.line.products import Products
from inspectd.line.recipe import NoRecipe, Recipe, recipe_of
from inspectd.model.calibration import CameraRecord
from inspectd.plan import AreaPlan, Plan
from inspectd.records import Finding, Frame, Outcome, Picture, Reason, Stamp

OK = Finding(Outcome.OK, score=0.1, threshold=1.0)


def product(name: str | None) -> Recipe:
    model = replace(small_artefact(), name=f"model-{name}")
    return recipe_of("top", Plan(name, (AreaPlan(None, "m", None, None),), (), None), lambda _: (model, None))


def picture(number: int) -> Picture:
    return np.full((48, 64, 3), number, np.uint8)


class Line(Post):
    """A post whose camera waits for triggers."""

    def __init__(self, products: Products | None = None, *, is_open: bool = True, **keys: object) -> None:
        self.products = products or Products({None: product(None)})
        super().__init__(self.products, config(mode="trigger", **{"deadline_ms": 60_000, **keys}))
        if is_open:
            self.camera.start()

    def show(self, number: int, *, age_ms: float = 0, is_arrival_time: bool = False) -> Frame:
        stamp = Stamp("top", number, time.monotonic_ns() - int(age_ms * 1e6), is_arrival_time=is_arrival_time)
        frame = Frame(stamp, picture(number), lambda: self.released.append(number))
        self.camera.on_frame(frame)
        return frame

    def answer(self, finding: Finding = OK) -> None:
        for job in self.batcher.take(0):
            self.ledger.close(job.entry, finding)
            job.frame.release()
            self.batcher.finish(job, lambda _: None)

    @property
    def heard(self) -> list[tuple[str | None, str | None, int | None, str]]:
        """Trigger, part, frame and reason or outcome of each verdict."""
        return [
            (v.trigger, v.part, v.stamp.frame if v.stamp else None, v.finding.reason or v.finding.outcome)
            for v in self.said
        ]


def test_a_trigger_is_judged_by_the_first_picture_that_was_taken_after_it() -> None:
    line = Line()
    line.show(1)
    line.camera.trigger("A-1")
    line.show(2, age_ms=50)  # it had waited in a buffer, and shows the part before
    line.show(3)
    line.show(4)
    line.answer()
    assert line.heard == [("1", "A-1", 3, "ok")]
    assert sorted(line.released) == [1, 2, 3, 4]
    counts = line.camera.counts
    assert (counts.captured, counts.judged, counts.unmatched, counts.broken_law()) == (4, 1, 3, None)


def test_a_part_that_went_by_before_a_picture_came_is_never_judged_by_the_next_ones() -> None:
    line = Line()
    for part in ("A-1", "A-2", "A-3"):
        line.camera.trigger(part)
    line.show(1)
    line.answer()
    assert line.heard == [
        ("1", "A-1", None, Reason.OVERLOAD),
        ("2", "A-2", None, Reason.OVERLOAD),
        ("3", "A-3", 1, "ok"),
    ]
    assert "the next trigger came before the camera gave a picture" in (line.said[0].finding.detail or "")
    assert line.camera.counts.triggers_overtaken == 2


def test_a_delay_tells_the_parts_between_sensor_and_camera_apart() -> None:
    line = Line(trigger_delay_ms=30_000)
    first, second = (line.camera.trigger(part).trigger_ns or 0 for part in ("A-1", "A-2"))
    line.camera.on_frame(Frame(Stamp("top", 1, first + 30_000_000_001), picture(1), lambda: None))
    line.answer()
    line.camera.on_frame(Frame(Stamp("top", 2, second + 30_000_000_001), picture(2), lambda: None))
    line.answer()
    assert line.heard == [("1", "A-1", 1, "ok"), ("2", "A-2", 2, "ok")]


def test_a_part_that_comes_again_has_a_verdict_of_its_own_and_is_counted() -> None:
    line = Line()
    for number in (1, 2):
        line.camera.trigger("A-1")
        line.show(number)
        line.answer(OK if number == 1 else replace(OK, outcome=Outcome.NG))
    assert line.heard == [("1", "A-1", 1, "ok"), ("2", "A-1", 2, "ng")]
    assert line.camera.counts.triggers_repeated == 1


def test_triggers_come_faster_than_pictures_are_inspected() -> None:
    line = Line()
    for number in range(1, 8):
        line.camera.trigger(f"A-{number}")
        line.show(number)
    line.answer()
    line.answer()
    outcomes = {number: what for number, _, _, what in line.heard}
    assert [outcomes[str(n)] for n in range(1, 8)] == ["ok"] * 4 + [Reason.OVERLOAD] * 3
    assert sorted(line.released) == list(range(1, 8))


def test_a_flood_of_triggers_is_answered_at_once_and_takes_no_memory() -> None:
    line = Line()
    for number in range(500):
        line.camera.trigger(f"A-{number}")
    assert line.camera.counts.triggers_pending == 100
    assert [what for *_, what in line.heard] == [Reason.OVERLOAD] * 400
    assert line.camera.counts.broken_law() is None


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (State.LOST, Reason.CAMERA_LOST),
        (State.FROZEN, Reason.CAMERA_FROZEN),
        (State.STARTING, Reason.CAMERA_LOST),
        (State.STOPPED, Reason.CAMERA_LOST),
    ],
)
def test_a_trigger_for_a_camera_that_is_not_there_is_answered_at_once(state: State, reason: Reason) -> None:
    line = Line()
    line.captures[-1].state = state
    line.camera.trigger("A-1")
    assert line.heard == [("1", "A-1", None, reason)]


def taken(line: Line, number: int, trigger_ns: int | None, after_ms: float) -> None:
    """Show a picture that was taken so long after a trigger."""
    at_ns = (trigger_ns or 0) + int(after_ms * 1e6)
    line.camera.on_frame(Frame(Stamp("top", number, at_ns), picture(number), lambda: line.released.append(number)))


def test_a_picture_that_is_taken_too_late_is_not_taken_for_the_part_that_was_there() -> None:
    line = Line(trigger_delay_ms=20, trigger_window_ms=50)
    taken(line, 1, line.camera.trigger("A-1").trigger_ns, 69)
    line.answer()
    second_ns = line.camera.trigger("A-2").trigger_ns
    taken(line, 2, second_ns, 15)  # shows the part before
    taken(line, 3, second_ns, 95)
    taken(line, 4, second_ns, 96)
    line.answer()
    assert line.heard == [("1", "A-1", 1, "ok"), ("2", "A-2", None, Reason.PICTURE)]
    assert line.said[1].finding.detail == (
        "the first picture of it was taken 75 ms late, and 50 are allowed (trigger_window_ms): it may show another part"
    )
    assert sorted(line.released) == [1, 2, 3, 4]
    assert line.camera.counts.broken_law() is None


def test_a_picture_that_is_too_late_for_its_part_says_so_where_the_next_one_has_come() -> None:
    line = Line(trigger_window_ms=50)
    first_ns = line.camera.trigger("A-1").trigger_ns
    second_ns = line.camera.trigger("A-2").trigger_ns
    taken(line, 1, second_ns, 49)
    assert [what for *_, what in line.heard] == [Reason.OVERLOAD], "the next one was there already"
    assert first_ns is not None
    line.answer()
    assert line.heard[1] == ("2", "A-2", 1, "ok")


@pytest.mark.parametrize("by", ["command", "camera"])
def test_a_picture_without_use_may_be_too_late_as_well(by: str) -> None:
    line = Line(trigger_window_ms=50, triggered_by=by)
    trigger_ns = line.camera.trigger("A-1").trigger_ns
    line.camera.on_unreadable(Stamp("top", 1, (trigger_ns or 0) + 80_000_000), "it is torn")
    details = [one.finding.detail or "" for one in line.said]
    assert "taken 80 ms late" in details[0]
    assert details[1:] == ([] if by == "command" else ["it is torn"]), "then nobody had announced it"


def test_the_part_in_front_of_a_camera_that_is_told_is_gone_a_tenth_of_a_second_later() -> None:
    for on_demand, keys, outcome in (
        (True, {}, Reason.PICTURE),
        (False, {}, "ok"),
        (True, {"trigger_window_ms": 500}, "ok"),
    ):
        line = Line(**keys)
        line.camera.on_opened(msgspec.structs.replace(OPENED, on_demand=on_demand))
        taken(line, 1, line.camera.trigger("A-1").trigger_ns, 101)
        line.answer()
        assert [what for *_, what in line.heard] == [outcome]
        line.camera.on_opened(OPENED)
        taken(line, 2, line.camera.trigger("A-2").trigger_ns, 101)
        line.answer()
        assert line.heard[-1][-1] == "ok", "it runs by itself now"


def test_a_snapshot_between_a_trigger_and_its_picture_does_not_make_a_late_one_good() -> None:
    line = Line()
    line.camera.on_opened(msgspec.structs.replace(OPENED, on_demand=True))
    trigger_ns = line.camera.trigger("A-1").trigger_ns
    line.camera.take_picture()
    assert len(line.captures[-1].wanted) == 2
    taken(line, 1, trigger_ns, 130)  # told after both, and too late for the first
    line.answer()
    assert [what for *_, what in line.heard] == [Reason.PICTURE]


def test_a_picture_is_wanted_for_each_trigger_that_waits_for_one_and_for_no_other() -> None:
    line = Line(trigger_delay_ms=250.5)
    began_ns = [line.camera.trigger(f"A-{number}").trigger_ns or 0 for number in range(3)]
    wanted = line.captures[-1].wanted
    assert wanted == [one + 250_500_000 for one in began_ns]
    line.camera.pause("cleaning")
    line.camera.trigger("A-4")
    line.camera.resume()
    line.captures[-1].state = State.LOST
    line.camera.trigger("A-5")
    assert len(wanted) == 3, "what is answered at once needs none"
    line.captures[-1].state = State.RUNNING
    for number in range(200):
        line.camera.trigger(f"B-{number}")
    assert len(wanted) == 100, "nor what comes faster than anything is taken"


def test_a_trigger_for_a_camera_that_was_never_started() -> None:
    line = Line(is_open=False)
    line.camera.trigger("A-1")
    assert line.heard == [("1", "A-1", None, Reason.CAMERA_LOST)]


def test_what_waits_when_the_camera_goes_away_is_told_the_true_reason_and_nobody_else_is_told_anything() -> None:
    line = Line()
    line.camera.trigger("A-1")
    line.show(1)
    line.camera.trigger("A-2")
    line.camera.on_gone(Reason.CAMERA_LOST, "it was unplugged")
    line.answer()
    assert line.heard == [("2", "A-2", None, Reason.CAMERA_LOST), ("1", "A-1", 1, "ok")]
    line.camera.on_gone(Reason.CAMERA_FROZEN, "it is frozen")
    assert len(line.said) == 2, "no verdict without a trigger"


def test_a_damaged_picture_and_one_without_a_slot_are_their_triggers_verdict() -> None:
    line = Line()
    line.camera.trigger("A-1")
    line.camera.on_unreadable(Stamp("top", 1, time.monotonic_ns()), "it is torn")
    line.camera.trigger("A-2")
    line.camera.on_missed(Stamp("top", 2, time.monotonic_ns()))
    line.camera.on_unreadable(Stamp("top", 3, time.monotonic_ns()), "nobody asked")
    assert line.heard == [("1", "A-1", 1, Reason.PICTURE), ("2", "A-2", 2, Reason.OVERLOAD)]
    assert line.camera.counts.unmatched == 1


def test_in_a_bypass_triggers_are_answered_and_not_inspected() -> None:
    line = Line()
    line.camera.pause("cleaning")
    line.camera.trigger("A-1")
    line.camera.resume()
    line.camera.trigger("A-2")
    line.camera.pause("cleaning again")
    line.show(1)
    assert line.heard == [("1", "A-1", None, Reason.BYPASS), ("2", "A-2", 1, Reason.BYPASS)]


def test_a_source_without_times_of_its_own_is_never_matched_unless_that_is_accepted() -> None:
    opened = msgspec.structs.replace(OPENED, has_driver_time=False)
    line = Line()
    line.camera.on_opened(opened)
    line.camera.trigger("A-1")
    (verdict,) = line.said
    assert verdict.finding.reason is Reason.IDENTITY
    assert "no time of its own" in (verdict.finding.detail or "")
    assert line.camera.caveats == []
    accepted = Line(allow_arrival_time=True)
    accepted.camera.on_opened(opened)
    accepted.camera.trigger("A-1")
    accepted.show(1, is_arrival_time=True)
    accepted.answer()
    assert accepted.heard == [("1", "A-1", 1, "ok")]
    assert "matched to triggers by when they arrive" in accepted.camera.caveats[0]


def test_a_picture_whose_time_cannot_be_believed_is_for_nobody() -> None:
    line = Line()
    line.camera.trigger("A-1")
    line.show(1, is_arrival_time=True)
    line.show(2)
    line.answer()
    assert line.heard == [("1", "A-1", 2, "ok")]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("rtsp://camera/1", "mode: trigger needs pictures with the time at which they were taken"),
        ("sim://line", "mode: trigger needs a source that goes on by itself"),
        ("sim://line?fps=5&parts=9", "mode: trigger needs a source without an end"),
    ],
)
def test_a_source_that_cannot_be_triggered_is_refused(source: str, says: str) -> None:
    with pytest.raises(UsageError, match=f"Camera top: {says}"):
        Line(source=source)


def test_a_camera_with_a_stream_takes_no_triggers() -> None:
    post = Post(product(None), config())
    with pytest.raises(UsageError, match=r"Camera top inspects by itself \(mode: stream\); it takes no triggers"):
        post.camera.trigger("A-1")


# Products


def products() -> Products:
    return Products({"A": product("A"), "B": product("B"), "C": NoRecipe("its model is gone", "C")}, "A", {"B": "B-*"})


def test_a_trigger_is_judged_as_the_product_that_it_names_that_its_id_says_or_that_is_in_force() -> None:
    line = Line(products())
    for number, (part, name) in enumerate([(None, None), ("B-1", None), ("B-2", "A"), ("X", None), (None, "C")], 1):
        line.camera.trigger(part, name)
        line.show(number)
    jobs = line.batcher.take(0)
    assert [(job.recipe.name, job.entry.trigger) for job in jobs] == [("A", "1"), ("B", "2"), ("A", "3")]
    assert line.heard == [("4", "X", None, Reason.NO_MODEL), ("5", None, None, Reason.NO_MODEL)]
    assert [v.recipe for v in line.said] == [None, "C"]
    with pytest.raises(UsageError, match="There is no recipe 'D'; there are: A, B, C"):
        line.camera.trigger("X", "D")
    assert line.camera.counts.triggers == 5, "nothing is owed for it"


def test_what_is_in_force_when_the_trigger_comes_judges_it_whatever_is_chosen_meanwhile() -> None:
    line = Line(products())
    line.camera.trigger()
    line.camera.choose("B")
    changed = product("A")
    old = line.products.recipes["A"]
    line.camera.use(changed)
    assert not line.camera.is_done_with_old(), "a trigger waits that is to be judged by it"
    line.show(1)
    (job,) = line.batcher.take(0)
    assert job.recipe is old
    assert line.camera.recipe is line.products.recipes["B"]
    line.batcher.finish(job, lambda done: line.ledger.close(done.entry, OK) and None)
    assert line.camera.is_done_with_old()
    assert line.said[-1].recipe == "A"


# The camera's own input


def test_a_picture_is_a_trigger_itself_where_the_camera_has_an_input_for_it() -> None:
    line = Line(triggered_by="camera")
    line.camera.trigger("A-1")
    line.show(1)
    line.show(2)
    line.answer()
    assert line.heard == [("1", "A-1", 1, "ok"), ("2", None, 2, "ok")]
    counts = line.camera.counts
    assert (counts.triggers, counts.unmatched, counts.broken_law()) == (2, 0, None)


def test_an_announcement_that_comes_after_its_picture_never_takes_the_next_ones() -> None:
    line = Line(triggered_by="camera")
    for number in (1, 2, 3):
        line.show(number)
        line.camera.trigger(f"A-{number}")
    line.answer()
    by_part = {part: what for _, part, _, what in line.heard}
    assert by_part == {None: "ok", **{f"A-{number}": Reason.DEADLINE for number in (1, 2, 3)}}
    assert "announce a part before its picture is taken" in (line.said[0].finding.detail or "")


@pytest.mark.parametrize("why", ["bypass", "unknown id"])
def test_what_is_answered_without_a_picture_does_not_make_a_camera_lost(why: str) -> None:
    line = Line(products(), triggered_by="camera")
    if why == "bypass":
        line.camera.pause("cleaning")
    line.camera.trigger("Z-1")
    (verdict,) = line.said
    line.camera.on_published(verdict, time.monotonic_ns())
    assert line.camera.health.state is State.RUNNING


def test_a_camera_whose_triggers_are_all_refused_does_not_inspect() -> None:
    line = Line()
    line.camera.on_opened(msgspec.structs.replace(OPENED, has_driver_time=False))
    assert not line.camera.is_inspecting


def test_a_recipe_that_was_replaced_while_its_trigger_waited_is_held_against_the_camera_as_it_is_now() -> None:
    line = Line()
    line.camera.trigger("A-1")
    line.camera.on_opened(msgspec.structs.replace(OPENED, width=32, height=24))
    other = recipe_of(
        "top",
        Plan(None, (AreaPlan(None, "m", None, None),), (), None),
        lambda _: (replace(small_artefact(camera=CameraRecord("0", None, 32, 24)), digest="1" * 64), None),
    )
    line.camera.use(other)
    line.show(1)
    assert [what for *_, what in line.heard] == [Reason.IDENTITY]


def test_silence_is_no_loss_there_but_a_trigger_that_brings_nothing_is() -> None:
    line = Line(triggered_by="camera", deadline_ms=1)
    assert line.camera.health.state is State.RUNNING
    line.camera.trigger("A-1")
    time.sleep(0.002)
    line.ledger.expire()
    (verdict,) = line.said
    assert verdict.finding.reason is Reason.CAMERA_LOST
    line.camera.on_published(verdict, time.monotonic_ns())
    assert (line.camera.health.state, line.camera.is_inspecting) == (State.LOST, False)
    assert line.camera.health.detail == "the trigger brought no picture within 1 ms"
    line.show(1)
    assert line.camera.health.state is State.RUNNING


def test_a_lost_camera_that_triggers_itself_says_once_that_parts_pass_unseen() -> None:
    line = Line(triggered_by="camera")
    line.camera.trigger("A-1")
    line.camera.on_gone(Reason.CAMERA_LOST, "unplugged")
    assert line.heard == [("1", "A-1", None, Reason.CAMERA_LOST), (None, None, None, Reason.CAMERA_LOST)]
