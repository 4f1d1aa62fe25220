"""The script of faults: the same for whoever knows the seed, at any moment, in whatever order it is asked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspectd.cameras.grabbers.base import Broken, Grabbed, Nothing
from inspectd.cameras.grabbers.simulated import SimulatedGrabber
from inspectd.cameras.protocol import CaptureSettings
from inspectd.cameras.sources import parse_source
from inspectd.errors import CameraError
from inspectd.records import Picture
from inspectd.sim.faults import SECOND, Lamp, Script, Trouble, spoil
from inspectd.sim.line import Line

KINDS = tuple(Trouble)


@given(st.integers(0, 2**31), st.integers(0, 10**6))
def test_a_script_is_the_same_whatever_is_asked_before(seed: int, turn: int) -> None:
    one, other = (Script(seed, KINDS, 8, 3) for _ in range(2))
    other.episode(turn + 1)
    found = one.episode(turn)
    assert found == other.episode(turn)
    assert turn * 8 * SECOND <= found.start_ns < found.end_ns <= (turn + 0.9) * 8 * SECOND
    assert one.now(found.start_ns) == one.now(found.end_ns - 1) == found
    assert one.now(found.end_ns) is one.now(found.start_ns - 1) is None
    assert list(one.between(found.start_ns, found.end_ns)) == [found]


def test_every_kind_comes_in_as_many_turns_as_there_are_kinds() -> None:
    script = Script(5, KINDS, 8, 3)
    rounds = [[script.episode(turn).trouble for turn in range(at, at + len(KINDS))] for at in (0, len(KINDS))]
    assert [sorted(one) for one in rounds] == [sorted(KINDS)] * 2
    assert rounds[0] != rounds[1]


@pytest.mark.parametrize("longest_s", [0.0, 7.5])
def test_episodes_that_leave_no_peace_are_refused(longest_s: float) -> None:
    with pytest.raises(ValueError, match=r"leave no peace between them; expected at most 7\.2 s"):
        Script(0, KINDS, 8, longest_s)


def test_what_happens_to_a_picture_shows_in_it() -> None:
    good = Line(0, width=128, height=96).render(0)
    spoilt = {trouble: spoil(good, trouble) for trouble in KINDS}
    unseen = {trouble for trouble, picture in spoilt.items() if picture is good}
    assert unseen == {Trouble.UNPLUGGED, Trouble.HANGS, Trouble.FROZEN, Trouble.STALE, Trouble.TORN}
    assert spoilt[Trouble.RESIZED].shape == (72, 96, 3)
    assert spoilt[Trouble.DARK].mean() < good.mean() / 4
    assert (spoilt[Trouble.SWAPPED] == good[:, :, ::-1]).all()
    assert (
        np.abs(np.diff(spoilt[Trouble.BLURRED].astype(float), axis=1)).mean()
        < 0.5 * np.abs(np.diff(good.astype(float), axis=1)).mean()
    )


def grabber(monkeypatch: pytest.MonkeyPatch, trouble: Trouble) -> SimulatedGrabber:
    """A simulated camera that is well when it is opened, and then not."""
    settings = CaptureSettings("sim://line?fps=1000&faults=1&width=64&height=64", "simulated", 4)
    made = SimulatedGrabber(settings)
    made.fps = 1000
    wrong = [None, trouble, trouble]
    monkeypatch.setattr(made, "_stops_here", lambda _now_ns: wrong.pop(0) if wrong else None)
    return made


@pytest.mark.parametrize(
    ("trouble", "kinds"),
    [
        (Trouble.TORN, [Grabbed, Broken, Broken, Grabbed]),
        (Trouble.DARK, [Grabbed, Grabbed, Grabbed, Grabbed]),
        (Trouble.FROZEN, [Grabbed, Nothing, Nothing, Grabbed]),
        (Trouble.STALE, [Grabbed, Nothing, Nothing, Grabbed]),
    ],
)
def test_the_simulated_camera_does_what_the_script_says(
    monkeypatch: pytest.MonkeyPatch, trouble: Trouble, kinds: list[type]
) -> None:
    monkeypatch.setattr(Script, "now", lambda *_: None)
    camera = grabber(monkeypatch, trouble)
    found = [camera.grab(None) for _ in kinds]
    assert [type(one) for one in found] == kinds
    repeats = [one.is_repeat for one in found if isinstance(one, Nothing)]
    assert repeats == {Trouble.FROZEN: [True, True], Trouble.STALE: [False, False]}.get(trouble, [])


def test_another_size_ends_the_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Script, "now", lambda *_: None)
    camera = grabber(monkeypatch, Trouble.RESIZED)
    camera.grab(None)
    with pytest.raises(CameraError, match="changed its picture from 64x64 to 48x48"):
        camera.grab(None)


def test_a_lamp_ages_evenly_and_then_stays() -> None:
    picture = np.full((4, 4, 3), 200, np.uint8)
    lamp = Lamp(0.5, 100.0, 1000.0)
    found = [int(lamp.light(picture, 1000.0 + at_s).max()) for at_s in (-5, 0, 50, 100, 1e6)]
    assert found == [200, 200, 150, 100, 100]
    assert Lamp(1.0, 100.0, 0.0).light(picture, 50.0) is picture
    assert int(Lamp(0.5, 0.0, 1000.0).light(picture, 1000.0).max()) == 100


def test_lamp_and_tool_can_be_renewed() -> None:
    picture = np.full((4, 4, 3), 200, np.uint8)
    lamp = Lamp(0.5, 100.0, 1000.0, 1200.0)
    assert [int(lamp.light(picture, at_s).max()) for at_s in (1100, 1199, 1200)] == [100, 100, 200]
    line = "sim://line?seed=1&fps=1000&width=64&height=64"
    worn, renewed, new = (
        picture_of(line + more) for more in ("&wear=1&lamp=0.5&ages=0", "&wear=1&lamp=0.5&ages=0&renewed=0", "")
    )
    np.testing.assert_array_equal(renewed, new)
    assert (worn != new).any()


def picture_of(source: str) -> Picture:
    grabbed = SimulatedGrabber(CaptureSettings(source, "simulated", 4)).grab(None)
    assert isinstance(grabbed, Grabbed)
    return grabbed.picture


@pytest.mark.parametrize(
    ("query", "is_camera"), [("", False), ("?seed=1", False), ("?faults=1", True), ("?lamp=0.7", True)]
)
def test_a_line_that_misbehaves_is_looked_at_as_a_camera_is(query: str, is_camera: bool) -> None:
    assert parse_source(f"sim://line{query}").is_camera is is_camera
