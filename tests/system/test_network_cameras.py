"""Network cameras: real servers on the loopback, read by a real capture child. What is damaged is never a picture."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from cameras_on_loopback import free_port, mjpeg_server
from daemon_process import DaemonProcess
from numbered import jpegs
from proxy import Proxy
from seen import Seen

from inspectd.cameras.protocol import Alive, Captured, Failed, Opened, Unreadable
from inspectd.cameras.streams.clock import StreamClock

SIZE = (320, 240)
PICTURES = jpegs(40, size=SIZE)


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
    assert sum(isinstance(m, Captured | Unreadable) for m in seen.messages) <= 120


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


def test_another_size_than_the_calibrations_is_another_camera(tmp_path: Path, small_model: Path) -> None:
    with mjpeg_server(PICTURES) as port:
        camera = f'{{name: top, source: "http://127.0.0.1:{port}/", model: {small_model}}}'
        with DaemonProcess(tmp_path / "daemon", camera) as daemon:
            daemon.listen(lambda d: len(d.verdicts) >= 5)
            daemon.stop()
    assert {v["reason"] for v in daemon.verdicts} <= {"identity", "shutdown"}
    assert "320x240" in daemon.verdicts[0]["detail"]


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
