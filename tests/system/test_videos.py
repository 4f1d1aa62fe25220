"""Video files through PyAV: every picture once, the damaged ones as faults, parts by their place in the stream."""

from __future__ import annotations

import random
import re
import shutil
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest
from numbered import encode, look

from inspectd.cameras.grabbers.base import Broken, Grabbed
from inspectd.cameras.grabbers.video import VideoGrabber
from inspectd.cameras.protocol import CaptureSettings
from inspectd.errors import CameraError

SIZE = (320, 240)
COUNT = 90
Change = Callable[[int, bytes], bytes | None]
"""From a packet's number and bytes to what is written instead; None: nothing."""


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("videos")

    def video(kind: str) -> Path:
        path = folder / f"{kind}.mkv"
        return path if path.exists() else encode(kind, path, COUNT, size=SIZE)

    return video


def rewritten(source: Path, target: Path, change: Change) -> Path:
    with av.open(str(source)) as whole, av.open(str(target), "w") as container:
        stream = container.add_stream_from_template(whole.streams.video[0])
        for number, packet in enumerate(packet for packet in whole.demux(video=0) if packet.size):
            data = change(number, bytes(packet))
            if data is None:
                continue
            written = av.Packet(data)
            written.pts, written.dts, written.time_base = packet.pts, packet.dts, packet.time_base
            written.is_keyframe, written.stream = packet.is_keyframe, stream
            container.mux(written)
    return target


def read(path: Path, **settings: object) -> list[Grabbed | Broken]:
    grabber = VideoGrabber(CaptureSettings(str(path), "video", 2, **settings), lambda: None)  # type: ignore[arg-type]
    found: list[Grabbed | Broken] = []
    while len(found) < 3 * COUNT and (item := grabber.grab(None)) is not None:
        found.append(item)
    return found


def wrong(items: list[Grabbed | Broken]) -> list[str | None]:
    """Return the parts whose picture is not the one of their number, or visibly wrong."""
    grabbed = [item for item in items if isinstance(item, Grabbed)]
    return [item.part for item in grabbed if look(item.picture) != (int(item.part or -1), 0)]


@pytest.mark.parametrize("kind", ["h264", "h264-b", "hevc", "hevc-b", "mjpeg"])
def test_a_whole_video_is_read_whole(videos: Callable[[str], Path], kind: str) -> None:
    items = read(videos(kind))
    assert [type(item) for item in items] == [Grabbed] * COUNT
    assert [item.part for item in items] == [str(i) for i in range(COUNT)]
    assert wrong(items) == []


def slices(data: bytes) -> list[bytes]:
    """Split an Annex B or length-prefixed packet into its units, each with its head."""
    if data[:3] == b"\0\0\1" or data[:4] == b"\0\0\0\1":
        starts = [m.start() for m in re.finditer(b"\0\0\0?\1", data)]
        return [data[a:b] for a, b in zip(starts, [*starts[1:], len(data)], strict=True)]
    units, at = [], 0
    while at + 4 <= len(data):
        length = 4 + int.from_bytes(data[at : at + 4], "big")
        units.append(data[at : at + length])
        at += length
    return units


def lose_a_slice(rng: random.Random) -> Change:
    def change(number: int, data: bytes) -> bytes:
        units = slices(data)
        large = [i for i, unit in enumerate(units) if len(unit) > 100]
        if number in HARMED and len(large) > 1:
            del units[rng.choice(large[1:])]
        return b"".join(units)

    return change


def zero_a_packet(number: int, data: bytes) -> bytes:
    return bytes(len(data)) if number in HARMED else data


def cut_a_packet(number: int, data: bytes) -> bytes:
    return data[: len(data) * 6 // 10] if number in HARMED else data


def lose_a_packet(number: int, data: bytes) -> bytes | None:
    return None if number in HARMED else data


HARMED = (12, 13, 40, 71)


@pytest.mark.parametrize("kind", ["h264", "hevc"])
def test_a_lost_slice_is_a_fault_until_the_next_key_frame(
    videos: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    items = read(rewritten(videos(kind), tmp_path / "lost.mkv", lose_a_slice(random.Random(3))))
    assert [item.part for item in items] == [str(i) for i in range(COUNT)]
    assert wrong(items) == []
    broken = {int(item.part or 0) for item in items if isinstance(item, Broken)}
    assert broken == {*range(12, 30), *range(40, 60), *range(71, 90)}, "and the good ones are not withheld"


@pytest.mark.parametrize("kind", ["h264", "h264-b", "hevc", "hevc-b", "mjpeg"])
def test_a_picture_that_cannot_be_decoded_does_not_end_the_video(
    videos: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    items = read(rewritten(videos(kind), tmp_path / "zero.mkv", zero_a_packet))
    assert [item.part for item in items] == [str(i) for i in range(COUNT)]
    assert wrong(items) == []
    kinds = Counter(type(item) for item in items)
    assert kinds[Broken] >= len(HARMED)
    assert kinds[Grabbed] >= 12
    if kind == "mjpeg":
        assert kinds[Broken] == len(HARMED)


@pytest.mark.parametrize("kind", ["h264", "mjpeg"])
def test_a_packet_that_was_cut_is_a_fault(videos: Callable[[str], Path], tmp_path: Path, kind: str) -> None:
    items = read(rewritten(videos(kind), tmp_path / "cut.mkv", cut_a_packet))
    assert [item.part for item in items] == [str(i) for i in range(COUNT)]
    assert wrong(items) == []
    assert {str(i) for i in HARMED} <= {item.part for item in items if isinstance(item, Broken)}


@pytest.mark.parametrize("kind", ["h264", "hevc", "mjpeg"])
def test_packets_that_are_missing_do_not_shift_the_parts(
    videos: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    items = read(rewritten(videos(kind), tmp_path / "missing.mkv", lose_a_packet))
    assert wrong(items) == [], "each part is the picture of its number"
    told = [item for item in items if isinstance(item, Broken) and "missing" in item.why]
    assert [item.part for item in told if "before picture" in item.why] == ["12", "40", "71"]


def test_a_video_that_was_cut_off_says_what_is_missing(tmp_path: Path) -> None:
    whole = encode("h264", tmp_path / "whole.mp4", 60, size=SIZE)
    first = tmp_path / "first.mp4"  # its index in front, as recorders write it
    with av.open(str(whole)) as source, av.open(str(first), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                container.mux(packet)
    first.write_bytes(first.read_bytes()[: first.stat().st_size * 7 // 10])
    items = read(first)
    assert wrong(items) == []
    last = items[-1]
    assert isinstance(last, Broken)
    assert "not inspected" in last.why or "cannot be decoded" in last.why


@pytest.mark.parametrize(
    "name", ["14:30:05.mp4", "100%.mp4", "gut_\udcfc.mp4", "a b#c?d.mp4", "pipe:0.mp4", "%03d.mp4"]
)
def test_any_name_is_read(videos: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    shutil.copy(videos("h264"), tmp_path / name)
    assert len(read(tmp_path / name)) == COUNT


def test_a_restart_goes_on_where_it_was_and_a_loop_passes_the_hole(
    videos: Callable[[str], Path], tmp_path: Path
) -> None:
    path = rewritten(videos("h264"), tmp_path / "zero.mkv", zero_a_packet)
    assert [item.part for item in read(path, first=80)] == [str(i) for i in range(80, COUNT)]
    looped = read(path, loop=True)
    assert [item.part for item in looped] == [str(i % COUNT) for i in range(3 * COUNT)]


def test_what_is_no_video_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    for content in (b"", b"x" * 5000, bytes(5000)):
        path.write_bytes(content)
        with pytest.raises(CameraError, match=r"cannot be opened|no video"):
            read(path)


@pytest.mark.realdata
def test_the_fields_videos(shared: Path) -> None:
    """faults 2 and 3: lost slices, and a hole in the middle."""
    lost, whole = (read(shared / "faults" / f"h264_{name}.ts") for name in ("lostslices", "whole"))
    assert [type(item) for item in whole] == [Grabbed] * 30
    assert len(lost) == 30
    assert sum(isinstance(item, Broken) for item in lost) >= 7
    hole = read(shared / "faults" / "midzero.mp4")
    assert [item.part for item in hole] == [str(i) for i in range(60)]
    assert {str(i) for i in range(24, 30)} <= {item.part for item in hole if isinstance(item, Broken)}


def paced(source: Path, target: Path, time_of: Callable[[int], int]) -> Path:
    """Write a video anew with other times, in milliseconds."""
    with av.open(str(source)) as whole, av.open(str(target), "w") as container:
        stream = container.add_stream_from_template(whole.streams.video[0])
        for number, packet in enumerate(packet for packet in whole.demux(video=0) if packet.size):
            packet.pts = packet.dts = time_of(number)
            packet.time_base, packet.stream = Fraction(1, 1000), stream
            container.mux(packet)
    return target


@pytest.mark.parametrize("kind", ["h264", "mjpeg"])
def test_a_camera_that_slows_down_is_suspect_until_a_key_frame_and_not_for_ever(
    videos: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    slower = paced(videos(kind), tmp_path / "vfr.mkv", lambda i: i * 33 if i < 45 else 45 * 33 + (i - 45) * 66)
    items = read(slower)
    grabbed = [item for item in items if isinstance(item, Grabbed)]
    assert len(grabbed) >= 75
    assert all(look(item.picture)[1] == 0 for item in grabbed)
    assert len(items) <= COUNT + 1, "at most one picture is thought to be missing"


def test_a_video_that_begins_in_the_middle_is_read_from_its_first_key_frame(
    videos: Callable[[str], Path], tmp_path: Path
) -> None:
    whole = rewritten(videos("h264"), tmp_path / "whole.ts", lambda _number, data: data)
    begun = tmp_path / "begun.ts"
    data = whole.read_bytes()
    begun.write_bytes(data[len(data) // 4 // 188 * 188 :])
    items = read(begun)
    assert sum(isinstance(item, Grabbed) for item in items) >= 50
    assert all(look(item.picture)[1] == 0 for item in items if isinstance(item, Grabbed))


def test_a_matroska_that_lost_its_second_half_says_so(videos: Callable[[str], Path], tmp_path: Path) -> None:
    half = tmp_path / "half.mkv"
    data = videos("h264").read_bytes()
    half.write_bytes(data[: len(data) // 2])
    items = read(half)
    assert wrong(items) == []
    assert isinstance(items[-1], Broken)
    assert "not inspected" in items[-1].why


def test_b_pictures_without_times_are_counted(tmp_path: Path) -> None:
    items = read(encode("h264-b", tmp_path / "b.avi", COUNT, size=SIZE))
    assert [type(item) for item in items] == [Grabbed] * COUNT
    assert [item.part for item in items] == [str(i) for i in range(COUNT)]


def test_steps_of_nothing_do_no_harm() -> None:
    from inspectd.cameras.streams.damage import Steps

    steps = Steps()
    assert [steps.look(time) for time in [*[5] * 20, 6, 7, None, 9, 3]][-1] is None
