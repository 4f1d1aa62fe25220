"""MJPEG over HTTP, each picture handed over when its last byte has come.

FFmpeg ends a picture that does not say its length only when the next one begins: it would be a period old, and
nothing would tell. A JPEG shows its own end.
"""

from __future__ import annotations

import http.client
import http.cookiejar
import re
import ssl
import time
import urllib.request
from functools import lru_cache
from typing import IO, TYPE_CHECKING, cast
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from av.packet import Packet

from inspectd.cameras import jpeg
from inspectd.cameras.streams.packets import BUFFERED_NS, Arrival, refusal
from inspectd.errors import CameraError

if TYPE_CHECKING:
    from urllib.request import _UrlopenRet

    from av.video.stream import VideoStream

CHUNK = 1 << 18
LONGEST_LINE = 1 << 13
MOST_BYTES = 1 << 26
"""Of one picture, or of what is between two."""
MOST_OTHERS = 1000
"""Parts in a row that are no picture."""
_AS_IT_IS = "/%:=&?~+!$,;'@()*[]"
"""Characters of an address that are not quoted: all that may stand there, and what is quoted already."""
_LENGTH = re.compile(rb"(?im)^content-length[ \t]*:[ \t]*(\d{1,18})[ \t]*$")
_TYPE = re.compile(rb"(?im)^content-type[ \t]*:[ \t]*([^\s;]{1,80})")
_JPEG_TYPES = (b"image/jpeg", b"image/jpg", b"image/pjpeg", b"application/octet-stream", b"")
_BETWEEN = (b"text/", b"audio/", b"application/")
"""What some cameras tell between two pictures: motion, sound."""


class Mjpeg:
    """JPEGs one after another: the parts of a multipart answer, or nothing but their bytes."""

    codec = "mjpeg"
    has_clock = False
    tick_s = 1.0
    fps = 0.0

    def __init__(self, answer: http.client.HTTPResponse, name: str, first: bytes, boundary: str | None) -> None:
        """Read an answer that begins with `first`; sentences call it `name`.

        `boundary`: as the answer's head names it, which may be wrong; None: the answer has no parts.
        """
        self._answer = answer
        self._name = name
        self._data = bytearray(first)
        self._boundary = None if boundary is None else b"--" + boundary.encode("latin-1", "replace").lstrip(b"-")
        self._is_in_part = jpeg.is_jpeg(first)
        self._blocked_ns = 0

    def next(self) -> Arrival:
        """Wait for the next picture; CameraError when the connection breaks. No packet: its proper end."""
        self._blocked_ns = 0
        data = self._bare() if self._boundary is None else self._part()
        packet = None if data is None else cast("Packet[VideoStream]", Packet(data))
        return Arrival(packet, self._blocked_ns < BUFFERED_NS, time.monotonic_ns(), None)

    def close(self) -> None:
        """Let go of the connection."""
        self._answer.close()

    def _part(self) -> bytes | None:
        """Return the next part that is a picture; None: there are no more."""
        kind = b""
        for _ in range(MOST_OTHERS):
            head = b"" if self._is_in_part else self._head()
            self._is_in_part = False
            if head is None:
                return None
            named, length = _TYPE.search(head), _LENGTH.search(head)
            kind = named[1].lower() if named is not None else b""
            if kind in _JPEG_TYPES:
                data = self._up_to(self._next_part()) if length is None else self._sized(int(length[1]))
                if data is None or data.strip(b"\r\n"):  # an empty part keeps the connection alive
                    return data
            elif not kind.startswith(_BETWEEN):
                break
        raise CameraError(f"{self._name} sends {kind.decode('ascii', 'replace') or 'empty parts'}; set it to JPEG")

    def _head(self) -> bytes | None:
        """Go on to the next boundary and behind its header lines, which are returned; None: the end."""
        head, is_in_head = b"", False
        while (line := self._line()) is not None:
            if line.startswith(b"--"):
                if not is_in_head and not line.endswith(b"--"):
                    self._boundary = line
                head, is_in_head = b"", not line.endswith(b"--")
            elif is_in_head and line:
                head += line + b"\n"
                if len(head) > CHUNK:
                    raise CameraError(f"{self._name} sends a part whose head does not end")
            elif is_in_head:
                return head
            elif line:  # left over from a broken picture
                self._data[:0] = b"\n"
                self._up_to(self._next_part(), is_jpeg=False)
        return None

    def _line(self) -> bytes | None:
        """Return the next line, or so much of it as a line may have; None: the end."""
        while (end := self._data.find(b"\n", 0, LONGEST_LINE)) < 0 and len(self._data) < LONGEST_LINE:
            if not self._fill():
                return None
        return self._take(end + 1 if end >= 0 else LONGEST_LINE).strip()

    def _sized(self, length: int) -> bytes | None:
        if length > MOST_BYTES:
            raise CameraError(f"{self._name} announces a picture of {length} bytes; at most {MOST_BYTES} are read")
        while len(self._data) < length:
            if not self._fill():
                return self._take(len(self._data)) or None
        return self._take(length)

    def _bare(self) -> bytes | None:
        """Return the next of pictures that have nothing between them but padding."""
        while not (rest := self._data.lstrip(b"\0\r\n")) and self._fill():
            pass
        del self._data[: len(self._data) - len(rest)]
        return self._up_to(_NEXT_PICTURE, is_cut_first=False)

    def _next_part(self) -> re.Pattern[bytes]:
        """Return what begins the next part: the boundary as it was last, or any that a head follows."""
        return _boundary_pattern(bytes(self._boundary or b""))

    def _up_to(self, following: re.Pattern[bytes], *, is_jpeg: bool = True, is_cut_first: bool = True) -> bytes | None:
        """Return a picture of unknown length: up to its own end, or to what follows it; None: there is nothing left.

        `is_cut_first`: what follows counts although the picture's markers are in order so far.
        """
        structure, is_followed, searched = jpeg.Structure(), is_jpeg, 0
        while True:
            end = None
            try:
                end = structure.end_in(self._data) if is_followed else None
            except jpeg.DamagedError:  # only what follows shows where it ends
                is_followed = False
            if is_cut_first or not is_followed:
                found = following.search(self._data, searched, len(self._data) if end is None else end)
                end = end if found is None else found.start()
                searched = max(0, len(self._data) - LONGEST_LINE)
            if end is not None:
                return self._take(end)
            if not self._fill():
                if not is_followed or is_cut_first:
                    return self._take(len(self._data)) or None
                is_followed = False  # its end never came: it may have swallowed others

    def _take(self, count: int) -> bytes:
        data = bytes(self._data[:count])
        del self._data[:count]
        return data

    def _fill(self) -> bool:
        """Wait for more bytes; False: there are no more."""
        if len(self._data) > MOST_BYTES:
            raise CameraError(f"{self._name} sends {MOST_BYTES >> 20} MiB without the end of a picture")
        began_ns = time.monotonic_ns()
        data = _read(self._answer, self._name)
        self._blocked_ns += time.monotonic_ns() - began_ns
        self._data += data
        return bool(data)


_NEXT_PICTURE = re.compile(rb"(?<=[^\xff])(?=\xff\xd8\xff)")


@lru_cache(maxsize=8)
def _boundary_pattern(boundary: bytes) -> re.Pattern[bytes]:
    return re.compile(
        rb"\n(?=" + re.escape(boundary) + rb"(?:--)?[ \t]*\r?\n)|\n(?=--[^\r\n]{0,200}\r?\n(?i:content-))"
    )


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
        raise CameraError(f"{name} cannot be opened: {refusal(error.code)}") from None
    except (http.client.HTTPException, ValueError, IndexError):
        return None  # some cameras do not quite speak HTTP; FFmpeg may understand them
    except OSError as error:
        reason = error.reason if isinstance(error, URLError) else error
        if not isinstance(reason, OSError):  # a kind of authentication that is not known here
            return None
        raise CameraError(f"{name} cannot be opened: {_why(reason)}") from None
    boundary = answer.headers.get_boundary("") if answer.headers.get_content_maintype() == "multipart" else None
    if boundary is not None:
        answer.length = None  # some cameras give the length of one picture
    first = b""
    while len(first) < len(jpeg.START) and (more := _read(answer, name)):
        first += more
    if boundary is None and first.lstrip(b"\r\n").startswith(b"--"):
        boundary = ""
    if boundary is not None or jpeg.is_jpeg(first):
        return Mjpeg(answer, name, first, boundary)
    answer.close()
    return None


def _ask(address: str, timeout_s: float) -> http.client.HTTPResponse:
    parts = urlsplit(address)
    place = parts.netloc.rpartition("@")[2]
    path, query = quote(parts.path or "/", safe=_AS_IT_IS), quote(parts.query, safe=_AS_IT_IS)
    asker = urllib.request.OpenerDirector()
    for handler in (
        _Http(),
        _Https(_anybody()),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()),
        urllib.request.UnknownHandler(),
    ):
        asker.add_handler(handler)
    if parts.username is not None:
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        passwords.add_password(
            None, f"{parts.scheme}://{place}/", unquote(parts.username), unquote(parts.password or "")
        )
        asker.add_handler(_DigestOnce(passwords))
        asker.add_handler(urllib.request.HTTPBasicAuthHandler(passwords))
    url = urlunsplit((parts.scheme, place, path, query, ""))
    return cast("http.client.HTTPResponse", asker.open(url, timeout=timeout_s))


def _anybody() -> ssl.SSLContext:
    """Return what talks to every camera: nobody signs their certificates, and old ones know old ciphers only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # without the usual authorities, which take 50 ms to load
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return context


class _Patient(http.client.HTTPConnection):
    """Opens within its timeout; how long a camera may then be silent is the parent process's to say."""

    def getresponse(self) -> http.client.HTTPResponse:
        """Return the answer, once its head has come."""
        connection = self.sock
        answer = super().getresponse()
        connection.settimeout(None)
        return answer


class _PatientTls(_Patient, http.client.HTTPSConnection):
    """The same over TLS."""


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Patient, req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(context=context)
        self._trust = context

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_PatientTls, req, context=self._trust)


class _DigestOnce(urllib.request.HTTPDigestAuthHandler):
    """Comes with a password once, not six times: cameras lock out who does."""

    def http_error_401(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage
    ) -> _UrlopenRet | None:
        """Answer a 401; HTTPError where that has been done."""
        fp.close()
        if req.has_header("Authorization"):
            raise HTTPError(req.full_url, code, msg, headers, fp)
        known = [one for one in headers.get_all("WWW-Authenticate", []) if _is_known_digest(one)]
        if not known:
            return None
        headers.replace_header("WWW-Authenticate", known[0])
        return super().http_error_401(req, fp, code, msg, headers)


def _is_known_digest(challenge: str) -> bool:
    algorithm = re.search(r"(?i)\balgorithm=\"?([^\s,\"]+)", challenge)
    return challenge.lower().startswith("digest") and (algorithm is None or algorithm[1].upper() in ("MD5", "SHA"))


def _read(answer: http.client.HTTPResponse, name: str) -> bytes:
    try:
        return answer.read1(CHUNK)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise CameraError(f"{name} breaks off: {_why(error)}") from None


def _why(error: object) -> str:
    """Return an error in words of the operating system's, never in the server's."""
    if isinstance(error, TimeoutError):
        return "it does not answer"
    return str(getattr(error, "strerror", None) or type(error).__name__)
