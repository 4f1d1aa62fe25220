"""What is plugged in: V4L2 capture devices, their formats, and the path by which a camera is known for good.

`/dev/videoN` follows the order of plugging in: two cameras swap after a reboot. The links below `/dev/v4l` do
not, so one of them is the camera's identity. Structs and numbers are those of the kernel's linux/videodev2.h.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from inspectd.cameras.sources import Kind, Source

_CAPABILITY = struct.Struct("=16s32s32sIII12x")  # driver, card, bus_info, version, capabilities, device_caps
_FMTDESC = struct.Struct("=III32sI16x")  # index, type, flags, description, pixelformat
_FRMSIZE = struct.Struct("=III6I8x")  # index, pixel_format, type, then the union of discrete and stepwise


def _ioc(direction: int, number: int, layout: struct.Struct) -> int:
    return direction << 30 | layout.size << 16 | ord("V") << 8 | number


_READ, _READ_WRITE = 2, 3
VIDIOC_QUERYCAP = _ioc(_READ, 0, _CAPABILITY)
VIDIOC_ENUM_FMT = _ioc(_READ_WRITE, 2, _FMTDESC)
VIDIOC_ENUM_FRAMESIZES = _ioc(_READ_WRITE, 74, _FRMSIZE)

_CAP_VIDEO_CAPTURE = 0x1
_CAP_VIDEO_CAPTURE_MPLANE = 0x1000
_CAP_DEVICE_CAPS = 0x80000000
_BUF_TYPE_VIDEO_CAPTURE = 1
_BUF_TYPE_VIDEO_CAPTURE_MPLANE = 9
_FRMSIZE_TYPE_DISCRETE = 1
_BIG_ENDIAN = 1 << 31
_MOST_ITEMS = 256
"""Where an enumeration ends that a broken driver does not."""

_END_OF_LIST = (errno.EINVAL, errno.ENOTTY, errno.ENODATA)
_NOT_A_CAMERA = (errno.ENOTTY, errno.ENOENT)
_ADVICE = {
    errno.EACCES: "add this user to the group video (sudo usermod -aG video USER) and log in again",
    errno.EPERM: "the container or the systemd unit must allow the device (DeviceAllow=char-video4linux rw)",
    errno.EBUSY: "another program holds it; `fuser -v` names it",
    errno.ENODEV: "it was unplugged, or its driver has lost it; plug it in again",
    errno.ENXIO: "its driver has lost it; plug it in again",
}


class Ioctl(Protocol):
    """`fcntl.ioctl` as far as it is used here: the answer is written into `argument`."""

    def __call__(self, fd: int, request: int, argument: bytearray, /) -> object: ...


@dataclass(frozen=True, slots=True)
class Format:
    """One pixel format of a camera."""

    fourcc: str
    """Four letters as a configuration's `format` wants them; the last may be a space (`Y16 `)."""
    description: str
    sizes: tuple[str, ...]
    """`1920x1080`, or `64x64–4096x2160` for a range; empty when the driver does not say."""


@dataclass(frozen=True, slots=True)
class Device:
    """One capture device."""

    path: str
    """What a configuration's `source` should be: the link below /dev/v4l, or the node where there is none."""
    node: str
    """/dev/videoN: valid until the next reboot."""
    name: str
    formats: tuple[Format, ...]
    problem: str | None
    """Why it cannot be used, and what to do; None when it can."""


def discover(root: Path = Path("/"), ioctl: Ioctl = fcntl.ioctl) -> list[Device]:
    """Return the capture devices in order of their number, also those that cannot be opened."""
    numbers = (path.name.removeprefix("video") for path in (root / "dev").glob("video*"))
    found = (_device(f"video{number}", root, ioctl) for number in sorted(filter(str.isdecimal, numbers), key=int))
    return [device for device in found if device is not None]


def identities(source: Source) -> tuple[str, ...]:
    """Return everything by which a camera is known for good, the best first; empty: it is absent, or has nothing."""
    if source.kind is Kind.ARAVIS:
        return (source.address,)
    return stable_paths(source.address) if source.is_device else ()


def stable_path(source: str | int, root: Path = Path("/")) -> str | None:
    """Return the identity of the camera at `source` (a number or a path): the first of `stable_paths`, or None."""
    return next(iter(stable_paths(source, root)), None)


def stable_paths(source: str | int, root: Path = Path("/")) -> tuple[str, ...]:
    """Return every path that means this camera and no other, by-id before by-path; empty when it is absent.

    Two cameras of one make without serial numbers claim the same by-id link, and the last one plugged in has
    it: such a link is no identity, and only by-path remains.
    """
    text = str(source).strip()
    text = f"/dev/video{int(text)}" if text.isdecimal() else text
    node = _resolve(root / text.lstrip("/")) if text.startswith("/dev/") else None
    if node is None:
        return ()
    shared = {link for link, claims in Counter(_claimed_links(root)).items() if claims > 1}
    links = (
        f"/dev/v4l/{folder}/{link.name}"
        for folder in ("by-id", "by-path")
        for link in sorted((root / "dev/v4l" / folder).glob("*"))
        if _resolve(link) == node
    )
    return tuple(link for link in links if link not in shared)


def _resolve(path: Path) -> Path | None:
    try:
        return path.resolve(strict=True)
    except (OSError, RuntimeError):  # absent, or links in a circle
        return None


def _claimed_links(root: Path) -> Iterator[str]:
    """Yield each link that udev recorded for a video device, once per device that wants it."""
    for folder in (root / "sys/class/video4linux").glob("video*"):
        for line in _udev_record(folder.name, root):
            if line.startswith("S:"):
                yield f"/dev/{line.removeprefix('S:')}"


def _udev_record(video: str, root: Path) -> list[str]:
    number = _read(root / "sys/class/video4linux" / video / "dev")
    return _read(root / "run/udev/data" / f"c{number}").splitlines()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _device(video: str, root: Path, ioctl: Ioctl) -> Device | None:
    """Ask one node; None when it is no camera."""
    node = f"/dev/{video}"
    name = _read(root / "sys/class/video4linux" / video / "name") or video
    formats: tuple[Format, ...] = ()
    problem = None
    try:
        # Writing is what a capture needs too, so a lack of that permission shows here.
        fd = os.open(root / "dev" / video, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            name, capabilities = _query(fd, ioctl)
            if not capabilities & (_CAP_VIDEO_CAPTURE | _CAP_VIDEO_CAPTURE_MPLANE):
                return None  # metadata, output, a codec
            formats = tuple(_formats(fd, capabilities, ioctl))
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno in _NOT_A_CAMERA or _is_ruled_out_by_udev(video, root):
            return None
        advice = _ADVICE.get(error.errno or 0, "see `dmesg`")
        problem = f"{node} cannot be used: {error.strerror}; {advice}."
    return Device(stable_path(node, root) or node, node, name, formats, problem)


def _is_ruled_out_by_udev(video: str, root: Path) -> bool:
    """Whether udev, which may open every node, has recorded that this one does not capture."""
    prefix = "E:ID_V4L_CAPABILITIES="  # then ":", ":capture:", ":video_output:" …; absent where udev did not ask
    return any(line.startswith(prefix) and ":capture:" not in line for line in _udev_record(video, root))


def _query(fd: int, ioctl: Ioctl) -> tuple[str, int]:
    """Return name and capabilities of this very node (a camera has several)."""
    answer = bytearray(_CAPABILITY.size)
    ioctl(fd, VIDIOC_QUERYCAP, answer)
    _, card, _, _, of_all_nodes, of_this_node = _CAPABILITY.unpack(answer)
    return _text(card), of_this_node if of_all_nodes & _CAP_DEVICE_CAPS else of_all_nodes


def _formats(fd: int, capabilities: int, ioctl: Ioctl) -> Iterator[Format]:
    is_single = capabilities & _CAP_VIDEO_CAPTURE
    kind = _BUF_TYPE_VIDEO_CAPTURE if is_single else _BUF_TYPE_VIDEO_CAPTURE_MPLANE
    for index in range(_MOST_ITEMS):
        answer = bytearray(_FMTDESC.pack(index, kind, 0, b"", 0))
        if not _is_listed(fd, VIDIOC_ENUM_FMT, answer, ioctl):
            return
        *_, description, pixel_format = _FMTDESC.unpack(answer)
        yield Format(_fourcc(pixel_format), _text(description), tuple(_sizes(fd, pixel_format, ioctl)))


def _sizes(fd: int, pixel_format: int, ioctl: Ioctl) -> Iterator[str]:
    for index in range(_MOST_ITEMS):
        answer = bytearray(_FRMSIZE.pack(index, pixel_format, *[0] * 7))
        if not _is_listed(fd, VIDIOC_ENUM_FRAMESIZES, answer, ioctl):
            return
        _, _, kind, *size = _FRMSIZE.unpack(answer)
        if kind != _FRMSIZE_TYPE_DISCRETE:
            min_width, max_width, _, min_height, max_height, _ = size
            yield f"{min_width}x{min_height}–{max_width}x{max_height}"
            return
        yield f"{size[0]}x{size[1]}"


def _is_listed(fd: int, request: int, answer: bytearray, ioctl: Ioctl) -> bool:
    try:
        ioctl(fd, request, answer)
    except OSError as error:
        if error.errno in _END_OF_LIST:
            return False
        raise
    return True


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", errors="replace").strip()


def _fourcc(pixel_format: int) -> str:
    letters = (pixel_format & ~_BIG_ENDIAN).to_bytes(4, "little").decode("ascii", errors="replace")
    return f"{letters}-BE" if pixel_format & _BIG_ENDIAN else letters
