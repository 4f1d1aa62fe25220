"""The bookkeeping beside a soak: it notices what must never be, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inspectd.records import Outcome, Reason
from inspectd.sim.faults import Script, Trouble
from inspectd.sim.line import Defect
from inspectd.soak.daemon import EXTRA, Configured, Model, Settings
from inspectd.soak.gauges import FEWEST, Sample, trends_of
from inspectd.soak.latency import Latencies
from inspectd.soak.truth import AFTER_NS, AT_ODDS, SILENCE_NS, Shown, Truth
from inspectd.wire.messages import TimesMessage, VerdictMessage

SECOND = 1_000_000_000
PERIOD = SECOND // 30
SCRIPT = Script(3, tuple(Trouble), 20.0, 4.0)
CLEAR = Defect("stain", "clear", (0, 0, 5, 5))


def begin_of(trouble: Trouble) -> int:
    """Return the middle of the first episode of this trouble (ns)."""
    episode = next(one for one in SCRIPT.between(0, 10_000 * SECOND) if one.trouble is trouble)
    return (episode.start_ns + episode.end_ns) // 2


def quiet() -> int:
    """Return a moment from which on nothing is wrong for 8 s, and was not before (ns)."""
    for turn in range(1000):
        episode, after = SCRIPT.episode(turn), SCRIPT.episode(turn + 1)
        if after.start_ns - episode.end_ns > 14 * SECOND:
            return episode.end_ns + 5 * SECOND
    raise AssertionError


QUIET = quiet()


def verdict(seq: int, frame: int | None, part: int | None, at_ns: int | None, **more: Any) -> VerdictMessage:
    facts = {"verdict": Outcome.OK, "reason": None, "displaced": 0, "epoch": "e", **more}
    return VerdictMessage(
        v=1, camera="camera0", seq=seq, frame=frame, part=None if part is None else f"part-{part:06d}", trigger=None,
        detail=None, score=1.0, threshold=2.0, p=None, regions=(), recipe=None, model=None, image=None, mask=None,
        t=TimesMessage(None, at_ns, None, None, None, 0), at=None, **facts,
    )  # fmt: skip


@pytest.fixture
def truth() -> Truth:
    return Truth(lambda _: Shown(SCRIPT, lambda number: CLEAR if number % 10 == 9 else None))


def hear(truth: Truth, count: int, change: Callable[[int], dict[str, Any]] = lambda _: {}) -> None:
    """Have verdicts on consecutive pictures heard, each changed in some way."""
    for i in range(count):
        facts = {"seq": i + 1, "frame": i + 1, "part": i, "at_ns": QUIET + i * PERIOD, **change(i)}
        truth.heard(verdict(**facts))


def end(truth: Truth, captured: int, judged: int, displaced: int = 0) -> None:
    truth.check_end("camera0", 0)
    truth.check_counts("camera0", captured, judged, displaced)


def test_a_line_without_a_flaw_has_nothing_wrong(truth: Truth) -> None:
    hear(truth, 200)
    end(truth, 200, 200)
    assert (truth.wrong, truth.verdicts, truth.said) == ({}, 200, {"ok": 200})
    assert truth.found("clear") == (0, 20)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda i: {"seq": i + 2} if i >= 50 else {}, "missing"),
        (lambda i: {"seq": i} if i >= 50 else {}, "doubled"),
        (lambda i: {"frame": 50} if i == 60 else {}, "doubled"),
        (lambda i: {"part": i + 1} if i >= 50 else {}, "unaccounted"),
        (lambda i: {"part": i - 1} if i >= 50 else {}, "doubled"),
        (lambda i: {"epoch": "f", "seq": i - 49} if i >= 50 else {}, "restarted"),
    ],
)
def test_what_must_never_be_is_noticed(truth: Truth, change: Callable[[int], dict[str, Any]], what: str) -> None:
    hear(truth, 200, change)
    while_waiting = dict(truth.wrong)
    end(truth, 200, 200)
    assert truth.wrong[what] >= 1, (while_waiting, truth.told)
    assert truth.told


def test_what_the_daemon_counts_is_held_against_what_was_heard(truth: Truth) -> None:
    hear(truth, 100)
    end(truth, captured=103, judged=100, displaced=2)
    assert truth.wrong == {"unaccounted": 1}
    end(truth, captured=102, judged=101, displaced=2)
    assert truth.wrong == {"unaccounted": 1, "missing": 1}


def test_a_picture_that_gave_way_is_no_flaw(truth: Truth) -> None:
    hear(truth, 100, lambda i: {"frame": i + 1 + i // 10, "part": i + i // 10, "displaced": i // 10})
    end(truth, captured=109, judged=100, displaced=9)
    assert truth.wrong == {}


def test_verdicts_may_come_in_another_order_than_pictures_but_not_by_much(truth: Truth) -> None:
    order = [i ^ 1 for i in range(200)]
    hear(truth, 200, lambda i: {"frame": order[i] + 1, "part": order[i], "at_ns": QUIET + order[i] * PERIOD})
    end(truth, 200, 200)
    assert truth.wrong == {}
    other = Truth(lambda _: Shown(SCRIPT, lambda _: None))
    late = [0, *range(2, AT_ODDS + 10), 1]
    hear(other, len(late), lambda i: {"frame": late[i] + 1, "part": late[i], "at_ns": QUIET + late[i] * PERIOD})
    end(other, len(late), len(late))
    assert other.wrong["doubled"] >= 1


@pytest.mark.parametrize("trouble", [Trouble.DARK, Trouble.TORN, Trouble.BUMPED, Trouble.SWAPPED, Trouble.BLURRED])
def test_no_picture_that_is_not_fit_may_be_ok(truth: Truth, trouble: Trouble) -> None:
    at_ns = begin_of(trouble)
    truth.heard(verdict(1, 1, 0, at_ns, verdict=Outcome.FAULT, reason=Reason.PICTURE))
    truth.heard(verdict(2, 2, 1, at_ns + 1, verdict=Outcome.NG))
    assert truth.wrong == {}
    truth.heard(verdict(3, 3, 2, at_ns + 2))
    assert truth.wrong == {"passed": 1}


def test_pictures_that_did_not_come_because_of_what_went_wrong_are_no_flaw(truth: Truth) -> None:
    at_ns = begin_of(Trouble.FROZEN)
    for i in range(AT_ODDS + 20):
        truth.heard(verdict(i + 1, i + 1, 3 * i, at_ns + i))
    assert truth.wrong == {}
    killed = Truth(lambda _: Shown(SCRIPT, lambda _: None))
    killed.happened("camera0", QUIET + 49 * PERIOD, QUIET + 49 * PERIOD)
    hear(killed, 200, lambda i: {"part": i + 40} if i >= 50 else {})
    end(killed, 200, 200)
    assert killed.wrong == {}


def test_a_camera_that_never_comes_back_is_noticed(truth: Truth) -> None:
    hear(truth, 100)
    last_ns = QUIET + 99 * PERIOD
    truth.check_end("camera0", last_ns + SILENCE_NS // 2)
    assert truth.wrong == {}
    truth.happened("camera0", last_ns, last_ns)
    truth.check_end("camera0", last_ns + AFTER_NS + SILENCE_NS // 2)
    assert truth.wrong == {}, "it may still be opened"
    truth.check_end("camera0", last_ns + 600 * SECOND)
    assert truth.wrong == {"silent": 1}
    truth.check_end("camera1", last_ns)
    assert truth.wrong == {"silent": 2}, "nothing was ever heard of it"


def test_a_long_silence_is_noticed_although_something_was_wrong_at_its_beginning(truth: Truth) -> None:
    at_ns = begin_of(Trouble.HANGS)
    truth.heard(verdict(1, 1, 0, at_ns - 3 * SECOND))
    truth.heard(verdict(2, 2, 1, at_ns + 600 * SECOND))
    truth.check_end("camera0", at_ns + 600 * SECOND)
    assert truth.wrong == {"silent": 1}


@pytest.mark.parametrize("reason", [Reason.NO_MODEL, Reason.BYPASS, Reason.IDENTITY, Reason.CAMERA_LOST, Reason.ENGINE])
def test_a_fault_must_have_a_reason_that_is_known_here(truth: Truth, reason: Reason) -> None:
    truth.heard(verdict(1, 1, 0, begin_of(Trouble.DARK), verdict=Outcome.FAULT, reason=reason))
    assert truth.wrong == {}
    truth.heard(verdict(2, 2, 1, QUIET, verdict=Outcome.FAULT, reason=reason))
    assert truth.wrong == {"faults": 1}
    truth.happened("camera0", QUIET + SECOND, QUIET + 2 * SECOND)
    truth.heard(verdict(3, 3, 2, QUIET + 2 * SECOND, verdict=Outcome.FAULT, reason=reason))
    assert truth.wrong == {"faults": 1}


def test_a_camera_that_was_taken_away_for_a_while_was_not_silent(truth: Truth) -> None:
    gone_ns, back_ns = QUIET + PERIOD, QUIET + 76 * SECOND
    truth.happened("camera0", gone_ns, gone_ns)
    truth.happened("camera0", gone_ns, back_ns)
    truth.heard(verdict(1, 1, 0, QUIET))
    truth.heard(verdict(2, 2, 0, back_ns + SECOND))
    truth.check_end("camera0", back_ns + SECOND)
    assert truth.wrong == {}


def test_what_happened_is_remembered_until_pictures_are_followed(truth: Truth) -> None:
    truth.happened("camera0", QUIET, QUIET)
    for i in range(1000):
        truth.happened("camera1", QUIET + i, QUIET + i)
    truth.heard(verdict(1, 1, 0, QUIET, verdict=Outcome.FAULT, reason=Reason.BYPASS))
    assert truth.wrong == {}


def test_few_verdicts_may_be_late_and_not_many(truth: Truth) -> None:
    hear(truth, 2000, lambda i: {"verdict": Outcome.FAULT, "reason": Reason.DEADLINE} if i < 2 else {})
    truth.check_late()
    assert truth.wrong["late"] == 0
    truth.heard(verdict(2001, 2001, 2000, QUIET + 2000 * PERIOD, verdict=Outcome.FAULT, reason=Reason.OVERLOAD))
    truth.check_late()
    assert truth.wrong["late"] == 3


def test_verdicts_that_cannot_be_had_are_missing(truth: Truth) -> None:
    hear(truth, 10)
    truth.missed("camera0", 11, 14, "the journal does not hold them")
    truth.heard(verdict(15, 15, 14, QUIET + 14 * PERIOD))
    assert truth.wrong == {"missing": 4}


# Gauges


def samples(daemon_mb: Callable[[float], float], count: int = 100, **more: Any) -> list[Sample]:
    return [
        Sample(i * 2.0, daemon_mb(i / count), 900.0, more.get("descriptors", lambda _: 40)(i / count), 20, 6)
        for i in range(count)
    ]


def test_what_grows_only_at_the_beginning_is_flat() -> None:
    found = trends_of(samples(lambda share: 500 + min(share, 0.15) * 1000))
    assert [one.is_flat for one in found] == [True] * 5


def test_what_grows_to_the_end_is_not() -> None:
    memory, _, descriptors, *_ = trends_of(
        samples(lambda share: 500 + 60 * share, descriptors=lambda share: 40 + 10 * share)
    )
    assert (memory.is_flat, descriptors.is_flat) == (False, False)
    assert memory.before < memory.after <= memory.most


def test_a_camera_more_at_the_end_is_no_growth() -> None:
    few, many = samples(lambda _: 500), samples(lambda _: 530)
    mixed = [
        Sample(one.at_s, one.daemon_mb, one.all_mb, one.descriptors, one.threads, 5 if one in many else 6)
        for one in (
            *(few[i] if i % 3 else many[i] for i in range(60)),
            *(many[i] if i % 3 else few[i] for i in range(60, 100)),
        )
    ]
    assert {one.is_flat for one in trends_of(mixed)} == {True}
    leaks = samples(lambda share: 500 + 60 * share)
    assert trends_of(leaks)[0].is_flat is False


def test_a_short_soak_says_nothing_of_that() -> None:
    assert {one.is_flat for one in trends_of(samples(lambda _: 500, FEWEST // 2))} == {None}
    assert trends_of([]) == []


def test_percentiles_of_bins_are_near() -> None:
    found = Latencies()
    assert found.percentile(0.99) is None
    for i in range(1000):
        found.note(i / 10)
    assert found.percentile(0.5) == pytest.approx(50, abs=0.5)
    assert found.percentile(0.99) == pytest.approx(99, abs=0.5)
    found.note(1e9)
    assert found.percentile(1.0) == 2000


# What is run


def test_each_camera_misbehaves_on_a_script_of_its_own() -> None:
    settings = Settings(3, 30, 320, 240, 7, 0.2, 4, 20.0, 4.0)
    assert settings.names == ["camera0", "camera1", "camera2"]
    sources = [settings.source(name) for name in (*settings.names, EXTRA)]
    assert len(set(sources)) == 4
    assert sources[1] == (
        "sim://line?seed=8&fps=30&width=320&height=240&defects=0.2&ahead=4&faults=8&every=20&longest=4"
    )
    shown = settings.shown("camera1")
    assert shown.script.episode(5) == Script(8, tuple(Trouble), 20.0, 4.0).episode(5)
    assert shown.defect(1) == shown.defect(5)


def test_a_broken_configuration_is_broken_in_each_camera() -> None:
    configured = Configured(
        [Model(Path("m"), "m 0123", 1.0)], Settings(1, 30, 320, 240, 0, 0.0, 1, 20.0, 4.0), thresholds={"camera0": 1.5}
    )
    assert configured.camera("camera0").startswith("  - {name: camera0, source: ")
    assert ", model: m, threshold: 1.5, deadline_ms: 1000" in configured.camera("camera0")
    configured.is_broken = True
    assert "{nmae: camera0," in configured.camera("camera0")
