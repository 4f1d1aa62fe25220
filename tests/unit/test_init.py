"""A first configuration: asked for or given, always one that `check` understands, and never over another's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from inspectd import config_file
from inspectd.cameras import discovery
from inspectd.cameras.vision import library
from inspectd.cli import init
from inspectd.errors import CameraError, InspectdError


@pytest.fixture(autouse=True)
def plugged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    device = discovery.Device("/dev/v4l/by-id/usb-A-index0", "/dev/video0", "Camera A", (), None)
    monkeypatch.setattr(discovery, "discover", lambda: [device])
    monkeypatch.setattr(library, "found", lambda: [("aravis://B7", "Camera B")])


def asked(path: Path, *arguments: str, said: str | None = None, monkeypatch: pytest.MonkeyPatch | None = None) -> Any:
    if monkeypatch is not None:
        monkeypatch.setattr(init, "_is_somebody_there", lambda: True)
    return CliRunner().invoke(init.command, ["--config", str(path), *arguments], input=said)


def cameras(path: Path) -> dict[str, str]:
    return {one.name: str(one.source) for one in config_file.load(path).cameras}


def test_who_is_there_is_asked_for_each_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "inspectd.yaml"
    said = "\nNo Name\nleft\nrtsp://10.0.0.7/1\nleft\nfar\n\n"
    done = asked(path, said=said, monkeypatch=monkeypatch)
    assert done.exit_code == 0, done.output
    assert cameras(path) == {
        "top": "/dev/v4l/by-id/usb-A-index0",
        "left": "aravis://B7",
        "far": "rtsp://10.0.0.7/1",
    }
    assert "expected a lower-case name" in done.output
    assert "left is the name of another camera already" in done.output
    assert "inspectd calibrate --camera aravis://B7 --run_name left" in done.output


def test_a_camera_may_be_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "inspectd.yaml"
    assert asked(path, said="-\nside\n\n", monkeypatch=monkeypatch).exit_code == 0
    assert cameras(path) == {"side": "aravis://B7"}


def test_nothing_chosen_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "inspectd.yaml"
    done = asked(path, said="-\n-\n\n", monkeypatch=monkeypatch)
    assert isinstance(done.exception, InspectdError)
    assert not path.exists()


def test_what_is_given_is_not_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "inspectd.yaml"
    done = asked(path, "--camera", "top=0", "--camera", "side=http://cam/stream?a=b")
    assert done.exit_code == 0, done.output
    assert cameras(path) == {"top": "0", "side": "http://cam/stream?a=b"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--camera", "top"), "expected NAME=SOURCE"),
        (("--camera", "=x"), "expected NAME=SOURCE"),
        (("--camera", "Top=0"), "cameras\\[0\\].name is 'Top'"),
        (("--camera", "top=0", "--camera", "top=1"), "has a name twice"),
        ((), "Nobody can be asked here; .* Plugged in: /dev/v4l/by-id/usb-A-index0, aravis://B7"),
    ],
)
def test_what_cannot_be_written_is_one_sentence(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    path = tmp_path / "inspectd.yaml"
    done = asked(path, *arguments)
    with pytest.raises(InspectdError, match=says):
        raise done.exception
    assert not path.exists()


def test_a_configuration_of_ones_own_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "inspectd.yaml"
    path.write_text("cameras: []\n")
    with pytest.raises(InspectdError, match="exists and is yours"):
        raise asked(path, "--camera", "top=0").exception
    assert path.read_text() == "cameras: []\n"
    assert asked(path, "--camera", "top=0", "--force").exit_code == 0
    assert cameras(path) == {"top": "0"}


def test_the_example_is(tmp_path: Path) -> None:
    from conftest import ROOT

    path = tmp_path / "inspectd.yaml"
    path.write_bytes((ROOT / "configs" / "inspectd.yaml").read_bytes())
    assert asked(path, "--camera", "top=0").exit_code == 0
    assert cameras(path) == {"top": "0"}


def test_a_library_that_is_missing_keeps_nobody_from_the_other_cameras(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> list[tuple[str, str]]:
        raise CameraError("GigE Vision cameras need gir1.2-aravis-0.8")

    monkeypatch.setattr(library, "found", missing)
    path = tmp_path / "inspectd.yaml"
    assert asked(path, said="top\n\n", monkeypatch=monkeypatch).exit_code == 0
    assert cameras(path) == {"top": "/dev/v4l/by-id/usb-A-index0"}
