"""The archive's folder: what is given up and what never, what others do in it, and what is said when it has no room."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import archived
import pytest
from archived import Line, noise

from inspectd.errors import StartError
from inspectd.history import archive, pictures, shelf
from inspectd.history.archive import Archive, Terms
from inspectd.records import Challenge, Known


def test_the_oldest_are_given_up_but_none_that_a_person_has_marked(make_line: Callable[..., Line]) -> None:
    line = make_line(max_bytes=12_500 * 10)  # a picture of noise takes 9.3 KB
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


def test_marked_pictures_alone_may_fill_it_and_that_is_said(make_line: Callable[..., Line]) -> None:
    line = make_line(max_bytes=20_000)
    line.judge(noise(1))
    line.judge(noise(2))
    for seq in (1, 2):
        assert line.mark(seq, "good") is not None
    line.judge(noise(3))
    assert len(line.files()) == 2
    health = line.archive.health
    assert health.detail is not None
    assert "has no room: pictures that were marked, and those of known parts, take" in health.detail
    assert health.lost == {"top": 1}


def test_of_a_known_part_the_first_picture_and_the_newest_stay(
    make_line: Callable[..., Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "NEWEST_KNOWN", 3)
    line = make_line(max_bytes=12_500 * 8)
    part, other = Challenge(Known.BAD, "M-7"), Challenge(Known.GOOD)
    for day in range(-9, -2):
        line.judge(noise(day + 20), day=day, known=part)
    line.judge(noise(30), archived.OK, known=other)
    for seed in range(8):
        line.judge(noise(seed))
    line.files()
    folder = line.folder / "top" / "challenged"
    assert sorted(one.name for one in folder.iterdir()) == ["bad_M-7", "good"]
    kept = [pictures.parse_name(path.name) for path in pictures.of_known_part(line.folder, "top", part)]
    assert [one.seq for one in kept if one is not None] == [1, 5, 6, 7]
    assert len(pictures.of_known_part(line.folder, "top", other)) == 1, "whatever was said of it"
    assert line.archive.health.bytes_ <= 12_500 * 8
    assert sum(path.stat().st_size for path in line.files()) == line.archive.health.bytes_
    assert {pictures.camera_of(path) for path in line.files()} == {"top"}
    found = line.archive.find("top", "e1", 6)
    assert found is not None
    assert pictures.parse_name(found) == kept[2]


def test_known_parts_leave_room_for_others(make_line: Callable[..., Line]) -> None:
    line = make_line(max_bytes=12_500 * 6)
    for seed in range(6):
        line.judge(noise(seed), known=Challenge(Known.BAD, "M-7"))
    for seed in range(10, 14):
        line.judge(noise(seed))
    line.files()
    health = line.archive.health
    assert (health.detail, health.lost) == (None, {})
    kept = pictures.of_known_part(line.folder, "top", Challenge(Known.BAD, "M-7"))
    assert len(kept) <= 6
    assert pictures.parse_name(kept[0].name) is not None
    assert "_1_" in kept[0].name, "the first one stays"


def test_a_camera_may_be_called_as_a_folder_is(tmp_path: Path) -> None:
    assert pictures.camera_of(tmp_path / "challenged" / "2026-11-29" / "x.png") == "challenged"
    assert not pictures.stays(tmp_path / "challenged" / "2026-11-29" / "x.png")
    assert pictures.stays(tmp_path / "top" / "challenged" / "bad_M-7" / "x.png")
    assert not pictures.stays(tmp_path / "top" / "challenged" / "worse" / "x.png")


def test_what_a_killed_daemon_left_is_taken_up_by_the_next(make_line: Callable[..., Line]) -> None:
    line = make_line()
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
    later = make_line(epoch="e2")
    later.judge(noise())
    later.archive.flush()
    ours = [path for path in later.folder.rglob("*.png") if path.is_file() and path not in others]
    assert set(ours) > {second, third, fourth}
    assert len(ours) == 4
    assert later.archive.health.bytes_ == sum(path.stat().st_size for path in ours)
    assert all(other.exists() for other in others)
    assert [*later.folder.rglob("*.partial")] == [others[1]]
    assert later.archive.mark("top", second.name, "bad") is not None, "of an earlier epoch"


def test_what_is_somebody_elses_takes_no_part_in_what_is_given_up(make_line: Callable[..., Line]) -> None:
    line = make_line(max_bytes=40_000)
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


def test_what_links_lead_to_is_left_alone(make_line: Callable[..., Line], tmp_path: Path) -> None:
    line = make_line(max_bytes=40_000)
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
    make_line: Callable[..., Line], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    line = make_line(max_bytes=60_000)
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
    later = make_line(max_bytes=60_000, epoch="e2")
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
    make_line: Callable[..., Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "PROBE_S", 0.02)
    line = make_line(max_bytes=25_000)
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


def test_a_picture_larger_than_all_there_is_costs_none_that_was_kept(make_line: Callable[..., Line]) -> None:
    line = make_line(max_bytes=40_000)
    for seed in range(3):
        line.judge(noise(seed))
    assert len(line.files()) == 3
    line.judge(noise(shape=(200, 200, 3)))
    assert len(line.files()) == 3
    assert line.archive.health.detail is not None
    assert "has no room" in line.archive.health.detail


def test_what_others_take_away_makes_room(make_line: Callable[..., Line]) -> None:
    line = make_line(max_bytes=60_000)
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


def test_by_a_clock_that_was_wrong_for_a_while_the_future_goes_first(
    make_line: Callable[..., Line],
) -> None:
    line = make_line(max_bytes=60_000)
    for day in (0, 3650, 3650, 3650, 0, 0, 0, 0, 0):
        line.judge(noise(line.seq), day=day)
    seqs = [name.seq for path in line.files() if (name := pictures.parse_name(path.name))]
    assert seqs == [1, 5, 6, 7, 8, 9]


def test_a_folder_that_is_replaced_while_it_is_written_is_taken_anew(make_line: Callable[..., Line]) -> None:
    line = make_line(max_bytes=60_000)
    line.judge(noise())
    assert len(line.files()) == 1
    shutil.rmtree(line.folder)
    for seed in range(10):
        line.judge(noise(seed))
    assert len(line.files()) == 6
    with pytest.raises(StartError, match="in use by another inspectd"):
        Archive(line.folder, Terms(1e9, 0)).start()


def test_a_disk_that_is_nearly_full_is_left_to_others(
    make_line: Callable[..., Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = make_line()
    line.judge(noise())
    assert len(line.files()) == 1
    real = os.statvfs(line.folder)
    facts = [*real[:4], 1, *real[5:]]
    monkeypatch.setattr(shelf.os, "statvfs", lambda _: os.statvfs_result(facts))
    line.judge(noise())
    assert len(line.files()) == 1, "nothing is given up for it"
    assert line.archive.health.detail is not None
    assert "left to others" in line.archive.health.detail


def test_two_daemons_do_not_share_an_archive(make_line: Callable[..., Line]) -> None:
    line = make_line()
    with pytest.raises(StartError, match="in use by another inspectd"):
        Archive(line.folder, Terms(1e9, 0)).start()


def test_a_file_system_that_cannot_lock_a_folder_is_no_reason_not_to_keep_anything(
    make_line: Callable[..., Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(_fd: int, _how: int) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(shelf.fcntl, "flock", flock)
    line = make_line()
    line.judge(noise())
    assert len(line.files()) == 1


def test_an_archive_may_itself_be_a_link_to_another_disk(make_line: Callable[..., Line], tmp_path: Path) -> None:
    (tmp_path / "large disk").mkdir()
    (tmp_path / "archive").symlink_to(tmp_path / "large disk")
    line = make_line()
    line.judge(noise())
    assert line.archive.health.detail is None
    assert len(line.files()) == 1
    assert line.mark(1, "bad") is not None
    assert line.archive.health.bytes_ > 0
