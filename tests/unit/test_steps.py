"""From one configuration to another: what goes on, what is exchanged, what is opened anew, and what takes a restart."""

from __future__ import annotations

import pytest

from inspectd.config_file import parse
from inspectd.daemon.steps import Steps, steps_between
from inspectd.errors import UsageError

TOP, SIDE = "{name: top, source: 0, model: m%s}", "{name: side, source: 1, model: m%s}"


def steps(old: list[str], new: list[str], more: str = "") -> Steps:
    before, after = (parse(f"cameras: [{', '.join(cameras)}]\n") for cameras in (old, new))
    return steps_between(before, after if not more else parse(f"cameras: [{', '.join(new)}]\n{more}"))


def names(found: Steps) -> dict[str, list[str]]:
    each = {name: getattr(found, name) for name in Steps.__slots__}
    return {name: [one if isinstance(one, str) else one.name for one in some] for name, some in each.items() if some}


def test_nothing_is_done_where_nothing_has_changed() -> None:
    assert names(steps([TOP % "", SIDE % ""], [SIDE % "", TOP % ""])) == {"unchanged": ["side", "top"]}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (", threshold: 2.0", "judged"),
        (", ignore: [[[0, 0], [9, 0], [9, 9]]]", "judged"),
        (", roi: [0, 0, 64, 64]", "judged"),
        (", shadow: other", "judged"),
        (", recipes: {A: {}, B: {threshold: 3}}", "judged"),
        (", areas: {a: {roi: [0, 0, 9, 9]}, b: {roi: [9, 9, 9, 9]}}", "judged"),
        (", exposure: 100", "reopened"),
        (", fps: 10", "reopened"),
        (", deadline_ms: 100", "reopened"),
        (", mode: trigger", "reopened"),
        (", mode: part", "reopened"),
        (", threshold: 2.0, exposure: 100", "reopened"),
        (", enabled: false", "removed"),
    ],
)
def test_each_change_is_as_small_as_it_can_be(change: str, what: str) -> None:
    assert names(steps([TOP % "", SIDE % ""], [TOP % change, SIDE % ""])) == {what: ["top"], "unchanged": ["side"]}


def test_parts_that_pass_are_followed_by_what_judges_them() -> None:
    assert names(steps([TOP % ", mode: part"], [TOP % ", mode: part, threshold: 2.0"])) == {"reopened": ["top"]}


def test_cameras_come_and_go() -> None:
    assert names(steps([TOP % ""], [SIDE % ""])) == {"added": ["side"], "removed": ["top"]}
    assert names(steps([TOP % "", SIDE % ", enabled: false"], [TOP % "", SIDE % ""])) == {
        "added": ["side"],
        "unchanged": ["top"],
    }


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("publish: {bind: 'tcp://127.0.0.1:7'}", "publish.bind has changed, which takes effect only at a restart"),
        ("control: {bind: 'tcp://127.0.0.1:7'}", "control.bind has changed"),
        ("metrics: {listen: '127.0.0.1:7'}", "metrics.listen has changed"),
        ("engine: {device: 'cpu:torch', threads: 1}", "engine.device, engine.threads have changed"),
        ("journal: {path: null}\narchive: {max_gb: 0}", "journal.path, archive.max_gb have changed"),
        ("publish: {masks: none, frame_hz: 0}", "publish.masks, publish.frame_hz have changed"),
    ],
)
def test_what_takes_a_restart_is_refused_and_said(more: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as refusal:
        steps([TOP % ""], [TOP % "", SIDE % ""], more)
    assert "Nothing was changed; restart the daemon when the line may pause" in str(refusal.value)
