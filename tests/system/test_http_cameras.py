"""How HTTP cameras are asked: passwords, redirects, old ciphers, what is not theirs; one sentence where it fails."""

from __future__ import annotations

import hashlib
import shlex
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from numbered import jpegs

from inspectd.cameras.streams.mjpeg import open_mjpeg
from inspectd.errors import CameraError

A = jpegs(1, size=(320, 64), quality=60)[0]


def sized(picture: bytes) -> bytes:
    return b"--b\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(picture) + picture + b"\r\n"


@contextmanager
def server(
    answer: Callable[[BaseHTTPRequestHandler], None], certificate: ssl.SSLContext | None = None
) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.close_connection = True
            answer(self)

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate is not None:
        httpd.socket = certificate.wrap_socket(httpd.socket, server_side=True)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{httpd.server_port}"
    finally:
        httpd.shutdown()
        httpd.server_close()


def first_of(address: str, timeout_s: float = 5) -> bytes:
    """Return the first picture that an address gives."""
    stream = open_mjpeg(address, "cam", timeout_s)
    assert stream is not None
    packet = stream.next().packet
    stream.close()
    assert packet is not None
    return bytes(packet)


def send(request: BaseHTTPRequestHandler, data: bytes, *, kind: str = "multipart/x-mixed-replace;boundary=b") -> None:
    request.send_response(200)
    request.send_header("Content-Type", kind)
    request.end_headers()
    request.wfile.write(data)


def refuse(request: BaseHTTPRequestHandler, how: str) -> None:
    request.send_response(401)
    request.send_header("WWW-Authenticate", how)
    request.send_header("Content-Length", "0")
    request.end_headers()


def basic(request: BaseHTTPRequestHandler) -> None:
    if request.headers.get("Authorization") == "Basic dTpwOi9A":  # u:p:/@
        send(request, sized(A))
    else:
        refuse(request, 'Basic realm="cam"')


def digest(request: BaseHTTPRequestHandler) -> None:
    fields = (request.headers.get("Authorization") or "").replace('"', "").split(",")
    said = dict(field.strip().split("=", 1) for field in fields if "=" in field)

    def md5(text: str) -> str:
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()

    mine = ":".join((md5("u:cam:p:/@"), "n1", said.get("nc", ""), said.get("cnonce", ""), "auth", md5("GET:/x?y=1")))
    if said.get("response") == md5(mine):
        send(request, sized(A))
    else:
        refuse(request, 'Digest realm="cam", nonce="n1", qop="auth"')


def chunked(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("Content-Type", "multipart/x-mixed-replace;boundary=b")
    request.send_header("Transfer-Encoding", "chunked")
    request.end_headers()
    data = sized(A)
    for at in range(0, len(data), 100):
        piece = data[at : at + 100]
        request.wfile.write(b"%x\r\n" % len(piece) + piece + b"\r\n")
    request.wfile.write(b"0\r\n\r\n")


def both(request: BaseHTTPRequestHandler) -> None:
    """Basic, digest in a form that is not known, and digest as it is: in the clear nothing is said."""
    said = request.headers.get("Authorization") or ""
    if said.startswith("Digest"):
        digest(request)
        return
    assert not said
    request.send_response(401)
    for how in ("Basic realm=cam", 'Digest realm="cam", algorithm=SHA-256, nonce="n0", qop="auth"'):
        request.send_header("WWW-Authenticate", how)
    request.send_header("WWW-Authenticate", 'Digest realm="cam", nonce="n1", qop="auth"')
    request.send_header("Content-Length", "0")
    request.end_headers()


def with_a_length(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("Content-Type", "multipart/x-mixed-replace;boundary=b")
    request.send_header("Content-Length", "100")
    request.end_headers()
    request.wfile.write(sized(A))


def in_disguise(request: BaseHTTPRequestHandler) -> None:
    send(request, sized(A), kind="image/jpeg")


def slow(request: BaseHTTPRequestHandler) -> None:
    send(request, sized(A)[:50])
    time.sleep(1.2)
    request.wfile.write(sized(A)[50:])


def with_a_cookie(request: BaseHTTPRequestHandler) -> None:
    if request.headers.get("Cookie") == "a=b":
        basic(request)
    else:
        request.send_response(302)
        request.send_header("Location", "/there?a b\u00fc".encode().decode("latin-1"))
        request.send_header("Set-Cookie", "a=b")
        request.send_header("Content-Length", "0")
        request.end_headers()


def elsewhere(request: BaseHTTPRequestHandler) -> None:
    if request.path == "/there":
        send(request, sized(A))
    else:
        request.send_response(302)
        request.send_header("Location", "/there")
        request.send_header("Content-Length", "0")
        request.end_headers()


@pytest.mark.parametrize(
    "answer", [basic, digest, both, chunked, elsewhere, with_a_cookie, with_a_length, in_disguise, slow]
)
def test_cameras_are_asked_as_they_want_to_be(answer: Callable[[BaseHTTPRequestHandler], None]) -> None:
    with server(answer) as place:
        assert first_of(f"http://u:p%3A%2F%40@{place}/x?y=1#z", 1) == A


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the program openssl, for a certificate")
@pytest.mark.parametrize("ciphers", ["DEFAULT", "AES256-SHA:@SECLEVEL=0"])
def test_a_camera_that_signed_its_own_certificate_is_read(tmp_path: Path, ciphers: str) -> None:
    request = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=cam"
    subprocess.run(shlex.split(request), cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ciphers)
    with server(lambda one: send(one, sized(A)), context) as place:
        assert first_of(f"https://{place}/") == A


@pytest.mark.parametrize("answer", [basic, digest])
def test_a_wrong_password_is_one_sentence_without_it(answer: Callable[[BaseHTTPRequestHandler], None]) -> None:
    with server(answer) as place, pytest.raises(CameraError, match="401 Unauthorized; check the user") as error:
        open_mjpeg(f"http://u:hushhush@{place}/x?y=1", "cam", 5)
    assert "hushhush" not in str(error.value)


def test_a_wrong_password_is_tried_once() -> None:
    asked: list[str | None] = []

    def count(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.headers.get("Authorization"))
        digest(request)

    with server(count) as place, pytest.raises(CameraError):
        open_mjpeg(f"http://u:wrong@{place}/", "cam", 5)
    assert len(asked) == 2


@pytest.mark.parametrize(
    "how", ["Digest realm=x, opaque=, nonce=n", 'Digest realm="x", nonce="n", qop="auth-int"', "Bearer"]
)
def test_an_authentication_that_is_not_known_is_left_to_ffmpeg(how: str) -> None:
    with server(lambda request: refuse(request, how)) as place:
        assert open_mjpeg(f"http://u:p@{place}/", "cam", 5) is None


def test_an_address_without_a_password_is_told_that_one_is_needed() -> None:
    with server(digest) as place, pytest.raises(CameraError, match="401 Unauthorized; check the user"):
        open_mjpeg(f"http://{place}/", "cam", 5)


def test_an_odd_address_is_quoted_once() -> None:
    asked: list[str] = []

    def note(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.path)
        send(request, sized(A))

    with server(note) as place:
        assert first_of(f"http://{place}/a b/\u00e4%20c?d=e f&g=%C3%A4") == A
    assert asked == ["/a%20b/%C3%A4%20c?d=e%20f&g=%C3%A4"]


def test_why_an_address_cannot_be_opened() -> None:
    with server(lambda request: request.send_error(404, "x" * 10_000)) as place:
        with pytest.raises(CameraError) as error:
            open_mjpeg(f"http://{place}/", "cam", 5)
        assert str(error.value) == "cam cannot be opened: it answers 404 Not Found"
    with pytest.raises(CameraError, match="cannot be opened: Connection refused"):
        open_mjpeg(f"http://{place}/", "cam", 5)
    with socket.create_server(("127.0.0.1", 0)) as mute, pytest.raises(CameraError, match="does not answer"):
        open_mjpeg(f"http://127.0.0.1:{mute.getsockname()[1]}/", "cam", 0.2)


@pytest.mark.parametrize("kind", ["video/mp2t", "text/html", "application/octet-stream"])
def test_other_streams_are_left_to_ffmpeg(kind: str) -> None:
    with server(lambda request: send(request, b"G" * 200, kind=kind)) as place:
        assert open_mjpeg(f"http://{place}/", "cam", 5) is None
    assert open_mjpeg("rtsp://h/x", "cam", 5) is None


def test_a_server_that_hardly_speaks_http_is_left_to_ffmpeg() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk() -> None:
            one, _ = listener.accept()
            one.recv(1000)
            one.sendall(b"ICY 200 OK\r\n\r\n" + A)
            one.close()

        threading.Thread(target=talk, daemon=True).start()
        assert open_mjpeg(f"http://127.0.0.1:{listener.getsockname()[1]}/", "cam", 5) is None
