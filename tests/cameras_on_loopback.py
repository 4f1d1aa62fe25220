"""Network cameras on the loopback: a real RTSP server and an MJPEG server, each ended by its own process or thread."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SERVER = Path(__file__).parent / "servers" / "rtsp.py"
SYSTEM_PYTHON = "/usr/bin/python3"
PACKAGES = "gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good gstreamer1.0-plugins-bad python3-gi"
_TRY = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"


def has_rtsp() -> bool:
    """Whether Debian's packages for an RTSP server are there."""
    try:
        return subprocess.run([SYSTEM_PYTHON, "-c", _TRY], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def free_port() -> int:
    """Return a port that nobody uses now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class RtspServer:
    """Serves one video, from its beginning for each client. A context."""

    def __init__(self, video: Path, codec: str, port: int | None = None, *, login: Sequence[str] = ()) -> None:
        """`login`: basic or digest, a user and a password."""
        self.port = port or free_port()
        asks = ["--login", *login] if login else []
        self._server = Server([SYSTEM_PYTHON, str(SERVER), str(self.port), str(video), codec, *asks])

    def __enter__(self) -> RtspServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.end()


class Server:
    """A process that says when it is ready, and serves until it is ended."""

    def __init__(self, command: Sequence[str]) -> None:
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def end(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def multicast_camera(video: Path, group: str = "239.255.71.7") -> Iterator[int]:
    """Send a video (H.264) to a group on the loopback, which is joined here; gives out the RTSP port.

    FFmpeg joins it where the routes lead, and Linux hands a group's pictures to all who listen to it, on every network
    on which one of them has joined.
    """
    port, group_port = free_port(), 2 * (free_port() // 2)
    script = SERVER.with_name("multicast.py")
    server = Server([sys.executable, str(script), str(port), str(video), group, str(group_port)])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as joined:
        joined.setsockopt(
            socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + socket.inet_aton("127.0.0.1")
        )
        try:
            yield port
        finally:
            server.end()


@contextmanager
def mjpeg_server(
    pictures: Sequence[bytes] | Callable[[int], bytes | None], *, fps: float = 30, length: bool = True
) -> Iterator[int]:
    """Serve JPEGs one after another, to each client from the first on; gives out the port.

    `pictures`: a list, which begins again at its end, or what returns the picture of a number (None: the end).
    `length`: whether each part says how long it is.
    """
    picture_of = pictures if callable(pictures) else lambda number: pictures[number % len(pictures)]

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=part")
            self.end_headers()
            number, due_s = 0, time.monotonic()
            try:
                while (jpeg := picture_of(number)) is not None:
                    head = b"Content-Length: %d\r\n" % len(jpeg) if length else b""
                    self.wfile.write(b"--part\r\nContent-Type: image/jpeg\r\n" + head + b"\r\n" + jpeg + b"\r\n")
                    number, due_s = number + 1, due_s + 1 / fps
                    time.sleep(max(0.0, due_s - time.monotonic()))
            except OSError:
                pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
