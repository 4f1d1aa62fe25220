"""GigE Vision and USB3 Vision cameras, through Aravis (Debian's gir1.2-aravis-0.8 with python3-gi).

Runs in the capture child only. A camera is known by its serial number. It is told everything at each opening, and what
it was told is read back. Its clock is its own: it is brought to this machine's by the quickest buffer of a while, since
a buffer may be late and is never early. One that takes a picture when it is told (`TriggerSource: Software`) is told so
for each trigger; where there are none, again and again. When it took it follows from when it came, and from its clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import cv2
import numpy as np

from inspectd.cameras.grabbers.base import REPEATED, Broken, Grabbed, Grabber, Nothing
from inspectd.cameras.grabbers.freshness import Freshness
from inspectd.cameras.protocol import CaptureSettings
from inspectd.cameras.sources import ARAVIS
from inspectd.cameras.vision.clock import CameraClock, Promptness, Taken
from inspectd.cameras.vision.demand import Demand
from inspectd.cameras.vision.features import Features
from inspectd.cameras.vision.library import load, said
from inspectd.errors import CameraError
from inspectd.records import Picture

BUFFERS = 4
GIGE_VISION = "GigEVision"
HEARTBEAT_REGISTER, PRIVILEGE_REGISTER = 0x0938, 0x0A00
"""GigE Vision's: how long a camera waits for a sign of its program; whose it is, which is read as that sign."""
HEARTBEAT_MS, BEAT_S = 1000, 0.25
"""A camera that hears nothing for so long takes another program. So often it hears from us."""
STOP_S = 0.1
"""A camera that was in the middle of a picture ends it."""
LONGEST_LAST_S = 3.0
"""So long a picture that another program had it take is waited for."""
FIRST_PICTURES = 3
"""May come damaged, or late."""
SLICE_S = 0.002
"""So long the next trigger may wait while a picture is under way."""
UNHEARD_MS = 200
"""A camera that hears so late that it is to take a picture was told again, and may take two."""
UNSURE_MS, MOST_UNSURE = 20, 5
"""A part's picture is worth nothing where it is not known so closely when it was taken. After so many it is proved anew
how long they take.
"""
PROOFS, MOST_PROOFS, PROOFS_APART_S, PROOFS_S = 4, 10, 0.03, 0.5
"""So many pictures it has to give at its opening, of so many that it is told to, so far apart at least; two where that
takes so long."""
PATIENT = 0.9
"""Of the time that a camera may be silent: then its reader ends by itself, before it is ended."""
RATE_MARGIN = 1.1
"""Of the time between two pictures: a camera counts from when it began, and not from when it was told."""
SLOWEST_FPS = 1.0
"""Of a camera that is told to take pictures by nobody else, and does not say how many it can."""
COLOURED = {  # GenICam's names: what OpenCV makes of them (its Bayer names are of the second row)
    "RGB8": cv2.COLOR_RGB2BGR,
    "BayerRG8": cv2.COLOR_BayerBG2BGR,
    "BayerBG8": cv2.COLOR_BayerRG2BGR,
    "BayerGR8": cv2.COLOR_BayerGB2BGR,
    "BayerGB8": cv2.COLOR_BayerGR2BGR,
}
PLAIN = {"Mono8": (1, np.uint8), "BGR8": (3, np.uint8), "Mono10": (1, np.uint16), "Mono12": (1, np.uint16)}
PLAIN |= {"Mono16": (1, np.uint16)}


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
        except CameraError:
            self.close()
            raise
        except self._error as error:
            self.close()
            raise CameraError(f"the camera {self._serial} cannot be opened: {self._why_not(error)}") from None

    def _open(self, alive: Callable[[], None]) -> None:
        at, _, who = self._settings.known_as.partition(" ")
        at = at or self._find()
        alive()
        self._camera = self._aravis.Camera.new(at)
        self._device = self._camera.get_device()
        self._is_network = isinstance(self._device, self._aravis.GvDevice)
        now = self._called()
        if who not in ("", now):
            raise CameraError(f"at {at} there is now the camera {now}, and not {self._serial}")
        self.known_as = f"{at} {now}" if now else ""
        self._device.connect("control-lost", self._on_lost)
        self._patience_ms = PATIENT * self._settings.read_timeout_ms
        self._beat_s = min(BEAT_S, self._settings.read_timeout_ms / 4000)
        self._next_beat_s = 0.0
        if self._is_network and not self._device.is_controller():
            raise CameraError(f"the camera {self._serial} cannot be opened: another program holds it; end that one")
        if self._is_network:
            self._device.write_register(HEARTBEAT_REGISTER, HEARTBEAT_MS)
        with suppress(self._error):  # for a program that was killed it still runs, to where that one listened
            self._camera.stop_acquisition()
        time.sleep(STOP_S)
        self._features = Features(self._aravis, self._error, self._camera, self._serial)
        self._features.tell(self._settings)
        self.read_back = self._features.read_back(self._settings)
        self.format = str(self._camera.get_pixel_format_as_string())
        if self.format not in COLOURED | PLAIN:
            raise CameraError(
                f"the camera {self._serial} gives {self.format}; expected one of {', '.join((*PLAIN, *COLOURED))} (set "
                "PixelFormat in its `features`)"
            )
        _, _, self.width, self.height = self._camera.get_region()
        self.slot_bytes = self.width * self.height * (6 if self.format not in COLOURED else 3)
        self.fps = self._features.frame_rate()
        self._freshness = Freshness(False, self._settings.refuse_repeats)
        self._clock = CameraClock()
        self._promptness, self._unsure = Promptness(), 0
        self._demand = self._demanded()
        self.on_demand = self._demand is not None and self._settings.is_commanded
        self._check_times()
        is_by_itself = self._demand is None and not self._settings.is_triggered
        self._first_left = FIRST_PICTURES if is_by_itself else 0  # else each is a part's
        self._stream = self._camera.create_stream(None, None)
        payload = self._camera.get_payload()
        for _ in range(BUFFERS):
            self._stream.push_buffer(self._aravis.Buffer.new_allocate(payload))
        self._camera.start_acquisition()
        if self._demand is not None:
            self._let_pass(alive)
        if self._demand is not None and self.on_demand:
            self._prove(self._demand, alive)

    def grab(self, into: Picture | None) -> Grabbed | Nothing | Broken | None:
        """Return the next picture, or that there is none; CameraError when the camera is gone."""
        if self._demand is not None:
            return self._grab_demanded(self._demand)
        waits_ms = 1000 if self._settings.is_triggered else self._patience_ms
        buffer = self._next_buffer(time.monotonic() + waits_ms / 1000)
        if buffer is None and self._settings.is_triggered:
            return Nothing(is_waiting=True)
        if buffer is None:
            raise CameraError(
                f"the camera {self._serial} has given no picture for {waits_ms:.0f} ms{self._features.waiting()}"
            )
        return self._read(buffer)

    def want(self, at_ns: int) -> None:
        """Tell the camera to take a picture as soon as this time is past."""
        if self._demand is not None:
            self._demand.want(at_ns)

    def idle_s(self) -> float:
        """Return how long the camera need not be told anything, where it is told when to take a picture."""
        if self._demand is None or self._demand.told_ns is not None:
            return 0.0
        due_ns = self._demand.due_in_ns(time.monotonic_ns())
        beat_s = max(0.0, self._next_beat_s - time.monotonic())
        return beat_s if due_ns is None else min(beat_s, due_ns / 1e9)

    def close(self) -> None:
        """Stop it, and give up control at once: it is another program's camera, or will be."""
        with suppress(self._error, AttributeError):
            if not self._is_network or self._device.is_controller():  # else it is another's
                self._camera.stop_acquisition()
        with suppress(self._error, AttributeError):
            self._device.leave_control()

    def _grab_demanded(self, demand: Demand) -> Grabbed | Nothing | Broken:
        """Tell the camera to take a picture when one is due, or return what has come of that.

        One that does not give what it was told to is given up: nobody would know what its next picture belongs to.
        """
        was_beat = self._keep_alive()
        waits_s = 0.0 if demand.told_ns is None else SLICE_S if self.on_demand else self._beat_s
        buffer = self._stream.timeout_pop_buffer(int(waits_s * 1e6)) if waits_s else self._stream.try_pop_buffer()
        now_ns = time.monotonic_ns()
        if demand.told_ns is None:
            if buffer is not None:
                raise CameraError(
                    f"the camera {self._serial} gives pictures without being told to, although its TriggerSource is "
                    "Software; it is set anew"
                )
            if demand.due_in_ns(now_ns) == 0:
                self._tell(demand, now_ns)
        elif buffer is not None:
            return self._read(buffer, demand.came())
        elif now_ns - demand.told_ns > self._patience_ms * 1e6:
            raise CameraError(
                f"the camera {self._serial} was told to take a picture, and gave none for {self._patience_ms:.0f} ms "
                "(nine tenths of read_timeout_ms)"
            )
        return Nothing(is_waiting=was_beat)

    def _tell(self, demand: Demand, now_ns: int) -> None:
        """Tell the camera to take what is due."""
        demand.told(now_ns)
        self._features.command("TriggerSoftware")
        took_ms = (time.monotonic_ns() - now_ns) / 1e6
        if self.on_demand and took_ms > UNHEARD_MS:  # else nobody waits for this very picture
            raise CameraError(f"the camera {self._serial} took {took_ms:.0f} ms to hear that it is to take a picture")

    def _next_buffer(self, until_s: float, alive: Callable[[], None] | None = None) -> Any:
        """Return the next buffer, or None; the camera hears from us however long it takes."""
        while True:
            if self._keep_alive() and alive is not None:
                alive()
            waits_s = min(self._beat_s, max(0.0, until_s - time.monotonic()))
            buffer = self._stream.timeout_pop_buffer(int(waits_s * 1e6))
            if buffer is not None or time.monotonic() >= until_s:
                return buffer

    def _keep_alive(self) -> bool:
        """Show a GigE Vision camera that its program still runs: else it is free for the next one that soon.

        Return whether it was time to; CameraError when the camera is gone.
        """
        if self._is_lost:
            raise CameraError(f"the camera {self._serial} does not answer any more")
        if time.monotonic() < self._next_beat_s:
            return False
        self._next_beat_s = time.monotonic() + self._beat_s
        try:
            if self._is_network:
                self._device.read_register(PRIVILEGE_REGISTER)
        except self._error:
            raise CameraError(f"the camera {self._serial} does not answer any more") from None
        return True

    def _read(self, buffer: Any, told_ns: int | None = None) -> Grabbed | Nothing | Broken:
        """Return what a buffer holds, and give it back. `told_ns`: when the camera was told to take it, if it was."""
        try:
            return self._taken(buffer, time.monotonic_ns(), told_ns)
        finally:
            self._stream.push_buffer(buffer)

    def _taken(self, buffer: Any, now_ns: int, told_ns: int | None) -> Grabbed | Nothing | Broken:
        if buffer.get_status() != self._aravis.BufferStatus.SUCCESS:
            if self._first_left > 0:  # it was in the middle of one when it was told to begin
                self._first_left -= 1
                return Nothing()
            return Broken(None, f"the picture came damaged: {buffer.get_status().value_nick}", told_ns or now_ns)
        self._first_left = 0
        picture = self._picture(buffer)
        if picture.shape[:2] != (self.height, self.width):
            raise CameraError(
                f"the camera {self._serial} changed its picture from {self.width}x{self.height} to "
                f"{picture.shape[1]}x{picture.shape[0]}"
            )
        camera_ns = int(buffer.get_timestamp())
        if told_ns is None:
            taken_ns = self._clock.taken_ns(camera_ns, now_ns) if camera_ns > 0 else now_ns
        elif self.on_demand:
            taken = self._promptness.look(camera_ns, told_ns, now_ns)
            if taken is None:
                raise CameraError(f"the camera {self._serial} gave a picture from before it was told to take one")
            if (doubt := self._doubt(taken)) is not None:
                return Broken(None, doubt, taken.from_ns)
            taken_ns = taken.from_ns
        else:
            taken_ns = told_ns
        nothing = self._freshness.look(picture, camera_ns / 1e6)
        if nothing is not None:  # where a part was there, nobody has seen it
            is_owed = self.on_demand or (self._settings.is_triggered and nothing.is_repeat)
            return Broken(None, REPEATED, taken_ns) if is_owed else nothing
        return Grabbed(picture, taken_ns, is_arrival_time=camera_ns <= 0 and told_ns is None)

    def _doubt(self, taken: Taken) -> str | None:
        """Return why a picture may show another part; None: it does not. CameraError: so may all of them."""
        unsure_ms = (taken.until_ns - taken.from_ns) / 1e6
        if unsure_ms <= UNSURE_MS:
            self._unsure = 0
            return None
        self._unsure += 1
        if self._unsure == MOST_UNSURE:
            raise CameraError(
                f"the camera {self._serial} takes longer for its pictures than when it was opened; it is set anew"
            )
        return f"it came late, and may have been taken {unsure_ms:.0f} ms late: it may show another part"

    def _picture(self, buffer: Any) -> Picture:
        width, height, data = buffer.get_image_width(), buffer.get_image_height(), buffer.get_data()
        channels, kind = PLAIN.get(self.format, (3 if self.format == "RGB8" else 1, np.uint8))
        shape = (height, width) if channels == 1 else (height, width, channels)
        raw = np.frombuffer(data, kind, int(np.prod(shape))).reshape(shape)
        code = COLOURED.get(self.format)
        return cast("Picture", raw if code is None else cv2.cvtColor(raw, code))

    # When it takes a picture

    def _let_pass(self, alive: Callable[[], None]) -> None:
        """Wait for what it was told to take before: a program that was killed may have done so."""
        exposed_s = 2 * self.read_back.get("exposure", 0.0) / 1e6
        until_s = time.monotonic() + min(LONGEST_LAST_S, max(STOP_S, exposed_s, 1 / self.fps if self.fps else 0.0))
        while time.monotonic() < until_s:
            buffer = self._next_buffer(until_s, alive)
            if buffer is not None:
                self._stream.push_buffer(buffer)

    def _prove(self, demand: Demand, alive: Callable[[], None]) -> None:
        """Have it take pictures for nobody: that it does is known from then on, and how long they usually take."""
        why, had, began_s = "", 0, 0.0
        for _ in range(MOST_PROOFS):
            told_ns = time.monotonic_ns()
            began_s = began_s if had else told_ns / 1e9
            self._tell(demand, told_ns)
            buffer = self._next_buffer(time.monotonic() + self._patience_ms / 1000, alive)
            if buffer is None:
                demand.silent()
                why = f"it gave none for {self._patience_ms:.0f} ms (nine tenths of read_timeout_ms)"
                self._let_pass(alive)
                continue
            status, camera_ns, came_ns = buffer.get_status(), int(buffer.get_timestamp()), time.monotonic_ns()
            self._stream.push_buffer(buffer)
            demand.came()
            if status != self._aravis.BufferStatus.SUCCESS:
                why = f"it came damaged: {status.value_nick}"
            elif self._promptness.look(camera_ns, told_ns, came_ns) is None:
                why, had, self._promptness = "they come now sooner and now later", 0, Promptness()
            else:
                had += 1
            unasked = self._next_buffer(time.monotonic() + max(PROOFS_APART_S, demand.rests_ns / 1e9), alive)
            if unasked is not None:
                why, had, self._promptness = "it gives more than it is told to", 0, Promptness()
                self._stream.push_buffer(unasked)
                self._let_pass(alive)
            if had == PROOFS or (had > 1 and time.monotonic() > began_s + PROOFS_S):
                return
        raise CameraError(f"the camera {self._serial} was told to take a picture when it was opened: {why}")

    def _check_times(self) -> None:
        """CameraError: no picture can come in time, or none could be known to."""
        exposed_ms = self.read_back.get("exposure", 0.0) / 1000
        if exposed_ms >= self._patience_ms and not self._settings.is_triggered:
            raise CameraError(
                f"the camera {self._serial} exposes for {exposed_ms:.0f} ms, and is given up after "
                f"{self._patience_ms:.0f} ms without a picture (nine tenths of read_timeout_ms); raise "
                "read_timeout_ms, or lower exposure"
            )
        if self.on_demand and (name := self._features.delay()) is not None:
            raise CameraError(
                f"the camera {self._serial} delays each picture by its own {name}, which nobody sees; set it to 0, and "
                "use trigger_delay_ms"
            )

    def _demanded(self) -> Demand | None:
        """Return when it is to be told to take a picture; None: it does so by itself, or by its input."""
        if self._features.trigger_source() != "Software":
            return None
        if self._settings.is_triggered:
            raise CameraError(
                f"the camera {self._serial} takes a picture when it is told (TriggerSource: Software), and with "
                "`triggered_by: camera` nobody tells it; set triggered_by: command, or TriggerSource to its input"
            )
        self._features.choose_frame_start()
        rests_ns = int(RATE_MARGIN * 1e9 / self.fps) if self.fps and self._features.is_rate_limited() else 0
        if self._settings.is_commanded:
            return Demand(rests_ns=rests_ns)
        return Demand(int(1e9 / (self._settings.fps or self.fps or SLOWEST_FPS)), rests_ns)

    # Finding it

    def _called(self) -> str:
        """Return the serial number as the camera itself tells it, which may be spelt in another way; or nothing."""
        try:
            return str(self._camera.get_device_serial_number() or "")
        except self._error:
            return ""

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
        text = said(error)
        if "access" in text.lower() or "control" in text.lower():
            return f"another program holds it ({text}); end that one"
        return text

    def _on_lost(self, _device: object) -> None:
        self._is_lost = True
