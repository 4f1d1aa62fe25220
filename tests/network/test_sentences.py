"""What a calibration says: what was seen first, then what is proven, then who must be looked at."""

from __future__ import annotations

from typing import Any, cast

from calibrate.data.clean import Cleaning
from calibrate.data.disturbance import DISTURBANCES
from calibrate.results.sentences import doubtful, equipment, guarantee, measured
from calibrate.training.fit import Learned
from calibrate.training.threshold import proven_rate
from calibrate.training.withstood import Withstood
from inspectd.model.calibration import ThresholdRecord
from inspectd.simplenet.bundle import Bundle

NAMES = [f"{i:02d}.png" for i in range(100)]
CLEAN = Cleaning((0.0,) * 100, 1.0, frozenset({3}), frozenset({3}))


def learned(above: int = 2, independent: int = 100, **more: Any) -> Learned:
    """A hundred good parts of which the last ones score above the threshold of 10."""
    scores = [11.0 if i >= 100 - above else 1.0 for i in range(100)]
    proven = proven_rate(independent, above, 0.95) if independent >= 10 else 1.0
    threshold = ThresholdRecord(10.0, 0.01, 0.95, proven, 299, 2.0, 100, 80, 90, independent)
    model = cast("Bundle", None)  # it has nothing to say
    return Learned(model, threshold, scores, list(range(100)), None, "last", [5.0] * 100, **more)


def test_first_what_was_seen() -> None:
    said = measured(learned())
    assert said.startswith("Threshold 10: of 100 held-out good parts 2 would be rejected, and 80 of 100 small painted")
    assert "(90 at 8, above which 1.00% are expected)" in said


def test_then_what_is_proven_and_what_more_would_prove() -> None:
    said = guarantee(learned())
    assert (
        "you need 299 held-out good parts; from 100 held-out good parts, at this threshold at most 6.16% of good"
        in said
    )
    assert f"As many again like them would prove {proven_rate(200, 4, 0.95):.2%}" in said
    assert "follow each other" not in said
    confirmed = guarantee(learned(confirmed=frozenset({98, 99})))
    assert f"would prove {proven_rate(200, 4, 0.95):.2%}" in confirmed, "they are rejected all the same"
    none_above = guarantee(learned(above=0))
    assert f"As many again like them would prove {proven_rate(200, 0, 0.95):.2%}" in none_above


def test_more_of_what_is_odd_would_not_prove_more_than_they_will() -> None:
    """The proof would lie above the odd ones, where no painted defect is found, so it would not be taken."""
    scores = [*(i / 100 for i in range(157)), 9.0, 9.5, 10.0]
    threshold = ThresholdRecord(5.0, 0.01, 0.95, proven_rate(160, 3, 0.95), 299, 2.0, 100, 80, 90, None)
    several = Learned(cast("Bundle", None), threshold, scores, list(range(160)), None, "last", [8.0] * 80)
    assert f"As many again like them would prove {proven_rate(320, 6, 0.99):.2%}" in guarantee(several)


def test_what_could_be_proven_but_would_find_too_little_is_said() -> None:
    scores = [*(i / 100 for i in range(316)), 11.0, 12.0, 13.0, 14.00001]
    threshold = ThresholdRecord(10.0, 0.01, 0.95, proven_rate(320, 4, 0.95), 299, 2.0, 100, 80, 90, None)
    model = cast("Bundle", None)
    several = Learned(model, threshold, scores, list(range(320)), None, "last", [12.0] * 80 + [20.0] * 20)
    said = guarantee(several)
    assert said.startswith("At this threshold, from 320 held-out good parts: at most 2.84% of good parts are rejected")
    assert "1.00% is proven at 14.01 (threshold: 14.01 for the camera in the configuration), where 20 of 100" in said
    assert "above which 1.00% are expected" in measured(several)
    odd = Learned(
        model, threshold, scores, list(range(320)), Cleaning((0.0,) * 320, 1.0, frozenset({3}), frozenset({3})), "last"
    )
    assert "you need 299 held-out good parts" in guarantee(odd), "one counts as rejected whatever it scores"


def test_pictures_of_few_parts_are_called_so() -> None:
    few = guarantee(learned(independent=24))
    assert "from 100 held-out pictures of about 24 independent parts, at this threshold at most" in few
    assert "take pictures of more parts" in few
    hardly_any = guarantee(learned(independent=4))
    assert "from 100 held-out pictures of about 4 independent parts nothing is proven" in hardly_any


def test_who_must_be_looked_at_is_named_with_what_to_do() -> None:
    assert doubtful(learned(above=0), NAMES) is None
    said = doubtful(learned(), NAMES, "--resume ")
    assert said is not None
    assert "2 score so high (98.png, 99.png)" in said
    assert "if they show good parts, with --resume --confirm '98.png' --confirm '99.png'." in said
    many = doubtful(learned(above=9), NAMES)
    assert many is not None
    assert "and 4 more" in many


def test_odd_pictures_are_told_beside_those_that_score_high_and_confirmed_ones_are_not() -> None:
    seen = learned(confirmed=frozenset({98}))
    seen = Learned(
        seen.model, seen.threshold, seen.scores, seen.held_out, CLEAN, "last", seen.painted, [], seen.confirmed
    )
    assert seen.doubtful == [3, 99]
    said = doubtful(seen, NAMES)
    assert said is not None
    assert "1 looks unlike the rest (03.png) and 1 scores so high (99.png)" in said


def test_what_the_line_must_not_do_is_said() -> None:
    assert equipment(learned()) is None
    held = [Withstood(one, 20, 0, 0) for one in DISTURBANCES]
    assert "Good parts stay good under all 18 changes" in str(equipment(learned(withstood=held)))
    broken = [Withstood(one, 20, 7 if one.name == "20 % darker" else 0, 0) for one in DISTURBANCES]
    assert "if the picture were 20 % darker (7 of 20 rejected)" in str(equipment(learned(withstood=broken)))
