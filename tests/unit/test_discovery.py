"""Cameras found in a pretended /dev, /sys and /run, with ioctls answered as the kernel answers them.

The structs are those of linux/videodev2.h, laid out by ctypes: independent of the code under test.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from inspectd.cameras import discovery
from inspectd.cameras.discovery import Device, Format, discover, stable_path, stable_paths

CAPTURE, CAPTURE_MPLANE, META, STREAMING, DEVICE_CAPS = 0x1, 0x1000, 0x800000, 0x04000000, 0x80000000


class Capability(ctypes.Structure):
    _fields_ = (
        ("driver", ctypes.c_char * 16),
        ("card", ctypes.c_char * 32),
        ("bus_info", ctypes.c_char * 32),
        ("version", ctypes.c_uint32),
        ("capabilities", ctypes.c_uint32),
        ("device_caps", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32 * 3),
    )


class FmtDesc(ctypes.Structure):
    _fields_ = (
        ("index", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("description", ctypes.c_char * 32),
        ("pixelformat", ctypes.c_uint32),
        ("mbus_code", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32 * 3),
    )


class Discrete(ctypes.Structure):
    _fields_ = (("width", ctypes.c_uint32), ("height", ctypes.c_uint32))


class Stepwise(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint32)
        for name in ("min_width", "max_width", "step_width", "min_height", "max_height", "step_height")
    )


class FrameSize(ctypes.Union):
    _fields_ = (("discrete", Discrete), ("stepwise", Stepwise))


class FrmSizeEnum(ctypes.Structure):
    _fields_ = (
        ("index", ctypes.c_uint32),
        ("pixel_format", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("size", FrameSize),
        ("reserved", ctypes.c_uint32 * 2),
    )


QUERYCAP, ENUM_FMT, ENUM_FRAMESIZES = 0x80685600, 0xC0405602, 0xC02C564A
"""As a C compiler prints the header's macros on x86-64 and arm64."""

Sizes = list[tuple[int, int]] | tuple[int, ...]


@dataclass
class Camera:
    """What the driver of one node answers."""

    card: bytes = b"Line camera"
    capabilities: int = CAPTURE | META | STREAMING | DEVICE_CAPS
    device_caps: int = CAPTURE | STREAMING
    formats: dict[bytes, tuple[bytes, Sizes]] = field(default_factory=dict)
    error: int | None = None
    """What QUERYCAP fails with."""
    format_error: int = errno.EINVAL
    """What ends the list of formats."""
    big_endian: bool = False

    @property
    def is_single_planar(self) -> bool:
        return bool((self.device_caps if self.capabilities & DEVICE_CAPS else self.capabilities) & CAPTURE)


class Machine:
    """A root folder with nodes, links, sysfs and udev's records."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cameras: dict[str, Camera] = {}
        for folder in ("dev/v4l/by-id", "dev/v4l/by-path", "sys/class/video4linux", "run/udev/data"):
            (root / folder).mkdir(parents=True)

    def plug(self, number: int, camera: Camera, *, by_id: str = "", by_path: str = "", udev: str = "") -> None:
        node = f"video{number}"
        self.cameras[node] = camera
        (self.root / "dev" / node).touch()
        entry = self.root / "sys/class/video4linux" / node
        entry.mkdir()
        (entry / "name").write_text(f"{camera.card.decode()}\n")
        (entry / "dev").write_text(f"81:{number}\n")
        wanted = [f"v4l/by-id/{by_id}"] * bool(by_id) + [f"v4l/by-path/{by_path}"] * bool(by_path)
        records = "".join(f"S:{link}\n" for link in wanted)
        (self.root / f"run/udev/data/c81:{number}").write_text(f"{records}I:123\n{udev}")
        for link in wanted:
            path = self.root / "dev" / link
            path.unlink(missing_ok=True)  # the last one plugged in has it
            path.symlink_to(f"../../{node}")

    def ioctl(self, fd: int, request: int, argument: bytearray) -> int:
        assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK
        camera = self.cameras[Path(f"/proc/self/fd/{fd}").readlink().name]
        answer = {QUERYCAP: self._capability, ENUM_FMT: self._format, ENUM_FRAMESIZES: self._size}[request]
        answer(camera, argument)
        return 0

    def discover(self) -> list[Device]:
        return discover(self.root, self.ioctl)

    @staticmethod
    def _capability(camera: Camera, argument: bytearray) -> None:
        if camera.error is not None:
            raise OSError(camera.error, os.strerror(camera.error))
        answer = Capability.from_buffer(argument)
        assert ctypes.sizeof(answer) == len(argument)
        answer.driver, answer.card, answer.bus_info = b"uvcvideo", camera.card, b"usb-0000:00:14.0-1"
        answer.version, answer.capabilities, answer.device_caps = 0x60C00, camera.capabilities, camera.device_caps

    @staticmethod
    def _format(camera: Camera, argument: bytearray) -> None:
        answer = FmtDesc.from_buffer(argument)
        assert ctypes.sizeof(answer) == len(argument)
        assert answer.type == (1 if camera.is_single_planar else 9)
        if answer.index >= len(camera.formats):
            raise OSError(camera.format_error, os.strerror(camera.format_error))
        fourcc, (description, _) = list(camera.formats.items())[answer.index]
        answer.description, answer.mbus_code = description, 0xFFFF
        answer.pixelformat = int.from_bytes(fourcc, "little") | camera.big_endian << 31

    @staticmethod
    def _size(camera: Camera, argument: bytearray) -> None:
        answer = FrmSizeEnum.from_buffer(argument)
        assert ctypes.sizeof(answer) == len(argument)
        _, sizes = camera.formats[(answer.pixel_format & 0x7FFFFFFF).to_bytes(4, "little")]
        if isinstance(sizes, tuple):
            answer.type, answer.size.stepwise = 3, Stepwise(*sizes)
        elif answer.index < len(sizes):
            answer.type, answer.size.discrete = 1, Discrete(*sizes[answer.index])
        else:
            raise OSError(errno.EINVAL, "no more sizes")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_webcam_is_listed_with_path_name_and_formats_and_its_metadata_node_is_not(machine: Machine) -> None:
    formats: dict[bytes, tuple[bytes, Sizes]] = {
        b"MJPG": (b"Motion-JPEG", [(1920, 1080), (640, 480)]),
        b"YUYV": (b"YUYV 4:2:2", [(640, 480)]),
    }
    machine.plug(0, Camera(b"HD Webcam", formats=formats), by_id="usb-HD_1234-video-index0", by_path="pci-0-index0")
    machine.plug(1, Camera(b"HD Webcam", device_caps=META | STREAMING), by_id="usb-HD_1234-video-index1")
    assert machine.discover() == [
        Device(
            path="/dev/v4l/by-id/usb-HD_1234-video-index0",
            node="/dev/video0",
            name="HD Webcam",
            formats=(
                Format("MJPG", "Motion-JPEG", ("1920x1080", "640x480")),
                Format("YUYV", "YUYV 4:2:2", ("640x480",)),
            ),
            problem=None,
        )
    ]


def test_the_numbers_and_sizes_are_the_kernels() -> None:
    assert (discovery.VIDIOC_QUERYCAP, discovery.VIDIOC_ENUM_FMT, discovery.VIDIOC_ENUM_FRAMESIZES) == (
        QUERYCAP,
        ENUM_FMT,
        ENUM_FRAMESIZES,
    )
    assert [ctypes.sizeof(layout) for layout in (Capability, FmtDesc, FrmSizeEnum)] == [104, 64, 44]


def test_a_sensor_with_a_range_of_sizes_and_several_planes(machine: Machine) -> None:
    camera = Camera(
        card=b"A card whose name fills 32 bytes",
        capabilities=CAPTURE_MPLANE | DEVICE_CAPS,
        device_caps=CAPTURE_MPLANE,
        formats={b"Y16 ": (b"16-bit Greyscale BE", (64, 4096, 8, 48, 2160, 2))},
        big_endian=True,
    )
    machine.plug(0, camera, by_path="platform-csi-video-index0")
    (device,) = machine.discover()
    assert device.name == "A card whose name fills 32 bytes"
    assert device.path == "/dev/v4l/by-path/platform-csi-video-index0"
    assert device.formats == (Format("Y16 -BE", "16-bit Greyscale BE", ("64x48–4096x2160",)),)


def test_an_old_driver_without_device_caps_is_judged_by_its_capabilities(machine: Machine) -> None:
    machine.plug(0, Camera(capabilities=CAPTURE, device_caps=META))
    machine.plug(1, Camera(capabilities=META, device_caps=CAPTURE))
    assert [device.node for device in machine.discover()] == ["/dev/video0"]


def test_devices_come_in_the_order_of_their_numbers(machine: Machine) -> None:
    for number in (10, 2, 0):
        machine.plug(number, Camera())
    (machine.root / "dev/video-notes").touch()
    devices = machine.discover()
    assert [device.node for device in devices] == ["/dev/video0", "/dev/video2", "/dev/video10"]
    assert [device.path for device in devices] == ["/dev/video0", "/dev/video2", "/dev/video10"]


def test_a_driver_that_never_ends_its_list_does_not_hang(machine: Machine) -> None:
    machine.plug(0, Camera(formats={b"GREY": (b"Grey", [(8, 8)] * 100_000)}))
    (device,) = machine.discover()
    assert len(device.formats[0].sizes) == 256


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (errno.EBUSY, "another program holds it"),
        (errno.ENODEV, "unplugged"),
        (errno.EIO, "dmesg"),
    ],
)
def test_a_device_that_cannot_be_asked_is_listed_with_its_problem(machine: Machine, error: int, advice: str) -> None:
    machine.plug(3, Camera(b"Stuck", error=error), by_id="usb-Stuck_1-video-index0")
    (device,) = machine.discover()
    assert (device.name, device.path) == ("Stuck", "/dev/v4l/by-id/usb-Stuck_1-video-index0")
    assert device.problem is not None
    assert "/dev/video3" in device.problem
    assert os.strerror(error) in device.problem
    assert advice in device.problem


def test_a_device_lost_while_it_is_asked_is_listed_with_its_problem(machine: Machine) -> None:
    machine.plug(0, Camera(b"Gone", formats={b"GREY": (b"Grey", [])}, format_error=errno.ENODEV))
    (device,) = machine.discover()
    assert device.formats == ()
    assert device.problem is not None


def test_without_permission_the_advice_is_the_group_and_other_nodes_stay_out(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, _flags: int) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    machine.plug(0, Camera(b"HD Webcam"), udev="E:ID_V4L_CAPABILITIES=:capture:\n")
    machine.plug(1, Camera(b"HD Webcam"), udev="E:ID_V4L_CAPABILITIES=:\n")
    machine.plug(2, Camera(b"HDMI output"), udev="E:ID_V4L_CAPABILITIES=:video_output:\n")
    machine.plug(3, Camera(b"In a container, where udev's records are missing"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)  # root may open everything
        device, unrecorded = machine.discover()
    assert (device.node, device.name) == ("/dev/video0", "HD Webcam")
    assert unrecorded.node == "/dev/video3"
    assert device.problem is not None
    assert "Permission denied" in device.problem
    assert "group video" in device.problem


def test_an_open_that_fails_in_earnest_is_a_problem_and_no_crash(machine: Machine) -> None:
    with socket.socket(socket.AF_UNIX) as node:  # opening one is ENXIO, as with a device whose driver is gone
        node.bind(str(machine.root / "dev/video4"))
        (device,) = machine.discover()
    assert (device.name, device.node) == ("video4", "/dev/video4")
    assert device.problem is not None


def test_what_is_no_v4l2_device_is_left_out(machine: Machine) -> None:
    (machine.root / "dev/video0").touch()
    assert discover(machine.root) == []  # with the real ioctl: a plain file answers ENOTTY


def test_nothing_plugged_in(tmp_path: Path) -> None:
    assert discover(tmp_path) == []
    assert stable_path(0, tmp_path) is None


@pytest.mark.parametrize("source", [0, "0", " 0 ", "/dev/video0", "/dev/v4l/by-id/usb-A_1", "/dev/v4l/by-path/pci-1"])
def test_every_way_to_name_a_camera_leads_to_one_identity(machine: Machine, source: str | int) -> None:
    machine.plug(0, Camera(), by_id="usb-A_1", by_path="pci-1")
    assert stable_path(source, machine.root) == "/dev/v4l/by-id/usb-A_1"
    assert stable_paths(source, machine.root) == ("/dev/v4l/by-id/usb-A_1", "/dev/v4l/by-path/pci-1")


def test_a_name_given_by_an_own_udev_rule_leads_there_too(machine: Machine) -> None:
    machine.plug(0, Camera(), by_id="usb-A_1")
    (machine.root / "dev/camera-top").symlink_to("video0")
    assert stable_path("/dev/camera-top", machine.root) == "/dev/v4l/by-id/usb-A_1"


@pytest.mark.parametrize(
    "source", [7, "/dev/video7", "/dev/v4l/by-id/usb-gone", "/dev/circle", "rtsp://camera/1", "sim://line", "/tmp", ""]
)
def test_what_is_absent_or_no_device_has_no_identity(machine: Machine, source: str | int) -> None:
    machine.plug(0, Camera(), by_id="usb-A_1")
    (machine.root / "dev/v4l/by-id/usb-gone").symlink_to("../../video7")
    (machine.root / "dev/circle").symlink_to("circle")
    assert stable_path(source, machine.root) is None


def test_a_device_without_links_has_no_identity(machine: Machine) -> None:
    machine.plug(0, Camera())
    assert stable_path("/dev/video0", machine.root) is None


def test_two_cameras_that_swap_numbers_keep_their_identities(tmp_path: Path) -> None:
    def boot(root: Path, numbers: tuple[int, int]) -> Callable[[str | int], str | None]:
        machine = Machine(root)
        for serial, number in zip("AB", numbers, strict=True):
            machine.plug(number, Camera(), by_id=f"usb-Cam_{serial}", by_path=f"pci-{serial}")
        return lambda source: stable_path(source, root)

    before, after = boot(tmp_path / "1", (0, 1)), boot(tmp_path / "2", (1, 0))
    assert before(0) == after(1) == "/dev/v4l/by-id/usb-Cam_A"
    assert before(1) == after(0) == "/dev/v4l/by-id/usb-Cam_B"


def test_twins_without_serial_numbers_are_known_by_their_sockets(machine: Machine) -> None:
    machine.plug(0, Camera(), by_id="usb-Cheap_Cam-index0", by_path="pci-usb-0:1")
    assert stable_path(0, machine.root) == "/dev/v4l/by-id/usb-Cheap_Cam-index0"
    machine.plug(2, Camera(), by_id="usb-Cheap_Cam-index0", by_path="pci-usb-0:2")
    assert stable_path(0, machine.root) == "/dev/v4l/by-path/pci-usb-0:1"
    assert stable_path(2, machine.root) == "/dev/v4l/by-path/pci-usb-0:2"
    assert [device.path for device in machine.discover()] == [
        "/dev/v4l/by-path/pci-usb-0:1",
        "/dev/v4l/by-path/pci-usb-0:2",
    ]
