"""The archive: what is kept, what is given up, what a person has marked, and what is said when that cannot be done."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from inspectd.errors import StartError, UsageError
from inspectd.history import archive, pictures, shelf
from inspectd.history.archive import Archive, Terms
from inspectd.history.pictures import Shadowed
from inspectd.records import Finding, Mask, Outcome, Picture, Reason, Stamp, Verdict, fault
from inspectd.wire.messages import rfc3339, verdict_message

DAY_NS = 86_400_000_000_000
MAP = np.arange(12, dtype=np.uint8).reshape(3, 4)
SCORED = {"score": 1.5, "threshold": 1.0, "model": "top 0123456789ab", "form": "cpu:openvino float32"}
NG = Finding(Outcome.NG, mask=Mask(MAP, (0, 0, 8, 6)), **SCORED)  # type: ignore[arg-type]
OK = Finding(Outcome.OK, **SCORED)  # type: ignore[arg-type]


class Line:
    """An archive, and a camera and a publisher that feed it."""

    def __init__(self, folder: Path, epoch: str = "e1", max_bytes: float = 1e9, ok_share: float = 0.0) -> None:
        self.folder = folder / "archive"
        self.epoch = epoch
        self.archive = Archive(self.folder, Terms(max_bytes, ok_share))
        self.archive.start()
        self.seq = 0
        self.headers: dict[int, bytes] = {}

    def judge(self, picture: Picture, finding: Finding = NG, part: str | None = None, day: int = 0) -> Verdict:
        """Have a picture judged: offered and published, in either order."""
        self.seq += 1
        captured_ns = time.monotonic_ns() + day * DAY_NS
        stamp = Stamp("top", self.seq, captured_ns, part)
        verdict = Verdict("top", self.seq, finding, 0, stamp)
        if self.seq % 2:
            self.publish(verdict)
            self.offer(picture, verdict)
        else:
            self.offer(picture, verdict)
            self.publish(verdict)
        return verdict

    def offer(self, picture: Picture, verdict: Verdict) -> None:
        assert verdict.stamp is not None
        if self.archive.wants(verdict.stamp, verdict):
            self.archive.take(verdict.stamp, picture, verdict)

    def publish(self, verdict: Verdict) -> bytes:
        offset_ns = time.time_ns() - time.monotonic_ns()
        header = msgspec.json.encode(verdict_message(verdict, self.epoch, offset_ns, True, time.monotonic_ns()))
        self.headers[verdict.seq] = header
        self.archive.heard(verdict.camera, verdict.seq, header)
        return header

    def files(self) -> list[Path]:
        self.archive.flush()
        return sorted(self.folder.rglob("*.png"), key=lambda path: path.name)

    def mark(self, seq: int, say: pictures.Say) -> Path | None:
        name = pictures.name_of(self.headers[seq])
        assert name is not None
        return self.archive.mark("top", name, say)

    def stop(self) -> None:
        self.archive.stop()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Line]]:
    made: list[Line] = []

    def start(**more: object) -> Line:
        made.append(Line(tmp_path, **more))  # type: ignore[arg-type]
        return made[-1]

    yield start
    for one in made:
        one.stop()


def noise(seed: int = 0, shape: tuple[int, ...] = (48, 64, 3), kind: str = "uint8") -> Picture:
    return np.random.default_rng(seed).integers(0, np.iinfo(kind).max, shape).astype(kind)  # type: ignore[no-any-return]


@pytest.mark.parametrize(("shape", "kind"), [((48, 64, 3), "uint8"), ((47, 33), "uint8"), ((48, 64), "uint16")])
def test_what_is_kept_is_what_was_seen_and_what_was_said(
    make: Callable[..., Line], shape: tuple[int, ...], kind: str
) -> None:
    line = make()
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


def test_ng_and_faults_are_kept_and_of_the_rest_a_share(make: Callable[..., Line]) -> None:
    line = make(ok_share=0.25)
    line.judge(noise(), fault(Reason.PICTURE, "too dark"))
    line.judge(noise(), fault(Reason.BYPASS, "somebody cleans"))
    for _ in range(400):
        line.judge(noise(shape=(4, 4)), OK)
    found = [pictures.parse_name(path.name) for path in line.files()]
    assert [one.seq for one in found if one and one.verdict is Outcome.FAULT] == [1]
    assert 40 < len([one for one in found if one and one.verdict is Outcome.OK]) < 180


def test_the_oldest_are_given_up_but_none_that_a_person_has_marked(make: Callable[..., Line]) -> None:
    line = make(max_bytes=12_500 * 10)  # a picture of noise takes 9.3 KB
    for day in (-3, -2, -1):
        for seed in range(3):
            line.judge(noise(seed), day=day)
    assert len(line.files()) == 9
    marked = line.mark(1, "bad")
    assert marked is not None
    assert marked.parent == line.folder / "top" / "marked" / "bad"
    for seed in range(10):
        line.judge(noise(seed))
    names = [pictures.parse_name(path.name) for path in line.files()]
    kept = [name.seq for name in names if name is not None]
    assert kept[0] == 1
    assert kept[1:] == list(range(20 - len(kept) + 1, 20)), "the newest, and nothing between"
    assert len(kept) >= 12
    assert line.archive.health.bytes_ <= 12_500 * 10
    days = {path.name for path in (line.folder / "top").iterdir()}
    assert len(days - {"marked"}) <= 2, "days without pictures are gone"


def test_marked_pictures_alone_may_fill_it_and_that_is_said(make: Callable[..., Line]) -> None:
    line = make(max_bytes=20_000)
    line.judge(noise(1))
    line.judge(noise(2))
    for seq in (1, 2):
        assert line.mark(seq, "good") is not None
    line.judge(noise(3))
    assert len(line.files()) == 2
    health = line.archive.health
    assert health.detail is not None
    assert "has no room: marked pictures take" in health.detail
    assert health.lost == {"top": 1}


def test_a_mark_can_be_changed_and_one_without_a_picture_says_so(make: Callable[..., Line]) -> None:
    line = make()
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


def test_what_a_second_model_says_after_a_mark_leaves_the_picture_where_it_is(make: Callable[..., Line]) -> None:
    line = make()
    verdict = line.judge(noise())
    marked = line.mark(1, "bad")
    assert verdict.stamp is not None
    line.archive.keep(verdict.stamp, noise(), verdict, OK)
    assert line.files() == [marked]
    assert pictures.read(line.files()[0]).said.shadow is not None
    assert line.archive.health.bytes_ == line.files()[0].stat().st_size
    assert line.mark(1, "good") == line.files()[0]


def test_what_a_killed_daemon_left_is_taken_up_by_the_next(make: Callable[..., Line]) -> None:
    line = make()
    for seed in range(4):
        line.judge(noise(seed))
    first, second, third, fourth = line.files()
    line.stop()
    first.unlink()
    third.with_name(third.name + ".partial").write_bytes(b"half")
    marked = line.folder / "top" / "marked" / "good"
    marked.mkdir(parents=True)
    (marked / (third.name + ".partial")).write_bytes(b"half")
    others = [third.parent / "readme.png", third.parent / "video.mkv.partial", line.folder / "back up" / third.name]
    others += [line.folder / "top" / "2020-01-01" / third.name]
    for other in others:
        other.parent.mkdir(exist_ok=True)
        other.write_bytes(b"somebody else's")
    (third.parent / third.name.replace("_3_", "_5_")).symlink_to("nothing")
    later = make(epoch="e2")
    later.judge(noise())
    later.archive.flush()
    ours = [path for path in later.folder.rglob("*.png") if path.is_file() and path not in others]
    assert set(ours) > {second, third, fourth}
    assert len(ours) == 4
    assert later.archive.health.bytes_ == sum(path.stat().st_size for path in ours)
    assert all(other.exists() for other in others)
    assert [*later.folder.rglob("*.partial")] == [others[1]]
    assert later.archive.mark("top", second.name, "bad") is not None, "of an earlier epoch"


def test_what_is_somebody_elses_takes_no_part_in_what_is_given_up(make: Callable[..., Line]) -> None:
    line = make(max_bytes=40_000)
    line.judge(noise())
    (first,) = line.files()
    (first.parent / "readme.png").write_bytes(bytes(100_000))
    hostile = line.folder / "top" / "2026-01-01" / "2026-01-01T000000.000000_e_9999999999999999999_ng.png"
    hostile.parent.mkdir()
    hostile.write_bytes(b"x")
    (line.folder / os.fsdecode(b"caf\xe9") / "2026-01-01").mkdir(parents=True)
    for seed in range(12):
        line.judge(noise(seed))
    kept = [path for path in line.files() if path.name not in ("readme.png", hostile.name)]
    assert len(kept) == 4
    assert line.archive.health.detail is None
    assert hostile.exists()


def test_what_links_lead_to_is_left_alone(make: Callable[..., Line], tmp_path: Path) -> None:
    line = make(max_bytes=40_000)
    for seed in range(3):
        line.judge(noise(seed), day=-400)
    elsewhere = tmp_path / "elsewhere"
    day = line.files()[0].parent
    shutil.copytree(day, elsewhere)
    for camera in ("side", "left"):
        (line.folder / camera).mkdir()
    (line.folder / "side" / day.name).symlink_to(elsewhere)
    (line.folder / "right").symlink_to(line.folder / "left")
    for seed in range(8):
        line.judge(noise(seed))
    assert len(list(elsewhere.iterdir())) == 3
    assert len([path for path in line.files() if not path.parent.is_symlink()]) == 4
    today = line.files()[-1].parent
    shutil.move(today, tmp_path / "today")
    today.symlink_to(tmp_path / "today")
    line.judge(noise(9))
    line.archive.flush()
    assert len(list((tmp_path / "today").iterdir())) == 4
    assert line.archive.health.detail is not None
    assert "in, a link; pictures are not kept there" in line.archive.health.detail


def test_a_folder_that_cannot_be_read_or_emptied_is_left_aside_and_costs_nothing_else(
    make: Callable[..., Line], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    line = make(max_bytes=60_000)
    for day in (-9, -8, -8, -8, -7, -7):
        line.judge(noise(line.seq), day=day)
    blind, stuck = (line.files()[i].parent for i in (0, 1))
    line.stop()
    scandir, unlink = os.scandir, Path.unlink

    def scan(path: Path) -> object:
        if path == blind:
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(path)

    def remove(path: Path, *, missing_ok: bool = False) -> None:
        if path.parent == stuck and path.suffix == ".png":
            raise PermissionError(errno.EACCES, "Permission denied")
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(shelf.os, "scandir", scan)
    monkeypatch.setattr(Path, "unlink", remove)
    later = make(max_bytes=60_000, epoch="e2")
    for seed in range(10):
        later.judge(noise(seed))
    later.archive.flush()
    assert later.archive.health.detail is None
    assert later.archive.health.lost == {}
    assert (len(list(scandir(blind))), len(list(scandir(stuck)))) == (1, 3)
    assert len([path for path in later.files() if "_e2_" in path.name]) == 6
    for folder in (blind, stuck):
        assert f"{folder} is left aside" in caplog.text


def test_what_did_not_fit_is_said_until_something_like_it_does(
    make: Callable[..., Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "PROBE_S", 0.02)
    line = make(max_bytes=25_000)
    line.judge(noise(1))
    line.judge(noise(2))
    for seq in (1, 2):
        assert line.mark(seq, "good") is not None
    line.judge(noise(3))
    line.archive.flush()
    time.sleep(0.3)
    assert line.archive.health.detail is not None, "a byte would fit, a picture does not"
    shutil.rmtree(line.folder / "top" / "marked")
    give_up_s = time.monotonic() + 10
    while line.archive.health.detail is not None:
        assert time.monotonic() < give_up_s
        time.sleep(0.02)


def test_a_mark_that_has_begun_is_waited_for_and_one_that_has_not_is_not_made(
    make: Callable[..., Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = make()
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


def test_a_picture_larger_than_all_there_is_costs_none_that_was_kept(make: Callable[..., Line]) -> None:
    line = make(max_bytes=40_000)
    for seed in range(3):
        line.judge(noise(seed))
    assert len(line.files()) == 3
    line.judge(noise(shape=(200, 200, 3)))
    assert len(line.files()) == 3
    assert line.archive.health.detail is not None
    assert "has no room" in line.archive.health.detail


def test_what_others_take_away_makes_room(make: Callable[..., Line]) -> None:
    line = make(max_bytes=60_000)
    for seed in range(6):
        line.judge(noise(seed))
    for path in line.files()[2:]:
        path.unlink()
    line.judge(noise(7))
    line.judge(noise(8))
    assert len(line.files()) == 4, "none was given up"
    for seq in (1, 2, 7, 8):
        assert line.mark(seq, "good") is not None
    for seed in range(4):
        line.judge(noise(seed))
    shutil.move(line.folder / "top" / "marked", line.folder.parent / "elsewhere")
    for seed in range(3):
        line.judge(noise(seed))
    assert len(line.files()) >= 5
    assert line.archive.health.detail is None


def test_by_a_clock_that_was_wrong_for_a_while_what_is_from_the_future_goes_first(make: Callable[..., Line]) -> None:
    line = make(max_bytes=60_000)
    for day in (0, 3650, 3650, 3650, 0, 0, 0, 0, 0):
        line.judge(noise(line.seq), day=day)
    seqs = [name.seq for path in line.files() if (name := pictures.parse_name(path.name))]
    assert seqs == [1, 5, 6, 7, 8, 9]


def test_a_folder_that_is_replaced_while_it_is_written_is_taken_anew(make: Callable[..., Line]) -> None:
    line = make(max_bytes=60_000)
    line.judge(noise())
    assert len(line.files()) == 1
    shutil.rmtree(line.folder)
    for seed in range(10):
        line.judge(noise(seed))
    assert len(line.files()) == 6
    with pytest.raises(StartError, match="in use by another inspectd"):
        Archive(line.folder, Terms(1e9, 0)).start()


def test_a_fault_that_does_not_end_costs_no_more_than_a_picture_a_second(make: Callable[..., Line]) -> None:
    line = make()
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


def test_a_picture_that_is_kept_twice_before_its_verdict_is_out_waits_once(make: Callable[..., Line]) -> None:
    line = make()
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
    make: Callable[..., Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = make()
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


def test_a_verdict_that_is_long_gone_keeps_no_picture_waiting(make: Callable[..., Line]) -> None:
    line = make()
    stamp = Stamp("top", 1, time.monotonic_ns())
    late = Verdict("top", 1, fault(Reason.DEADLINE, "late"), 0, stamp)
    for seq in range(1, archive.HEADERS_KEPT + 3):
        line.publish(Verdict("top", seq, late.finding, 0, stamp))
    line.offer(noise(), late)
    assert line.files() == []
    assert (line.archive.health.waiting, line.archive.health.lost) == (0, {"top": 1})


def test_a_folder_that_cannot_be_written_costs_pictures_and_is_said_until_it_can(
    make: Callable[..., Line], tmp_path: Path
) -> None:
    (tmp_path / "archive").write_text("a file")
    line = make()
    line.judge(noise())
    line.archive.flush()
    assert line.archive.health.detail is not None
    assert "cannot be written" in line.archive.health.detail
    assert line.archive.health.lost == {"top": 1}
    (tmp_path / "archive").unlink()
    line.judge(noise())
    assert len(line.files()) == 1
    assert line.archive.health.detail is None


def test_a_disk_that_is_nearly_full_is_left_to_others(
    make: Callable[..., Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = make()
    line.judge(noise())
    assert len(line.files()) == 1
    real = os.statvfs(line.folder)
    facts = [*real[:4], 1, *real[5:]]
    monkeypatch.setattr(shelf.os, "statvfs", lambda _: os.statvfs_result(facts))
    line.judge(noise())
    assert len(line.files()) == 1, "nothing is given up for it"
    assert line.archive.health.detail is not None
    assert "left to others" in line.archive.health.detail


def test_two_daemons_do_not_share_an_archive(make: Callable[..., Line]) -> None:
    line = make()
    with pytest.raises(StartError, match="in use by another inspectd"):
        Archive(line.folder, Terms(1e9, 0)).start()


def test_a_file_system_that_cannot_lock_a_folder_is_no_reason_not_to_keep_anything(
    make: Callable[..., Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(_fd: int, _how: int) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(shelf.fcntl, "flock", flock)
    line = make()
    line.judge(noise())
    assert len(line.files()) == 1


def test_without_a_folder_nothing_is_kept() -> None:
    off = Archive(None, Terms(1e9, 1.0))
    off.start()
    assert not off.is_on
    assert not off.wants(Stamp("top", 1, 1), Verdict("top", 1, NG, 0))
    assert off.mark("top", "x", "bad") is None
    off.stop()


def test_what_a_second_model_said_goes_with_the_picture(make: Callable[..., Line]) -> None:
    line = make()
    stamp = Stamp("top", 1, time.monotonic_ns())
    verdict = Verdict("top", 1, OK, 0, stamp)
    line.archive.keep(stamp, noise(), verdict, Finding(Outcome.NG, model="next 0123", score=7.0, threshold=5.0))
    line.publish(verdict)
    (path,) = line.files()
    assert pictures.read(path).said.shadow == Shadowed("next 0123", Outcome.NG, 7.0, 5.0)


def test_damage_is_told_whatever_was_damaged(make: Callable[..., Line]) -> None:
    line = make()
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
