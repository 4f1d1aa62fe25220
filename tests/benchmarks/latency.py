"""From a network camera's packet to the parent's hand: how long it takes, for this tree and, in turns, for another one.

    python tests/benchmarks/latency.py [--other PATH_OF_ANOTHER_CHECKOUT] [--rounds 3]

1080p at 30 pictures a second, MJPEG over HTTP and H.264 in MPEG-TS over HTTP, the capture child on one core. Each picture
spells its number; the time runs from the last byte of its packet that was sent to the message that its slot is filled.
(FFmpeg knows that a picture of H.264 is complete when the next one begins: a frame period is in its figures.)
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

SIZE = (1920, 1072)
FPS = 30
COUNT = 150


def measure(kind: str, folder: Path, seconds: float) -> dict[str, float]:
    """Serve, read, compare; run in a process that has one of the two trees on its path."""
    import psutil
    from numbered import look

    from inspectd.cameras.child import Child
    from inspectd.cameras.protocol import Captured, CaptureSettings
    from inspectd.records import Stamp

    packets = [path.read_bytes() for path in sorted(folder.glob("*.packet"))]
    sent_ns: dict[int, int] = {}

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(200)
            multipart = "multipart/x-mixed-replace; boundary=part"
            self.send_header("Content-Type", multipart if kind == "mjpeg" else "video/mp2t")
            self.end_headers()
            due_s = time.monotonic()
            try:
                for number in range(COUNT):
                    data = packets[number % len(packets)]
                    if kind == "mjpeg":
                        head = b"--part\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data)
                        data = head + data + b"\r\n"
                    self.wfile.write(data)
                    sent_ns[number % len(packets)] = time.monotonic_ns()
                    due_s += 1 / FPS
                    time.sleep(max(0.0, due_s - time.monotonic()))
            except OSError:
                pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    child = Child(CaptureSettings(source=f"http://127.0.0.1:{server.server_port}/x.ts", kind="url", slots=6))
    os.sched_setaffinity(0, cores - {max(cores)} or cores)
    took_ms, seen, memory_mb = [], 0, 0.0
    until_s = time.monotonic() + seconds
    try:
        while time.monotonic() < until_s:
            message = child.receive(0.2)
            now_ns = time.monotonic_ns()
            if not isinstance(message, Captured):
                continue
            frame = child.frame(message, Stamp("top", message.number, message.captured_ns))
            corner = frame.picture[:, : 20 * 16]
            rows = corner.shape[0] // 16
            bits = corner[8 : rows * 16 : 16, 8::16].mean(axis=2) > 128
            number = sum(int(bits[0, i]) << i for i in range(20))
            frame.release()
            seen += 1
            if seen > 10 and number in sent_ns:
                took_ms.append((now_ns - sent_ns[number]) / 1e6)
            memory_mb = max(memory_mb, psutil.Process(child.pid).memory_info().rss / 1e6)
    finally:
        child.kill()
        server.shutdown()
        server.server_close()
    assert look is not None
    ordered = sorted(took_ms)
    return {
        "p50": statistics.median(ordered),
        "p99": ordered[int(0.99 * (len(ordered) - 1))],
        "n": len(ordered),
        "mb": memory_mb,
    }


def prepare(folder: Path) -> None:
    """Write the packets of both kinds as files."""
    from fractions import Fraction

    import av
    import cv2
    import numpy as np
    from numbered import draw

    for kind in ("mjpeg", "h264"):
        (folder / kind).mkdir()
    path = folder / "x.ts"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "26"}
        stream.codec_context.gop_size = 30
        for number in range(COUNT):
            noise = np.random.default_rng(number % 8).integers(-6, 7, SIZE[::-1])
            grey = np.clip(draw(number, *SIZE).astype(int) + noise, 0, 255).astype(np.uint8)
            picture = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
            if number < 60:
                data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
                (folder / "mjpeg" / f"{number:04d}.packet").write_bytes(bytes(data))
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    starts = []
    with av.open(str(path)) as container:
        starts = [packet.pos for packet in container.demux(video=0) if packet.size]
    data = path.read_bytes()
    for number, (a, b) in enumerate(zip([0, *starts[1:]], [*starts[1:], len(data)], strict=True)):
        (folder / "h264" / f"{number:04d}.packet").write_bytes(data[a:b])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--other", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure[0], Path(arguments.measure[1]), COUNT / FPS + 2)))
        sys.exit()
    trees = {"this": Path(__file__).parents[2], **({"other": arguments.other} if arguments.other else {})}
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name))
        for kind in ("mjpeg", "h264"):
            for number in range(arguments.rounds):
                for tree, path in trees.items():
                    environment = {**os.environ, "PYTHONPATH": str(path)}
                    command = [sys.executable, str(Path(__file__).resolve()), "--measure", kind, str(Path(name) / kind)]
                    ended = subprocess.run(
                        command, env=environment, cwd=path, capture_output=True, text=True, check=False
                    )
                    print(kind, number, tree, ended.stdout.strip() or ended.stderr[-500:], flush=True)
