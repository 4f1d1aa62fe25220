"""What ages is told before it rejects parts: from many pictures and accepted parts, and never from a few."""

from __future__ import annotations

import numpy as np
import pytest

from inspectd.line.drift import FAR, FEWEST, NEWEST, Drift
from inspectd.line.fitness import told_of
from inspectd.model.optics import Limits

ALLOWED = Limits(0.9, 1.1, 0.5, 1.6)


def seen(drift: Drift, values: list[float], what: str = "light") -> bool:
    for value in values:
        drift.saw("m", what, value, ALLOWED)
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


def test_another_model_begins_anew() -> None:
    drift = Drift()
    assert seen(drift, [0.7] * 500)
    drift.saw("other", "light", 0.7, ALLOWED)
    assert drift.pictures == []


def test_accepted_parts_are_followed_and_rejected_ones_never_come_here() -> None:
    drift, draws = Drift(), np.random.default_rng(2)
    for _ in range(FEWEST - 1):
        drift.accepted("m", 1.0, -0.2)
    assert drift.scores is None
    for excess in draws.normal(-1.0, 0.3, NEWEST):
        drift.accepted("m", 1.0, float(excess))
    assert drift.scores == pytest.approx(0.0, abs=0.1)
    assert drift.far() is None
    for excess in draws.normal(-1 + FAR + 0.1, 0.1, NEWEST):
        drift.accepted("m", 1.0, float(excess))
    assert drift.far() == pytest.approx(FAR + 0.1, abs=0.05)
    for excess in draws.normal(-1 + 0.9 * FAR, 0.01, NEWEST):
        drift.accepted("m", 1.0, float(excess))
    assert drift.far() is not None, "it is hardly nearer"
    drift.accepted("m", 2.0, -0.5)
    assert (drift.scores, drift.far()) == (None, None), "another threshold begins anew"
