"""GigE Vision and USB3 Vision cameras, through Aravis (Debian's gir1.2-aravis-0.8 with python3-gi).

Runs in the capture child only. A camera is known by its serial number. It is told everything at each opening, and what
it was told is read back. Its clock is its own: it is brought to this machine's by the quickest buffer of a while, since
a buffer may be late and is never early.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np

from inspectd.cameras.grabbers.base import Broken, Grabbed, Grabber, Nothing
from inspectd.cameras.grabbers.freshness import Freshness
from inspectd.cameras.protocol import CaptureSettings, Feature
from inspectd.cameras.sources import ARAVIS
from inspectd.errors import CameraError
from inspectd.records import Picture

_import = importlib.import_module
BUFFERS = 4
INSTALL = "sudo apt install gir1.2-aravis-0.8 python3-gi"
LATENCY_S, JUMP_S = 10.0, 5.0
"""So long the quickest buffer is remembered; a camera's clock that is off by more has been set anew."""
GIGE_VISION = "GigEVision"
HEARTBEAT_REGISTER, PRIVILEGE_REGISTER = 0x0938, 0x0A00
"""GigE Vision's: how long a camera waits for a sign of its program; whose it is, which is read as that sign."""
HEARTBEAT_MS, BEAT_S = 1000, 0.25
"""A camera that hears nothing for so long takes another program. So often it hears from us."""
STOP_S = 0.1
"""A camera that was in the middle of a picture ends it."""
FIRST_PICTURES = 3
"""May come damaged."""
PATIENT = 0.9
"""Of the time that a camera may be silent: then its reader ends by itself, before it is ended."""
NEAR = 0.02
"""As a share: cameras round what they are told."""
COLOURED = {  # GenICam's names: what OpenCV makes of them (its Bayer names are of the second row)
    "RGB8": cv2.COLOR_RGB2BGR,
    "BayerRG8": cv2.COLOR_BayerBG2BGR,
    "BayerBG8": cv2.COLOR_BayerRG2BGR,
    "BayerGR8": cv2.COLOR_BayerGB2BGR,
    "BayerGB8": cv2.COLOR_BayerGR2BGR,
}
PLAIN = {"Mono8": (1, np.uint8), "BGR8": (3, np.uint8), "Mono10": (1, np.uint16), "Mono12": (1, np.uint16)}
PLAIN |= {"Mono16": (1, np.uint16)}
SETTINGS = {"exposure": ("ExposureTime", "ExposureTimeAbs"), "gain": ("Gain", "GainRaw", "GainAbs")}


class AravisGrabber(Grabber):
    """`aravis://SERIAL`, one camera."""

    is_live = True

    def __init__(self, settings: CaptureSettings, alive: Callable[[], None]) -> None:
        """Open the camera and begin to take pictures; CameraError says why that cannot be."""
        self._settings = settings
        self._aravis, self._error = load()
        self._serial = settings.source.removeprefix(ARAVIS)
        self._is_lost = False
        try:
            self._open(alive)
        except self._error as error:
            raise CameraError(f"the camera {self._serial} cannot be opened: {self._why_not(error)}") from None

    def _open(self, alive: Callable[[], None]) -> None:
        at, _, who = self._settings.known_as.partition(" ")
        at = at or self._find()
        alive()
        self._camera = self._aravis.Camera.new(at)
        now = self._called()
        if who not in ("", now):
            self._let_go()
            raise CameraError(f"at {at} there is now the camera {now}, and not {self._serial}")
        self.known_as = f"{at} {now}" if now else ""
        self._device = self._camera.get_device()
        self._device.connect("control-lost", self._on_lost)
        self._is_network = isinstance(self._device, self._aravis.GvDevice)
        self._next_beat_s, self._first_left = 0.0, FIRST_PICTURES
        if self._is_network and not self._device.is_controller():
            raise CameraError(f"the camera {self._serial} cannot be opened: another program holds it; end that one")
        if self._is_network:
            self._device.write_register(HEARTBEAT_REGISTER, HEARTBEAT_MS)
        with suppress(self._error):  # for a program that was killed it still runs, to where that one listened
            self._camera.stop_acquisition()
        time.sleep(STOP_S)
        self._tell()
        self.read_back = self._read_back()
        self.format = str(self._camera.get_pixel_format_as_string())
        if self.format not in COLOURED | PLAIN:
            raise CameraError(
                f"the camera {self._serial} gives {self.format}; expected one of {', '.join((*PLAIN, *COLOURED))} (set "
                "PixelFormat in its `features`)"
            )
        _, _, self.width, self.height = self._camera.get_region()
        self.slot_bytes = self.width * self.height * (6 if self.format not in COLOURED else 3)
        self.fps = self._fps()
        self._freshness = Freshness(False, self._settings.refuse_repeats)
        self._clock = CameraClock()
        self._stream = self._camera.create_stream(None, None)
        payload = self._camera.get_payload()
        for _ in range(BUFFERS):
            self._stream.push_buffer(self._aravis.Buffer.new_allocate(payload))
        self._camera.start_acquisition()

    def grab(self, into: Picture | None) -> Grabbed | Nothing | Broken | None:
        """Return the next picture, or that there is none; CameraError when the camera is gone."""
        waits_ms = 1000 if self._settings.is_triggered else PATIENT * self._settings.read_timeout_ms
        buffer = self._next_buffer(time.monotonic() + waits_ms / 1000)
        now_ns = time.monotonic_ns()
        if buffer is None and self._settings.is_triggered:
            return Nothing(is_waiting=True)
        if buffer is None:
            raise CameraError(f"the camera {self._serial} has given no picture for {waits_ms:.0f} ms")
        try:
            return self._taken(buffer, now_ns)
        finally:
            self._stream.push_buffer(buffer)

    def _next_buffer(self, until_s: float) -> Any:
        """Return the next buffer, or None; the camera hears from us however long it takes."""
        while True:
            if self._is_lost:
                raise CameraError(f"the camera {self._serial} does not answer any more")
            self._keep_alive()
            waits_s = min(BEAT_S, max(0.0, until_s - time.monotonic()))
            buffer = self._stream.timeout_pop_buffer(int(waits_s * 1e6))
            if buffer is not None or time.monotonic() >= until_s:
                return buffer

    def _keep_alive(self) -> None:
        """Show a GigE Vision camera that its program still runs: else it is free for the next one that soon."""
        if not self._is_network or time.monotonic() < self._next_beat_s:
            return
        self._next_beat_s = time.monotonic() + BEAT_S
        try:
            self._device.read_register(PRIVILEGE_REGISTER)
        except self._error:
            raise CameraError(f"the camera {self._serial} does not answer any more") from None

    def _taken(self, buffer: Any, now_ns: int) -> Grabbed | Nothing | Broken:
        if buffer.get_status() != self._aravis.BufferStatus.SUCCESS:
            if self._first_left > 0:  # it was in the middle of one when it was told to begin
                self._first_left -= 1
                return Nothing()
            return Broken(None, f"the picture came damaged: {buffer.get_status().value_nick}", now_ns)
        self._first_left = 0
        picture = self._picture(buffer)
        if picture.shape[:2] != (self.height, self.width):
            raise CameraError(
                f"the camera {self._serial} changed its picture from {self.width}x{self.height} to "
                f"{picture.shape[1]}x{picture.shape[0]}"
            )
        camera_ns = int(buffer.get_timestamp())
        nothing = self._freshness.look(picture, camera_ns / 1e6)
        if nothing is not None:
            return nothing
        if camera_ns <= 0:
            return Grabbed(picture, now_ns, is_arrival_time=True)
        return Grabbed(picture, self._clock.taken_ns(camera_ns, now_ns))

    def _picture(self, buffer: Any) -> Picture:
        width, height, data = buffer.get_image_width(), buffer.get_image_height(), buffer.get_data()
        channels, kind = PLAIN.get(self.format, (3 if self.format == "RGB8" else 1, np.uint8))
        shape = (height, width) if channels == 1 else (height, width, channels)
        raw = np.frombuffer(data, kind, int(np.prod(shape))).reshape(shape)
        code = COLOURED.get(self.format)
        return cast("Picture", raw if code is None else cv2.cvtColor(raw, code))

    # What it is told

    def _tell(self) -> None:
        """Set everything that is asked for; CameraError when the camera does not take it."""
        asked = self._settings
        for name, value in asked.features.items():
            self._set(name, value)
        if asked.size is not None:
            self._set("Width", asked.size[0])
            self._set("Height", asked.size[1])
        if asked.format is not None:
            self._set("PixelFormat", asked.format.strip())
        for what, names in SETTINGS.items():
            value = getattr(asked, what)
            if value is not None:
                feature = next((one for one in names if self._has(one)), None)
                if feature is None:
                    raise CameraError(f"the camera {self._serial} has no {' or '.join(names)}, which `{what}` sets")
                self._set(feature, value)
        if asked.fps is not None:
            self._camera.set_frame_rate(asked.fps)

    def _has(self, name: str) -> bool:
        return self._device.get_feature(name) is not None

    def _set(self, name: str, value: Feature) -> None:
        if not self._has(name):
            raise CameraError(f"the camera {self._serial} has no feature {name}; `arv-tool-0.8 features` lists them")
        try:
            self._device.set_features_from_string(f"{name}={_written(value, self._value(name))}")
        except self._error as error:
            raise CameraError(f"the camera {self._serial} does not take {name}: {value}: {_said(error)}") from None
        now = self._value(name)
        if not _is_same(now, value):
            raise CameraError(f"the camera {self._serial} was told {name}: {value}, and has {now}")

    def _value(self, name: str) -> Feature:
        """Return what a feature is at present."""
        node = self._device.get_feature(name)
        kinds = self._aravis
        if isinstance(node, kinds.GcBoolean):
            return bool(self._device.get_boolean_feature_value(name))
        if isinstance(node, kinds.GcEnumeration | kinds.GcStringRegNode):
            return str(self._device.get_string_feature_value(name))
        if isinstance(node, kinds.GcFloatNode | kinds.GcFloatRegNode | kinds.GcSwissKnifeNode | kinds.GcConverterNode):
            return float(self._device.get_float_feature_value(name))
        return int(self._device.get_integer_feature_value(name))

    def _read_back(self) -> dict[str, float]:
        found = {}
        for what, names in SETTINGS.items():
            name = next((one for one in names if self._has(one)), None)
            if name is not None:
                found[what] = self._number(name)
        for name in self._settings.features:
            found[name] = self._number(name)
        return {name: value for name, value in found.items() if value is not None}

    def _number(self, name: str) -> Any:
        value = self._value(name)
        return float(value) if isinstance(value, int | float) else None

    def _fps(self) -> float:
        try:
            return float(self._camera.get_frame_rate())
        except self._error:
            return 0.0

    # Finding it

    def _called(self) -> str:
        """Return the serial number as the camera itself tells it, which may be spelt in another way; or nothing."""
        try:
            return str(self._camera.get_device_serial_number() or "")
        except self._error:
            return ""

    def _let_go(self) -> None:
        """Give up control at once: it is another program's camera, or will be."""
        with suppress(self._error, AttributeError):
            self._camera.get_device().leave_control()

    def _find(self) -> str:
        """Return what Aravis opens it by, which takes a second."""
        kinds = self._aravis
        kinds.update_device_list()
        known = {kinds.get_device_serial_nbr(i): i for i in range(kinds.get_n_devices())}
        if self._serial not in known:
            there = f"there are: {', '.join(sorted(map(str, known)))}" if known else "there is none"
            raise CameraError(
                f"no GigE Vision or USB3 Vision camera has the serial number {self._serial}; {there}. Is it powered, "
                "and in this network?"
            )
        # By its address the system's routes say on which network it is; one of this PC may answer on several.
        number = known[self._serial]
        is_on_network = kinds.get_device_protocol(number) == GIGE_VISION
        return str(kinds.get_device_address(number) if is_on_network else kinds.get_device_id(number))

    def _why_not(self, error: Exception) -> str:
        text = _said(error)
        if "access" in text.lower() or "control" in text.lower():
            return f"another program holds it ({text}); end that one"
        return text

    def _on_lost(self, _device: object) -> None:
        self._is_lost = True


class CameraClock:
    """Brings a camera's clock to this machine's monotonic one, in nanoseconds."""

    def __init__(self) -> None:
        self._apart_ns: deque[tuple[int, int]] = deque()
        """When, and how far this machine's clock was ahead then; of a while, the least of them last."""

    def taken_ns(self, camera_ns: int, now_ns: int) -> int:
        """Return when a picture was taken that arrived now: never later than now."""
        apart = now_ns - camera_ns
        if self._apart_ns and abs(apart - self._apart_ns[0][1]) > JUMP_S * 1e9:
            self._apart_ns.clear()  # it was set anew
        while self._apart_ns and self._apart_ns[-1][1] >= apart:
            self._apart_ns.pop()
        self._apart_ns.append((now_ns, apart))
        while self._apart_ns[0][0] < now_ns - LATENCY_S * 1e9:
            self._apart_ns.popleft()
        return camera_ns + self._apart_ns[0][1]


def load() -> tuple[Any, type[Exception]]:
    """Return Aravis and its error; CameraError: it is not installed."""
    version = f"python{sys.version_info.major}"
    for folder in (None, Path(f"/usr/lib/{version}/dist-packages")):  # a virtual environment does not see Debian's own
        if folder is not None and (folder / "gi").is_dir():
            sys.path.append(str(folder))
        try:
            _import("gi").require_version("Aravis", "0.8")
            loaded = _import("gi.repository.Aravis"), _import("gi.repository.GLib").Error
        except (ImportError, ValueError, AttributeError):
            continue
        else:
            return loaded
        finally:
            if folder is not None and str(folder) in sys.path:
                sys.path.remove(str(folder))
    raise CameraError(f"GigE Vision and USB3 Vision cameras need Aravis, which is not installed here: {INSTALL}")


def missing() -> str | None:
    """Return why no such camera can be read here, as a sentence without its full stop; None: they can."""
    try:
        load()
    except CameraError as error:
        return str(error)
    return None


def found() -> list[tuple[str, str]]:
    """Return the address, and maker and model, of each camera that answers; CameraError: Aravis is not installed."""
    aravis, _ = load()
    aravis.update_device_list()
    return [
        (
            f"{ARAVIS}{aravis.get_device_serial_nbr(i)}",
            f"{aravis.get_device_vendor(i)} {aravis.get_device_model(i)}",
        )
        for i in range(aravis.get_n_devices())
    ]


def _said(error: Exception) -> str:
    return str(getattr(error, "message", error))


def _written(value: Feature, now: Feature) -> str:
    """Write a value as features of the kind of its present one are written."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and isinstance(now, int) and value.is_integer():
        return str(int(value))
    return str(value)


def _is_same(now: Feature, asked: Feature) -> bool:
    if isinstance(now, str) or isinstance(asked, str):
        return str(now) == str(asked)
    return abs(float(now) - float(asked)) <= NEAR * abs(float(asked))
