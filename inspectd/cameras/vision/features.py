"""A camera's GenICam features, by their names: what it is told is read back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from inspectd.cameras.protocol import CaptureSettings, Feature
from inspectd.cameras.vision.library import said
from inspectd.errors import CameraError

NEAR = 0.02
"""As a share: cameras round what they are told."""
SELECTOR, FRAME_START = "TriggerSelector", "FrameStart"
DELAYS = ("TriggerDelay", "TriggerDelayAbs")
SHORTEST_DELAY_US = 1000
"""Some cameras cannot be without any."""
RATE_LIMITS = ("AcquisitionFrameRateEnable", "AcquisitionFrameRateEnabled")
SETTINGS = {"exposure": ("ExposureTime", "ExposureTimeAbs"), "gain": ("Gain", "GainRaw", "GainAbs")}


class Features:
    """Of one open camera. CameraError says what it does not have, or does not take."""

    def __init__(self, aravis: Any, error: type[Exception], camera: Any, serial: str) -> None:
        """`aravis`, `error`: of `library.load`. `camera`: Aravis's. `serial`: what sentences call it."""
        self._aravis = aravis
        self._error = error
        self._camera = camera
        self._device = camera.get_device()
        self._serial = serial

    def tell(self, asked: CaptureSettings) -> None:
        """Set everything that is asked for, in the order of the configuration."""
        if SELECTOR not in asked.features and any(name.startswith("Trigger") for name in asked.features):
            with suppress(self._error):  # some have it, and cannot be told which
                self.choose_frame_start()
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
        if asked.fps is not None and self.trigger_source() is None:  # with it Aravis ends all triggers
            self._camera.set_frame_rate(asked.fps)
        for name, value in asked.features.items():
            if name.startswith("Trigger") and not _is_same(now := self._value(name), _meant(value, now)):
                raise CameraError(f"the camera {self._serial} was told {name}: {value}, and in the end has {now}")

    def read_back(self, asked: CaptureSettings) -> dict[str, float]:
        """Return exposure, gain and what was set, where it is a number."""
        found = {}
        for what, names in SETTINGS.items():
            name = next((one for one in names if self._has(one)), None)
            if name is not None:
                found[what] = self._number(name)
        for name in asked.features:
            found[name] = self._number(name)
        return {name: value for name, value in found.items() if value is not None}

    def frame_rate(self) -> float:
        """Return pictures a second; 0: it does not say."""
        try:
            return float(self._camera.get_frame_rate())
        except self._error:
            return 0.0

    def trigger_source(self) -> str | None:
        """Return what it waits for before it takes each picture, in GenICam's words; None: it does not wait."""
        try:
            return self._source_of(FRAME_START)
        except self._error:
            return None

    def waiting(self) -> str:
        """Return what it waits for, as the end of a sentence that says that nothing comes; empty: for nothing."""
        waits = []
        for selector in self._selectors() or (FRAME_START,):
            with suppress(self._error):
                source = self._source_of(selector)
                waits += [f"{source} ({selector})"] if source is not None else []
        if not waits:
            return ""
        return f'; it waits for {" and ".join(waits)}: expected triggered_by: camera, or TriggerMode: "Off"'

    def choose_frame_start(self) -> None:
        """Let features that begin with Trigger be about each picture."""
        if FRAME_START in self._selectors():
            self._select(FRAME_START)

    def delay(self) -> str | None:
        """Return the feature by which it delays each picture that it is told to take; None: it does not."""
        with suppress(self._error):
            return next(
                (one for one in DELAYS if self._has(one) and (self._number(one) or 0) >= SHORTEST_DELAY_US), None
            )
        return None

    def is_rate_limited(self) -> bool:
        """Whether it leaves out what it is told more often than its frame rate says."""
        with suppress(self._error):
            return any(self._has(name) and self._value(name) in (True, "On") for name in RATE_LIMITS)
        return False

    def command(self, name: str) -> None:
        """Have it do something now."""
        try:
            self._device.execute_command(name)
        except self._error as error:
            raise CameraError(f"the camera {self._serial} does not take {name}: {said(error)}") from None

    def _source_of(self, selector: str) -> str | None:
        """Return what a trigger waits for; None: it is off, or there is none."""
        if not self._has("TriggerMode"):
            return None
        before = str(self._value(SELECTOR)) if selector in self._selectors() else selector
        self._select(selector, before)
        try:
            if self._value("TriggerMode") != "On":
                return None
            return str(self._value("TriggerSource")) if self._has("TriggerSource") else "its input"
        finally:
            with suppress(self._error):
                self._select(before, selector)

    def _selectors(self) -> Sequence[str]:
        """Return what its triggers may be about; nothing: it does not say."""
        if not self._has(SELECTOR):
            return ()
        with suppress(self._error):
            return list(self._device.dup_available_enumeration_feature_values_as_strings(SELECTOR))
        return ()

    def _select(self, selector: str, now: str | None = None) -> None:
        """Say which trigger is meant; `now`: which one that is at present."""
        if selector != (str(self._value(SELECTOR)) if now is None else now):
            self._device.set_string_feature_value(SELECTOR, selector)

    def _has(self, name: str) -> bool:
        return self._device.get_feature(name) is not None

    def _set(self, name: str, value: Feature) -> None:
        if not self._has(name):
            raise CameraError(f"the camera {self._serial} has no feature {name}; `arv-tool-0.8 features` lists them")
        value = _meant(value, self._value(name))
        try:
            self._device.set_features_from_string(f"{name}={_written(value, self._value(name))}")
        except self._error as error:
            raise CameraError(f"the camera {self._serial} does not take {name}: {value}: {said(error)}") from None
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

    def _number(self, name: str) -> Any:
        value = self._value(name)
        return float(value) if isinstance(value, int | float) else None


def _meant(value: Feature, now: Feature) -> Feature:
    """Return a value as it is meant where the present one is a word: On and Off without quotes are YAML's own."""
    return ("On" if value else "Off") if isinstance(value, bool) and isinstance(now, str) else value


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
