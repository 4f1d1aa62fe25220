"""Screenshots of every view of the operator's page at three sizes, to be looked at.

    python tests/benchmarks/page_looks.py FOLDER [--language zh]

The wall with six cameras (good parts, defects, one that is lost, one bypassed, a frozen one), one camera, the gallery, a part of it,
the login, the wall when the daemon is gone.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from chromium import chromium
from daemon_process import DaemonProcess
from hmi_process import HmiProcess

from inspectd.client import Control
from inspectd.hmi.accounts import Role, new_user, write_users
from inspectd.wire.requests import BypassRequest

SIZES = ((1024, 768), (1920, 1080), (390, 844))
SIM = "sim://line?width=640&height=480&fps=2"
PASSWORD = "correct horse"


def main() -> None:
    """Run."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--language", default="en")
    asked = arguments.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, "-m", "inspectd", "calibrate", "--camera", "sim://line?seed=1005&parts=100"]
        subprocess.run([*command, "--results_path", str(folder), "--run_name", "m"], check=True, capture_output=True)
        model = folder / "project" / "group" / "m" / "models" / "0"
        more = f"model: {model}, deadline_ms: 5000"
        cameras = ", ".join(
            f'{{name: {camera}, source: "{SIM}&{query}", {more}}}'
            for camera, query in {
                "top": "seed=5&defects=0.5",
                "side": "seed=6",
                "left": "seed=7&defects=0.2",
                "right": "seed=8&unplug=20",
                "bottom": "seed=9",
                "end-of-line": "seed=10&freeze=30",
            }.items()
        )
        users = folder / "users.json"
        write_users(users, {"anna": new_user(Role.ENGINEER, PASSWORD)})
        with (
            DaemonProcess(folder / "d", cameras) as daemon,
            HmiProcess(folder / "h", daemon.endpoint, daemon.control, "--config", str(daemon.config)) as server,
            HmiProcess(folder / "u", daemon.endpoint, daemon.control, "--users", str(users)) as login,
            chromium() as browser,
        ):
            time.sleep(40)
            with Control(daemon.control) as control:
                control.ask(BypassRequest(camera="bottom", seconds=600, by="anna", why="a new lamp"), 10)
            part = _a_part(server)
            views = {
                "wall": (server, "/"),
                "camera": (server, "/camera/top"),
                "lost": (server, "/camera/right"),
                "gallery": (server, "/gallery?camera=top"),
                "part": (server, part),
                "login": (login, "/login"),
            }
            for width, height in SIZES:
                page = browser.new_page(viewport={"width": width, "height": height})
                for view, (where, path) in views.items():
                    _shoot(page, where, path, asked, f"{view}-{width}")
            daemon.process.send_signal(signal.SIGSTOP)
            time.sleep(5)
            for width, height in SIZES:
                page = browser.new_page(viewport={"width": width, "height": height})
                _shoot(page, server, "/", asked, f"gone-{width}")
            daemon.process.send_signal(signal.SIGCONT)


def _a_part(server: HmiProcess) -> str:
    body = server.get("/gallery?camera=top&verdict=ng")[2].decode()
    return "/part/" + body.split('href="/part/')[1].split('"')[0]


def _shoot(page: Any, server: HmiProcess, path: str, asked: argparse.Namespace, name: str) -> None:
    page.goto(f"{server.origin}{path}{'&' if '?' in path else '?'}language={asked.language}")
    page.wait_for_timeout(4000)
    page.screenshot(path=asked.folder / f"{name}.png", full_page=True)
    print(asked.folder / f"{name}.png", flush=True)


if __name__ == "__main__":
    main()
