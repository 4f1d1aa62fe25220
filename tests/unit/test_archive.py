"""The archive: what is kept and what is not, in what order things happen, and that nobody waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from archived import MAP, NG, OK, Line, noise

from inspectd.errors import StartError, UsageError
from inspectd.history import archive, pictures, shelf
from inspectd.history.archive import Archive, Terms
from inspectd.history.pictures import Shadowed
from inspectd.records import Finding, Outcome, Reason, Stamp, Verdict, fault
from inspectd.wire.messages import rfc3339


@pytest.mark.parametrize(("shape", "kind"), [((48, 64, 3), "uint8"), ((47, 33), "uint8"), ((48, 64), "uint16")])
def test_what_is_kept_is_what_was_seen_and_what_was_said(
    make_line: Callable[..., Line], shape: tuple[int, ...], kind: str
) -> None:
    line = make_line()
    picture = noise(1, shape, kind)
    line.judge(picture)
    line.judge(picture, part="a.png")
    first, second = line.files()
    for path, seq, is_live in ((first, 1, True), (second, 2, False)):
        kept = pictures.read(path)
        assert np.array_equal(kept.picture, picture)
        assert kept.picture.dtype == picture.dtype
        assert kept.map_ is not None
        assert np.array_equal(kept.map_, MAP)
        assert (kept.said.header.seq, kept.said.header.score, kept.said.header.epoch) == (seq, 1.5, "e1")
        assert (kept.said.form, kept.said.is_live, kept.said.shadow) == ("cpu:openvino float32", is_live, None)
        assert path.parent.parent.name == "top"
        assert np.array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), picture), "any program can open it"
    assert [pictures.name_of(line.headers[seq]) for seq in (1, 2)] == [first.name, second.name]
    assert line.archive.health.kept == 2
    assert line.archive.health.bytes_ == sum(path.stat().st_size for path in (first, second))


def test_ng_and_faults_are_kept_and_of_the_rest_a_share(make_line: Callable[..., Line]) -> None:
    line = make_line(ok_share=0.25)
    line.judge(noise(), fault(Reason.PICTURE, "too dark"))
    line.judge(noise(), fault(Reason.BYPASS, "somebody cleans"))
    for _ in range(400):
        line.judge(noise(shape=(4, 4)), OK)
    found = [pictures.parse_name(path.name) for path in line.files()]
    assert [one.seq for one in found if one and one.verdict is Outcome.FAULT] == [1]
    assert 40 < len([one for one in found if one and one.verdict is Outcome.OK]) < 180


def test_a_mark_can_be_changed_and_one_without_a_picture_says_so(make_line: Callable[..., Line]) -> None:
    line = make_line()
    line.judge(noise())
    line.judge(noise(), OK)
    first = line.mark(1, "good")
    again = line.mark(1, "good")
    assert first == again
    changed = line.mark(1, "bad")
    assert changed is not None
    assert [*line.folder.rglob("*.png")] == [changed]
    assert line.mark(2, "bad") is None
    assert line.archive.find("top", "e1", 1) == changed.name
    assert line.archive.find("top", "e1", 2) is line.archive.find("side", "e1", 1) is None


def test_what_a_second_model_says_after_a_mark_leaves_the_picture_where_it_is(make_line: Callable[..., Line]) -> None:
    line = make_line()
    verdict = line.judge(noise())
    marked = line.mark(1, "bad")
    assert verdict.stamp is not None
    line.archive.keep(verdict.stamp, noise(), verdict, OK)
    assert line.files() == [marked]
    assert pictures.read(line.files()[0]).said.shadow is not None
    assert line.archive.health.bytes_ == line.files()[0].stat().st_size
    assert line.mark(1, "good") == line.files()[0]


def test_a_mark_that_has_begun_is_waited_for_and_one_that_has_not_is_not_made(
    make_line: Callable[..., Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = make_line()
    line.judge(noise(1))
    line.judge(noise(2))
    line.archive.flush()
    monkeypatch.setattr(archive, "ORDER_S", 0.1)
    monkeypatch.setattr(shelf, "_sync", lambda _: time.sleep(0.5))
    found: list[Path | None] = []
    first = threading.Thread(target=lambda: found.append(line.mark(1, "bad")))
    first.start()
    time.sleep(0.05)
    with pytest.raises(StartError, match="did not answer"):
        line.mark(2, "bad")
    first.join()
    assert [path is not None for path in found] == [True]
    line.archive.flush()
    assert [path.parent.name == "bad" for path in line.files()] == [True, False]


def test_a_fault_that_does_not_end_costs_no_more_than_a_picture_a_second(make_line: Callable[..., Line]) -> None:
    line = make_line()
    dark = fault(Reason.PICTURE, "too dark")
    for _ in range(archive.ALIKE + 50):
        line.judge(noise(shape=(4, 4)), dark)
    assert archive.ALIKE <= len(line.files()) <= archive.ALIKE + 3
    line.judge(noise(shape=(4, 4)), OK)
    before = len(line.files())
    for _ in range(5):
        line.judge(noise(shape=(4, 4)), dark)
        line.judge(noise(shape=(4, 4)), fault(Reason.DEADLINE, "late"))
    assert len(line.files()) == before + 10, "each is news"


def test_a_picture_that_is_kept_twice_before_its_verdict_is_out_waits_once(make_line: Callable[..., Line]) -> None:
    line = make_line()
    stamp = Stamp("top", 1, time.monotonic_ns())
    verdict = Verdict("top", 1, NG, 0, stamp)
    line.archive.take(stamp, noise(), verdict)
    line.archive.keep(stamp, noise(), verdict, OK)
    assert line.archive.health.waiting == 1
    line.publish(verdict)
    (path,) = line.files()
    assert pictures.read(path).said.shadow is not None
    assert line.archive._waiting_bytes == 0


def test_nobody_waits_for_it_and_what_finds_no_room_is_counted(
    make_line: Callable[..., Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = make_line()
    line.archive.flush()
    monkeypatch.setattr(archive, "MOST_WAITING_BYTES", 3 * noise().nbytes)
    slow = pictures.encode

    def encode(*given: object, **more: object) -> bytes:
        time.sleep(0.3)
        return slow(*given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(pictures, "encode", encode)
    for seed in range(10):
        line.judge(noise(seed))
    lost = line.archive.health.lost["top"]
    assert lost >= 6
    assert line.archive.health.detail is not None
    assert "come faster than it is written" in line.archive.health.detail
    assert len(line.files()) == 10 - lost
    line.judge(noise())
    assert len(line.files()) == 11 - lost, "what is written gives its room back"


def test_a_verdict_that_is_long_gone_keeps_no_picture_waiting(make_line: Callable[..., Line]) -> None:
    line = make_line()
    stamp = Stamp("top", 1, time.monotonic_ns())
    late = Verdict("top", 1, fault(Reason.DEADLINE, "late"), 0, stamp)
    for seq in range(1, archive.HEADERS_KEPT + 3):
        line.publish(Verdict("top", seq, late.finding, 0, stamp))
    line.offer(noise(), late)
    assert line.files() == []
    assert (line.archive.health.waiting, line.archive.health.lost) == (0, {"top": 1})


def test_a_folder_that_cannot_be_written_costs_pictures_and_is_said_until_it_can(
    make_line: Callable[..., Line], tmp_path: Path
) -> None:
    (tmp_path / "archive").write_text("a file")
    line = make_line()
    line.judge(noise())
    line.archive.flush()
    assert line.archive.health.detail is not None
    assert "cannot be written" in line.archive.health.detail
    assert line.archive.health.lost == {"top": 1}
    (tmp_path / "archive").unlink()
    line.judge(noise())
    assert len(line.files()) == 1
    assert line.archive.health.detail is None


def test_without_a_folder_nothing_is_kept() -> None:
    off = Archive(None, Terms(1e9, 1.0))
    off.start()
    assert not off.is_on
    assert not off.wants(Stamp("top", 1, 1), Verdict("top", 1, NG, 0))
    assert off.mark("top", "x", "bad") is None
    off.stop()


def test_what_a_second_model_said_goes_with_the_picture(make_line: Callable[..., Line]) -> None:
    line = make_line()
    stamp = Stamp("top", 1, time.monotonic_ns())
    verdict = Verdict("top", 1, OK, 0, stamp)
    line.archive.keep(stamp, noise(), verdict, Finding(Outcome.NG, model="next 0123", score=7.0, threshold=5.0))
    line.publish(verdict)
    (path,) = line.files()
    assert pictures.read(path).said.shadow == Shadowed("next 0123", Outcome.NG, 7.0, 5.0)


def test_damage_is_told_whatever_was_damaged(make_line: Callable[..., Line]) -> None:
    line = make_line()
    line.judge(noise())
    (path,) = line.files()
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        at = int(rng.integers(0, len(whole)))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        with pytest.raises(UsageError):
            pictures.read(path)
    for at in (0, 5, 40, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:at])
        with pytest.raises(UsageError):
            pictures.read(path)
    foreign = path.with_name("foreign.png")
    cv2.imwrite(str(foreign), noise())
    with pytest.raises(UsageError, match="not one of an archive"):
        pictures.read(foreign)


def test_names_say_when_and_what() -> None:
    name = pictures.file_name(rfc3339(0), "abc", 7, Outcome.NG)
    assert name == "1970-01-01T000000.000000_abc_7_ng.png"
    found = pictures.parse_name(name)
    assert found is not None
    assert (found.day, found.epoch, found.seq, found.verdict) == ("1970-01-01", "abc", 7, Outcome.NG)
    assert pictures.parse_name("../../x_abc_7_ng.png") is None
