"""A supervisor and its capture child, a process."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import write_pictures

from inspectd.cameras import supervisor as supervisor_module
from inspectd.cameras.child import Child
from inspectd.cameras.protocol import Captured, CaptureSettings, Failed, Message, Opened
from inspectd.cameras.supervisor import State, Supervisor


def settings(folder: Path, **more: Any) -> CaptureSettings:
    return CaptureSettings(source=str(folder), kind="folder", slots=2, **more)


class Events:
    """Fails at the first picture, as a mistake of ours would."""

    def __init__(self) -> None:
        self.frames = 0
        self.gone: list[str] = []

    def on_opened(self, opened: object) -> None:
        pass

    def on_frame(self, frame: Any) -> None:
        self.frames += 1
        frame.release()
        if self.frames == 1:
            raise RuntimeError("a mistake of ours")

    def on_missed(self, stamp: object) -> None:
        pass

    def on_unreadable(self, stamp: object, why: str) -> None:
        pass

    def on_gone(self, reason: object, why: str) -> None:
        self.gone.append(why)
        if len(self.gone) == 1:
            raise RuntimeError("another one, while it is told")

    def on_state(self) -> None:
        pass


def test_whatever_a_cameras_thread_dies_of_restarts_that_camera(tmp_path: Path) -> None:
    write_pictures(tmp_path / "p", 6)
    events = Events()
    supervisor = Supervisor("top", settings(tmp_path / "p"), events, is_finite=True)
    supervisor.start()
    give_up_s = time.monotonic() + 30
    while supervisor.health.state is not State.STOPPED:
        assert time.monotonic() < give_up_s, supervisor.health
        time.sleep(0.05)
    supervisor.join()
    assert events.frames == 6
    assert events.gone


def test_a_child_that_does_not_start_in_time_is_a_camera_that_does_not_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's own start has a time of its own, before the open time-out, which counts from the child's first word."""
    write_pictures(tmp_path / "p", 2)
    events = Events()
    events.frames = 1
    monkeypatch.setattr(supervisor_module, "START_S", 0.0)
    late = Supervisor("top", settings(tmp_path / "p", open_timeout_ms=60_000), events, is_finite=True)
    late.start()
    give_up_s = time.monotonic() + 30
    while not events.gone:
        assert time.monotonic() < give_up_s
        time.sleep(0.02)
    late.stop()
    late.join()
    assert "could not be opened" in events.gone[0]


def test_a_child_that_cannot_be_killed_blocks_its_own_camera_until_it_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL waits until the kernel lets go of the device: no second child may touch it meanwhile."""
    write_pictures(tmp_path / "p", 6)
    started: list[Child] = []
    is_stuck = threading.Event()
    is_stuck.set()
    real_kill, really_gone = Child.kill, Child.is_gone.fget

    class Stuck(Child):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            started.append(self)

        def kill(self) -> bool:
            return False if is_stuck.is_set() else real_kill(self)

        @property
        def is_gone(self) -> bool:
            if is_stuck.is_set():
                return False
            return real_kill(self) or bool(really_gone(self))  # type: ignore[misc]

    monkeypatch.setattr(supervisor_module, "Child", Stuck)
    events = Events()
    supervisor = Supervisor("top", settings(tmp_path / "p"), events, is_finite=True)
    supervisor.start()
    wait_until(lambda: "stuck in the kernel; re-plug" in (supervisor.health.detail or ""))
    time.sleep(2.5)
    assert len(started) == 1, "another child was started for a device that is stuck"
    assert supervisor.health.state is State.LOST
    is_stuck.clear()
    wait_until(lambda: supervisor.health.state is State.STOPPED)
    supervisor.join()
    assert len(started) == 2
    assert events.frames == 6


def test_a_source_is_looked_for_where_it_was_and_then_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A camera on the network answers at once by its address; with another one it is found by its serial number."""
    asked: list[str] = []
    opened = Opened(2, 4096, 64, 48, 30.0, True, "", known_as="10.0.0.5")

    class Scripted:
        pid, is_full, is_gone = 0, False, True

        def __init__(self, settings: CaptureSettings, _: object) -> None:
            asked.append(settings.known_as)
            self.says = [opened, Failed("it is gone")] if len(asked) == 1 else [Failed("it is not there")]
            self.opened: Opened | None = None

        def receive(self, _: float) -> Message:
            message = self.says.pop(0)
            self.opened = message if isinstance(message, Opened) else self.opened
            return message

        def kill(self) -> bool:
            return True

    monkeypatch.setattr(supervisor_module, "Child", Scripted)
    monkeypatch.setattr(supervisor_module, "RETRY_S", (0.0,))
    monkeypatch.setattr(supervisor_module, "PAUSE_S", 0.01)
    events = Events()
    events.gone.append("the first one would be a mistake of ours")
    supervisor = Supervisor("top", CaptureSettings("aravis://S", "aravis", 2), events)
    supervisor.start()
    wait_until(lambda: len(asked) >= 5)
    supervisor.stop()
    supervisor.join()
    assert asked[:5] == ["", "10.0.0.5", "", "10.0.0.5", ""]


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    give_up_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < give_up_s
        time.sleep(0.02)


def test_a_child_lives_with_a_large_descriptor_number(tmp_path: Path) -> None:
    """A daemon with a thousand subscribers has numbers that select() does not take."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 3000:
        pytest.skip("this machine allows no more than a thousand descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (3000, hard))
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        child = Child(CaptureSettings(source="sim://line?parts=3", kind="simulated", slots=2))
        try:
            found = [child.receive(20) for _ in range(3)]
        finally:
            child.kill()
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert any(isinstance(message, Captured) for message in found)
