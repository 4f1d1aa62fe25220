"""What ages is told before it rejects parts: from many pictures and accepted parts, and never from a few."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from inspectd.line.drift import FAR, FEWEST, MOST, NEWEST, Drift, MovedScores
from inspectd.line.fitness import told_of
from inspectd.model.optics import Limits

ALLOWED = Limits(0.9, 1.1, 0.5, 1.6)


def seen(drift: Drift, values: list[float], what: str = "light") -> bool:
    for value in values:
        drift.saw("", "m", what, value, ALLOWED)
    return any(one.is_beyond for one in drift.pictures)


def test_single_pictures_may_lie_anywhere() -> None:
    drift, draws = Drift(), np.random.default_rng(1)
    assert not seen(drift, list(draws.normal(1.0, 0.1, 5000)))
    assert drift.pictures[0].ratio == pytest.approx(1.0, abs=0.05)


def test_few_pictures_say_nothing() -> None:
    drift = Drift()
    assert not seen(drift, [0.7] * (FEWEST - 1))
    assert drift.pictures == []
    assert seen(drift, [0.7])


@pytest.mark.parametrize(
    ("what", "value", "says"),
    [
        ("light", 0.8, "light is 20 % darker than at calibration; check lamp, exposure and lens before you touch"),
        ("light", 1.3, "light is 30 % brighter than at calibration"),
        ("noise", 1.5, "noise is 50 % higher than at calibration; check gain, exposure and cable"),
        ("sharpness", 0.6, "sharpness is 40 % lower than at calibration; clean the lens and set its focus"),
        ("edges", 0.6, "edges are 40 % lower than at calibration; clean the lens"),
    ],
)
def test_what_has_moved_is_told_with_what_to_do(what: str, value: float, says: str) -> None:
    drift = Drift()
    assert seen(drift, [value] * 1000, what)
    assert told_of(drift.pictures[0]).startswith(says)


def test_it_must_come_back_by_more_than_to_the_edge() -> None:
    drift = Drift()
    assert seen(drift, [0.85] * 500)
    assert seen(drift, [0.91] * 1000)
    assert not seen(drift, [1.0] * 1000)


def test_areas_and_models_are_followed_by_themselves() -> None:
    drift = Drift()
    for _ in range(500):
        drift.saw("a", "m", "light", 0.7, ALLOWED)
        drift.saw("b", "m", "light", 1.0, ALLOWED)
        drift.accepted("a", "m", 1.0, -1.0)
        drift.accepted("b", "other", 1.0, -0.5)
    assert [(one.area, one.is_beyond) for one in drift.pictures] == [("a", True), ("b", False)]
    assert told_of(drift.pictures[0]).startswith("in a light is 30 % darker")
    assert [(one.area, one.is_far) for one in drift.scores] == [("a", False), ("b", True)]


def test_what_nobody_could_act_on_is_not_told() -> None:
    drift = Drift()
    for _ in range(500):
        drift.saw("", "m", "light", 1.02, Limits(0.997, 1.003))
    assert not drift.pictures[0].is_beyond


def test_what_is_followed_is_bounded() -> None:
    drift = Drift()
    for number in range(2 * MOST):
        drift.saw(str(number), "m", "light", 1.0, ALLOWED)
        drift.accepted(str(number), "m", 1.0, -1.0)
    assert len(drift._means) == len(drift._scores) == MOST


def test_accepted_parts_are_followed_and_rejected_ones_never_come_here() -> None:
    drift, draws = Drift(), np.random.default_rng(2)

    def after(values: Iterable[float]) -> list[MovedScores]:
        for excess in values:
            drift.accepted("", "m", 1.0, float(excess))
        return drift.scores

    assert after([-0.2] * (FEWEST - 1)) == []
    (found,) = after(draws.normal(-1.0, 0.3, NEWEST))
    assert (found.moved, found.is_far) == (pytest.approx(0.0, abs=0.1), False)
    (found,) = after(draws.normal(-1 + FAR + 0.1, 0.1, NEWEST))
    assert (found.moved, found.is_far) == (pytest.approx(FAR + 0.1, abs=0.05), True)
    (found,) = after(draws.normal(-1 + 0.9 * FAR, 0.01, NEWEST))
    assert found.is_far, "it is hardly nearer"
    (found,) = after(draws.normal(-1.0, 0.01, NEWEST))
    assert not found.is_far
