"""A live capture that was stopped can go on, and loses at most the picture at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import largest_file

from calibrate.acquire.capture_session import CaptureSession
from inspectd.errors import StartError, UsageError

FACTS = {"source": "0", "size": [64, 48], "format": None}
RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 255, (48, 64, 3), np.uint8)
DEEP = RNG.integers(0, 65535, (48, 64), np.uint16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "group" / ".top.capture"


def take(folder: Path, *pictures: np.ndarray) -> None:  # type: ignore[type-arg]
    with CaptureSession.begin(folder, FACTS) as session:
        for picture in pictures:
            session.add(picture)


def test_what_was_taken_comes_back_bit_for_bit(folder: Path) -> None:
    take(folder, COLOUR, DEEP, DEEP[:20])
    with CaptureSession.resume(folder, FACTS) as session:
        back = list(session.pictures())
        assert session.add(COLOUR) == "frame 4"
    assert [name for _, name in back] == ["frame 1", "frame 2", "frame 3"]
    for (picture, _), expected in zip(back, (COLOUR, DEEP, DEEP[:20]), strict=True):
        assert picture.dtype == expected.dtype
        assert np.array_equal(picture, expected)


def test_a_session_without_pictures_leaves_nothing(folder: Path) -> None:
    take(folder)
    assert not folder.parent.exists()


def test_pictures_of_a_stopped_capture_are_not_overwritten(folder: Path) -> None:
    take(folder, COLOUR)
    with pytest.raises(UsageError, match=r"holds 1 pictures.*--resume"):
        CaptureSession.begin(folder, FACTS)


def test_nothing_to_resume(folder: Path) -> None:
    with pytest.raises(UsageError, match="no capture to resume"):
        CaptureSession.resume(folder, FACTS)


@pytest.mark.parametrize(("name", "value"), [("source", "1"), ("size", [32, 32]), ("format", "MJPG")])
def test_a_capture_of_something_else_is_not_resumed(folder: Path, name: str, value: object) -> None:
    take(folder, COLOUR)
    with pytest.raises(UsageError, match=f"begun with {name}"):
        CaptureSession.resume(folder, {**FACTS, name: value})


def test_a_damaged_picture_is_dropped(folder: Path) -> None:
    take(folder, COLOUR, DEEP)
    (folder / "000001.png").write_bytes(b"\x89PNG")
    (folder / ".000003.png.partial").write_bytes(b"half")
    with CaptureSession.resume(folder, FACTS) as session:
        assert [name for _, name in session.pictures()] == ["frame 2"]


def test_two_at_once_are_refused(folder: Path) -> None:
    with CaptureSession.begin(folder, FACTS), pytest.raises(StartError, match="Another capture"):
        CaptureSession.begin(folder, FACTS)


def test_a_full_disk_is_one_sentence_and_loses_nothing(folder: Path) -> None:
    take(folder, COLOUR)
    with CaptureSession.resume(folder, FACTS) as session:
        with largest_file(1000), pytest.raises(StartError, match="The 1 that are there are not lost"):
            session.add(COLOUR)
        assert len(list(session.pictures())) == 1
