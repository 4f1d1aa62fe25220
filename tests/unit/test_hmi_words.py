"""Both languages of the operator's page say everything that it says."""

from __future__ import annotations

import re
from pathlib import Path

from inspectd import alarms
from inspectd.hmi import app, words
from inspectd.records import Outcome, Reason

SAID = re.compile(r"""\bsay\("((?:[^"\\]|\\.)*)"\)""")


def sentences() -> set[str]:
    """What templates and scripts say, as it stands there."""
    files = [*(app.HERE / "pages").glob("*.html"), *(app.HERE / "static").glob("*.js")]
    return {found for file in files for found in SAID.findall(Path(file).read_text())}


def test_every_sentence_of_the_pages_has_its_chinese() -> None:
    found = sentences()
    assert len(found) > 40
    assert found <= words.CHINESE.keys()


def test_every_word_of_the_protocol_has_its_chinese() -> None:
    assert {*map(str, Outcome), *map(str, Reason)} <= words.CHINESE.keys()
    assert {"starting", "running", "lost", "frozen", "stopped", "bypass"} <= words.CHINESE.keys()


def test_every_alarm_and_what_is_done_about_it_has_its_chinese() -> None:
    every = [*alarms.OF_CAMERA, *alarms.OF_DAEMON]
    assert len(every) > 20
    assert {str(one.name) for one in every} <= words.CHINESE.keys()
    assert {one.action for one in every} <= words.CHINESE.keys()
    assert {one.action for one in every} | {str(one.name) for one in every} >= words.OF_ALARMS.keys(), "nothing old"


def test_a_sentence_that_nobody_knows_stays_as_it_is() -> None:
    assert words.Sayer("zh")("ok") == "合格"
    assert words.Sayer("zh")("of the daemon's own") == "of the daemon's own"
    assert words.Sayer("en")("ok") == "ok"
    assert words.Sayer("en")("camera_lost") == "camera lost"
