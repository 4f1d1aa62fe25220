"""What a capture child reads, without the child: freshness, videos, folders, the simulated line."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import write_pictures

from inspectd.cameras.grabbers.base import Broken, Grabbed, Nothing
from inspectd.cameras.grabbers.folder import FolderGrabber
from inspectd.cameras.grabbers.freshness import Freshness
from inspectd.cameras.grabbers.opening import open_grabber
from inspectd.cameras.grabbers.simulated import SimulatedGrabber
from inspectd.cameras.grabbers.video import VideoGrabber
from inspectd.cameras.protocol import CaptureSettings
from inspectd.errors import CameraError

FOUR = [np.full((48, 64, 3), level, np.uint8) for level in (0, 9, 20, 31)]
A, B, C, _ = FOUR
STALE, REPEAT = Nothing(), Nothing(is_repeat=True)


@pytest.mark.parametrize(
    ("is_compressed", "refuse_repeats", "seen", "expected"),
    [
        pytest.param(False, True, [(A, 1), (B, 2), (C, 3)], [None, None, None], id="new pictures"),
        pytest.param(False, True, [(A, 1), (B, 2), (A, 3), (B, 4)], [None, None, REPEAT, REPEAT], id="two in turn"),
        pytest.param(False, True, [(p, 0) for p in FOUR * 2], [None] * 4 + [REPEAT] * 4, id="four in turn"),
        pytest.param(True, True, [(A, 1), (B, 2), (A, 3)], [None, None, None], id="compressed, two in turn"),
        pytest.param(False, True, [(A, 1), (A, 1)], [None, STALE], id="the last buffer once more"),
        pytest.param(False, True, [(A, 1), (A, 2)], [None, REPEAT], id="raw sensors never repeat"),
        pytest.param(True, True, [(A, 1), (A, 2)], [None, None], id="a black compressed picture"),
        pytest.param(True, True, [(A, 1), (A, 1)], [None, STALE], id="compressed, and the stream stands still"),
        pytest.param(True, True, [(A, 0), (A, 0)], [None, REPEAT], id="compressed, without any time"),
        pytest.param(False, True, [(A, 0), (B, 0), (B, 0)], [None, None, REPEAT], id="raw, without any time"),
        pytest.param(False, False, [(A, 1), (A, 2)], [None, None], id="repeats allowed"),
        pytest.param(False, False, [(A, 1), (A, 1)], [None, STALE], id="but the last buffer never is"),
        pytest.param(False, True, [(A, 5), (B, 5)], [None, None], id="a clock that stands still is not believed"),
    ],
)
def test_an_old_picture_is_told_from_a_new_one(
    is_compressed: bool,
    refuse_repeats: bool,
    seen: list[tuple[np.ndarray, float]],  # type: ignore[type-arg]
    expected: list[Nothing | None],
) -> None:
    freshness = Freshness(is_compressed, refuse_repeats)
    assert [freshness.look(picture, time_ms) for picture, time_ms in seen] == expected


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "line.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for i in range(8):
        writer.write(np.full((48, 64, 3), 30 * i, np.uint8))
    writer.release()
    return path


def settings(source: object, kind: str, **more: object) -> CaptureSettings:
    return CaptureSettings(source=str(source), kind=kind, slots=2, **more)  # type: ignore[arg-type]


def parts(grabber: VideoGrabber | FolderGrabber, most: int = 100) -> list[str | None]:
    found = []
    while len(found) < most and (grabbed := grabber.grab(None)) is not None:
        found.append(grabbed.part)
    return found


def test_a_video_goes_on_where_an_earlier_child_ended(video: Path) -> None:
    assert parts(VideoGrabber(settings(video, "video", first=5), lambda: None)) == ["5", "6", "7"]


def test_a_video_that_was_read_to_its_end_has_ended(video: Path) -> None:
    assert parts(VideoGrabber(settings(video, "video", first=8), lambda: None)) == []


def test_a_looped_video_begins_again_and_its_restart_does_not_wind_through_the_past(video: Path) -> None:
    grabber = VideoGrabber(settings(video, "video", loop=True, first=10**12), lambda: None)
    assert parts(grabber, 10) == [*map(str, range(8)), "0", "1"]


def test_a_folder_gives_pictures_of_any_size_and_names_what_is_broken(tmp_path: Path) -> None:
    write_pictures(tmp_path / "p", 2)
    cv2.imwrite(str(tmp_path / "p" / "big.png"), np.zeros((200, 300), np.uint16))
    (tmp_path / "p" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    grabber = FolderGrabber(settings(tmp_path / "p", "folder"))
    found = [grabber.grab(None) for _ in range(5)]
    assert [type(item) for item in found] == [Grabbed, Grabbed, Grabbed, Broken, type(None)]
    assert isinstance(found[3], Broken)
    assert "broken.jpg" in found[3].why


def test_a_folder_that_is_looped_has_no_end(tmp_path: Path) -> None:
    write_pictures(tmp_path / "p", 2)
    grabber = FolderGrabber(settings(tmp_path / "p", "folder", loop=True, first=3))
    assert parts(grabber, 3) == ["001.png", "000.png", "001.png"]


@pytest.mark.parametrize(
    "source",
    [
        "sim://line?fps=-1",
        "sim://line?fps=fast",
        "sim://line?speed=3",
        "sim://line?width=3",
        "sim://moon",
        "sim://line?fps=",
    ],
)
def test_a_simulated_line_that_cannot_be_says_why(source: str) -> None:
    with pytest.raises(CameraError, match="sim://"):
        SimulatedGrabber(settings(source, "simulated"))


@pytest.mark.parametrize(("source", "kind"), [("rtsp://cam/x", "url"), ("a.mp4", "video")])
def test_a_missing_pyav_is_a_sentence_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, source: str, kind: str
) -> None:
    for name in ("network", "video"):
        monkeypatch.setitem(sys.modules, f"inspectd.cameras.grabbers.{name}", None)
    with pytest.raises(CameraError, match=r"need PyAV, which cannot be loaded here \(.*\); pip install av"):
        open_grabber(settings(source, kind), lambda: None)
