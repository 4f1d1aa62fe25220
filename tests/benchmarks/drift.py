"""A lamp that ages, and a tool that wears: what the daemon says before it rejects a part.

    python tests/benchmarks/drift.py [--lamp 0.7] [--ages 240] [--wear 0.6] [--folder FOLDER]

A simulated line (320×240, 160 parts) is calibrated; then a daemon inspects three cameras of it at 10 pictures a second:
one as it was, one whose lamp ages, one whose parts are made by a worn tool. Printed: when each alarm came, what it said,
the light and the scores at that time, and when the first good part was rejected.
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

SIZE, FPS, PARTS, AFTER_S = "width=320&height=240", 10, 160, 100.0


def calibrate(folder: Path) -> Path:
    """Return a model of the line."""
    source = f"sim://line?seed=5001&parts={PARTS}&{SIZE}"
    command = [sys.executable, "-m", "inspectd", "calibrate", "--camera", source, "--results_path", str(folder)]
    subprocess.run([*command, "--run_name", "line"], check=True, stdout=subprocess.DEVNULL)
    return folder / "project" / "group" / "line" / "models" / "0"


def main() -> None:
    """Run, and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--lamp", type=float, default=0.7)
    arguments.add_argument("--ages", type=float, default=240)
    arguments.add_argument("--wear", type=float, default=0.6)
    asked = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = calibrate(folder)
        kinds = {"same": "", "lamp": f"&lamp={asked.lamp}&ages={asked.ages}", "wear": f"&wear={asked.wear}"}
        cameras = ", ".join(
            f'{{name: {kind}, source: "sim://line?seed={7 + i}&fps={FPS}&{SIZE}{more}", model: {model}, deadline_ms: 2000}}'
            for i, (kind, more) in enumerate(kinds.items())
        )
        with DaemonProcess(folder / "daemon", cameras) as daemon:
            daemon.listen(lambda d: "ready" in d.log)
            began_s = time.monotonic()
            listen(
                daemon,
                asked.ages + AFTER_S,
                lambda text: print(f"{time.monotonic() - began_s:6.0f} s  {text}", flush=True),
            )
            for kind in kinds:
                said = [one["reason"] or one["verdict"] for one in daemon.verdicts if one["camera"] == kind]
                print(f"{kind}: " + ", ".join(f"{said.count(what)} {what}" for what in dict.fromkeys(said)))


def listen(daemon: DaemonProcess, seconds: float, say: Any) -> None:
    """Say what changes."""
    raised: set[tuple[str, str]] = set()
    rejected: set[tuple[str, str]] = set()
    seen = [0, 0]

    def look(_: DaemonProcess) -> bool:
        for one in daemon.states[seen[0] :]:
            now = {(one["camera"], alarm["alarm"]) for alarm in one["alarms"]}
            for alarm in one["alarms"]:
                if (one["camera"], alarm["alarm"]) not in raised:
                    say(f"{one['camera']}: {alarm['alarm']}: {alarm['detail']}")
            for camera, alarm in {key for key in raised if key[0] == one["camera"]} - now:
                say(f"{camera}: {alarm} is over")
            raised.difference_update({key for key in raised if key[0] == one["camera"]} - now)
            raised.update(now)
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
