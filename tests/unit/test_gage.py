"""An attribute study: its file, its figures held against others' and worked out by hand, its page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, norm

from inspectd.errors import UsageError
from inspectd.gage import report, statistics, study
from inspectd.gage.statistics import Analysis, analyse, kappa, parts_to_prove
from inspectd.gage.study import Trial
from inspectd.records import Known, Outcome

GOOD, BAD = Known.GOOD, Known.BAD
OK, NG, FAULT = Outcome.OK, Outcome.NG, Outcome.FAULT


def trial(part: str, known: Known, verdict: Outcome, score: float | None = None, label: str = "", **more: str) -> Trial:
    reason = "picture" if verdict is FAULT else ""
    return Trial(
        part, known, label, verdict, reason, score, 0.5, more.get("model", "m 0123"), "2026-11-29T08:00:00Z", ""
    )


def decided(known: Known, decisions: Sequence[str]) -> list[Trial]:
    """Return trials of parts: of each a word of `o` (passed) and `x` (rejected)."""
    verdicts = {"o": OK, "x": NG, "?": FAULT}
    return [trial(f"{known}{i}", known, verdicts[letter]) for i, word in enumerate(decisions) for letter in word]


def criterion(analysis: Analysis, name: str) -> statistics.Criterion:
    return next(one for one in analysis.criteria if one.name == name)


# Figures


def test_the_example_is_worked_out_by_hand() -> None:
    # 4 bad parts × 3: one passed once; 6 good parts × 3: one rejected twice.
    trials = decided(BAD, ["xxx", "xox", "xxx", "xxx"]) + decided(GOOD, ["ooo"] * 5 + ["oxx"])
    found = analyse(trials)
    assert criterion(found, "effectiveness").interval.value == pytest.approx(27 / 30)
    assert criterion(found, "miss rate").interval.value == pytest.approx(1 / 12)
    assert criterion(found, "false alarm rate").interval.value == pytest.approx(2 / 18)
    # agreement 27/30; decisions: passed 16 + 1, rejected 2 + 11; by chance (18·17 + 12·13) / 900
    chance = (18 * 17 + 12 * 13) / 900
    assert criterion(found, "kappa").interval.value == pytest.approx((0.9 - chance) / (1 - chance))
    assert (found.parts, found.unjudged, found.is_accepted) == ({GOOD: 6, BAD: 4}, 0, False)
    assert found.same is not None
    assert (found.same.count, found.same.of) == (8, 10)
    assert {(one.part, one.verdict) for one in found.wrong} == {("bad1", OK), ("good5", NG)}


def test_kappa_is_that_of_the_books() -> None:
    # Cohen's example as it is often quoted: 20 5 / 10 15 has kappa 0.4
    assert kappa(np.array([[20.0, 5.0], [10.0, 15.0]])) == pytest.approx(0.4)
    assert kappa(np.array([[10.0, 0.0], [0.0, 10.0]])) == 1
    assert kappa(np.array([[5.0, 5.0], [5.0, 5.0]])) == 0
    assert kappa(np.array([[10.0, 0.0], [0.0, 0.0]])) == 1


@pytest.mark.parametrize("parts", [1, 5, 20, 150])
def test_without_a_miss_the_interval_counts_parts_and_not_trials(parts: int) -> None:
    found = criterion(analyse(decided(BAD, ["xxxxx"] * parts)), "miss rate").interval
    assert (found.value, found.low) == (0, 0)
    assert found.high == pytest.approx(1 - 0.025 ** (1 / parts)), "Clopper and Pearson's of so many parts"


def test_parts_that_are_always_wrong_or_always_right_count_once() -> None:
    found = criterion(analyse(decided(BAD, ["ooo"] * 2 + ["xxx"] * 18)), "miss rate").interval
    assert found.low == pytest.approx(beta.ppf(0.025, 2, 19))
    assert found.high == pytest.approx(beta.ppf(0.975, 3, 18))


def test_more_trials_of_the_same_parts_prove_nothing_more() -> None:
    few, many = (decided(BAD, words) for words in (["ox"] * 10, ["oxox" * 5] * 10))
    found = [criterion(analyse(trials), "miss rate").interval for trials in (few, many)]
    assert found[0] == found[1]
    assert found[0].low == pytest.approx(beta.ppf(0.025, 5, 6))


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=30), st.integers(0, 29))
def test_a_wrong_decision_more_never_makes_a_study_better(parts: list[tuple[int, int]], where: int) -> None:
    words = ["o" * min(size, wrong) + "x" * max(0, size - wrong) for size, wrong in parts]
    worse = list(words)
    worse[where % len(words)] = words[where % len(words)].replace("x", "o", 1)
    before, after = (criterion(analyse(decided(BAD, some)), "miss rate").interval for some in (words, worse))
    assert after.value >= before.value
    assert after.high >= before.high - 1e-12
    assert after.low >= before.low - 1e-12


def test_the_interval_covers_what_it_says() -> None:
    rng = np.random.default_rng(1)
    true, covered = 0.1, 0
    for _ in range(300):
        rates = rng.beta(0.5, 4.5, 40)  # parts differ much; their mean is 0.1
        words = ["".join("o" if rng.random() < p else "x" for _ in range(4)) for p in rates]
        found = criterion(analyse(decided(BAD, words)), "miss rate").interval
        covered += found.low <= true <= found.high
    assert covered / 300 >= 0.93


def test_perfect_agreement_is_not_beyond_doubt() -> None:
    few = criterion(analyse(decided(BAD, ["xxx"] * 5) + decided(GOOD, ["ooo"] * 5)), "kappa")
    assert few.interval.value == 1
    assert few.is_met
    assert few.interval.low < 0.5
    assert not few.is_proven
    many = criterion(analyse(decided(BAD, ["xxx"] * 150) + decided(GOOD, ["ooo"] * 150)), "kappa")
    assert many.is_proven


def test_what_had_no_decision_counts_nowhere_and_is_told() -> None:
    found = analyse(decided(BAD, ["xx?", "?"]) + decided(GOOD, ["oo"]))
    assert (found.trials, found.unjudged) == (6, 2)
    assert criterion(found, "miss rate").basis == "0 of 2 decisions on 1 parts"
    notes = report.notes_of(found)
    assert any("no decision when these parts were shown last: bad0, bad1." in note for note in notes)
    assert not found.is_accepted
    again = analyse([*decided(BAD, ["xx?x", "?x"]), *decided(GOOD, ["oo"])])
    assert (again.unsettled, again.is_accepted) == ([], True), "they were shown again"


def test_a_study_of_one_kind_says_nothing_of_the_other() -> None:
    found = analyse(decided(GOOD, ["oo", "oo"]))
    assert [one.name for one in found.criteria] == ["effectiveness", "false alarm rate"]
    assert any("There are no decisions on bad parts" in note for note in report.notes_of(found))
    assert not found.is_accepted, "it lacks half"
    assert analyse([]).criteria == []
    assert not analyse([]).is_accepted


def scored(known: Known, scores: Sequence[Sequence[float]], label: str = "") -> list[Trial]:
    return [
        trial(f"{known}{i}", known, NG if score > 0.5 else OK, score, label)
        for i, some in enumerate(scores)
        for score in some
    ]


def test_repeatability_is_the_spread_within_parts() -> None:
    found = analyse(scored(GOOD, [[0.1, 0.2, 0.3], [0.3, 0.4, 0.2]]))
    spread = found.spread[GOOD]
    assert spread.interval.value == pytest.approx(0.1), "of 0.1 0.2 0.3 and 0.2 0.3 0.4"
    assert spread.interval.low < 0.1 < spread.interval.high
    assert found.grey == pytest.approx((0.5 - 0.196, 0.5 + 0.196))
    assert analyse(scored(GOOD, [[0.1], [0.2]])).spread == {}


def test_the_share_that_flips_is_that_of_a_gaussian_gage() -> None:
    rng = np.random.default_rng(2)
    sigma = 0.05
    parts = [list(0.3 + sigma * rng.standard_normal(8)) for _ in range(60)]
    production = rng.normal(0.4, 0.1, 20_000)
    found = analyse(scored(GOOD, parts), production).flips
    assert found is not None
    expected = float(np.mean(norm.cdf(-np.abs(production - 0.5) / (math.sqrt(2) * sigma))))
    assert found.value == pytest.approx(expected, rel=0.05)
    assert found.low <= found.value <= found.high
    assert analyse(scored(GOOD, parts)).flips is None, "nothing is known of the production"
    far = analyse(scored(GOOD, parts), [0.0] * 100).flips
    assert far is not None
    assert far.value == 0


def test_a_shift_that_scores_higher_shows() -> None:
    early = scored(GOOD, [[0.1, 0.1], [0.2, 0.2]], "early")
    late = scored(GOOD, [[0.2, 0.2], [0.3, 0.3]], "late")
    found = analyse(early + late).labels
    assert [(one.label, one.trials, one.right) for one in found] == [("early", 4, 4), ("late", 4, 4)]
    assert [one.shift for one in found] == pytest.approx([-0.05, 0.05])
    assert analyse(early).labels == []


def test_how_many_parts_it_takes_is_that_of_the_tables() -> None:
    assert [parts_to_prove(most) for most in (0.02, 0.05)] == [183, 72]
    for parts, is_proven in ((182, False), (183, True)):
        assert criterion(analyse(decided(BAD, ["x"] * parts)), "miss rate").is_proven is is_proven


def test_a_study_of_two_inspections_says_so() -> None:
    trials = [*decided(GOOD, ["oo"]), trial("B1", BAD, NG, 1.0, model="other 4567")]
    notes = report.notes_of(analyse(trials))
    assert any("several models or thresholds (m 0123, other 4567, 0.5)" in note for note in notes)


def test_kappa_stays_above_minus_one() -> None:
    trials = decided(GOOD, ["o"] * 49) + decided(BAD, ["o"])
    assert criterion(analyse(trials), "kappa").interval.low >= -1


# The file


def test_a_study_is_read_as_it_was_written_and_grows(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    assert study.read(path) == []
    first = [trial('G "1", x', GOOD, OK, 0.123456789012345, "früh"), trial("B1", BAD, FAULT)]
    study.append(path, first)
    study.append(path, first[:1])
    assert study.read(path) == [*first, first[0]]
    assert path.read_text().count("part,known") == 1


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("G1,good,,ok,,0.1,0.5,m", "line 2 has 8 columns; expected 10"),
        ("G1,fair,,ok,,0.1,0.5,m,,", "line 2: known is 'fair'; expected good or bad"),
        ("G1,good,,pass,,0.1,0.5,m,,", "line 2: verdict is 'pass'; expected ok, ng or fault"),
        ("G1,good,,ok,,much,0.5,m,,", "line 2: score is 'much'; expected a number, or nothing"),
        ("G1,good,,ok,,nan,0.5,m,,", "line 2: score is 'nan'"),
        (",good,,ok,,0.1,0.5,m,,", "line 2: part is empty"),
        ("G1,good,,ok,,0.1,0.5,m,,\nG1,bad,,ok,,0.1,0.5,m,,", "the part G1 is said to be good, and bad"),
        ('"G1', "line"),
    ],
)
def test_a_line_that_is_wrong_is_named(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "s.csv"
    path.write_text(",".join(study.COLUMNS) + "\n" + line + "\n")
    with pytest.raises(UsageError, match=says):
        study.read(path)


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "\xff\xfe", "part\n"])
def test_what_is_no_study_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "s.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=r"is no study|cannot be read"):
        study.read(path)


# The page


def test_the_page_says_what_was_found_and_lets_no_name_through() -> None:
    trials = [*scored(GOOD, [[0.1, 0.2], [0.3, 0.6]], "<b>late</b>"), trial("<script>", BAD, OK, 0.4)]
    page = report.render("Study <x>", trials, analyse(trials, [0.1, 0.2, 0.49]))
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "Study &lt;x&gt;: not accepted" in page
    assert page.count("<circle") == 4
    assert page.count("<rect") == 2, "the grey zone and one bad part"
    assert "Wrong decisions" in page
    assert "share of production that would be decided otherwise" in page


def test_a_study_without_scores_has_a_page_too() -> None:
    trials = [trial("G1", GOOD, FAULT)]
    page = report.render("x", trials, analyse(trials))
    assert "<svg" not in page
    assert "not accepted" in page
