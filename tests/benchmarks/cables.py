"""How fast it is noticed that something is wrong with a camera, and how fast it is inspected again.

    python tests/benchmarks/cables.py

Real servers in processes of their own, on the loopback; a daemon with one camera on them. A row of what is printed: what
was done; from then to `state` lost, or where only pictures are damaged to `fault: picture`, as a subscriber hears it; from
the moment when all is well again to the first picture that is judged; pictures called ok in between, and how many of those were
wrong, which their own numbers show (`numbered`). What other cameras feel of it: `neighbours.py`.
"""

from __future__ import annotations

import argparse
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from cameras_on_loopback import SERVER, SYSTEM_PYTHON, free_port, has_rtsp
from conftest import write_small_model
from numbered import encode, look
from proxy import Harm, Proxy
from reconnecting import captures_of

from inspectd.cameras.vision.library import missing
from inspectd.client import Control, Message, NoReplyError, Subscription
from inspectd.history import pictures
from inspectd.model.calibration import CameraRecord
from inspectd.records import Outcome
from inspectd.wire.requests import TriggerRequest

SIZE, OTHER_SIZE = (320, 240), (480, 240)
VISION_SIZE = (512, 512)
FAKE, SERIAL = "arv-fake-gv-camera-0.8", "CABLES1"
VISION = {  # by itself, and told to take each picture by a trigger
    "aravis": "",
    "aravis-told": ', mode: trigger, deadline_ms: 1000, features: {AcquisitionFrameRate: 100, TriggerMode: "On", TriggerSource: Software}',
}
READ_TIMEOUT_MS = 1000
CALM_S, AWAY_S, LONG_S = 2.0, 3.0, 20.0
PATIENCE_S = 40.0
LOST_PACKETS = 0.03
TRIGGER_S = 0.1
TROUBLES = {
    "torn": "torn JPEGs",
    "half": "connection closed in the middle of a part",
    "endless": "a part without an end",
}
Try = tuple[Callable[[], None], Callable[[], None], float]
"""Harms a camera, mends it, and how many seconds later."""


class Camera:
    """A camera on the network that can be killed, stopped and started again at the same address."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.kind, self.port, self._folder = kind, free_port(), folder
        self._word = folder / "word"
        for size in (SIZE, OTHER_SIZE) if kind.startswith("rtsp") else ():
            encode("h264", folder / f"{size[0]}.mkv", 3600, size=size, fps=25, gop=25)
        self.process = self.start(SIZE)
        self.harm = Harm(0.0, ("drop",), seed=7)
        self._proxy = Proxy(("127.0.0.1", self.port), self.harm) if kind == "rtsp-udp" else None

    @property
    def address(self) -> str:
        """What stands in the configuration."""
        if self.kind in VISION:
            return f"aravis://{SERIAL}"
        if self._proxy is not None:
            return f"rtsp://127.0.0.1:{self._proxy.port}/line?udp"
        return f"rtsp://127.0.0.1:{self.port}/line" if self.kind == "rtsp" else f"http://127.0.0.1:{self.port}/"

    def start(self, size: tuple[int, int]) -> subprocess.Popen[bytes]:
        """Start it, with pictures of a size."""
        if self.kind in VISION:
            fake = subprocess.Popen([FAKE, "-i", "127.0.0.1", "-s", SERIAL], stdout=subprocess.DEVNULL)
            time.sleep(0.3)
            return fake
        if self.kind.startswith("rtsp"):
            video = self._folder / f"{size[0]}.mkv"
            command = [SYSTEM_PYTHON, str(SERVER), str(self.port), str(video), "h264"]
        else:
            self.be("well")
            script = SERVER.with_name("mjpeg.py")
            command = [sys.executable, str(script), str(self.port), *map(str, size), "25", str(self._word)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    def be(self, word: str) -> None:
        """Tell an MJPEG camera how to behave."""
        scratch = self._word.with_suffix(".new")
        scratch.write_text(word)
        scratch.rename(self._word)

    def lose(self, share: float) -> None:
        """Lose so many of its packets from now on."""
        self.harm.share = share

    def kill(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()

    def again(self, size: tuple[int, int] = SIZE) -> None:
        """Start it again."""
        self.process = self.start(size)

    def signal(self, number: signal.Signals) -> None:
        """Stop it, or let it go on."""
        self.process.send_signal(number)

    def tries(self, child: Callable[[], int]) -> dict[str, Try]:
        """Return what is done to it, by what that is called."""
        if self.kind == "rtsp-udp":
            share = f"{LOST_PACKETS:.0%} of its packets lost for {AWAY_S:g} s"
            return {share: (lambda: self.lose(LOST_PACKETS), lambda: self.lose(0.0), AWAY_S)}
        found: dict[str, Try] = {
            f"killed, started again after {AWAY_S:g} s": (self.kill, self.again, AWAY_S),
            f"stopped (SIGSTOP) for {LONG_S:g} s": (
                lambda: self.signal(signal.SIGSTOP),
                lambda: self.signal(signal.SIGCONT),
                LONG_S,
            ),
            "capture child: `kill -9`": (lambda: os.kill(child(), signal.SIGKILL), lambda: None, 0.0),
            "capture child: `kill -STOP`": (lambda: os.kill(child(), signal.SIGSTOP), lambda: None, 0.0),
        }
        if self.kind == "http":
            for word, called in TROUBLES.items():
                harm = functools.partial(self.be, word)
                found[f"{called}, for {AWAY_S:g} s"] = (harm, lambda: self.be("well"), AWAY_S)
        if self.kind not in VISION:  # that one has but one size
            found["killed, started again with another size"] = (self.kill, lambda: self.again(OTHER_SIZE), AWAY_S)
        return found


@dataclass(slots=True)
class Row:
    """What came of one thing that was done."""

    noticed_s: float
    told: str
    back_s: float
    first: str
    passed: int


class Ear:
    """Hears everything that is said of the camera."""

    def __init__(self, endpoint: str) -> None:
        self._subscription = Subscription(endpoint, high_water=0)

    def until(self, condition: Callable[[Message], bool], patience_s: float = PATIENCE_S) -> tuple[Message, int]:
        """Wait for a message; return it, and how many pictures of the camera were called ok before it."""
        passed, give_up_s = 0, time.monotonic() + patience_s
        while time.monotonic() < give_up_s:
            message = self._subscription.receive(0.2)
            if message is None:
                continue
            if condition(message):
                return message, passed
            verdict = message.verdict
            passed += verdict is not None and verdict.verdict == "ok"
        raise SystemExit("it did not happen")

    def listen(self, seconds: float) -> int:
        """Listen for a while; return how many pictures were called ok."""
        until_s = time.monotonic() + seconds
        passed = 0
        while (left_s := until_s - time.monotonic()) > 0:
            message = self._subscription.receive(left_s)
            passed += message is not None and (verdict := message.verdict) is not None and verdict.verdict == "ok"
        return passed


def is_lost(message: Message) -> bool:
    """Whether it says that the camera is lost."""
    return message.state is not None and message.state.state == "lost"


def is_damaged(message: Message) -> bool:
    """Whether it says that a picture is damaged."""
    return message.verdict is not None and message.verdict.reason == "picture"


def is_judged(message: Message) -> bool:
    """Whether it is a picture's verdict, and the picture came whole."""
    verdict = message.verdict
    return verdict is not None and verdict.frame is not None and verdict.reason != "picture"


def measure(ear: Ear, what: str, harm: Callable[[], None], mend: Callable[[], None], away_s: float) -> Row:
    """Do something to a camera that is well, mend it after a while, and note what is said."""
    ear.until(is_judged)
    ear.listen(CALM_S)
    harm()
    harmed_s = time.monotonic()
    is_only_damage = "torn" in what or "packets" in what
    gone, _ = ear.until(is_damaged if is_only_damage else is_lost)
    noticed_s = gone.received_ns / 1e9 - harmed_s
    passed = ear.listen(max(0.0, away_s - noticed_s)) if away_s else 0
    mend()
    mended_s = time.monotonic()
    first, more = ear.until(is_judged)
    back_s = first.received_ns / 1e9 - mended_s
    assert first.verdict is not None
    told = "`fault: picture`" if is_only_damage else "`lost`"
    said = first.verdict.reason or first.verdict.verdict
    ear.listen(1.0)
    return Row(noticed_s, told, back_s, said, passed + more)


def wrong_of(archive: Path) -> tuple[int, int]:
    """Return how many pictures that were called ok were kept, and how many of them do not show what was sent."""
    names = sorted((archive / "net").rglob("*.png"))
    kept = [path for path in names if (name := pictures.parse_name(path.name)) and name.verdict is Outcome.OK]
    return len(kept), sum(look(pictures.read(path).picture)[1] > 0 for path in kept)


def trigger(control: str, is_over: threading.Event) -> None:
    """Say, again and again, that a part is there."""
    with Control(control) as line:
        while not is_over.wait(TRIGGER_S):
            with suppress(NoReplyError):
                line.ask(TriggerRequest(camera="net"), 5.0)


def run(folder: Path, kind: str) -> None:
    """Print the rows of one kind of camera."""
    folder.mkdir()
    camera = Camera(folder, kind)
    size = VISION_SIZE if kind in VISION else SIZE
    model = write_small_model(folder / "model", 1e6, camera=CameraRecord("fit", None, *size))
    config, endpoint, archive = folder / "inspectd.yaml", f"ipc://{folder}/p", folder / "archive"
    config.write_text(
        f'cameras: [{{name: net, source: "{camera.address}", model: {model}, read_timeout_ms: {READ_TIMEOUT_MS}'
        f"{VISION.get(kind, '')}}}]\n"
        f'publish: {{bind: "{endpoint}"}}\ncontrol: {{bind: "ipc://{folder}/c"}}\n'
        f'metrics: {{listen: "127.0.0.1:0"}}\njournal: {{path: {folder}/journal.db}}\narchive: {{path: {archive}, ok_share: 1}}\n'
    )
    command = [sys.executable, "-m", "inspectd", "run", "--config", str(config)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as daemon:
        ear, is_over = Ear(endpoint), threading.Event()
        client = threading.Thread(target=trigger, args=(f"ipc://{folder}/c", is_over))
        try:
            if kind == "aravis-told":
                client.start()
            for what, (harm, mend, away_s) in camera.tries(lambda: captures_of(daemon.pid)[0]).items():
                row = measure(ear, what, harm, mend, away_s)
                print(
                    f"| {kind} | {what} | {row.noticed_s:.2f} ({row.told}) | {row.back_s:.2f} ({row.first}) | "
                    f"{row.passed} |",
                    flush=True,
                )
        finally:
            is_over.set()
            if client.ident is not None:
                client.join()
            daemon.terminate()
            with suppress(ProcessLookupError):
                camera.signal(signal.SIGCONT)
            camera.kill()
    if kind not in VISION:
        kept, wrong = wrong_of(archive)
        print(f"{kind}: of {kept} pictures that were called ok and kept, {wrong} do not show what was sent", flush=True)


def main() -> None:
    """Print the table."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--kinds", default="rtsp,rtsp-udp,http,aravis,aravis-told")
    given = ask.parse_args()
    print("| camera | what was done | told after, s | judged again after, s | ok meanwhile |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="inspectd-cables-") as name:
        for kind in given.kinds.split(","):
            if kind.startswith("rtsp") and not has_rtsp():
                print("no RTSP server here", file=sys.stderr)
                continue
            if kind in VISION and (shutil.which(FAKE) is None or missing() is not None):
                print("no GigE Vision camera here", file=sys.stderr)
                continue
            run(Path(name) / kind, kind)


if __name__ == "__main__":
    main()
