"""MJPEG over HTTP: what cameras really send, byte by byte, and each picture as soon as it is whole."""

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

from inspectd.cameras import mjpeg
from inspectd.cameras.jpeg import is_jpeg
from inspectd.cameras.mjpeg import Mjpeg, open_mjpeg
from inspectd.errors import CameraError

A, B, C = jpegs(3, size=(320, 64), quality=60)
THUMBNAIL = A[:2] + b"\xff\xe1" + (len(B) + 2).to_bytes(2, "big") + B + A[2:]
"""A picture that carries another one, with an end of its own."""

MOTION = b"--b\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nmotion\r\n"


class Answer:
    """An answer that comes in the given chunks."""

    def __init__(self, data: bytes, step: int) -> None:
        self.chunks = [data[at : at + step] for at in range(0, len(data), step)]
        self.read = 0

    def read1(self, _: int) -> bytes:
        chunk = self.chunks.pop(0) if self.chunks else b""
        self.read += len(chunk)
        return chunk


def parts_of(stream_of: bytes, step: int = 1000) -> list[bytes]:
    answer = Answer(stream_of, step)
    first = answer.read1(step) + answer.read1(step)
    stream = Mjpeg(answer, "cam", first, None if is_jpeg(stream_of) else "b")  # type: ignore[arg-type]
    parts = []
    while (packet := stream.next().packet) is not None:
        parts.append(bytes(packet))
    return parts


def sized(picture: bytes, begin: bytes = b"--b\r\n", length: int | None = None) -> bytes:
    count = len(picture) if length is None else length
    return begin + b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % count + picture + b"\r\n"


def unsized(picture: bytes, begin: bytes = b"--b\r\n") -> bytes:
    return begin + b"Content-Type: image/jpeg\r\n\r\n" + picture + b"\r\n"


@pytest.mark.parametrize("step", [1, 7, 1000, 10**6])
@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(sized(A) + sized(B) + sized(C), id="with lengths"),
        pytest.param(unsized(A) + unsized(B) + unsized(C), id="without lengths"),
        pytest.param(sized(A) + unsized(B) + sized(C) + b"--b--\r\n", id="mixed, with a proper end"),
        pytest.param(b"\r\n" + unsized(A) + unsized(B) + unsized(C), id="an empty line before the first boundary"),
        pytest.param(b"".join(unsized(p, b"----b\r\n") for p in (A, B, C)), id="a boundary of many dashes"),
        pytest.param(b"".join(sized(p).replace(b"\r\n", b"\n", 4) for p in (A, B, C)), id="lines without returns"),
        pytest.param(b"".join(b"--b\r\n\r\n" + p + b"\r\n" for p in (A, B, C)), id="parts without a head"),
        pytest.param(b"".join(b"--b\r\ncontent-length:%d \r\n\r\n" % len(p) + p for p in (A, B, C)), id="in small"),
        pytest.param(unsized(A) + MOTION + unsized(B) + sized(C), id="text between pictures"),
        pytest.param(unsized(A) + sized(b"") + unsized(B) + unsized(b"") + sized(C), id="empty parts"),
        pytest.param(unsized(A, b"--b 0\r\n") + unsized(B, b"--b 1\r\n") + unsized(C, b"--b 2\r\n"), id="numbered"),
        pytest.param(sized(A, b"--first\r\n") + sized(B) + unsized(C), id="another first boundary"),
        pytest.param(b"".join(sized(p) + b"--b--\r\n" for p in (A, B, C)), id="each part is the last"),
        pytest.param(b"".join(sized(p) + b"--b--\r\n\r\n" for p in (A, B, C)), id="and an empty line"),
        pytest.param(b"preamble\r\nof two lines\r\n" + unsized(A) + sized(B) + sized(C), id="a preamble"),
        pytest.param((sized(A) + unsized(B) + sized(C)).replace(b"image/jpeg", b"application/octet-stream"), id="8"),
        pytest.param(A + B + C, id="nothing but pictures"),
        pytest.param(A + b"\0\0\0" + B + b"\r\n" + C, id="nothing but pictures, padded"),
    ],
)  # fmt: skip
def test_pictures_are_found_whatever_the_chunks(stream: bytes, step: int) -> None:
    assert parts_of(stream, step) == [A, B, C]


def test_a_length_that_is_too_short_costs_one_picture() -> None:
    assert parts_of(sized(A, length=len(A) - 40) + sized(B) + sized(C)) == [A[:-40], B, C]


def test_a_picture_before_the_first_boundary_is_one() -> None:
    data = A + b"\r\n" + unsized(B) + sized(C)
    answer = Answer(data, 1000)
    stream = Mjpeg(answer, "cam", answer.read1(0), "b")  # type: ignore[arg-type]
    assert [bytes(packet) for _ in range(3) if (packet := stream.next().packet) is not None] == [A, B, C]


def test_a_bare_picture_that_is_cut_in_its_head_costs_no_other() -> None:
    cut = b"\xff\xd8\xff\xe1\xff\xf0" + b"x" * 100
    assert parts_of(A + cut + B + C + A + B) == [A, cut, B, C, A, B]


@pytest.mark.parametrize("wrap", [sized, unsized, bytes], ids=["with length", "without", "alone"])
def test_a_picture_in_a_picture_does_not_end_it(wrap: Callable[[bytes], bytes]) -> None:
    assert parts_of(wrap(THUMBNAIL) + wrap(B)) == [THUMBNAIL, B]


@pytest.mark.parametrize("broken", [A[: len(A) // 2], A[2:], A[:20] + b"\0\0" + A[22:], b"\xff\xd8" * 30, b"x"])
@pytest.mark.parametrize("wrap", [sized, unsized])
def test_a_broken_picture_is_one_part_and_costs_no_other(broken: bytes, wrap: Callable[[bytes], bytes]) -> None:
    parts = parts_of(wrap(C) + wrap(broken) + wrap(B))
    assert len(parts) == 3
    assert parts[0] == C
    assert parts[1].rstrip(b"\r\n") == broken
    assert parts[2] == B


def test_a_cut_picture_among_bare_ones_ends_where_the_next_begins() -> None:
    assert parts_of(A + B[:-40] + C) == [A, B[:-40], C]


@pytest.mark.parametrize("wrap", [sized, unsized, bytes], ids=["with length", "without", "alone"])
def test_a_picture_is_there_with_its_last_byte(wrap: Callable[[bytes], bytes]) -> None:
    data = wrap(A)
    last = data.index(A) + len(A)
    answer = Answer(data, 1)
    first = answer.read1(1) + answer.read1(1)
    stream = Mjpeg(answer, "cam", first, None if is_jpeg(data) else "b")  # type: ignore[arg-type]
    packet = stream.next().packet
    assert packet is not None
    assert bytes(packet) == A
    assert answer.read == last


@pytest.mark.parametrize(
    ("stream", "sentence"),
    [
        (b"--b\r\nContent-Type: video/h264\r\n\r\nABC", "sends video/h264; set it to JPEG"),
        (MOTION * 1001 + sized(A), "sends text/plain; set it to JPEG"),
        (b"--b\r\n" + b"a: b\r\n" * 100_000, "whose head does not end"),
        (b"--b\r\nContent-Type: image/png\r\n\r\nPNG", "sends image/png; set it to JPEG"),
        (b"--b\r\nContent-Length: 999999999999\r\n\r\n" + A, "announces a picture of 999999999999 bytes"),
        (b"--b\r\n\r\n\xff\xd8\xff\xda\0\2" + b"\1" * (mjpeg.MOST_BYTES + 10**6), "without the end of a picture"),
    ],
)
def test_what_is_no_stream_of_pictures_is_one_sentence(stream: bytes, sentence: str) -> None:
    with pytest.raises(CameraError, match=sentence):
        parts_of(stream, 1 << 20)


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
        stream = open_mjpeg(f"http://u:p%3A%2F%40@{place}/x?y=1#z", "cam", 1)
        assert stream is not None
        packet = stream.next().packet
        stream.close()
        assert packet is not None
        assert bytes(packet) == A


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
        stream = open_mjpeg(f"https://{place}/", "cam", 5)
        assert stream is not None
        packet = stream.next().packet
        stream.close()
    assert packet is not None
    assert bytes(packet) == A


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
        stream = open_mjpeg(f"http://{place}/a b/\u00e4%20c?d=e f&g=%C3%A4", "cam", 5)
        assert stream is not None
        stream.close()
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


def test_what_had_waited_is_told_from_what_comes_now() -> None:
    """However long it takes to look through it."""

    class Slow(Answer):
        def read1(self, count: int) -> bytes:
            if self.read:
                time.sleep(0.01)
            return super().read1(count)

    large = jpegs(3, size=(1920, 1072))
    both = b"".join(unsized(one) for one in large[:2])
    answer = Slow(both + unsized(large[2]), len(both))
    stream = Mjpeg(answer, "cam", answer.read1(0), "b")  # type: ignore[arg-type]
    assert [stream.next().was_waiting for _ in range(3)] == [True, True, False]
