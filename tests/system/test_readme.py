"""README's subscriber, as it stands, against a real daemon: what it says when the daemon dies and comes back."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from conftest import ROOT
from daemon_process import DaemonProcess

README = ROOT / "README.md"


def test_the_subscriber_says_stop_when_the_daemon_is_gone_or_new(tmp_path: Path, small_model: Path) -> None:
    code = README.read_text().partition("<!-- the subscriber -->")[2].partition("```python\n")[2].partition("```")[0]
    endpoint = f"ipc://{tmp_path}/daemon/verdicts"
    code = code.replace("tcp://127.0.0.1:5556", endpoint)
    assert endpoint in code
    script = tmp_path / "subscriber.py"
    script.write_text(code)
    output = tmp_path / "said.txt"
    camera = f'{{name: top, source: "sim://line?fps=10&width=80&height=64", model: {small_model}, deadline_ms: 5000}}'
    with output.open("w") as file:
        subscriber = subprocess.Popen([sys.executable, "-u", str(script)], stdout=file)
    try:
        with DaemonProcess(tmp_path / "daemon", camera) as daemon:
            daemon.listen(lambda d: len(d.verdicts) >= 10)
            daemon.process.send_signal(signal.SIGKILL)
            daemon.process.wait()
            wait_for(output, "no sign of life")
        with DaemonProcess(tmp_path / "daemon", camera) as daemon:
            wait_for(output, "started anew")
            daemon.stop()
    finally:
        subscriber.kill()
        subscriber.wait()
    lines = output.read_text().splitlines()
    assert any(re.match(r"part-\d+ ok ", line) for line in lines)


def wait_for(output: Path, text: str) -> None:
    give_up_s = time.monotonic() + 60
    while text not in output.read_text():
        assert time.monotonic() < give_up_s, output.read_text()[-2000:]
        time.sleep(0.1)
