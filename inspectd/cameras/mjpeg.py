"""MJPEG over HTTP, each picture handed over when its last byte has come.

FFmpeg ends a picture that does not say its length only when the next one begins: it would be a period old, and
nothing would tell. A JPEG shows its own end.
"""

from __future__ import annotations

import http.client
import re
import ssl
import time
import urllib.request
from typing import IO, TYPE_CHECKING, cast
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit, urlunsplit

from av.packet import Packet

from inspectd.cameras import jpeg
from inspectd.cameras.packets import BUFFERED_NS, Arrival
from inspectd.errors import CameraError

if TYPE_CHECKING:
    from urllib.request import _UrlopenRet

    from av.video.stream import VideoStream

CHUNK = 1 << 18
MOST_BYTES = 1 << 26
"""Of one picture, or of what is between two."""
_HEADER = re.compile(rb"\r?\n\r?\n")
_LENGTH = re.compile(rb"(?im)^content-length[ \t]*:[ \t]*(\d{1,18})[ \t]*\r?$")
_TYPE = re.compile(rb"(?im)^content-type[ \t]*:[ \t]*([^\s;]{1,80})")


class Mjpeg:
    """JPEGs one after another: the parts of a multipart answer, or nothing but their bytes."""

    codec = "mjpeg"
    has_clock = False
    tick_s = 1.0
    fps = 0.0

    def __init__(self, answer: http.client.HTTPResponse, name: str, first: bytes) -> None:
        """Read an answer that begins with `first`; sentences call it `name`."""
        self._answer = answer
        self._name = name
        self._data = bytearray(first)
        self._is_multipart = not jpeg.is_jpeg(first)
        self._boundary = b""

    def next(self) -> Arrival:
        """Wait for the next picture; CameraError when the connection breaks. No packet: its proper end."""
        began_ns = time.monotonic_ns()
        data = self._part() if self._is_multipart else self._body()
        now_ns = time.monotonic_ns()
        packet = None if data is None else cast("Packet[VideoStream]", Packet(data))
        return Arrival(packet, now_ns - began_ns < BUFFERED_NS, now_ns, None)

    def close(self) -> None:
        """Let go of the connection."""
        self._answer.close()

    def _part(self) -> bytes | None:
        """Return the next part that is a picture; None: there are no more."""
        while self._find_boundary():
            head = self._head()
            if head is None:
                return None
            kind, length = _TYPE.search(head), _LENGTH.search(head)
            if kind is not None and kind[1].lower() not in (b"image/jpeg", b"image/jpg", b"image/pjpeg"):
                if kind[1].lower().startswith(b"image/"):
                    raise CameraError(f"{self._name} sends {kind[1].decode('ascii', 'replace')}; set it to JPEG")
                continue  # some cameras tell of motion or sound between two pictures
            data = self._body() if length is None else self._sized(int(length[1]))
            if data is None or data.strip(b"\r\n"):  # an empty part keeps the connection alive
                return data
        return None

    def _find_boundary(self) -> bool:
        """Go on behind the next boundary, whatever lies before it; False: there is none any more."""
        if not self._boundary and not self._learn_boundary():
            return False
        searched = 0
        while (at := self._data.find(self._boundary, searched)) < 0:
            searched = max(0, len(self._data) - len(self._boundary))
            if not self._fill():
                return False
        del self._data[: at + len(self._boundary)]
        return True

    def _learn_boundary(self) -> bool:
        """Take the first line for the boundary: what the answer's head says of it is wrong in many cameras."""
        while b"\n" not in (line := self._data.lstrip(b"\r\n")):
            if len(line) > CHUNK or not self._fill():
                return False
        self._boundary = bytes(line.split(b"\n", 1)[0].strip())
        if not self._boundary.startswith(b"--"):
            raise CameraError(f"{self._name} answers with parts, but does not begin with a boundary")
        return True

    def _head(self) -> bytes | None:
        """Return the header lines of a part; None: it was the last boundary, or the connection has ended."""
        while (end := _HEADER.search(self._data)) is None:
            if self._data[:2] == b"--" and not self._data[2:].strip():
                return None
            if len(self._data) > CHUNK:
                raise CameraError(f"{self._name} sends a part whose head does not end")
            if not self._fill():
                return None
        head = bytes(self._data[: end.end()])
        del self._data[: end.end()]
        return head

    def _sized(self, length: int) -> bytes | None:
        if length > MOST_BYTES:
            raise CameraError(f"{self._name} announces a picture of {length} bytes; at most {MOST_BYTES} are read")
        while len(self._data) < length:
            if not self._fill():
                return self._take(len(self._data)) or None
        return self._take(length)

    def _body(self) -> bytes | None:
        """Return a picture that does not say its length: up to its own end, or to where the next one begins."""
        if not self._is_multipart:
            self._skip_padding()
        next_begins, earliest = (b"\n" + self._boundary, 0) if self._is_multipart else (jpeg.START + b"\xff", 2)
        structure, is_followed, searched = jpeg.Structure(), True, earliest
        while True:
            end = None
            try:
                end = structure.end_in(self._data) if is_followed else None
            except jpeg.DamagedError:  # only the beginning of the next one shows where it ends
                is_followed = False
            if self._is_multipart or not is_followed:
                cut = self._data.find(next_begins, searched, end)
                end = cut if cut >= 0 else end
            if end is not None:
                return self._take(end)
            searched = max(earliest, len(self._data) - len(next_begins))
            if not self._fill():
                return self._take(len(self._data)) or None

    def _skip_padding(self) -> None:
        while not (rest := self._data.lstrip(b"\0\r\n")) and self._fill():
            pass
        del self._data[: len(self._data) - len(rest)]

    def _take(self, count: int) -> bytes:
        data = bytes(self._data[:count])
        del self._data[:count]
        return data

    def _fill(self) -> bool:
        """Wait for more bytes; False: there are no more."""
        if len(self._data) > MOST_BYTES:
            raise CameraError(f"{self._name} sends {MOST_BYTES >> 20} MiB without the end of a picture")
        data = _read(self._answer, self._name)
        self._data += data
        return bool(data)


def open_mjpeg(address: str, name: str, timeout_s: float) -> Mjpeg | None:
    """Ask for an http:// or https:// address; None: it is none, or sends something else. CameraError says why not.

    User and password are taken from the address, for basic and digest authentication. A camera's certificate is not
    checked: nobody signs them.
    """
    if not address.lower().startswith(("http://", "https://")):
        return None
    try:
        answer = _ask(address, timeout_s)
    except HTTPError as error:
        error.close()
        hint = "; check the user and the password" if error.code in (401, 403) else ""
        raise CameraError(f"{name} cannot be opened: it answers {error.code} {_words(error.code)}{hint}") from None
    except (http.client.HTTPException, ValueError):
        return None  # some cameras do not quite speak HTTP; FFmpeg may understand them
    except OSError as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise CameraError(f"{name} cannot be opened: {_why(reason)}") from None
    is_multipart = answer.headers.get_content_maintype() == "multipart"
    first = b""
    while len(first) < len(jpeg.START) and (more := _read(answer, name)):
        first += more
    if is_multipart or jpeg.is_jpeg(first):
        return Mjpeg(answer, name, first)
    answer.close()
    return None


def _ask(address: str, timeout_s: float) -> http.client.HTTPResponse:
    parts = urlsplit(address)
    place = parts.netloc.rpartition("@")[2]
    plain = urlunsplit((parts.scheme, place, parts.path or "/", parts.query, ""))
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    if parts.username is not None:
        passwords.add_password(None, plain, unquote(parts.username), unquote(parts.password or ""))
    anybody = ssl.create_default_context()
    anybody.check_hostname = False
    anybody.verify_mode = ssl.CERT_NONE
    asker = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=anybody),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPBasicAuthHandler(passwords),
        _DigestOnce(passwords),
    ):
        asker.add_handler(handler)
    return cast("http.client.HTTPResponse", asker.open(plain, timeout=timeout_s))


class _DigestOnce(urllib.request.HTTPDigestAuthHandler):
    """Comes with a password once, not six times: cameras lock out who does."""

    def http_error_401(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage
    ) -> _UrlopenRet | None:
        """Answer a 401; HTTPError where that has been done."""
        fp.close()
        if req.has_header("Authorization"):
            raise HTTPError(req.full_url, code, msg, headers, fp)
        return super().http_error_401(req, fp, code, msg, headers)


def _read(answer: http.client.HTTPResponse, name: str) -> bytes:
    try:
        return answer.read1(CHUNK)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise CameraError(f"{name} breaks off: {_why(error)}") from None


def _words(code: int) -> str:
    return http.client.responses.get(code, "")


def _why(error: object) -> str:
    """Return an error in words of the operating system's, never in the server's."""
    if isinstance(error, TimeoutError):
        return "it does not answer"
    return str(getattr(error, "strerror", None) or type(error).__name__)
