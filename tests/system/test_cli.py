"""The command line: help that helps at once, one sentence for what a person can mend, honest exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

import inspectd
from inspectd.cli import COMMANDS, main
from inspectd.errors import CameraError, InspectdError, LostError, StartError, UsageError

SCRIPT = (
    "import sys, atexit; from inspectd.cli import main;"
    "atexit.register(lambda: print('heavy' if {'torch', 'timm'} & set(sys.modules) else 'light'));"
    "main(sys.argv[1:])"
)
"""Runs a command, and says at its end whether torch was loaded."""
HEAVY = ("torch", "torchvision", "timm", "cv2", "zmq", "sklearn", "numpy")
PROBE = f"""
import sys
from inspectd.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    print("loaded:", *(name for name in {HEAVY} if name in sys.modules))
    sys.exit(end.code)
"""


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_has_an_example_and_loads_nothing_heavy(command: str) -> None:
    done = call("-c", PROBE, *command.split(), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Usage: inspectd {command}".strip() in done.stdout
    assert f"Example: inspectd {command or 'demo'}" in done.stdout
    assert done.stdout.splitlines()[-1].split() == ["loaded:"]


def test_help_lists_every_command_with_its_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    for command, sentence in COMMANDS.items():
        assert f"{command} {sentence}" in text


@pytest.mark.parametrize(
    ("program", "says"),
    [
        (["-m", "inspectd", "--help"], "Usage: inspectd "),
        (["-m", "calibrate", "--help"], "Usage: inspectd calibrate "),
        ([str(Path(sys.executable).with_name("inspectd")), "--version"], f"inspectd {inspectd.__version__}\n"),
    ],
)
def test_the_program_has_three_doors(program: list[str], says: str) -> None:
    done = call(*program)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(says)


def run(*arguments: str) -> int:
    """Run the program in this process; return its exit code."""
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["inspekt"], "No such command 'inspekt'"),
        (["check", "--konfig", "x"], "--konfig"),
        (["--loud"], "--loud"),
        (["run"], "Missing option '--config'"),
        (["calibrate"], "one `net` and one `dataset`"),
        (["check", "--config", "a", "b"], "unexpected extra argument"),
        (["demo", "--duration", "soon"], "'soon' is not a valid float"),
        (["demo", "--duration", "0"], "0.0 is not in the range"),
        (["calibrate", "--camera", "0", "--parts", "3"], "3 is not in the range"),
    ],
)
def test_bad_usage_is_2_and_says_what_is_wrong(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    shown = capsys.readouterr()
    assert says in " ".join(shown.err.split())
    assert shown.out == ""


def test_no_command_shows_the_help_and_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 2
    assert "Example: inspectd demo" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_missing_configuration_is_one_sentence(command: str, tmp_path: Path) -> None:
    path = tmp_path / "nowhere.yaml"
    done = call("-m", "inspectd", command, "--config", str(path))
    sentence = f"inspectd: The configuration {path} cannot be read: No such file or directory.\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", sentence)


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_bad_configuration_tells_all_mistakes_and_is_2(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("cameras: [{name: Top, source: 0, model: m, fps: -1}]\n", encoding="utf-8")
    assert run(command, "--config", str(path)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"inspectd: {path} has 2 mistakes:"
    assert [line.split()[0] for line in lines[1:]] == ["cameras[0].name", "cameras[0].fps"]


def test_check_tells_sources_and_models_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "inspectd.yaml"
    path.write_text(
        f"cameras:\n - {{name: a, source: {tmp_path}/no-video.mp4, model: {tmp_path}/no-model}}\n"
        f" - {{name: b, source: {tmp_path}, model: {tmp_path}/no-model}}\n",
        encoding="utf-8",
    )
    assert run("check", "--config", str(path)) == 2
    text = capsys.readouterr().err
    assert "has 4 problems:" in text
    assert text.count("Camera a: ") == text.count("Camera b: ") == 2
    assert "no-video.mp4" in text
    assert "holds no pictures" in text


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("This is wrong."), 2),
        (StartError("The port is taken."), 3),
        (CameraError("It went away."), 3),
        (InspectdError("Something."), 3),
        (LostError("The engine is gone."), 4),
    ],
)
def test_an_error_is_its_sentence_and_its_exit_code(
    error: InspectdError, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    def failing() -> None:
        raise error

    monkeypatch.setitem(sys.modules, "inspectd.cli.cameras", SimpleNamespace(command=failing))
    assert run("cameras") == code
    assert capsys.readouterr() == ("", f"inspectd: {error}\n")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_ctrl_c_is_130_without_a_traceback(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    def interrupted() -> None:
        raise error

    monkeypatch.setitem(sys.modules, "inspectd.cli.cameras", SimpleNamespace(command=interrupted))
    assert run("cameras") == 130
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_an_unknown_error_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setitem(sys.modules, "inspectd.cli.cameras", SimpleNamespace(command=broken))
    with pytest.raises(ZeroDivisionError):
        main(["cameras"])


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["calibrate", "--camera", "/nope"], 2),
        (["calibrate", "--camera", ""], 2),
        (["calibrate", "--camera", "sim://lin"], 2),
        (["calibrate", "--camera", "sim://line?fps=nan"], 2),
        (["calibrate", "--camera", "/dev/null"], 2),
        (["calibrate", "--camera", "rtsp://admin:pa#ss@h/x"], 2),
        (["calibrate", "--camera", "0", "--resume"], 2),
        (["calibrate"], 2),
        (["calibrate", "dataset", "mvtec", "--help"], 0),
        (["calibrate", "net", "-b", "resnet50", "dataset", "-d", "x", "mvtec", "/nope"], 2),
        (["install"], 2),
        (["install", "nowhere", "top"], 2),
        (["install", "--rollback"], 2),
        (["check", "--config", "/dev/zero"], 2),
        (["run", "--config", "/nope"], 2),
    ],
)
def test_a_slip_of_the_keyboard_does_not_wait_for_torch(arguments: list[str], code: int) -> None:
    ended = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == code, ended.stderr
    assert ended.stdout.splitlines()[-1] == "light"
    assert "Traceback" not in ended.stderr
    assert "pa#ss" not in ended.stderr
    if code:
        assert ended.stderr.count("\n") == 1


def test_checking_and_installing_a_model_needs_no_torch(tmp_path: Path, small_model: Path, pictures: Path) -> None:
    config = tmp_path / "inspectd.yaml"
    config.write_text(f"cameras: [{{name: top, source: {pictures}, model: {small_model}}}]\n", encoding="utf-8")
    models = str(tmp_path / "models")
    for arguments in (
        ["check", "--config", str(config)],
        ["install", str(small_model), "top", "--models", models],
        ["install", str(small_model), "top", "--models", models],
    ):
        ended = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.splitlines()[-1] == "light"
