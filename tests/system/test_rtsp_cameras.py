"""RTSP cameras: real servers in processes of their own, over TCP, UDP and multicast, with logins and clocks."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from cameras_on_loopback import PACKAGES, RtspServer, has_rtsp, multicast_camera
from daemon_process import DaemonProcess
from numbered import encode
from proxy import Harm, Proxy
from seen import Seen

from inspectd.cameras.grabbers.network import way_to
from inspectd.cameras.protocol import Failed, Unreadable
from inspectd.cameras.streams.clock import WallClock
from inspectd.errors import CameraError

SIZE = (320, 240)
rtsp = pytest.mark.skipif(not has_rtsp(), reason=f"no RTSP server here: apt-get install {PACKAGES}")
MS = 1_000_000


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("videos")

    def video(kind: str) -> Path:
        path = folder / f"{kind}.mkv"
        return path if path.exists() else encode(kind, path, 400, gop=15, size=SIZE)

    return video


@rtsp
@pytest.mark.parametrize("over", ["", "?udp"], ids=["tcp", "udp"])
@pytest.mark.parametrize("kind", ["h264", "hevc", "mjpeg"])
def test_rtsp_is_handed_over_as_it_comes(videos: Callable[[str], Path], kind: str, over: str) -> None:
    with RtspServer(videos(kind), kind) as server:
        seen = Seen(f"rtsp://127.0.0.1:{server.port}/line{over}", lambda s: len(s.numbers) >= 30)
    assert seen.wrong == []
    assert seen.numbers == list(range(seen.numbers[0], seen.numbers[0] + 30))
    assert sorted(seen.ages_ms)[15] < 150, "as old as the stream's own clock says, and not as a probe made it"


@rtsp
@pytest.mark.parametrize(("kind", "over"), [("h264", "?udp"), ("hevc", "?udp"), ("h264", ""), ("hevc", "")])
def test_a_bad_network_never_shows_a_wrong_picture(videos: Callable[[str], Path], kind: str, over: str) -> None:
    harm = Harm(0.02 if over else 0.004, ("drop", "reorder", "delay"), seed=5)
    with RtspServer(videos(kind), kind) as server, Proxy(("127.0.0.1", server.port), harm) as proxy:
        address = f"rtsp://127.0.0.1:{proxy.port}/line{over}"
        seen = Seen(address, lambda s: len(s.numbers) >= 25 and s.count(Unreadable) >= 5)
    assert harm.done
    assert seen.wrong == []


@rtsp
def test_a_daemon_is_told_of_damage_and_says_fault(
    videos: Callable[[str], Path], tmp_path: Path, small_model_320: Path
) -> None:
    """From the server to the subscriber: lost datagrams are `fault: picture`; ok are only pictures that came whole."""
    harm = Harm(0.02, ("drop",), seed=6)
    with RtspServer(videos("h264"), "h264") as server, Proxy(("127.0.0.1", server.port), harm) as proxy:
        source = f"rtsp://127.0.0.1:{proxy.port}/line?udp"
        camera = (
            f'{{name: top, source: "{source}", model: {small_model_320}, deadline_ms: 5000, read_timeout_ms: 3000}}'
        )
        with DaemonProcess(tmp_path / "daemon", camera) as daemon:
            daemon.listen(lambda d: sum(v["verdict"] == "ok" for v in d.verdicts) >= 10)
            daemon.listen(lambda d: sum(v["reason"] == "picture" for v in d.verdicts) >= 5)
            daemon.stop()
    assert {v["verdict"] for v in daemon.verdicts} <= {"ok", "fault"}
    told = [v["detail"] for v in daemon.verdicts if v["reason"] == "picture"]
    assert all("damaged" in detail for detail in told)


@pytest.fixture
def small_model_320(tmp_path: Path) -> Path:
    """A model for pictures of 320 × 240 that calls everything ok."""
    from conftest import write_small_model

    from inspectd.model.calibration import CameraRecord

    return write_small_model(tmp_path / "m320", 1e6, camera=CameraRecord("fit", None, *SIZE))


def test_a_multicast_camera_is_read(videos: Callable[[str], Path]) -> None:
    with multicast_camera(videos("h264")) as port:
        seen = Seen(f"rtsp://127.0.0.1:{port}/line?multicast", lambda s: len(s.numbers) >= 30)
    assert seen.wrong == []
    assert seen.numbers == list(range(seen.numbers[0], seen.numbers[0] + 30))


@rtsp
@pytest.mark.parametrize("kind", ["basic", "digest"])
def test_a_login_is_taken_from_the_address(videos: Callable[[str], Path], kind: str) -> None:
    with RtspServer(videos("h264"), "h264", login=(kind, "user", "p:/@#s s")) as server:
        place = f"127.0.0.1:{server.port}/line"
        seen = Seen(f"rtsp://user:p%3A%2F%40%23s%20s@{place}", lambda s: len(s.numbers) >= 5)
        assert seen.wrong == []
        for login in ("user:wrong@", ""):
            refused = Seen(f"rtsp://{login}{place}", lambda _: False)
            assert isinstance(refused.last, Failed)
            assert refused.last.why == (
                f"rtsp://{place} cannot be opened: it answers 401 Unauthorized; check the user and the password"
            )


@rtsp
@pytest.mark.parametrize("over", ["", "?udp"], ids=["tcp", "udp"])
def test_a_clock_that_is_kept_together_tells_when_a_picture_was_taken(videos: Callable[[str], Path], over: str) -> None:
    """GStreamer's server is on this machine, with this clock, and calls each picture a period older than it is sent."""
    with RtspServer(videos("h264"), "h264") as server:
        address = f"rtsp://127.0.0.1:{server.port}/line{over}"
        seen = Seen(address, lambda s: len(s.numbers) >= 50 and sorted(s.ages_ms[-20:])[0] > 25, synchronized=True)
    assert seen.wrong == []
    assert sorted(seen.ages_ms[:20])[10] < 25, "before the camera had said what time it is"
    assert all(age < 500 for age in seen.ages_ms)
    assert all(m.is_arrival_time for m in seen.captured), "that its clock is kept together nobody can prove"
    times = [m.captured_ns for m in seen.captured[-20:]]
    assert all(abs(b - a - 33 * MS) < 10 * MS for a, b in pairwise(times))


@pytest.mark.parametrize(
    ("off_ms", "why"),
    [
        (-200, r"its clock is 0\.2 s ahead of this machine's"),
        (3_700_000, "its clock is 3700.0 s behind this machine's"),
        (-37_000, r"37\.0 s ahead.*; have both follow one time server, or take back synchronized: true"),
    ],
)
def test_a_clock_that_is_not_kept_together_is_told(off_ms: int, why: str) -> None:
    clock = WallClock()
    for _ in range(2):
        assert clock.captured_ns(1.0, 0) is None, "one report alone is not believed"
        clock.tell(1.0, (time.time_ns() - off_ms * MS) // 1000)
    with pytest.raises(CameraError, match=why):
        clock.captured_ns(1.0, time.monotonic_ns())


@pytest.mark.parametrize(("off_ms", "counts_ms"), [(0, 0), (120, 120), (950, 950), (-30, 0)])
def test_a_clock_that_is_kept_together_is_believed(off_ms: int, counts_ms: int) -> None:
    clock = WallClock()
    clock.tell(5.0, (time.time_ns() + 30 * MS) // 1000)
    clock.tell(5.0, (time.time_ns() - off_ms * MS) // 1000)
    now_ns = time.monotonic_ns()
    taken_ns = clock.captured_ns(5.0, now_ns)
    assert taken_ns is not None
    assert abs(now_ns - taken_ns - counts_ms * MS) < 5 * MS
    assert taken_ns <= now_ns, "no picture is from the future"


@pytest.mark.parametrize(
    ("address", "camera_sees", "over"),
    [
        ("rtsp://cam/a", "rtsp://cam/a", None),
        ("rtsp://cam/a?udp", "rtsp://cam/a", "udp"),
        ("rtsp://cam/a?channel=1&udp", "rtsp://cam/a?channel=1", "udp"),
        ("RTSP://cam/a?Multicast&channel=1", "RTSP://cam/a?channel=1", "udp_multicast"),
        ("rtsp://u:p?udp&x@cam/a?", "rtsp://u:p?udp&x@cam/a?", None),
        ("rtsp://u:p?x@cam/a?udp", "rtsp://u:p?x@cam/a", "udp"),
        ("rtsp://u:udp@cam/a?channel=udp", "rtsp://u:udp@cam/a?channel=udp", None),
        ("http://cam/a?udp", "http://cam/a?udp", None),
    ],
)
def test_how_a_stream_is_to_come_is_said_in_the_address(address: str, camera_sees: str, over: str | None) -> None:
    at, options = way_to(address)
    assert at == camera_sees
    assert options.get("rtsp_transport", "tcp") == (over or "tcp")


def test_two_ways_are_one_too_many() -> None:
    with pytest.raises(CameraError, match="asks for udp and multicast; expected one"):
        way_to("rtsp://cam/a?udp&multicast")
