"""How fast it is noticed that a camera is gone, how fast it is inspected again, and what another camera feels of it.

    python tests/benchmarks/cables.py

Real servers in processes of their own, on the loopback; a daemon with one camera on them and a simulated one beside it.
A row of what is printed: what was done; from then to `state` lost, as a subscriber hears it; from the moment when the
server answers again to the first verdict; pictures called ok in between; the other camera's p99 before and meanwhile.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from cameras_on_loopback import SERVER, SYSTEM_PYTHON, free_port, has_rtsp
from conftest import write_small_model
from numbered import encode
from reconnecting import captures_of

from inspectd.cameras.grabbers.aravis import missing
from inspectd.client import Message, Subscription
from inspectd.model.calibration import CameraRecord
from inspectd.percentiles import percentile

SIZE, OTHER_SIZE = (320, 240), (480, 240)
VISION_SIZE = (512, 512)
FAKE, SERIAL = "arv-fake-gv-camera-0.8", "CABLES1"
READ_TIMEOUT_MS = 1000
CALM_S, AWAY_S, LONG_S = 4.0, 3.0, 20.0
PATIENCE_S = 40.0


class Server:
    """A camera on the network that can be killed, stopped and started again at the same address."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.kind, self.port, self._folder = kind, free_port(), folder
        for size in (SIZE, OTHER_SIZE) if kind == "rtsp" else ():
            encode("h264", folder / f"{size[0]}.mkv", 3600, size=size, fps=25, gop=25)
        self.process = self.start(SIZE)

    @property
    def address(self) -> str:
        if self.kind == "aravis":
            return f"aravis://{SERIAL}"
        return f"rtsp://127.0.0.1:{self.port}/line" if self.kind == "rtsp" else f"http://127.0.0.1:{self.port}/"

    def start(self, size: tuple[int, int]) -> subprocess.Popen[bytes]:
        if self.kind == "aravis":
            fake = subprocess.Popen([FAKE, "-i", "127.0.0.1", "-s", SERIAL], stdout=subprocess.DEVNULL)
            time.sleep(0.3)
            return fake
        if self.kind == "rtsp":
            video = self._folder / f"{size[0]}.mkv"
            command = [SYSTEM_PYTHON, str(SERVER), str(self.port), str(video), "h264"]
        else:
            script = SERVER.with_name("mjpeg.py")
            command = [sys.executable, str(script), str(self.port), *map(str, size), "25"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def again(self, size: tuple[int, int] = SIZE) -> None:
        self.process = self.start(size)


@dataclass(slots=True)
class Row:
    """What came of one thing that was done."""

    noticed_s: float
    back_s: float
    first: str
    passed: int
    before_ms: float
    meanwhile_ms: float


class Ear:
    """Hears everything, and knows what was said of either camera."""

    def __init__(self, endpoint: str) -> None:
        self._subscription = Subscription(endpoint, high_water=0)
        self.other: list[tuple[float, float]] = []
        """When, and how long after capture, in s and ms."""

    def until(self, condition: Callable[[Message], bool], patience_s: float = PATIENCE_S) -> tuple[Message, int]:
        """Wait for a message; return it, and how many pictures of the camera were called ok before it."""
        passed, give_up_s = 0, time.monotonic() + patience_s
        while time.monotonic() < give_up_s:
            message = self._subscription.receive(0.2)
            if message is None:
                continue
            verdict = message.verdict
            if verdict is not None and verdict.camera == "other" and verdict.t.captured is not None:
                self.other.append((verdict.t.published / 1e9, (verdict.t.published - verdict.t.captured) / 1e6))
            if condition(message):
                return message, passed
            passed += verdict is not None and verdict.camera == "net" and verdict.verdict == "ok"
        raise SystemExit("it did not happen")

    def listen(self, seconds: float) -> int:
        """Listen for a while; return how many pictures of the camera were called ok."""
        until_s = time.monotonic() + seconds
        return self.until(lambda _: time.monotonic() >= until_s, seconds + PATIENCE_S)[1]

    def p99(self, since_s: float, until_s: float) -> float:
        return percentile([ms for at_s, ms in self.other if since_s <= at_s < until_s], 0.99)


def is_gone(message: Message) -> bool:
    state = message.state
    return state is not None and state.camera == "net" and state.state in ("lost", "frozen")


def is_judged(message: Message) -> bool:
    verdict = message.verdict
    return verdict is not None and verdict.camera == "net" and verdict.frame is not None


def measure(ear: Ear, harm: Callable[[], None], mend: Callable[[], None], away_s: float) -> Row:
    """Do something to a camera that is well, mend it after a while, and note what is said."""
    ear.until(is_judged)
    began_s = time.monotonic()
    ear.listen(CALM_S)
    harm()
    harmed_s = time.monotonic()
    gone, _ = ear.until(is_gone)
    noticed_s = gone.received_ns / 1e9 - harmed_s
    passed = ear.listen(max(0.0, away_s - noticed_s)) if away_s else 0
    mend()
    mended_s = time.monotonic()
    first, more = ear.until(is_judged)
    back_s = first.received_ns / 1e9 - mended_s
    assert first.verdict is not None
    said = first.verdict.reason or first.verdict.verdict
    ear.listen(1.0)
    return Row(noticed_s, back_s, said, passed + more, ear.p99(began_s, harmed_s), ear.p99(harmed_s, time.monotonic()))


def child_of(daemon: int) -> int:
    """Return the process that reads the camera on the network: the other one was not started since."""
    return max(captures_of(daemon))


def run(folder: Path, kind: str) -> None:
    """Print the rows of one kind of camera."""
    server = Server(folder, kind)
    size = VISION_SIZE if kind == "aravis" else SIZE
    model = write_small_model(folder / f"model-{kind}", 1e6, camera=CameraRecord("fit", None, *size))
    plain = write_small_model(folder / f"plain-{kind}", 1e6, camera=CameraRecord("fit", None, 0, 0))
    config, endpoint = folder / f"{kind}.yaml", f"ipc://{folder}/{kind}"
    config.write_text(
        "cameras:\n"
        f'  - {{name: other, source: "sim://line?fps=15&width=320&height=240&ahead=12", model: {plain}}}\n'
        f'  - {{name: net, source: "{server.address}", model: {model}, read_timeout_ms: {READ_TIMEOUT_MS}}}\n'
        f'publish: {{bind: "{endpoint}"}}\ncontrol: {{bind: "ipc://{folder}/{kind}-control"}}\n'
        'metrics: {listen: "127.0.0.1:0"}\njournal: {path: null}\narchive: {max_gb: 0}\n'
    )
    command = [sys.executable, "-m", "inspectd", "run", "--config", str(config)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as daemon:
        ear = Ear(endpoint)
        try:
            tries: dict[str, tuple[Callable[[], None], Callable[[], None], float]] = {
                "killed, started again": (server.kill, server.again, AWAY_S),
                "stopped for 20 s": (
                    lambda: server.process.send_signal(signal.SIGSTOP),
                    lambda: server.process.send_signal(signal.SIGCONT),
                    LONG_S,
                ),
                "capture child: kill -9": (lambda: os.kill(child_of(daemon.pid), signal.SIGKILL), lambda: None, 0.0),
                "capture child: kill -STOP": (lambda: os.kill(child_of(daemon.pid), signal.SIGSTOP), lambda: None, 0.0),
                "started again with another size": (server.kill, lambda: server.again(OTHER_SIZE), AWAY_S),
            }
            if kind == "aravis":  # it has but one size
                del tries["started again with another size"]
            for what, (harm, mend, away_s) in tries.items():
                row = measure(ear, harm, mend, away_s)
                print(
                    f"| {kind} | {what} | {row.noticed_s:.2f} | {row.back_s:.2f} ({row.first}) | {row.passed} | "
                    f"{row.before_ms:.1f} → {row.meanwhile_ms:.1f} |",
                    flush=True,
                )
        finally:
            daemon.terminate()
            with suppress(ProcessLookupError):
                server.process.send_signal(signal.SIGCONT)
            server.kill()


def main() -> None:
    """Print the table."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--kinds", default="rtsp,http,aravis")
    given = ask.parse_args()
    print(
        "| camera | what was done | `state` lost after, s | first verdict after its return, s | ok meanwhile | p99, ms |"
    )
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="inspectd-cables-") as name:
        for kind in given.kinds.split(","):
            if kind == "rtsp" and not has_rtsp():
                print("no RTSP server here", file=sys.stderr)
                continue
            if kind == "aravis" and (shutil.which(FAKE) is None or missing() is not None):
                print("no GigE Vision camera here", file=sys.stderr)
                continue
            run(Path(name), kind)


if __name__ == "__main__":
    main()
