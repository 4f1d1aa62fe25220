"""A lamp that ages, and a tool that wears: what the daemon says before it rejects a part.

    python tests/benchmarks/drift.py [--lamp 0.86] [--ages 600] [--wear 0.6]

A simulated line (320×240, 160 parts) is calibrated; then a daemon inspects three cameras of it at 10 pictures a second:
one as it was, one whose lamp ages, one whose parts are made by a worn tool. Then both are renewed. Printed: when each
alarm came, what it said, when it was over, and when the first good part was not accepted.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from daemon_process import DaemonProcess

SIZE, FPS, PARTS = "width=320&height=240", 10, 160
WORN_S, RENEWED_S = 60.0, 120.0
"""How long each is looked at, after the lamp is as old as it gets."""


def calibrate(folder: Path) -> Path:
    """Return a model of the line."""
    source = f"sim://line?seed=5001&parts={PARTS}&{SIZE}"
    command = [sys.executable, "-m", "inspectd", "calibrate", "--camera", source, "--results_path", str(folder)]
    subprocess.run([*command, "--run_name", "line"], check=True, stdout=subprocess.DEVNULL)
    return folder / "project" / "group" / "line" / "models" / "0"


def main() -> None:
    """Run, and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--lamp", type=float, default=0.86)
    arguments.add_argument("--ages", type=float, default=600)
    arguments.add_argument("--wear", type=float, default=0.6)
    asked = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = calibrate(folder)
        renewed = f"&renewed={asked.ages + WORN_S}"
        kinds = {
            "same": "",
            "lamp": f"&lamp={asked.lamp}&ages={asked.ages}{renewed}",
            "wear": f"&wear={asked.wear}{renewed}",
        }
        cameras = ", ".join(
            f'{{name: {kind}, source: "sim://line?seed={7 + i}&fps={FPS}&{SIZE}{more}", model: {model}, deadline_ms: 2000}}'
            for i, (kind, more) in enumerate(kinds.items())
        )
        with DaemonProcess(folder / "daemon", cameras) as daemon:
            daemon.listen(lambda d: "ready" in d.log)
            began_s = time.monotonic()
            listen(
                daemon,
                asked.ages + WORN_S + RENEWED_S,
                lambda text: print(f"{time.monotonic() - began_s:6.0f} s  {text}", flush=True),
            )
            for kind in kinds:
                said = [one["reason"] or one["verdict"] for one in daemon.verdicts if one["camera"] == kind]
                print(f"{kind}: " + ", ".join(f"{said.count(what)} {what}" for what in dict.fromkeys(said)))


def listen(daemon: DaemonProcess, seconds: float, say: Any) -> None:
    """Say what changes."""
    raised: dict[str, dict[str, str]] = {}
    """By camera, what its alarms say."""
    rejected: set[tuple[str, str]] = set()
    seen = [0, 0]

    def look(_: DaemonProcess) -> bool:
        for one in daemon.states[seen[0] :]:
            camera = one["camera"]
            before, now = raised.get(camera, {}), {alarm["alarm"]: alarm["detail"] for alarm in one["alarms"]}
            for alarm in now.keys() - before.keys():
                say(f"{camera}: {alarm}: {now[alarm]}")
            for alarm in before.keys() - now.keys():
                say(f"{camera}: {alarm} is over; it said last: {before[alarm]}")
            raised[camera] = now
        for one in daemon.verdicts[seen[1] :]:
            what = one["reason"] or one["verdict"]
            if what != "ok" and (one["camera"], what) not in rejected:
                rejected.add((one["camera"], what))
                say(f"{one['camera']}: the first {what}: {one['detail'] or one['score']}")
        seen[:] = [len(daemon.states), len(daemon.verdicts)]
        return time.monotonic() > until_s

    until_s = time.monotonic() + seconds
    daemon.listen(look, seconds + 60)


if __name__ == "__main__":
    main()
