"""What commands changed, in a file that outlives the daemon: of which area of which product, and from which version."""

from __future__ import annotations

from pathlib import Path

import pytest

from inspectd.errors import UsageError
from inspectd.history.overrides import NONE, CameraOverrides, Override, Overrides, ThresholdOverride

LOW, HIGH = Override(threshold=ThresholdOverride(1.0, "a")), Override(model="/models/high")


def test_what_a_first_version_kept_is_that_of_the_only_area_of_the_only_product(tmp_path: Path) -> None:
    path = tmp_path / "o.json"
    path.write_text('{"version": 1, "cameras": {"top": {"threshold": {"value": 1.0, "digest": "a"}}}}')
    kept = Overrides(path)
    assert kept.of("top").of(None, None) == LOW
    kept.change("top", lambda now: now.replaced("B", "hub", HIGH))
    again = Overrides(path).of("top")
    assert (again.of(None, None), again.of("B", "hub"), again.of("B", None)) == (LOW, HIGH, NONE)


@pytest.mark.parametrize(
    ("known", "product", "left"),
    [
        (("A", "B"), None, CameraOverrides("B")),
        (("A",), None, CameraOverrides()),
        (("A", "B"), "A", CameraOverrides("B", {"B/hub": HIGH})),
        ((), "B", CameraOverrides(None, {"A/": LOW})),
    ],
)
def test_a_revert_takes_what_it_names_and_a_choice_that_nobody_knows(
    known: tuple[str, ...], product: str | None, left: CameraOverrides
) -> None:
    changed = CameraOverrides("B").replaced("A", None, LOW).replaced("B", "hub", HIGH)
    assert changed.without(known, product) == left


def test_where_there_is_no_file_they_last_until_the_end() -> None:
    kept = Overrides(None)
    kept.change("top", lambda now: now.replaced(None, None, LOW))
    assert kept.of("top").of(None, None) == LOW


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 3, "cameras": {}}', '{"version": 2, "cameras": 5}'])
def test_what_cannot_be_understood_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "o.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"o\.json"):
        Overrides(path)


def test_what_a_newer_one_wrote_is_named_so_whatever_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "o.json"
    path.write_text('{"version": 3, "lines": []}')
    with pytest.raises(UsageError, match="has version 3; this inspectd knows 2"):
        Overrides(path)
