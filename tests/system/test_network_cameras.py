"""Network cameras: real servers on the loopback, read by a real capture child. What is damaged is never a picture."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from cameras_on_loopback import PACKAGES, RtspServer, free_port, has_rtsp, mjpeg_server
from daemon_process import DaemonProcess
from numbered import encode, jpegs, look
from proxy import Harm, Proxy

from inspectd.cameras.child import Child
from inspectd.cameras.protocol import Alive, Captured, CaptureSettings, Failed, Message, Opened, Unreadable
from inspectd.cameras.streams.clock import StreamClock
from inspectd.records import Stamp

SIZE = (320, 240)
PICTURES = jpegs(40, size=SIZE)
rtsp = pytest.mark.skipif(not has_rtsp(), reason=f"no RTSP server here: apt-get install {PACKAGES}")


class Seen:
    """What a capture child said of one address, and the numbers that its pictures spell."""

    def __init__(self, address: str, enough: Callable[[Seen], bool], patience_s: float = 20.0) -> None:
        self.messages: list[Message] = []
        self.numbers: list[int] = []
        self.wrong: list[int] = []
        self.ages_ms: list[float] = []
        self.first_s = 0.0
        began_s = time.monotonic()
        child = Child(CaptureSettings(source=address, kind="url", slots=4))
        try:
            while not enough(self) and not isinstance(self.last, Failed):
                assert time.monotonic() - began_s < patience_s, f"it did not happen: {self.messages[-5:]}"
                message = child.receive(0.2)
                if message is None:
                    continue
                self.messages.append(message)
                if isinstance(message, Captured):
                    self.first_s = self.first_s or time.monotonic() - began_s
                    self._look(child, message)
        finally:
            child.kill()

    @property
    def last(self) -> Message | None:
        return self.messages[-1] if self.messages else None

    def count(self, kind: type) -> int:
        return sum(isinstance(message, kind) for message in self.messages)

    @property
    def reasons(self) -> list[str]:
        return [message.why for message in self.messages if isinstance(message, Unreadable | Failed)]

    def _look(self, child: Child, message: Captured) -> None:
        frame = child.frame(message, Stamp("top", message.number, message.captured_ns))
        number, wrong_cells = look(frame.picture)
        self.ages_ms.append((time.monotonic_ns() - message.captured_ns) / 1e6)
        self.numbers.append(number)
        if wrong_cells:
            self.wrong.append(number)
        frame.release()


def test_mjpeg_is_handed_over_as_it_comes() -> None:
    with mjpeg_server(PICTURES) as port:
        seen = Seen(f"http://127.0.0.1:{port}/", lambda s: len(s.numbers) >= 20)
    assert seen.wrong == []
    assert seen.numbers == [(seen.numbers[0] + i) % 40 for i in range(20)]
    assert seen.count(Unreadable) == 0


def test_a_camera_that_floods_is_given_up_before_it_takes_the_others_time() -> None:
    with mjpeg_server(PICTURES, fps=1e6) as port:
        seen = Seen(f"http://127.0.0.1:{port}/", lambda s: len(s.numbers) >= 1000)
    assert isinstance(seen.last, Failed)
    assert seen.last.why == (
        "it sends more than 120 pictures a second; lower its frame rate, or, if it is meant to be so fast, set `fps`"
    )
    assert 60 <= sum(isinstance(m, Captured | Unreadable) for m in seen.messages) <= 120


@pytest.mark.parametrize("length", [True, False], ids=["with lengths", "without lengths"])
def test_a_cut_jpeg_is_no_picture_and_no_rows_of_another_are_in_it(length: bool) -> None:
    cut = [data if i % 3 else data[: len(data) * 55 // 100] for i, data in enumerate(PICTURES)]
    with mjpeg_server(cut, length=length) as port:
        seen = Seen(f"http://127.0.0.1:{port}/", lambda s: len(s.numbers) >= 20 and s.count(Unreadable) >= 8)
    assert seen.wrong == []
    assert all(number % 3 for number in seen.numbers)
    assert all("damaged" in why for why in seen.reasons)


def test_the_same_jpeg_again_and_again_is_no_new_picture() -> None:
    with mjpeg_server(PICTURES[:1]) as port:
        seen = Seen(f"http://127.0.0.1:{port}/", lambda s: s.count(Alive) >= 30)
    assert seen.numbers == []
    assert all(message.is_repeat for message in seen.messages[-10:] if isinstance(message, Alive))


def test_another_size_in_mid_stream_is_a_new_opening() -> None:
    large = jpegs(20, size=(480, 240))
    with mjpeg_server(lambda number: PICTURES[number % 20] if number < 30 else large[number % 20]) as port:
        seen = Seen(f"http://127.0.0.1:{port}/", lambda _: False)
    assert "changed its picture from 320x240 to 480x240" in seen.reasons[-1]
    assert seen.wrong == []


def test_a_snapshot_address_is_called_what_it_is() -> None:
    with mjpeg_server(lambda number: PICTURES[0] if number == 0 else None) as port:
        seen = Seen(f"http://127.0.0.1:{port}/snap.jpg", lambda _: False)
    assert "a single picture and no stream" in seen.reasons[-1]


def test_what_piled_up_while_the_camera_stood_still_has_not_just_been_taken() -> None:
    """Without a clock in the stream nobody knows how old it is: such pictures are given up."""
    with mjpeg_server(PICTURES) as port, Proxy(("127.0.0.1", port), None) as proxy:
        paused_s: list[float] = []

        def enough(seen: Seen) -> bool:
            if len(seen.numbers) == 10 and not paused_s:
                proxy.is_paused.set()
                paused_s.append(time.monotonic())
            if paused_s and time.monotonic() - paused_s[0] > 0.7:
                proxy.is_paused.clear()
            return len(seen.numbers) >= 30

        seen = Seen(f"http://127.0.0.1:{proxy.port}/", enough)
    assert any("waited in a buffer" in why for why in seen.reasons)
    assert seen.wrong == []


@pytest.mark.parametrize(
    "address",
    [
        "http://admin:S3cret@127.0.0.1:{port}/?user=admin&password=S3cret",
        "rtsp://admin:S3c#re/t@127.0.0.1:{port}/x",
        "http://127.0.0.1:{port}/user=admin&password=S3cret",
    ],
)
def test_what_a_child_says_holds_no_secret(address: str) -> None:
    seen = Seen(address.format(port=free_port()), lambda _: False)
    assert seen.reasons
    assert not any("S3c" in why or "re/t" in why for why in seen.reasons)


def test_a_streams_clock_tells_the_age_of_what_waited() -> None:
    clock = StreamClock()
    ms = 1_000_000
    for i in range(100):  # 30 ms a picture, 5 ms under way
        assert clock.captured_ns(i * 0.030, (i * 30 + 5) * ms) == pytest.approx((i * 30 + 5) * ms, abs=ms)
    late = [clock.captured_ns(i * 0.030, (130 * 30 + i) * ms) for i in range(100, 130)]  # a burst, 0.9 s later
    ages_ms = [130 * 30 + i - at / ms for i, at in zip(range(100, 130), late, strict=True)]
    assert [round(age / 10) for age in ages_ms[:3]] == [100, 97, 94]
    fresh = clock.captured_ns(0.0, 10_000 * ms)  # the camera began anew
    assert fresh == 10_000 * ms
    assert clock.captured_ns(None, 7) == 7


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


def test_another_size_than_the_calibrations_is_another_camera(tmp_path: Path, small_model: Path) -> None:
    with mjpeg_server(PICTURES) as port:
        camera = f'{{name: top, source: "http://127.0.0.1:{port}/", model: {small_model}}}'
        with DaemonProcess(tmp_path / "daemon", camera) as daemon:
            daemon.listen(lambda d: len(d.verdicts) >= 5)
            daemon.stop()
    assert {v["reason"] for v in daemon.verdicts} <= {"identity", "shutdown"}
    assert "320x240" in daemon.verdicts[0]["detail"]


@pytest.fixture
def small_model_320(tmp_path: Path) -> Path:
    """A model for pictures of 320 × 240 that calls everything ok."""
    from conftest import write_small_model

    from inspectd.model.calibration import CameraRecord

    return write_small_model(tmp_path / "m320", 1e6, camera=CameraRecord("fit", None, *SIZE))


def test_opened_says_what_it_is() -> None:
    with mjpeg_server(PICTURES) as port:
        seen = Seen(f"http://127.0.0.1:{port}/", lambda s: s.count(Opened) == 1)
    (opened,) = [message for message in seen.messages if isinstance(message, Opened)]
    assert (opened.width, opened.height, opened.format, opened.is_live) == (*SIZE, "MJPG", True)


def test_a_grey_jpeg_camera_is_read() -> None:
    grey = [bytes(cv2.imencode(".jpg", cv2.imdecode(np.frombuffer(p, np.uint8), 0))[1]) for p in PICTURES]
    with mjpeg_server(grey) as port:
        seen = Seen(f"http://127.0.0.1:{port}/", lambda s: len(s.numbers) >= 5)
    assert seen.wrong == []
