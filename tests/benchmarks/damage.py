"""What is handed over of a stream that a bad network has treated: wrong pictures that pass, good ones withheld.

    python tests/benchmarks/damage.py [--wrong 1000] [--only rtsp-tcp:h264]

A real RTSP server (GstRtspServer; TCP and UDP) and an MJPEG server send numbered pictures through tests/proxy.py, which
drops, delays, cuts and reorders. Each decoded picture is looked at by a program: wrong, if any cell of its pattern is.
Each line runs until so many wrong pictures were seen.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from cameras_on_loopback import RtspServer, mjpeg_server
from numbered import encode, jpegs, look
from proxy import Harm, Proxy

from inspectd.cameras.grabbers.network import torn_at_its_end, way_to
from inspectd.cameras.streams.damage import Witness, listen_to_ffmpeg
from inspectd.cameras.streams.decoders import decoder_for
from inspectd.cameras.streams.mjpeg import open_mjpeg
from inspectd.cameras.streams.packets import Coded, Packets
from inspectd.cameras.streams.reader import Reader
from inspectd.errors import CameraError

LINES = [
    *[(transport, codec) for transport in ("rtsp-tcp", "rtsp-udp") for codec in ("h264", "hevc", "mjpeg")],
    ("http", "mjpeg"),
    ("http-no-length", "mjpeg"),
]
CONNECTION_S = 15.0
HANG_S = 4.0
SHARES = {"rtsp-tcp": 0.004, "rtsp-udp": 0.01, "http": 0.02, "http-no-length": 0.02}


def read(address: str, codec: str, tally: Counter[str], wanted: int, give_up_s: float) -> None:
    """Read one connection, until it breaks or enough was seen."""
    stream: Coded = open_mjpeg(address, address, 5.0) or Packets(
        (at := way_to(address))[0], address, Witness(), at[1], (5.0, 3.0)
    )
    decoder = decoder_for(stream, Witness())
    reader = Reader(stream.next)
    while tally["wrong"] < wanted and time.monotonic() < give_up_s:
        arrival = reader.next(HANG_S)
        if arrival.packet is None:
            return
        for decoded in decoder.decode(arrival, None):
            if not decoder.has_begun:
                continue
            # Of a JPEG that was refused: what would OpenCV have made of it?
            render = decoded.render
            picture = _opencv(bytes(arrival.packet)) if render is None else render(None)
            if picture is None:
                tally["shown by nobody"] += 1
                continue
            is_wrong = look(picture)[1] > 0
            tally["wrong" if is_wrong else "good"] += 1
            passes = decoded.damage is None and torn_at_its_end(stream.codec, arrival, reader) is None
            tally["wrong passed"] += is_wrong and passes
            tally["good withheld"] += not is_wrong and not passes
    # It is not closed: its reader may still wait in FFmpeg, and ends with this process.


def _opencv(data: bytes):  # type: ignore[no-untyped-def]
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return picture if picture is not None and picture.shape == (480, 640, 3) else None


@contextmanager
def _ended(server: RtspServer) -> Iterator[None]:
    """End a server after a while: a stream out of step can keep FFmpeg searching for ever."""
    timer = threading.Timer(CONNECTION_S, server.process.kill)
    timer.start()
    yield
    timer.cancel()


def measure(transport: str, codec: str, folder: Path, wanted: int, limit_s: float) -> Counter[str]:
    """Run one line of the table."""
    tally: Counter[str] = Counter()
    video = folder / f"{codec}.mkv"
    if not video.exists() and not transport.startswith("http"):
        encode(codec, video, 1200)
    give_up_s = time.monotonic() + limit_s
    seed = 0
    while tally["wrong"] < wanted and time.monotonic() < give_up_s:
        seed += 1
        harm = Harm(SHARES[transport], tuple(arguments.kinds.split(",")), seed)
        try:
            if transport.startswith("http"):
                with (
                    mjpeg_server(PICTURES, fps=100, length=transport == "http") as port,
                    Proxy(("127.0.0.1", port), harm) as proxy,
                ):
                    read(f"http://127.0.0.1:{proxy.port}/", codec, tally, wanted, give_up_s)
            else:
                with (
                    RtspServer(video, codec) as server,
                    _ended(server),
                    Proxy(("127.0.0.1", server.port), harm) as proxy,
                ):
                    option = "?udp" if transport == "rtsp-udp" else ""
                    read(f"rtsp://127.0.0.1:{proxy.port}/line{option}", codec, tally, wanted, give_up_s)
        except CameraError:
            tally["connections broken"] += 1
        tally["harmed"] += harm.done
    return tally


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--wrong", type=int, default=1000)
    parser.add_argument("--only")
    parser.add_argument("--kinds", default="drop,cut,reorder,delay")
    parser.add_argument("--videos", type=Path, help="Where the encoded videos are kept from one run to the next.")
    parser.add_argument("--limit", type=float, default=300.0, help="Seconds for each line.")
    arguments = parser.parse_args()
    listen_to_ffmpeg()
    PICTURES = jpegs(300)
    with tempfile.TemporaryDirectory() as name:
        print("| stream | chunks harmed | wrong pictures | of them passed | good pictures | of them withheld |")
        print("|---|---|---|---|---|---|")
        for transport, codec in LINES:
            if arguments.only in (None, f"{transport}:{codec}"):
                t = measure(transport, codec, arguments.videos or Path(name), arguments.wrong, arguments.limit)
                share = 100 * t["good withheld"] / max(1, t["good"])
                print(
                    f"| {codec}, {transport} | {t['harmed']} | {t['wrong']} | {t['wrong passed']} | {t['good']} "
                    f"| {t['good withheld']} ({share:.0f} %) |",
                    flush=True,
                )
