"""What a camera is told of its triggers, over a device that exists only here."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from inspectd.cameras.protocol import CaptureSettings
from inspectd.cameras.vision.features import Features
from inspectd.errors import CameraError


class Refused(Exception):  # noqa: N818 - what GLib calls Error
    """As a device says it."""


class Word:
    """A node of a feature that is a word."""


class Switch:
    """A node of a feature that is on or off."""


class Number:
    """A node of a feature that is a number."""


KINDS = SimpleNamespace(
    GcBoolean=Switch,
    GcEnumeration=Word,
    GcStringRegNode=Word,
    GcFloatNode=Number,
    GcFloatRegNode=Number,
    GcSwissKnifeNode=Number,
    GcConverterNode=Number,
)


class Device:
    """A camera whose features that begin with Trigger are about what TriggerSelector says, as GenICam has it."""

    def __init__(
        self, triggers: Mapping[str, dict[str, str]], plain: dict[str, float | bool] | None = None, stuck: str = ""
    ) -> None:
        """`triggers`: mode and source by selector; one named "" has no selector. `stuck`: a selector it refuses."""
        self.triggers = {name: dict(one) for name, one in triggers.items()}
        self.plain = plain or {}
        self.stuck = stuck
        self.selector = next(iter(triggers), "")
        self.writes: list[str] = []

    def get_device(self) -> Device:
        return self

    def set_frame_rate(self, fps: float) -> None:
        self.plain["AcquisitionFrameRate"] = fps

    def get_feature(self, name: str) -> object | None:
        if name == "TriggerSelector":
            return Word() if self.selector else None
        if name in self.triggers.get(self.selector, {}):
            return Word()
        if name not in self.plain:
            return None
        return Switch() if isinstance(self.plain[name], bool) else Number()

    def get_string_feature_value(self, name: str) -> str:
        return self.selector if name == "TriggerSelector" else self.triggers[self.selector][name]

    def get_float_feature_value(self, name: str) -> float:
        return float(self.plain[name])

    def get_boolean_feature_value(self, name: str) -> bool:
        return bool(self.plain[name])

    def dup_available_enumeration_feature_values_as_strings(self, _name: str) -> list[str]:
        return list(self.triggers)

    def set_string_feature_value(self, name: str, value: str) -> None:
        self.writes.append(f"{name}={value}")
        if value == self.stuck:
            raise Refused("not now")
        assert name == "TriggerSelector"
        self.selector = value

    def set_features_from_string(self, text: str) -> None:
        name, value = text.split("=")
        if name == "TriggerSelector":
            self.set_string_feature_value(name, value)
        else:
            self.triggers[self.selector][name] = value


def off() -> dict[str, str]:
    return {"TriggerMode": "Off", "TriggerSource": "Line0"}


def on(source: str = "Line0") -> dict[str, str]:
    return {"TriggerMode": "On", "TriggerSource": source}


def features(device: Device) -> Features:
    return Features(KINDS, Refused, device, "X7")


def asked(**features: bool | float | str) -> CaptureSettings:
    return CaptureSettings("aravis://X7", "aravis", 4, features=features)


SOFTWARE: dict[str, Any] = {"TriggerMode": "On", "TriggerSource": "Software"}


def test_what_begins_with_trigger_is_about_each_picture_unless_something_else_is_named() -> None:
    device = Device({"FrameBurstStart": off(), "FrameStart": off()})
    features(device).tell(asked(**SOFTWARE))
    assert device.triggers == {"FrameBurstStart": off(), "FrameStart": on("Software")}
    assert features(device).trigger_source() == "Software"
    other = Device({"FrameStart": off(), "FrameBurstStart": off()})
    features(other).tell(asked(TriggerSelector="FrameBurstStart", **SOFTWARE))
    assert other.triggers == {"FrameStart": off(), "FrameBurstStart": on("Software")}
    assert features(other).trigger_source() is None
    assert other.selector == "FrameBurstStart", "it stays as it was asked for"


@pytest.mark.parametrize("device", [Device({"": off()}), Device({"FrameStart": off(), "LineStart": off()})])
def test_a_selector_is_written_only_where_it_changes_something(device: Device) -> None:
    features(device).tell(asked(**SOFTWARE))
    assert features(device).trigger_source() == "Software"
    assert device.writes == [], "there is none, or it is at FrameStart already"
    assert features(device).waiting() != ""
    others = len(device.triggers) - 1
    assert device.writes == ["TriggerSelector=LineStart", "TriggerSelector=FrameStart"] * others, "to look, and back"


def test_a_selector_that_cannot_be_written_keeps_no_camera_from_being_opened() -> None:
    device = Device({"LineStart": off(), "FrameStart": off()}, stuck="FrameStart")
    assert features(device).trigger_source() is None
    features(device).tell(asked(**SOFTWARE))
    assert device.triggers["LineStart"] == on("Software"), "it has no other that could be meant"
    with pytest.raises(Refused):
        features(device).choose_frame_start()


def test_it_is_said_what_a_silent_camera_waits_for() -> None:
    waits = {"FrameStart": off(), "AcquisitionStart": on("Line2"), "FrameBurstStart": on("Software")}
    assert features(Device(waits)).waiting() == (
        "; it waits for Line2 (AcquisitionStart) and Software (FrameBurstStart): expected triggered_by: camera, or "
        'TriggerMode: "Off"'
    )
    assert features(Device({"FrameStart": off()})).waiting() == ""
    assert features(Device({})).waiting() == ""
    assert "Line0 (FrameStart)" in features(Device({"": on()})).waiting()
    assert (
        "Line0 (FrameStart)" in features(Device({"LineStart": on(), "FrameStart": on()}, stuck="LineStart")).waiting()
    )


def test_fps_ends_no_trigger() -> None:
    device = Device({"FrameStart": on()}, {"AcquisitionFrameRate": 25.0})
    features(device).tell(CaptureSettings("aravis://X7", "aravis", 4, fps=10.0))
    assert device.plain["AcquisitionFrameRate"] == 25.0
    device.triggers["FrameStart"] = off()
    features(device).tell(CaptureSettings("aravis://X7", "aravis", 4, fps=10.0))
    assert device.plain["AcquisitionFrameRate"] == 10.0


def test_delays_and_rates_that_leave_triggers_out_are_known() -> None:
    plain: dict[str, float | bool] = {"TriggerDelay": 0.0, "AcquisitionFrameRateEnable": False}
    assert features(Device({"FrameStart": on()}, plain)).delay() is None
    assert not features(Device({"FrameStart": on()}, plain)).is_rate_limited()
    delayed = features(Device({"FrameStart": on()}, {"TriggerDelayAbs": 20_000.0, "AcquisitionFrameRateEnable": True}))
    assert delayed.delay() == "TriggerDelayAbs"
    assert delayed.is_rate_limited()


def test_a_feature_that_is_not_there_is_named() -> None:
    with pytest.raises(CameraError, match="the camera X7 has no feature TriggerSource"):
        features(Device({"FrameStart": {"TriggerMode": "Off"}})).tell(asked(**SOFTWARE))
